/* SPDX-License-Identifier: Apache-2.0 */
/* A consumer that keeps up costs its producers no system call: they may make none that wakes, or die. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"
#include "polling.h"

struct quiet {
	_Atomic uint64_t published;
	_Atomic uint32_t steady; /* the consumer is at it */
	uint64_t messages;
};

static void send_steadily(void *shared, unsigned index)
{
	struct quiet *quiet = shared;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.spin_ns = SLUICE_SPIN_ONLY));

	(void)index;
	for (uint64_t i = 0; i < quiet->messages; i++) {
		while (i == 4 && !atomic_load(&quiet->steady))
			sched_yield();
		if (i == 4)
			die_of_waking();
		check_result(0, try_to_send(producer, (int64_t)i, SLUICE_FOREVER));
		atomic_fetch_add(&quiet->published, 1);
	}
	_exit(0); /* the rest of its life may wake others */
}

/* A consumer that keeps up is never quicker than its producer: it finds the next message whenever it looks. */
static void wait_for_next(struct quiet *quiet, uint64_t i)
{
	const uint64_t wanted = i + 2 < quiet->messages ? i + 2 : quiet->messages;

	while (atomic_load(&quiet->published) < wanted)
		sched_yield();
}

static void check_asleep(uint32_t expected)
{
	struct sluice_channel_stat *stat = NULL;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].role == SLUICE_ROLE_CONSUMER)
			check_equal(expected, stat->members[i].asleep);
	sluice_channel_stat_free(stat);
}

/* As a loop does: a ring that was taken down interrupts one system call of its thread, also one of the test before. */
static void wait_in(int loop)
{
	struct epoll_event fired;
	int count;

	do
		count = epoll_wait(loop, &fired, 1, (int)(PATIENCE / MILLISECOND));
	while (count == -1 && errno == EINTR);
	check_equal(1, count);
}

static void keep_up(bool by_descriptor)
{
	struct quiet *quiet = shared_memory(sizeof *quiet);
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 64)));
	struct epoll_event wanted = {.events = EPOLLIN};
	int loop = epoll_create1(EPOLL_CLOEXEC);

	quiet->messages = scaled(20000);
	quiet->messages = quiet->messages < 100 ? 100 : quiet->messages;
	poll_consumer(poller, consumer, consumer);
	if (by_descriptor) {
		check(!epoll_ctl(loop, EPOLL_CTL_ADD, sluice_poller_fd(poller), &wanted));
		expect_nothing(poller);
		check_asleep(1);
	}
	process_start(send_steadily, quiet, 0);
	for (uint64_t i = 0; i < quiet->messages; i++) {
		if (by_descriptor)
			wait_in(loop);
		wait_for_next(quiet, i);
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		take_numbers(consumer, (int64_t)i, 1);
		if (i == 1) {
			check_asleep(0);
			atomic_store(&quiet->steady, 1);
		}
	}
	processes_finish();
	close(loop);
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_consumer_that_keeps_up_costs_no_system_call_in_a_wait(void **state)
{
	(void)state;
	keep_up(false);
}

static void a_consumer_that_keeps_up_costs_no_system_call_in_a_loop(void **state)
{
	(void)state;
	keep_up(true);
}

/* That the test would notice. */
static void wake_and_die(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", NULL);

	(void)index;
	tally_add(shared);
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	die_of_waking();
	send_number(producer, 0);
}

static void a_producer_that_wakes_is_noticed(void **state)
{
	struct tally *joined = shared_memory(sizeof *joined);
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	unsigned producer = process_start(wake_and_die, joined, 0);
	int status;

	(void)state;
	poll_consumer(poller, consumer, consumer);
	check(sluice_poller_fd(poller) >= 0);
	tally_wait(joined, 1);
	expect_nothing(poller);
	status = process_status(producer);
	check(WIFSIGNALED(status));
	check_equal(SIGSYS, WTERMSIG(status));
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0); /* found by itself, about a second later */
	take_numbers(consumer, 0, 1);
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_consumer_that_keeps_up_costs_no_system_call_in_a_wait),
		promise(a_consumer_that_keeps_up_costs_no_system_call_in_a_loop),
		promise(a_producer_that_wakes_is_noticed),
	};

	return cmocka_run_group_tests_name("poller: quiet", tests, NULL, NULL);
}

int main(int count, char **arguments)
{
	return polling_main(count, arguments, "quiet_test", run);
}
