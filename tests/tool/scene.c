/* SPDX-License-Identifier: Apache-2.0 */
#include "scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIME_LIMIT_S 30

char directory[64];
struct output out;

void run(const char *command_line)
{
	assert_int_equal(tool_run(&out, command_line), 0);
}

void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in: %s", part, text);
}

const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	return path;
}

void write_file(const char *name, const char *content)
{
	FILE *file = fopen(path_of(name), "we");

	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

struct json_object *parse(const char *text)
{
	struct json_object *document = json_tokener_parse(text);

	if (!document)
		fail_msg("this is not JSON: %s", text);
	return document;
}

struct json_object *get(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(object, key, &value))
		fail_msg("no key \"%s\" in %s", key, json_object_to_json_string(object));
	return value;
}

void assert_number(struct json_object *object, const char *key, uint64_t expected)
{
	assert_true(json_object_is_type(get(object, key), json_type_int));
	if (json_object_get_uint64(get(object, key)) != expected)
		fail_msg("%s is %s, not %llu", key, json_object_get_string(get(object, key)),
			(unsigned long long)expected);
}

void assert_text(struct json_object *object, const char *key, const char *expected)
{
	assert_string_equal(json_object_get_string(get(object, key)), expected);
}

struct json_object *at(struct json_object *array, size_t index)
{
	assert_true(json_object_is_type(array, json_type_array));
	assert_true(index < json_object_array_length(array));
	return json_object_array_get_idx(array, index);
}

struct json_object *find(struct json_object *array, const char *key, const char *value)
{
	for (size_t i = 0; i < json_object_array_length(array); i++)
		if (!strcmp(json_object_get_string(get(at(array, i), key)), value))
			return at(array, i);
	fail_msg("nothing has %s = \"%s\" in %s", key, value, json_object_to_json_string(array));
	return NULL;
}

struct sluice_producer *open_producer(const char *name)
{
	struct sluice_producer_options options = {
		.size = sizeof options, .lane_bytes = 1 << 20, .depth = 64, .sample_rate_hz = SLUICE_STAMP_ALL};
	struct sluice_producer *producer;

	assert_int_equal(sluice_producer_open(name, &options, &producer), 0);
	return producer;
}

struct sluice_consumer *open_consumer(const char *name)
{
	struct sluice_consumer *consumer;

	assert_int_equal(sluice_consumer_open(name, NULL, &consumer), 0);
	return consumer;
}

void publish(struct sluice_producer *producer, int count)
{
	struct sluice_tensor_spec spec = {.name = "bytes", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {TENSOR_BYTES}};
	struct sluice_message *message;

	for (; count; count--) {
		assert_int_equal(sluice_reserve(producer, &spec, 1, 0, &message), 0);
		memset(sluice_data(message, 0), count, TENSOR_BYTES);
		assert_int_equal(sluice_publish(message), 0);
	}
}

const struct sluice_message *receive(struct sluice_consumer *consumer)
{
	const struct sluice_message *message;

	assert_int_equal(sluice_receive(consumer, 0, &message), 0);
	return message;
}

struct scene open_scene(void)
{
	struct scene scene = {open_producer("tokens"), open_consumer("tokens")};

	publish(scene.producer, 6);
	assert_int_equal(sluice_release(receive(scene.consumer)), 0);
	assert_int_equal(sluice_release(receive(scene.consumer)), 0);
	receive(scene.consumer);
	return scene;
}

void close_scene(struct scene *scene)
{
	assert_int_equal(sluice_consumer_close(scene->consumer), 0);
	assert_int_equal(sluice_producer_close(scene->producer), 0);
}

int make_directory(void **state)
{
	(void)state;
	alarm(TIME_LIMIT_S);
	snprintf(directory, sizeof directory, "/dev/shm/sluice-tool-test-XXXXXX");
	return !mkdtemp(directory) || setenv("SLUICE_DIR", directory, 1);
}

int remove_directory(void **state)
{
	(void)state;
	alarm(0);
	return rmdir(directory);
}

int tool_main(int argc, char **argv, int (*run_cases)(void))
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s PATH-OF-THE-SLUICE-TOOL\n", argv[0]);
		return 2;
	}
	tool_path = argv[1];
	return run_cases();
}
