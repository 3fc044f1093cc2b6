/* SPDX-License-Identifier: Apache-2.0 */
/* The tool's verbs that only look, its help and its errors, as users meet them: the built binary. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

static void no_channels_is_said_kindly(void **state)
{
	(void)state;
	run("ls");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "No channels in");
	assert_says(out.text, directory);
	run("ls --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	assert_text(document, "directory", directory);
	assert_int_equal(json_object_array_length(get(document, "channels")), 0);
	json_object_put(document);
}

static void ls_shows_members_and_backlog(void **state)
{
	struct scene scene = open_scene();

	(void)state;
	run("ls");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "tokens");
	assert_says(out.text, "queue");
	assert_says(out.text, "1 channel in");
	run("ls --json");
	struct json_object *document = parse(out.text);
	struct json_object *channel = at(get(document, "channels"), 0);
	assert_text(channel, "name", "tokens");
	assert_text(channel, "mode", "queue");
	assert_null(get(channel, "error"));
	assert_number(channel, "layout_version", sluice_layout_version());
	assert_number(channel, "producers_alive", 1);
	assert_number(channel, "consumers_alive", 1);
	assert_number(channel, "producers_dead", 0);
	assert_number(channel, "lane_count", 1);
	assert_number(channel, "waiting_messages", 3);
	assert_number(channel, "held_messages", 1);
	assert_true(json_object_get_uint64(get(channel, "mapped_bytes")) > 1 << 20);
	json_object_put(document);
	close_scene(&scene);
	run("rm tokens");
	assert_int_equal(out.code, 0);
}

static void stat_json_has_the_numbers(void **state)
{
	struct scene scene = open_scene();

	(void)state;
	run("stat tokens --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	assert_text(document, "name", "tokens");
	assert_text(document, "permissions", "0600");
	assert_number(document, "owner_uid", geteuid());
	assert_number(document, "producers_opened", 1);
	assert_number(document, "producers_closed", 0);
	assert_text(get(document, "geometry"), "mode", "queue");

	struct json_object *consumer = find(get(document, "members"), "role", "consumer");
	assert_number(consumer, "pid", (uint64_t)getpid());
	assert_number(consumer, "received_messages", 3);
	assert_number(consumer, "received_bytes", 3 * TENSOR_BYTES);
	assert_number(get(consumer, "queue_wait"), "count", 3);
	assert_number(get(consumer, "hold_time"), "count", 2);
	assert_true(json_object_get_boolean(get(consumer, "alive")));
	assert_true(json_object_get_boolean(get(find(get(document, "members"), "role", "producer"), "alive")));

	struct json_object *lane = at(get(document, "lanes"), 0);
	assert_number(lane, "lane_bytes", 1 << 20);
	assert_number(lane, "depth_messages", 64);
	assert_number(lane, "published_messages", 6);
	assert_number(lane, "published_bytes", 6 * TENSOR_BYTES);
	assert_number(lane, "waiting_messages", 3);
	assert_number(lane, "held_messages", 1);
	assert_number(get(lane, "fill_time"), "count", 6);
	assert_true(json_object_get_uint64(get(get(lane, "fill_time"), "p50_ns")) <=
		    json_object_get_uint64(get(get(lane, "fill_time"), "max_ns")));
	json_object_put(document);
	close_scene(&scene);
	run("rm tokens");
}

static void stat_says_who_is_there(void **state)
{
	struct scene scene = open_scene();
	char pid[32];

	(void)state;
	snprintf(pid, sizeof pid, "%d", getpid());
	run("stat tokens");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "3 waiting, 1 held");
	assert_says(out.text, "producer");
	assert_says(out.text, "consumer");
	assert_says(out.text, pid);
	assert_says(out.text, "queue wait");
	close_scene(&scene);
	run("rm tokens");
}

static struct sluice_producer *open_placed(void)
{
	struct sluice_producer_options options = {.size = sizeof options,
		.lane_bytes = 4 << 20,
		.flags = SLUICE_HUGE_PAGES | SLUICE_PREFAULT | SLUICE_LOCK_MEMORY,
		.node = SLUICE_NODE(0)};
	struct sluice_producer *producer;

	assert_int_equal(sluice_producer_open("tokens", &options, &producer), 0);
	return producer;
}

static void assert_wish(struct json_object *wish, const struct sluice_placement *placement, uint32_t bit, int error)
{
	assert_true(json_object_get_boolean(get(wish, "asked")));
	assert_int_equal(json_object_get_boolean(get(wish, "obtained")), (placement->obtained & bit) != 0);
	if (error)
		assert_number(get(wish, "error"), "errno", (uint64_t)-error);
	else
		assert_null(get(wish, "error"));
}

static void stat_says_where_a_lane_lies(void **state)
{
	struct sluice_producer *producer = open_placed();
	struct sluice_placement placement;

	(void)state;
	assert_int_equal(sluice_producer_placement(producer, &placement), 0);
	run("stat tokens --json");
	struct json_object *document = parse(out.text);
	struct json_object *shown = get(at(get(document, "lanes"), 0), "placement");
	assert_wish(get(shown, "on_node"), &placement, SLUICE_ON_NODE, placement.node_error);
	assert_wish(get(shown, "huge_pages"), &placement, SLUICE_HUGE_PAGES, placement.huge_error);
	assert_wish(get(shown, "prefault"), &placement, SLUICE_PREFAULT, placement.prefault_error);
	assert_wish(get(shown, "lock_memory"), &placement, SLUICE_LOCK_MEMORY, placement.lock_error);
	assert_number(get(shown, "on_node"), "asked_node", 0);
	assert_number(get(shown, "huge_pages"), "huge_bytes", placement.huge_bytes);
	assert_text(get(shown, "huge_pages"), "pages", placement.huge_bytes ? "transparent" : "small");
	json_object_put(document);

	run("stat tokens");
	assert_says(out.text, "HUGE PAGES");
	if (placement.obtained != placement.asked)
		assert_says(out.text, "lane 0.1 did not get ");
	else
		assert_null(strstr(out.text, "did not get"));
	assert_int_equal(sluice_producer_close(producer), 0);
}

/* A lane smaller than a huge page gets none on any machine. */
static void stat_says_what_a_lane_did_not_get(void **state)
{
	struct sluice_producer_options options = {
		.size = sizeof options, .lane_bytes = 4096, .depth = 2, .flags = SLUICE_HUGE_PAGES};
	struct sluice_producer *producer;

	(void)state;
	assert_int_equal(sluice_producer_open("tokens", &options, &producer), 0);
	run("stat tokens");
	assert_says(out.text, "none");
	assert_says(out.text, "lane 0.1 did not get huge pages: ");
	assert_int_equal(sluice_producer_close(producer), 0);
	producer = open_producer("tokens");
	run("stat tokens");
	assert_null(strstr(out.text, "HUGE PAGES"));
	run("stat tokens --json");
	struct json_object *document = parse(out.text);
	struct json_object *shown = get(at(get(document, "lanes"), 0), "placement");
	assert_false(json_object_get_boolean(get(get(shown, "huge_pages"), "asked")));
	assert_null(get(get(shown, "on_node"), "node"));
	json_object_put(document);
	assert_int_equal(sluice_producer_close(producer), 0);
}

