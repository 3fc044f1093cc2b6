/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: complaints, wrapped text, and JSON with keys that carry their unit. */
#ifndef SLUICE_TOOL_OUTPUT_H
#define SLUICE_TOOL_OUTPUT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>

#define COMPLAINT_BYTES 1024

/* One sentence and a newline on standard error, after what has been written to standard output. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct request;

/*
 * The verb cannot do its work: `message` goes to standard error, and with --json {"error": ...} to standard output.
 * `code` is a negative errno. Returns the exit code.
 */
int fail(const struct request *request, int code, const char *message);

/* Ends the program when memory is out; otherwise gives `pointer` back. */
void *need_memory(void *pointer);

/* Prints `text` in lines of at most 100 columns, all of them indented; the caller has printed nothing on this line. */
void print_wrapped(FILE *file, int indent, const char *text);

/* The same, the caller having printed the first `indent` columns of the first line. */
void print_wrapped_after(FILE *file, int indent, const char *text);

/*
 * Copies foreign text (a program's name out of shared memory) of at most `limit` bytes; what could move a terminal's cursor or
 * is not UTF-8 becomes '?'. Returns `buffer`.
 */
const char *clean_text(char *buffer, size_t size, const char *text, size_t limit);

/* JSON objects: all end the program when memory is out, `object` owns what is added. */
struct json_object *json_object_need(void);
struct json_object *json_array_need(void);
void json_put_text(struct json_object *object, const char *key, const char *text); /* NULL: null */
void json_put_uint(struct json_object *object, const char *key, uint64_t value);
void json_put_bool(struct json_object *object, const char *key, bool value);
void json_put(struct json_object *object, const char *key, struct json_object *value);
void json_append(struct json_object *array, struct json_object *value);

/* {"errno": 2, "name": "ENOENT", "message": ...}; `code` is a negative errno. */
struct json_object *json_error(int code, const char *message);

/* Prints and frees. */
void json_print(struct json_object *document);

#endif
