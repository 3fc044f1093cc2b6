/* SPDX-License-Identifier: Apache-2.0 */
/* Death across PID namespaces, and beside children of every kind that outlive their parent. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deaths.h"

/* ---- namespaces ---- */

/* Runs `body` as process 1 of a PID namespace of its own, tells its pid as seen from here, and waits for its end. */
static void run_in_namespace(struct scene *scene, process_body body, unsigned index)
{
	pid_t pid;
	int status;

	check_result(0, unshare(CLONE_NEWPID));
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(limit_seconds());
		check_equal(1, getpid());
		body(scene, index);
		_exit(0);
	}
	scene->pid = pid;
	check_equal(pid, waitpid(pid, &status, 0));
	scene->result = status;
	tally_add(&scene->done);
}

static void hold_in_namespace(void *shared, unsigned index)
{
	run_in_namespace(shared, hold_and_stay, index);
}

static void send_in_namespace(void *shared, unsigned index)
{
	run_in_namespace(shared, send_and_stay, index);
}

static void take_in_turn(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);

	tally_add(&scene->ready);
	for (unsigned i = 0; i < index; i++)
		take_again(own, i, 2);
	check_result(0, sluice_consumer_close(own));
}

static void take_in_namespace(void *shared, unsigned index)
{
	run_in_namespace(shared, take_in_turn, index);
}

static bool can_unshare(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWPID) ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECK "the leak sanitizer, which looks when a process ends, cannot work in a PID namespace of its own"
#else
#define LEAK_CHECK ""
#endif

#define skip_without_namespaces()                                                                                      \
	do {                                                                                                           \
		if (LEAK_CHECK[0] != '\0')                                                                             \
			skip_because(LEAK_CHECK);                                                                      \
		if (!can_unshare())                                                                                    \
			skip_because("no PID namespaces: not root, or not allowed");                                   \
	} while (0)

/* Kills the process that runs in a namespace, from outside, and waits until it is gone. */
static void kill_inside(struct scene *scene, unsigned outside)
{
	const uint32_t done = tally_read(&scene->done);

	check_result(0, kill(scene->pid, SIGKILL));
	tally_wait(&scene->done, done + 1);
	check(WIFSIGNALED(scene->result));
	finish(outside);
}

static void a_death_in_another_pid_namespace_is_noticed(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	unsigned outside;

	(void)state;
	skip_without_namespaces();
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_numbers(producer, 0, 3);
	outside = start_ready(hold_in_namespace, scene, 3);
	consumer = join_consumer("tokens", NULL);
	kill_inside(scene, outside);
	for (int i = 0; i < 3; i++)
		take_again(consumer, i, 2);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Both are process 1 where they live: pids say nothing, and no pid of theirs is found here. */
static void nobody_in_another_pid_namespace_is_taken_for_dead(void **state)
{
	struct scene *scene = new_scene(), *other = new_scene();
	struct sluice_consumer *consumer;
	unsigned sender, holder;

	(void)state;
	skip_without_namespaces();
	sender = start_ready(send_in_namespace, scene, 4);
	holder = start_ready(hold_in_namespace, other, 2);
	consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_REPORT_GONE));
	take_numbers(consumer, 2, 2);
	check_result(-ETIMEDOUT, nothing_within(consumer, 5 * SECOND / 2));
	check_equal(3, look().alive);
	check_equal(0, look().dead);
	check_equal(2, look().held);
	kill_inside(other, holder);
	take_again(consumer, 0, 2);
	take_again(consumer, 1, 2);
	kill_inside(scene, sender);
	check_result(-EPIPE, nothing_within(consumer, PATIENCE));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_member_inside_notices_a_death_outside(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer;
	unsigned holder, inside;

	(void)state;
	skip_without_namespaces();
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_numbers(producer, 0, 3);
	holder = start_ready(hold_and_stay, scene, 3);
	inside = start_ready(take_in_namespace, scene, 3);
	kill_hard(holder);
	tally_wait(&scene->done, 1);
	check_equal(0, scene->result);
	finish(inside);
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

/* ---- children ---- */

enum birth { BIRTH_FORK, BIRTH_FORK_EXEC, BIRTH_VFORK_EXEC, BIRTH_SPAWN };

/* A parent that holds messages, has a reservation open, and has a child that closes nothing and outlives it. */
struct family {
	struct scene scene;
	enum birth birth;
	int input; /* what the executed child reads from until it ends */
};

static void live_on_as_a_fork(struct family *family, struct sluice_producer *producer, struct sluice_consumer *consumer,
	const struct sluice_message *held)
{
	const unsigned char *data = sluice_tensor(held, 0)->data;
	const struct sluice_message *message;

	alarm(limit_seconds());
	tally_add(&family->scene.ready);
	tally_wait(&family->scene.go, 1);
	/* The parent is dead and its message with another by now. */
	check_result(-ECHILD, sluice_receive(consumer, 0, &message));
	check_result(-ECHILD, sluice_release(held));
	check_result(-ECHILD, try_to_send(producer, 1, 0));
	for (unsigned i = 0; i < 10000; i++)
		check_equal(9, data[i]);
	check_result(-ECHILD, sluice_consumer_close(consumer));
	check_result(-ECHILD, sluice_producer_close(producer));
	tally_add(&family->scene.done);
	_exit(0);
}

static pid_t spawn_cat(int input, char **arguments, char **environment)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;

	check_result(0, posix_spawn_file_actions_init(&actions));
	check_result(0, posix_spawn_file_actions_adddup2(&actions, input, 0));
	check_result(0, posix_spawn(&pid, "/bin/cat", &actions, NULL, arguments, environment));
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

static pid_t execute_cat(enum birth birth, int input)
{
	char *arguments[] = {(char *)(uintptr_t) "cat", NULL}, *environment[] = {NULL}, nothing;
	int executed[2];
	pid_t pid;

	/*
	 * Closed by the execution, with the descriptors of locks: until a child has come so far, it may not even have run what
	 * the library does in it. posix_spawn and vfork return a little before.
	 */
	check_result(0, pipe2(executed, O_CLOEXEC));
	if (birth == BIRTH_SPAWN) {
		pid = spawn_cat(input, arguments, environment);
	} else {
		/* vfork is what is tested here. NOLINTNEXTLINE(clang-analyzer-*) */
		pid = birth == BIRTH_VFORK_EXEC ? vfork() : fork();
		if (pid == 0) {
			dup2(input, 0);
			execve("/bin/cat", arguments, environment);
			_exit(127);
		}
	}
	check(pid > 0);
	close(executed[1]);
	check_equal(0, read(executed[0], &nothing, 1));
	close(executed[0]);
	return pid;
}

static void bear_and_stay(void *shared, unsigned index)
{
	const struct sluice_tensor_spec spec = {.name = "a", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {100}};
	struct family *family = shared;
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	struct sluice_producer *producer = join_producer("tokens", NULL);
	struct sluice_message *reservation;
	const struct sluice_message *held = hold(consumer);

	(void)index;
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &reservation));
	if (family->birth == BIRTH_FORK) {
		family->scene.pid = fork();
		if (family->scene.pid == 0)
			live_on_as_a_fork(family, producer, consumer, held);
	} else {
		family->scene.pid = execute_cat(family->birth, family->input);
		tally_add(&family->scene.ready);
	}
	stay(&family->scene);
}

