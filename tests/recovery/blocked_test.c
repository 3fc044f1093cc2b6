/* SPDX-License-Identifier: Apache-2.0 */
/* In the middle of a call that waits: signals, death, and a directory without room; what a dead sleeper leaves behind. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deaths.h"

#define QUEUE CHANNEL(.depth = 4)

enum call { CALL_RESERVE, CALL_RECEIVE, CALL_BATCH, CALL_PRODUCER_WAIT, CALL_CONSUMER_WAIT, CALLS };

static bool of_a_producer(enum call call)
{
	return call == CALL_RESERVE || call == CALL_PRODUCER_WAIT;
}

static void ignore(int number)
{
	(void)number;
}

static void be_interruptible(void)
{
	const struct sigaction action = {.sa_handler = ignore};

	check_result(0, sigaction(SIGUSR1, &action, NULL));
}

/* A member in a call that cannot end by itself. */
struct blocked {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
};

static struct blocked open_blocked(enum call call)
{
	struct blocked blocked = {0};

	if (of_a_producer(call))
		blocked.producer = join_producer("tokens", PRODUCER(.channel = QUEUE, .spin_ns = SLUICE_NO_SPIN));
	else
		blocked.consumer = join_consumer("tokens", CONSUMER(.channel = QUEUE, .spin_ns = SLUICE_NO_SPIN));
	if (call == CALL_RESERVE)
		send_numbers(blocked.producer, 0, 4);
	return blocked;
}

static int make_call(struct blocked *blocked, enum call call, int64_t timeout_ns)
{
	const struct sluice_message *messages[4] = {NULL};
	int result;

	switch (call) {
	case CALL_RESERVE:
		return try_to_send(blocked->producer, 4, timeout_ns);
	case CALL_RECEIVE:
		result = sluice_receive(blocked->consumer, timeout_ns, messages);
		if (result == 0)
			check_result(0, sluice_release(messages[0]));
		return result;
	case CALL_BATCH:
		result = sluice_receive_batch(blocked->consumer, 4, 0, 0, timeout_ns, messages);
		if (result > 0)
			check_result(0, sluice_release_batch(messages, (size_t)result));
		return result > 0 ? 0 : result;
	case CALL_PRODUCER_WAIT:
		result = sluice_producer_wait(blocked->producer, 1, timeout_ns);
		return result > 0 ? 0 : result;
	default:
		result = sluice_consumer_wait(blocked->consumer, 1, timeout_ns);
		return result > 0 ? 0 : result;
	}
}

static void close_blocked(struct blocked *blocked)
{
	check_result(0, sluice_producer_close(blocked->producer));
	check_result(0, sluice_consumer_close(blocked->consumer));
}

static void block_and_be_interrupted(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct blocked blocked = open_blocked((enum call)index);

	be_interruptible();
	tally_add(&scene->ready);
	for (int i = 0; i < 3; i++) {
		check_result(-EINTR, make_call(&blocked, (enum call)index, SLUICE_FOREVER));
		tally_add(&scene->done);
	}
	check_result(0, make_call(&blocked, (enum call)index, PATIENCE));
	tally_wait(&scene->go, 1);
	close_blocked(&blocked);
}

static uint32_t role_of(enum call call)
{
	return of_a_producer(call) ? SLUICE_ROLE_PRODUCER : SLUICE_ROLE_CONSUMER;
}

/* What the blocked one waits for comes: the counterpart, which finds all that is in the channel. */
static void come_to_its_help(enum call call)
{
	struct blocked blocked = {0};

	if (of_a_producer(call)) {
		blocked.consumer = join_consumer("tokens", CONSUMER(.channel = QUEUE));
		if (call == CALL_RESERVE)
			take_numbers(blocked.consumer, 0, 5);
	} else {
		blocked.producer = join_producer("tokens", PRODUCER(.channel = QUEUE));
		if (call != CALL_CONSUMER_WAIT)
			send_number(blocked.producer, 0);
	}
	close_blocked(&blocked);
}

static void a_signal_ends_each_call_that_waits_and_loses_nothing(void **state)
{
	(void)state;
	for (unsigned call = 0; call < CALLS; call++) {
		struct scene *scene = new_scene();
		unsigned process = start_ready(block_and_be_interrupted, scene, call);

		for (uint32_t i = 0; i < 3; i++) {
			wait_until_asleep("tokens", role_of((enum call)call), 1);
			while (tally_read(&scene->done) == i) { /* it may have been about to sleep */
				check_result(0, kill(process_pid(process), SIGUSR1));
				tally_wait_for(&scene->done, i + 1, 20 * MILLISECOND);
			}
		}
		/* A wait for a counterpart would miss one that has left again: it stays until the call is through. */
		if (call == CALL_PRODUCER_WAIT || call == CALL_CONSUMER_WAIT) {
			struct blocked other =
				open_blocked(call == CALL_PRODUCER_WAIT ? CALL_RECEIVE : CALL_PRODUCER_WAIT);

			tally_add(&scene->go);
			finish(process);
			close_blocked(&other);
			continue;
		}
		come_to_its_help((enum call)call);
		tally_add(&scene->go);
		finish(process);
		check_equal(0, sandbox_objects(NULL));
	}
}

