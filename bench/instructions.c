/* SPDX-License-Identifier: Apache-2.0 */
/* Runs callgrind, reads its output, and compares with the file of expected counts. */
#include "instructions.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_BYTES 512
#define LINE_BYTES 4096
#define NOT_FOUND  127

#if defined(__clang__)
#define COMPILER "clang"
#define MAJOR    __clang_major__
#define MINOR    __clang_minor__
#else
#define COMPILER "gcc"
#define MAJOR    __GNUC__
#define MINOR    __GNUC_MINOR__
#endif

#if defined(__x86_64__)
#define ARCHITECTURE "x86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "aarch64"
#else
#define ARCHITECTURE "other"
#endif

static const struct instruction_count all[INSTRUCTIONS_COUNTS] = {
	{.call = "publish", .kind = "queue, 64 B", .function = "counted_publish_queue_64"},
	{.call = "receive", .kind = "queue, 64 B", .function = "counted_receive_queue_64"},
	{.call = "publish", .kind = "queue, 8 KiB", .function = "counted_publish_queue_8k"},
	{.call = "receive", .kind = "queue, 8 KiB", .function = "counted_receive_queue_8k"},
	{.call = "publish", .kind = "broadcast, 64 B", .function = "counted_publish_broadcast_64"},
	{.call = "receive", .kind = "broadcast, 64 B", .function = "counted_receive_broadcast_64"},
};

static int counter_path(char *path)
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES - 32);

	if (length < 0)
		return -errno;
	path[length] = 0;
	char *slash = strrchr(path, '/');
	memcpy(slash ? slash + 1 : path, "sluice-count", sizeof "sluice-count");
	return access(path, X_OK) < 0 ? -errno : 0;
}

/* Calls through the linker's table are bound beforehand: binding at the first call would count. */
static int run_callgrind(const char *counter, const char *out_option)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		setenv("LD_BIND_NOW", "1", 1);
		execlp("valgrind", "valgrind", "--tool=callgrind", "--quiet", "--compress-strings=no",
			"--compress-pos=no", out_option, counter, (char *)NULL);
		_exit(errno == ENOENT ? NOT_FOUND : EXIT_FAILURE);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)
		return -ENOENT;
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -ECHILD;
}

/*
 * A call in the file is three lines, of which others may stand between the first two:
 *     cfn=FUNCTION
 *     calls=COUNT TARGET
 *     LINE INSTRUCTIONS
 */
static void read_calls(FILE *file, struct instruction_count *counts)
{
	char line[LINE_BYTES];
	struct instruction_count *called = NULL;

	while (fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "cfn=", 4) == 0) {
			called = NULL;
			for (int i = 0; i < INSTRUCTIONS_COUNTS; i++)
				if (strcmp(line + 4, counts[i].function) == 0)
					called = &counts[i];
		} else if (called && strncmp(line, "calls=", 6) == 0) {
			const char *space = fgets(line, sizeof line, file) ? strrchr(line, ' ') : NULL;
			called->each += space ? strtod(space, NULL) / INSTRUCTIONS_MESSAGES : 0;
			called = NULL;
		}
	}
}

static int read_counts(const char *path, struct instruction_count *counts)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	read_calls(file, counts);
	fclose(file);
	for (int i = 0; i < INSTRUCTIONS_COUNTS; i++)
		if (counts[i].each == 0)
			return -ENODATA;
	return 0;
}

static int count_in(const char *directory, struct instruction_count *counts)
{
	char counter[PATH_BYTES];
	char path[PATH_BYTES];
	char option[PATH_BYTES + 32];
	int error = counter_path(counter);

	snprintf(path, sizeof path, "%s/calls", directory);
	snprintf(option, sizeof option, "--callgrind-out-file=%s", path);
	if (error == 0)
		error = run_callgrind(counter, option);
	if (error == 0)
		error = read_counts(path, counts);
	unlink(path);
	return error;
}

static void explain(int error, char *reason, size_t bytes)
{
	if (error == -ENOENT)
		snprintf(reason, bytes, "there is no valgrind here");
	else if (error == -ECHILD)
		snprintf(reason, bytes, "sluice-count failed under callgrind");
	else if (error == -ENODATA)
		snprintf(reason, bytes, "the calls are not in callgrind's output");
	else
		snprintf(reason, bytes, "%s", strerror(-error));
}

/* The object that holds this compiler's counts, or NULL. */
static json_object *find_compiler(json_object *root, const struct instructions *instructions)
{
	json_object *compiler = NULL;

	return root && json_object_object_get_ex(root, instructions->compiler, &compiler) ? compiler : NULL;
}

static void read_expected(const char *path, struct instructions *instructions)
{
	json_object *root = json_object_from_file(path);
	json_object *compiler = find_compiler(root, instructions);

	for (int i = 0; compiler && i < INSTRUCTIONS_COUNTS; i++) {
		json_object *kind, *count;

		if (json_object_object_get_ex(compiler, instructions->counts[i].kind, &kind) &&
			json_object_object_get_ex(kind, instructions->counts[i].call, &count))
			instructions->counts[i].expected = json_object_get_double(count);
	}
	json_object_put(root);
}

void instructions_count(const char *expected_path, struct instructions *ret_instructions)
{
	const char *base = getenv("TMPDIR");
	char directory[PATH_BYTES - 32];
	int error = 0;

	*ret_instructions = (struct instructions){0};
	memcpy(ret_instructions->counts, all, sizeof all);
	snprintf(ret_instructions->compiler, sizeof ret_instructions->compiler, "%s %s %d.%d", ARCHITECTURE, COMPILER,
		MAJOR, MINOR);
	snprintf(directory, sizeof directory, "%s/sluice-count.XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(directory))
		error = -errno;
	if (error == 0) {
		error = count_in(directory, ret_instructions->counts);
		rmdir(directory);
	}
	ret_instructions->known = error == 0;
	if (error)
		explain(error, ret_instructions->reason, sizeof ret_instructions->reason);
	else if (expected_path)
		read_expected(expected_path, ret_instructions);
}

int instructions_record(const struct instructions *instructions, const char *expected_path)
{
	json_object *root = json_object_from_file(expected_path);
	json_object *compiler = json_object_new_object();

	if (!root)
		root = json_object_new_object();
	for (int i = 0; i < INSTRUCTIONS_COUNTS; i++) {
		const struct instruction_count *count = &instructions->counts[i];
		char text[32];
		json_object *kind;

		if (!json_object_object_get_ex(compiler, count->kind, &kind)) {
			kind = json_object_new_object();
			json_object_object_add(compiler, count->kind, kind);
		}
		snprintf(text, sizeof text, "%.1f", count->each);
		json_object_object_add(kind, count->call, json_object_new_double_s(count->each, text));
	}
	json_object_object_add(root, instructions->compiler, compiler);
	FILE *file = fopen(expected_path, "we");
	int error = file ? 0 : -errno;
	if (file) {
		fprintf(file, "%s\n",
			json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
		error = fclose(file) == 0 ? 0 : -errno;
	}
	json_object_put(root);
	return error;
}

double instructions_step(const struct instruction_count *count)
{
	double step = count->expected > 0 ? count->each / count->expected - 1 : 0;

	return step > INSTRUCTIONS_STEP || step < -INSTRUCTIONS_STEP ? step : 0;
}
