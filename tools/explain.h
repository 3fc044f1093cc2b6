/* SPDX-License-Identifier: Apache-2.0 */
/* From a result code of the library to a sentence that says what to do next. */
#ifndef SLUICE_TOOL_EXPLAIN_H
#define SLUICE_TOOL_EXPLAIN_H

#include <stddef.h>

struct request;

/* Why the directory could not be listed. Returns `buffer`. */
const char *explain_directory(char *buffer, size_t size, const struct request *request, int code);

/* Why channel `name` could not be looked at or removed. Returns `buffer`. */
const char *explain_channel(char *buffer, size_t size, const struct request *request, const char *name, int code);

/* The same in a listing that names the channel itself. `layout_version`: of the channel, if that is the trouble. */
const char *explain_entry(char *buffer, size_t size, const struct request *request, const char *name,
	unsigned int layout_version, int code);

#endif