static void a_killed_member_is_shown_dead(void **state)
{
	struct sluice_consumer *consumer = open_consumer("tokens");
	int ready[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (!child) {
		struct sluice_producer *producer = NULL;
		_exit(sluice_producer_open("tokens", NULL, &producer) || write(ready[1], "", 1) != 1 || pause());
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);

	run("stat tokens --json");
	struct json_object *document = parse(out.text);
	assert_false(json_object_get_boolean(get(find(get(document, "members"), "role", "producer"), "alive")));
	assert_number(document, "producers_dead", 1);
	json_object_put(document);
	assert_int_equal(sluice_consumer_close(consumer), 0);
	close(ready[0]);
	close(ready[1]);
	/* The last one out cleaned up after the dead. */
	run("stat tokens");
	assert_int_equal(out.code, 1);
}

static void looking_creates_nothing(void **state)
{
	(void)state;
	run("stat tokens");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "there is no channel 'tokens'");
	assert_int_equal(rmdir(directory), 0);
	assert_int_equal(mkdir(directory, 0700), 0);
}

static void an_unknown_name_brings_the_nearest_to_mind(void **state)
{
	struct sluice_producer *producer = open_producer("tokens");

	(void)state;
	run("stat tokns");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "did you mean 'tokens'?");
	assert_int_equal(sluice_producer_close(producer), 0);
}

