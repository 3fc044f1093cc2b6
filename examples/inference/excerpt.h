/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of a text, as one line that a terminal can show. */
#ifndef EXAMPLES_EXCERPT_H
#define EXAMPLES_EXCERPT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct excerpt_file {
	char *text;
	size_t bytes;
};

/* Reads all of the file at `path`. Returns 0 or a negative errno. */
int excerpt_open(const char *path, struct excerpt_file *ret_file);
void excerpt_close(struct excerpt_file *file);

/*
 * Prints "line N" and the beginning of the text at `offset`. White space runs together; what is no character, or a control
 * character, becomes '?'. Offset and bytes may be any numbers.
 */
void excerpt_print(const struct excerpt_file *file, int64_t offset, int64_t bytes, FILE *output);

#endif
