/* SPDX-License-Identifier: Apache-2.0 */
/* What the tool takes away and what it leaves: gc and rm. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

/* A producer that publishes a message and is killed: nobody is left. */
static void leave_a_backlog_by_dying(void)
{
	pid_t child = fork();
	if (!child) {
		struct sluice_producer *producer = NULL;
		struct sluice_tensor_spec spec = {"ids", SLUICE_INT32, 1, {4}};
		struct sluice_message *message = NULL;
		int error = sluice_producer_open("tokens", NULL, &producer);
		error = error ? error : sluice_reserve(producer, &spec, 1, 0, &message);
		error = error ? error : sluice_publish(message);
		error = error ? error : raise(SIGKILL);
		_exit(error != 0);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
}

static void gc_keeps_a_backlog_and_drops_it_when_told(void **state)
{
	(void)state;
	leave_a_backlog_by_dying();
	run("gc tokens --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	struct json_object *channel = json_object_array_get_idx(get(document, "channels"), 0);
	assert_number(channel, "dead_members", 1);
	assert_number(channel, "files_removed", 0);
	json_object_put(document);
	run("gc tokens");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "nothing to do; 1 message left, and no member: --drop removes");
	run("gc --drop");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "1 message dropped");
	run("gc");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "no channels");
	run("gc tokens");
	assert_int_equal(out.code, 1);
}

static void gc_says_how_a_persistent_channel_goes(void **state)
{
	struct sluice_channel_options channel = {.size = sizeof channel, .flags = SLUICE_PERSISTENT};
	struct sluice_consumer_options options = {.size = sizeof options, .channel = &channel};
	struct sluice_consumer *consumer = NULL;

	(void)state;
	assert_int_equal(sluice_consumer_open("kept", &options, &consumer), 0);
	run("gc kept");
	assert_says(out.text, "kept: nothing to do\n");
	assert_int_equal(sluice_consumer_close(consumer), 0);
	run("gc kept");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "'sluice rm kept' removes it");
	run("rm kept");
	assert_int_equal(out.code, 0);
}

static void rm_refuses_while_members_live_and_works_after(void **state)
{
	struct scene scene = open_scene();
	char pid[32];

	(void)state;
	snprintf(pid, sizeof pid, "pid %d", getpid());
	run("rm tokens");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "2 live members");
	assert_says(out.errors, pid);
	assert_says(out.errors, "--force");
	publish(scene.producer, 1);
	run("ls");
	assert_says(out.text, "tokens");

	close_scene(&scene);
	run("rm tokens --json");
	assert_int_equal(out.code, 0);
	struct json_object *document = parse(out.text);
	struct json_object *channel = at(get(document, "channels"), 0);
	assert_true(json_object_get_boolean(get(channel, "removed")));
	assert_number(channel, "waiting_messages", 5);
	json_object_put(document);
	run("ls");
	assert_says(out.text, "No channels");
}

static void rm_with_force_leaves_the_members_among_themselves(void **state)
{
	struct scene scene = open_scene();

	(void)state;
	run("rm --force tokens");
	assert_int_equal(out.code, 0);
	run("ls");
	assert_says(out.text, "No channels");
	assert_int_equal(sluice_release(receive(scene.consumer)), 0);
	publish(scene.producer, 1);
	close_scene(&scene);
}

static void one_impossible_name_removes_nothing(void **state)
{
	struct scene scene = open_scene();

	(void)state;
	close_scene(&scene);
	run("rm tokens a/b");
	assert_int_equal(out.code, 2);
	assert_says(out.errors, "cannot be a channel's name");
	run("rm tokens missing");
	assert_int_equal(out.code, 1);
	assert_says(out.text, "removed tokens");
	assert_says(out.errors, "there is no channel 'missing'");
}

static void a_file_that_only_looks_like_a_channel_is_named_not_hidden(void **state)
{
	struct sluice_producer *producer = open_producer("tokens");

	(void)state;
	write_file("sluice.rubbish", "this is not a channel");
	run("ls");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "tokens");
	assert_says(out.text, "rubbish: ");
	run("ls --json");
	struct json_object *document = parse(out.text);
	struct json_object *rubbish = find(get(document, "channels"), "name", "rubbish");
	assert_true(json_object_get_int(get(get(rubbish, "error"), "errno")) > 0);
	json_object_put(document);
	run("stat rubbish");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "rubbish");
	assert_int_equal(unlink(path_of("sluice.rubbish")), 0);
	assert_int_equal(sluice_producer_close(producer), 0);
}

static void lanes_that_lost_their_channel_are_named_and_removable(void **state)
{
	struct sluice_producer *producer = open_producer("tokens");

	(void)state;
	publish(producer, 1);
	assert_int_equal(sluice_producer_close(producer), 0);
	assert_int_equal(unlink(path_of("sluice.tokens")), 0);
	run("ls");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "tokens: only lanes are left of it");
	run("stat tokens");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "only lanes are left of it");
	run("rm tokens");
	assert_int_equal(out.code, 0);
}

static void another_layout_version_is_named_and_removable(void **state)
{
	struct sluice_producer *producer = open_producer("tokens");
	uint16_t version = 0x7777;

	(void)state;
	publish(producer, 1);
	assert_int_equal(sluice_producer_close(producer), 0);
	/* The version follows the eight bytes of magic (docs/protocol.md). */
	int fd = open(path_of("sluice.tokens"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &version, sizeof version, 8), sizeof version);
	close(fd);
	run("ls");
	assert_int_equal(out.code, 0);
	assert_says(out.text, "tokens: it has layout version 30583");
	run("stat tokens");
	assert_int_equal(out.code, 1);
	assert_says(out.errors, "layout version 30583");
	run("rm tokens");
	assert_int_equal(out.code, 0);
}

static int run_cases(void)
{
	const struct CMUnitTest cases[] = {
		CASE(gc_keeps_a_backlog_and_drops_it_when_told),
		CASE(gc_says_how_a_persistent_channel_goes),
		CASE(rm_refuses_while_members_live_and_works_after),
		CASE(rm_with_force_leaves_the_members_among_themselves),
		CASE(one_impossible_name_removes_nothing),
		CASE(a_file_that_only_looks_like_a_channel_is_named_not_hidden),
		CASE(lanes_that_lost_their_channel_are_named_and_removable),
		CASE(another_layout_version_is_named_and_removable),
	};

	return cmocka_run_group_tests_name("tool: removing", cases, NULL, NULL);
}

int main(int argc, char **argv)
{
	return tool_main(argc, argv, run_cases);
}