static void check_child_lives(const struct family *family)
{
	check_result(0, kill(family->scene.pid, 0));
}

static void lets_its_parent_die(enum birth birth)
{
	struct family *family = shared_memory(sizeof *family);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer;
	const struct sluice_message *message;
	unsigned parent;
	int ends[2];

	check_result(0, pipe2(ends, O_CLOEXEC));
	family->birth = birth;
	family->input = ends[0];
	send_bytes(producer, 9, 10000);
	parent = process_start(bear_and_stay, family, 0);
	tally_wait(&family->scene.ready, 2);
	kill_hard(parent);
	check_child_lives(family);
	consumer = join_consumer("tokens", NULL);
	message = hold(consumer);
	check_equal(9, sluice_correlation_id(message));
	check_equal(2, sluice_delivery_count(message));
	check_child_lives(family);
	check_equal(1, look().dead); /* its producer's slot; its consumer's serves again */
	check_equal(2, look().alive);
	tally_add(&family->scene.go);
	if (birth == BIRTH_FORK)
		tally_wait(&family->scene.done, 1);
	check_result(0, sluice_release(message));
	close(ends[0]);
	close(ends[1]);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_forked_child_does_not_keep_its_dead_parent_alive(void **state)
{
	(void)state;
	lets_its_parent_die(BIRTH_FORK);
}

static void an_executed_child_does_not_either(void **state)
{
	(void)state;
	lets_its_parent_die(BIRTH_FORK_EXEC);
	lets_its_parent_die(BIRTH_VFORK_EXEC);
}

static void a_spawned_child_does_not_either(void **state)
{
	(void)state;
	lets_its_parent_die(BIRTH_SPAWN);
}

/* The other way round: what a child does with its inheritance must not make others believe that its parent died. */
static void fork_and_hold_on(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);
	const struct sluice_message *held = hold_number(own, 0);

	for (unsigned i = 0; i < index; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			sluice_release(held);
			sluice_consumer_close(own);
			_exit(0);
		}
		check_equal(pid, waitpid(pid, &status, 0));
		check_equal(0, status);
	}
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	check_result(0, sluice_release(held));
	check_result(0, sluice_consumer_close(own));
}

static void children_that_end_do_not_kill_their_parent(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer;
	unsigned parent;

	(void)state;
	send_number(producer, 0);
	parent = start_ready(fork_and_hold_on, scene, 5);
	consumer = join_consumer("tokens", NULL);
	check_result(-ETIMEDOUT, nothing_within(consumer, 5 * SECOND / 2));
	check_equal(0, look().dead);
	check_equal(1, look().held);
	tally_add(&scene->go);
	finish(parent);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_death_in_another_pid_namespace_is_noticed),
		promise(nobody_in_another_pid_namespace_is_taken_for_dead),
		promise(a_member_inside_notices_a_death_outside),
		promise(a_forked_child_does_not_keep_its_dead_parent_alive),
		promise(an_executed_child_does_not_either),
		promise(a_spawned_child_does_not_either),
		promise(children_that_end_do_not_kill_their_parent),
	};

	return cmocka_run_group_tests_name("recovery: family", tests, NULL, NULL);
}