static void block_for_ever(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct blocked blocked = open_blocked((enum call)index);

	tally_add(&scene->ready);
	make_call(&blocked, (enum call)index, SLUICE_FOREVER);
	check(!"reached");
}

static void whoever_is_killed_in_a_call_that_waits_leaves_a_channel_that_works(void **state)
{
	(void)state;
	for (unsigned call = 0; call < CALLS; call++) {
		struct scene *scene = new_scene();
		struct sluice_producer *producer;
		struct sluice_consumer *consumer;

		for (int i = 0; i < 3; i++) {
			unsigned process = start_ready(block_for_ever, scene, call);

			wait_until_asleep("tokens", role_of((enum call)call), 1);
			kill_hard(process);
		}
		producer = join_producer("tokens", PRODUCER(.channel = QUEUE, .spin_ns = SLUICE_NO_SPIN));
		consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));
		if (call == CALL_RESERVE)
			for (int i = 0; i < 12; i++)
				check(take(consumer) < 4);
		check_full_capacity(producer, consumer, 4);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
		check_equal(0, sandbox_objects(NULL));
	}
}

/* A publish wakes one sleeper: if that one dies of it, or is dead, another must be woken, at once or by itself. */
static void receive_one(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));

	(void)index;
	tally_add(&scene->ready);
	take(own);
	tally_add(&scene->done);
	check_result(0, sluice_consumer_close(own));
}

static void dead_sleepers_do_not_swallow_a_wake_up(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = QUEUE));
	unsigned dead[3], living;

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++)
			dead[i] = start_ready(receive_one, scene, 0);
		living = start_ready(receive_one, scene, 0);
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 4);
		for (int i = 0; i < 3; i++)
			kill_hard(dead[i]);
		send_number(producer, 0);
		check(tally_wait_for(&scene->done, (uint32_t)round + 1, NOTICED));
		finish(living);
	}
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

/* From here on a futex call ends this process. */
static void forbid_futex(void)
{
	struct sock_filter instructions[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = 4, .filter = instructions};

	check_result(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(77);
}

/* The first message may call a dead sleeper; none after it calls the kernel. */
static void send_without_futex(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 4096)));

	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	send_number(own, 0);
	forbid_futex();
	for (unsigned i = 1; i < index; i++)
		check_result(0, try_to_send(own, i, 0));
	_exit(0);
}

static void a_dead_sleeper_costs_one_useless_wake_up_at_most(void **state)
{
	struct scene *scene = new_scene();
	unsigned sender, dead[2];
	int status;

	(void)state;
	sender = start_ready(send_without_futex, scene, 2000);
	for (int i = 0; i < 2; i++)
		dead[i] = start_ready(receive_one, scene, 0);
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 2);
	for (int i = 0; i < 2; i++)
		kill_hard(dead[i]);
	tally_add(&scene->go);
	status = process_status(sender);
	clear_away();
	if (status == 77 << 8)
		skip_because("no seccomp filters here");
	check_equal(0, status);
}

/* ---- no room ---- */

static void fill_directory(void)
{
	static char block[65536];
	const int file = open(sandbox_path("ballast"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	check(file >= 0);
	while (write(file, block, sizeof block) > 0)
		continue;
	while (write(file, block, 1) > 0)
		continue;
	check_equal(ENOSPC, errno);
	close(file);
}

/* In a mount namespace whose sandbox is a small file system of its own. */
static void recover_without_room(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *producer, *other = NULL;
	struct sluice_consumer *consumer;
	unsigned dead;

	(void)index;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("tmpfs", sandbox_directory(), "tmpfs", 0, "size=4m")) {
		scene->result = 77;
		return;
	}
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.max_deliveries = 2)));
	send_numbers(producer, 0, 8);
	fill_directory();
	for (unsigned i = 1; i <= 2; i++) {
		dead = start_ready(hold_and_stay, scene, 8);
		check_result(-ENOSPC, sluice_producer_open("tokens", NULL, &other));
		kill_hard(dead);
	}
	consumer = join_consumer("tokens", NULL); /* a consumer needs no memory of its own */
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_equal(8, look().set_aside);
	check_full_capacity(producer, consumer, 8);
	send_numbers(producer, 0, 3);
	dead = start_ready(hold_and_stay, scene, 3);
	kill_hard(dead);
	for (int i = 0; i < 3; i++)
		take_again(consumer, i, 2);
	check_result(0, unlink(sandbox_path("ballast")));
	dead = start_ready(send_and_stay, scene, 3);
	fill_directory();
	kill_hard(dead);
	take_numbers(consumer, 0, 3);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(1, sandbox_objects(NULL)); /* the ballast */
	check_result(0, umount(sandbox_directory()));
}

static void recovery_needs_no_room_in_shared_memory(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	finish(process_start(recover_without_room, scene, 0));
	if (scene->result == 77)
		skip_because("no mount of one's own: not root, or not allowed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_signal_ends_each_call_that_waits_and_loses_nothing),
		promise(whoever_is_killed_in_a_call_that_waits_leaves_a_channel_that_works),
		promise(dead_sleepers_do_not_swallow_a_wake_up),
		promise(a_dead_sleeper_costs_one_useless_wake_up_at_most),
		promise(recovery_needs_no_room_in_shared_memory),
	};

	return cmocka_run_group_tests_name("recovery: blocked", tests, NULL, NULL);
}