static void a_missing_directory_is_named(void **state)
{
	(void)state;
	run("ls --dir /there/is/no/such/directory");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "there is no directory /there/is/no/such/directory");
	run("stat tokens --dir /there/is/no/such/directory --json");
	assert_int_equal(out.code, 1);
	struct json_object *document = parse(out.text);
	assert_text(get(document, "error"), "name", "ENOENT");
	json_object_put(document);
	run("doctor --dir /there/is/no/such/directory");
	assert_int_equal(out.code, 1);
	assert_says(out.text, "problem  directory");
}

static void a_directory_that_is_no_shared_memory_is_named(void **state)
{
	static const char *const lines[] = {
		"ls --dir /proc", "stat tokens --dir /proc", "rm tokens --dir /proc", "gc tokens --dir /proc"};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		run(lines[i]);
		assert_int_equal(out.code, 1);
		assert_says(out.errors, "/proc is not on a tmpfs");
	}
	run("stat tokens --dir /etc/passwd");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "/etc/passwd is not a directory");
}

static void the_option_names_the_directory_before_the_environment(void **state)
{
	struct sluice_producer *producer = open_producer("tokens");
	char command[128];

	(void)state;
	setenv("SLUICE_DIR", "/there/is/no/such/directory", 1);
	snprintf(command, sizeof command, "stat tokens --dir %s", directory);
	run(command);
	assert_int_equal(out.code, 0);
	setenv("SLUICE_DIR", directory, 1);
	assert_int_equal(sluice_producer_close(producer), 0);
}

static void usage_errors_exit_2_and_say_how_to_go_on(void **state)
{
	static const struct {
		const char *command_line, *part;
	} cases[] = {
		{"", "usage: sluice"},
		{"lss", "did you mean 'sluice ls'"},
		{"remove tokens", "did you mean 'sluice rm'"},
		{"frobnicate", "'sluice help' lists the verbs"},
		{"--json ls", "the verb comes first"},
		{"ls --nonsense", "'sluice help ls'"},
		{"ls -x", "'sluice help ls'"},
		{"ls --json=yes", "takes none"},
		{"ls --dir", "needs a value"},
		{"ls --force", "takes no --force"},
		{"ls tokens", "takes no name"},
		{"stat", "which channel?"},
		{"stat a b", "one channel at a time"},
		{"stat a/b", "cannot be a channel's name"},
		{"stat .hidden", "cannot be a channel's name"},
		{"rm", "which channel?"},
		{"version --dir /dev/shm", "takes no --dir"},
		{"help frobnicate", "'sluice help' lists the verbs"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		run(cases[i].command_line);
		if (out.code != 2)
			fail_msg("'sluice %s' exits %d", cases[i].command_line, out.code);
		assert_says(out.errors, cases[i].part);
		assert_string_equal(out.text, "");
	}
}

static void every_verb_has_help_with_an_example(void **state)
{
	static const char *const verbs[] = {"ls", "stat", "rm", "doctor", "version"};
	char command[64];

	(void)state;
	run("help");
	assert_int_equal(out.code, 0);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		run("--help");
		assert_says(out.text, verbs[i]);
		snprintf(command, sizeof command, "help %s", verbs[i]);
		run(command);
		assert_int_equal(out.code, 0);
		assert_says(out.text, "example:\n  sluice ");
		snprintf(command, sizeof command, "%s --help", verbs[i]);
		run(command);
		assert_int_equal(out.code, 0);
		assert_says(out.text, "--json");
	}
}

