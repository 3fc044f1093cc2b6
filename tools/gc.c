/* SPDX-License-Identifier: Apache-2.0 */
/* sluice gc: cleans up after the dead, in the channels named or in all of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <sluice/channel.h>

#include "explain.h"
#include "output.h"
#include "summary.h"
#include "tool.h"
#include "units.h"

/* What came of one channel. */
struct result {
	const char *name;
	struct sluice_collected collected;
	uint64_t waiting_messages; /* of a channel that stays though no member lives */
	bool persistent;           /* likewise */
	int code;
};

/* Why a channel is left that nobody has open. */
static void look_at_rest(const struct request *request, struct result *result)
{
	struct sluice_channel_stat *stat;

	if (result->code || result->collected.channel || sluice_channel_stat(result->name, request->directory, &stat))
		return;
	if (!summary_has_life(stat)) {
		result->waiting_messages = summary_of(stat).waiting_messages;
		result->persistent = stat->geometry.flags & SLUICE_PERSISTENT;
	}
	sluice_channel_stat_free(stat);
}

static void collect(const struct request *request, struct result *result)
{
	result->code = sluice_channel_collect(
		result->name, request->directory, request->drop ? SLUICE_COLLECT_DROP : 0, &result->collected);
	look_at_rest(request, result);
}

static bool changed_nothing(const struct sluice_collected *collected)
{
	return collected->dead_members == 0 && collected->files == 0;
}

/* What a reader may want gone as well, and how. */
static const char *rest_of(const struct result *result, char *text, size_t bytes)
{
	struct text messages = units_count(result->waiting_messages, "message");

	text[0] = '\0';
	if (result->waiting_messages)
		snprintf(text, bytes, "; %s left, and no member: --drop removes the backlog too", messages.text);
	else if (result->persistent)
		snprintf(text, bytes, "; it is persistent: 'sluice rm %s' removes it", result->name);
	return text;
}

static void report_text(const struct request *request, const struct result *result)
{
	const struct sluice_collected *collected = &result->collected;
	char reason[COMPLAINT_BYTES], text[160];

	if (result->code) {
		complain("sluice gc: %s", explain_channel(reason, sizeof reason, request, result->name, result->code));
		return;
	}
	printf("%s:", result->name);
	if (collected->dead_members)
		printf(" %s declared dead,", units_count(collected->dead_members, "member").text);
	if (collected->dropped_messages)
		printf(" %s dropped,", units_count(collected->dropped_messages, "message").text);
	if (changed_nothing(collected))
		printf(" nothing to do");
	else
		printf(" %s removed", units_count(collected->files, "file").text);
	printf("%s%s\n", collected->channel ? ", the channel is gone" : "", rest_of(result, text, sizeof text));
}

static struct json_object *result_json(const struct request *request, const struct result *result)
{
	const struct sluice_collected *collected = &result->collected;
	struct json_object *object = json_object_need();
	char reason[COMPLAINT_BYTES];

	json_put_text(object, "name", result->name);
	json_put_uint(object, "dead_members", collected->dead_members);
	json_put_uint(object, "lanes_removed", collected->lanes);
	json_put_bool(object, "channel_removed", collected->channel);
	json_put_uint(object, "files_removed", collected->files);
	json_put_uint(object, "dropped_messages", collected->dropped_messages);
	json_put_uint(object, "waiting_messages", result->waiting_messages);
	if (result->code)
		explain_channel(reason, sizeof reason, request, result->name, result->code);
	json_put(object, "error", result->code ? json_error(result->code, reason) : NULL);
	return object;
}

static void report_json(const struct request *request, const struct result *results, int count)
{
	struct json_object *document = json_object_need(), *channels = json_array_need();

	json_put_text(document, "directory", request->shown_directory);
	for (int i = 0; i < count; i++)
		json_append(channels, result_json(request, &results[i]));
	json_put(document, "channels", channels);
	json_print(document);
}

static int collect_all(const struct request *request, struct result *results, int count)
{
	int exit_code = EXIT_OK;

	for (int i = 0; i < count; i++) {
		collect(request, &results[i]);
		/* In a sweep of all, one that went meanwhile is what was wanted. */
		if (results[i].code == -ENOENT && request->name_count == 0)
			results[i].code = 0;
		if (results[i].code)
			exit_code = results[i].code == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
		if (results[i].code || !request->json)
			report_text(request, &results[i]);
	}
	if (request->json)
		report_json(request, results, count);
	else if (count == 0)
		printf("no channels in %s\n", request->shown_directory);
	return exit_code;
}

int run_gc(const struct request *request)
{
	struct sluice_channel_entry *entries = NULL;
	int count = request->name_count;

	if (count == 0) {
		char reason[COMPLAINT_BYTES];
		count = sluice_channel_list(request->directory, &entries);
		if (count < 0)
			return fail(request, count, explain_directory(reason, sizeof reason, request, count));
	}
	struct result *results = need_memory(calloc((size_t)count + 1, sizeof *results));
	for (int i = 0; i < count; i++)
		results[i].name = entries ? entries[i].name : request->names[i];
	int exit_code = collect_all(request, results, count);
	free(results);
	sluice_channel_list_free(entries);
	return exit_code;
}
