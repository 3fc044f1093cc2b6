/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as the library made them, to start each execution from. */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <stdint.h>

#include "files.h"

struct image {
	char name[FILES_NAME];
	uint64_t size;
	uint64_t *filled; /* pages that are not all zero, one bit each */
	uint8_t *bytes;
};

/* Copies what the file has. The image will be planted under `name`. */
void image_take(struct image *image, struct file *file, const char *name);

/* Makes a file of it. Who writes to a control object's consumer pages, past the library, then calls `files_roughen`. */
struct file *image_plant(const struct image *image);

#endif