static void version_is_the_library_s(void **state)
{
	(void)state;
	run("version --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	assert_text(document, "version", sluice_version());
	assert_number(document, "layout_version", sluice_layout_version());
	assert_true(json_object_is_type(get(document, "features"), json_type_array));
	json_object_put(document);
	run("version");
	assert_says(out.text, sluice_version());
	run("--version");
	assert_says(out.text, sluice_version());
}

static void doctor_finds_this_machine_fit_and_leaves_nothing_behind(void **state)
{
	(void)state;
	run("doctor --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	for (size_t i = 0; i < json_object_array_length(document); i++) {
		assert_string_not_equal(json_object_get_string(get(at(document, i), "found")), "");
		assert_string_not_equal(json_object_get_string(get(at(document, i), "status")), "problem");
	}
	assert_text(find(document, "check", "locks"), "status", "ok");
	json_object_put(document);
	run("doctor");
	assert_says(out.text, "Sluice works here");
	assert_int_equal(rmdir(directory), 0);
	assert_int_equal(mkdir(directory, 0700), 0);
}

static void doctor_names_what_was_left_behind(void **state)
{
	struct scene scene = open_scene();

	(void)state;
	run("doctor --json");
	struct json_object *document = parse(out.text);
	assert_text(find(document, "check", "leftovers"), "status", "ok");
	json_object_put(document);
	close_scene(&scene);
	run("doctor --json");
	assert_int_equal(out.code, 0);
	document = parse(out.text);
	assert_text(find(document, "check", "leftovers"), "status", "note");
	assert_says(json_object_get_string(get(find(document, "check", "leftovers"), "advice")), "sluice rm tokens");
	json_object_put(document);
	run("rm tokens");
}

static void doctor_wants_a_tmpfs(void **state)
{
	(void)state;
	run("doctor --json --dir /proc");
	assert_int_equal(out.code, 1);
	struct json_object *document = parse(out.text);
	assert_text(find(document, "check", "directory"), "status", "problem");
	assert_non_null(get(find(document, "check", "directory"), "advice"));
	json_object_put(document);
}

static int run_cases(void)
{
	const struct CMUnitTest cases[] = {
		CASE(no_channels_is_said_kindly),
		CASE(ls_shows_members_and_backlog),
		CASE(stat_json_has_the_numbers),
		CASE(stat_says_who_is_there),
		CASE(stat_says_where_a_lane_lies),
		CASE(stat_says_what_a_lane_did_not_get),
		CASE(a_killed_member_is_shown_dead),
		CASE(looking_creates_nothing),
		CASE(an_unknown_name_brings_the_nearest_to_mind),
		CASE(a_missing_directory_is_named),
		CASE(a_directory_that_is_no_shared_memory_is_named),
		CASE(the_option_names_the_directory_before_the_environment),
		CASE(usage_errors_exit_2_and_say_how_to_go_on),
		CASE(every_verb_has_help_with_an_example),
		CASE(version_is_the_library_s),
		CASE(doctor_finds_this_machine_fit_and_leaves_nothing_behind),
		CASE(doctor_names_what_was_left_behind),
		CASE(doctor_wants_a_tmpfs),
	};

	return cmocka_run_group_tests_name("tool: looking", cases, NULL, NULL);
}

int main(int argc, char **argv)
{
	return tool_main(argc, argv, run_cases);
}
