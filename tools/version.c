/* SPDX-License-Identifier: Apache-2.0 */
/* sluice version: of the library, of the layout, and what was compiled in. */
#include <stdio.h>
#include <string.h>

#include <sluice/version.h>

#include "output.h"
#include "tool.h"

static struct json_object *features_json(const char *features)
{
	struct json_object *array = json_array_need();

	while (*features) {
		int length = (int)strcspn(features, " ");
		if (length)
			json_append(array, need_memory(json_object_new_string_len(features, length)));
		features += length + (features[length] == ' ');
	}
	return array;
}

int run_version(const struct request *request)
{
	if (request->json) {
		struct json_object *document = json_object_need();
		json_put_text(document, "version", sluice_version());
		json_put_uint(document, "layout_version", sluice_layout_version());
		json_put(document, "features", features_json(sluice_features()));
		json_print(document);
		return EXIT_OK;
	}
	printf("sluice    %s\nlayout    %u\nfeatures  %s\n", sluice_version(), sluice_layout_version(),
		*sluice_features() ? sluice_features() : "none");
	return EXIT_OK;
}
