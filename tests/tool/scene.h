/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the tool share: channels in a directory of the case's own, and looking at what the tool said. */
#ifndef SLUICE_TESTS_SCENE_H
#define SLUICE_TESTS_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>

#include <sluice/sluice.h>

#include "tool_run.h"

#define TENSOR_BYTES UINT64_C(4096) /* of a message of `publish` */

/* Of the case that runs, in /dev/shm; and what the tool said when it was last run. */
extern char directory[64];
extern struct output out;

/* Runs the tool; its exit code is for the caller to look at. */
void run(const char *command_line);

void assert_says(const char *text, const char *part);

/* A path in the test's directory; the buffer is used again by the next call. */
const char *path_of(const char *name);
void write_file(const char *name, const char *content);

/* JSON; each fails the case if what is asked for is not there. */
struct json_object *parse(const char *text);
struct json_object *get(struct json_object *object, const char *key);
void assert_number(struct json_object *object, const char *key, uint64_t expected);
void assert_text(struct json_object *object, const char *key, const char *expected);
struct json_object *at(struct json_object *array, size_t index);
/* The element of an array whose `key` is `value`. */
struct json_object *find(struct json_object *array, const char *key, const char *value);

struct sluice_producer *open_producer(const char *name);
struct sluice_consumer *open_consumer(const char *name);
void publish(struct sluice_producer *producer, int count);
const struct sluice_message *receive(struct sluice_consumer *consumer);

/* Channel "tokens" with one producer and one consumer, who has released two messages, holds one and left three waiting. */
struct scene {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
};

struct scene open_scene(void);
void close_scene(struct scene *scene);

/* Set-up and teardown of each case; the latter fails if the case left anything behind. */
int make_directory(void **state);
int remove_directory(void **state);

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

/* A test's main: takes the tool's path from the command line. */
int tool_main(int argc, char **argv, int (*run_cases)(void));

#endif
