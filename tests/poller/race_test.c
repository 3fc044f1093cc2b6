/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that come, go, are closed and die while a thread waits; forks; and what is refused meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "polling.h"

/* A thread that waits for one event and keeps it. */
struct watcher {
	pthread_t thread;
	struct sluice_poller *poller;
	int64_t timeout_ns;
	struct sluice_poller_event event;
	int result;
	_Atomic bool done;
};

static void *wait_once(void *context)
{
	struct watcher *watcher = context;

	watcher->result = sluice_poller_wait(watcher->poller, &watcher->event, 1, watcher->timeout_ns);
	atomic_store(&watcher->done, true);
	return NULL;
}

/* Starts one, and comes back when it is in the call: then another call is refused. */
static void start_watcher(struct watcher *watcher, struct sluice_poller *poller, int64_t timeout_ns)
{
	const uint64_t end = now_ns() + (uint64_t)PATIENCE;
	struct sluice_poller_event event;

	*watcher = (struct watcher){.poller = poller, .timeout_ns = timeout_ns};
	check(!pthread_create(&watcher->thread, NULL, wait_once, watcher));
	while (!atomic_load(&watcher->done) && sluice_poller_wait(poller, &event, 1, 0) != -EBUSY) {
		check(now_ns() < end);
		sched_yield();
	}
}

static void finish_watcher(struct watcher *watcher, int result, uint32_t events, const void *data)
{
	check(!pthread_join(watcher->thread, NULL));
	check_result(result, watcher->result);
	if (result != 1)
		return;
	check_equal(events, watcher->event.events);
	check(watcher->event.data == data);
}

static struct sluice_consumer *new_consumer(const char *name)
{
	return join_consumer(name, CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
}

/* Polls in all ways: with the descriptor in use, and without. */
static struct sluice_poller *poller_of_kind(int kind)
{
	struct sluice_poller *poller = new_poller(NEVER);

	if (kind)
		check(sluice_poller_fd(poller) >= 0);
	return poller;
}

static void one_that_is_added_while_a_thread_waits_is_waited_for(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct sluice_poller *poller = poller_of_kind(kind);
		struct sluice_consumer *consumer = new_consumer("tokens");
		struct sluice_producer *producer = join_producer("tokens", NULL);
		struct watcher watcher;

		start_watcher(&watcher, poller, PATIENCE);
		poll_consumer(poller, consumer, consumer);
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		check(!atomic_load(&watcher.done));
		send_number(producer, 1);
		finish_watcher(&watcher, 1, SLUICE_POLL_RECEIVE, consumer);
		take_numbers(consumer, 1, 1);
		/* And one that is ready as it comes. */
		check_result(0, sluice_poller_remove(poller, consumer));
		send_number(producer, 2);
		start_watcher(&watcher, poller, PATIENCE);
		poll_consumer(poller, consumer, poller);
		finish_watcher(&watcher, 1, SLUICE_POLL_RECEIVE, poller);
		take_numbers(consumer, 2, 1);
		end_poller(poller);
		check_result(0, sluice_consumer_close(consumer));
		check_result(0, sluice_producer_close(producer));
	}
}

static void one_that_is_removed_while_a_thread_waits_is_not_reported(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct sluice_poller *poller = poller_of_kind(kind);
		struct sluice_consumer *first = new_consumer("first"), *second = new_consumer("second");
		struct sluice_producer *to_first = join_producer("first", NULL);
		struct sluice_producer *to_second = join_producer("second", NULL);
		struct watcher watcher;

		poll_consumer(poller, first, first);
		poll_consumer(poller, second, second);
		start_watcher(&watcher, poller, PATIENCE);
		wait_until_asleep("first", SLUICE_ROLE_CONSUMER, 1);
		check_result(0, sluice_poller_remove(poller, first));
		check_result(-ENOENT, sluice_poller_remove(poller, first));
		send_number(to_first, 1);
		take_numbers(first, 1, 1); /* it is this thread's again */
		check(!atomic_load(&watcher.done));
		send_number(to_second, 2);
		finish_watcher(&watcher, 1, SLUICE_POLL_RECEIVE, second);
		take_numbers(second, 2, 1);
		/* The last one goes: the wait goes on until its time is over. */
		start_watcher(&watcher, poller, 200 * MILLISECOND);
		check_result(0, sluice_poller_remove(poller, second));
		finish_watcher(&watcher, 0, 0, NULL);
		check_result(0, sluice_consumer_close(first));
		check_result(0, sluice_consumer_close(second));
		check_result(0, sluice_producer_close(to_first));
		check_result(0, sluice_producer_close(to_second));
		end_poller(poller);
	}
}

static void one_that_is_closed_while_a_thread_waits_says_so_once(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct sluice_poller *poller = poller_of_kind(kind);
		struct sluice_consumer *consumer = new_consumer("tokens");
		struct sluice_producer *producer = join_producer("tokens", NULL);
		struct watcher watcher;
		int data;

		send_numbers(producer, 0, 8);
		poll_producer(poller, producer, 0, &data);
		start_watcher(&watcher, poller, PATIENCE);
		wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
		check_result(0, sluice_producer_close(producer));
		finish_watcher(&watcher, 1, SLUICE_POLL_CLOSED, &data);
		check_result(-ENOENT, sluice_poller_remove(poller, producer));
		expect_nothing(poller);
		take_numbers(consumer, 0, 8);

		poll_consumer(poller, consumer, consumer);
		start_watcher(&watcher, poller, PATIENCE);
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		check_result(0, sluice_consumer_close(consumer));
		finish_watcher(&watcher, 1, SLUICE_POLL_CLOSED, consumer);
		expect_nothing(poller);
		end_poller(poller);
	}
}

static void one_that_was_closed_can_be_removed_before_it_is_told(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = new_consumer("tokens");

	(void)state;
	poll_consumer(poller, consumer, consumer);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_poller_remove(poller, consumer));
	check_result(-ENOENT, sluice_poller_remove(poller, consumer));
	expect_nothing(poller);
	end_poller(poller);
}

static void the_descriptor_tells_of_one_that_was_closed(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = new_consumer("tokens");
	int descriptor = sluice_poller_fd(poller);

	(void)state;
	poll_consumer(poller, consumer, consumer);
	while (is_readable(descriptor, 0))
		expect_nothing(poller);
	check_result(0, sluice_consumer_close(consumer));
	check(is_readable(descriptor, 0));
	expect_event(poller, SLUICE_POLL_CLOSED, consumer, 0);
	end_poller(poller);
}

static void only_one_thread_waits_and_nobody_destroys_meanwhile(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = new_consumer("tokens");
	struct sluice_poller_event event;
	struct watcher watcher;

	(void)state;
	start_watcher(&watcher, poller, PATIENCE);
	check_result(-EBUSY, sluice_poller_wait(poller, &event, 1, SLUICE_FOREVER));
	check_result(-EBUSY, sluice_poller_destroy(poller));
	poll_consumer(poller, consumer, NULL);
	check_result(0, sluice_consumer_close(consumer));
	finish_watcher(&watcher, 1, SLUICE_POLL_CLOSED, NULL);
	end_poller(poller);
}

/* Looks without waiting until the poller is gone. */
static void *look_until_refused(void *context)
{
	struct watcher *watcher = context;

	atomic_store(&watcher->done, true);
	do
		watcher->result = sluice_poller_wait(watcher->poller, &watcher->event, 1, 0);
	while (watcher->result == 0);
	return NULL;
}

static void a_call_that_comes_as_the_poller_goes_is_refused(void **state)
{
	struct sluice_consumer *consumers[10];

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		consumers[i] = new_consumer("tokens");
	for (uint64_t round = 0; round < rounds(2000); round++) {
		struct watcher watcher = {.poller = new_poller(NEVER)};
		int result;

		for (unsigned i = 0; i < 10; i++)
			poll_consumer(watcher.poller, consumers[i], NULL);
		check(!pthread_create(&watcher.thread, NULL, look_until_refused, &watcher));
		while (!atomic_load(&watcher.done))
			sched_yield();
		while ((result = sluice_poller_destroy(watcher.poller)) == -EBUSY)
			;
		check_result(0, result);
		finish_watcher(&watcher, -EBADF, 0, NULL);
	}
	for (unsigned i = 0; i < 10; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
}

/* A thread that has its core to itself does not shut others out. */
static void a_thread_that_spins_lets_others_in(void **state)
{
	struct sluice_poller *poller = NULL;
	struct sluice_consumer *consumer = new_consumer("tokens");
	struct watcher watcher;

	(void)state;
	check_result(0, sluice_poller_create(POLLER(.backend = backend(), .spin_ns = SLUICE_SPIN_ONLY), &poller));
	start_watcher(&watcher, poller, PATIENCE);
	for (int i = 0; i < 20; i++) {
		poll_consumer(poller, consumer, NULL);
		check_result(0, sluice_poller_remove(poller, consumer));
	}
	check(!atomic_load(&watcher.done));
	poll_consumer(poller, consumer, NULL);
	check_result(0, sluice_consumer_close(consumer));
	finish_watcher(&watcher, 1, SLUICE_POLL_CLOSED, NULL);
	end_poller(poller);
}

/* ---- a wake-up that nobody uses ---- */

/* Receives one message, being counted as asleep until then. */
static void receive_one_asleep(void *shared, unsigned index)
{
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));

	(void)shared;
	(void)index;
	take_numbers(consumer, 1, 1);
	check_result(0, sluice_consumer_close(consumer));
}

/*
 * A publish wakes one consumer. If that is a poller's, whose entry then goes without the message, another has to hear
 * of it; else it would find it only when it wakes by itself, a second later.
 */
static void a_wake_up_that_a_removed_entry_got_goes_to_another(void **state)
{
	const uint64_t rounds = 20;
	uint64_t begin, elapsed = 0;

	(void)state;
	for (uint64_t i = 0; i < rounds; i++) {
		struct sluice_poller *poller = new_poller(NEVER);
		/* Slots 0, 1 and 2: after one message a publish begins to look for sleepers at slot 1. */
		struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
		struct sluice_consumer *consumer = new_consumer("tokens");
		unsigned other = process_start(receive_one_asleep, NULL, 0);

		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		poll_consumer(poller, consumer, NULL);
		check(sluice_poller_fd(poller) >= 0);
		expect_nothing(poller);
		begin = now_ns();
		send_number(producer, 1);
		if (i % 2)
			check_result(0, sluice_poller_remove(poller, consumer));
		else
			end_poller(poller);
		check_equal(0, process_status(other));
		elapsed += now_ns() - begin;
		if (i % 2)
			end_poller(poller);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
	}
	check(elapsed < rounds * (uint64_t)SECOND / 5);
}

/* ---- fork ---- */

static void call_everything_inherited(void *shared, unsigned index)
{
	struct sluice_poller *poller = shared, *own = new_poller(0);
	struct sluice_poller_event event;
	struct sluice_poller_entry entry = {.data = &event};

	(void)index;
	check_result(-ECHILD, sluice_poller_add(poller, &entry));
	check_result(-ECHILD, sluice_poller_remove(poller, &entry));
	check_result(-ECHILD, sluice_poller_wait(poller, &event, 1, SLUICE_FOREVER));
	check_result(-ECHILD, sluice_poller_fd(poller));
	check_result(-ECHILD, sluice_poller_backend(poller));
	check_result(-ECHILD, sluice_poller_destroy(poller));
	expect_nothing(own);
	end_poller(own);
}

static void a_child_s_copy_is_dead_and_its_parent_goes_on(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct sluice_poller *poller = poller_of_kind(kind);
		struct sluice_consumer *consumer = new_consumer("tokens");
		struct sluice_producer *producer = join_producer("tokens", NULL);

		poll_consumer(poller, consumer, consumer);
		expect_nothing(poller);
		process_start(call_everything_inherited, poller, 0);
		processes_finish();
		expect_nothing(poller);
		send_number(producer, 1);
		if (kind)
			check(is_readable(sluice_poller_fd(poller), PATIENCE));
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		take_numbers(consumer, 1, 1);
		expect_nothing(poller);
		end_poller(poller);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
	}
}

/* ---- all at once ---- */

#define STORMY 4

struct storm {
	struct sluice_poller *poller;
	_Atomic bool over;
	_Atomic uint64_t closed;
};

static void *wait_in_the_storm(void *context)
{
	struct storm *storm = context;
	struct sluice_poller_event events[3];

	while (!atomic_load(&storm->over)) {
		int count = sluice_poller_wait(storm->poller, events, 3, SECOND);

		check(count >= 0);
		for (int i = 0; i < count; i++)
			if (events[i].events == SLUICE_POLL_CLOSED)
				atomic_fetch_add(&storm->closed, 1);
	}
	return NULL;
}

/* Publishes on all channels until told to stop. */
static void send_until_told(void *shared, unsigned index)
{
	struct sluice_producer *producers[STORMY];
	char name[] = "storm-0";
	uint64_t random = index;

	for (int i = 0; i < STORMY; i++) {
		name[6] = (char)('0' + i);
		producers[i] = join_producer(name, PRODUCER(.channel = CHANNEL()));
	}
	while (!tally_read(shared))
		(void)!try_to_send(producers[random_next(&random) % STORMY], 0, 0);
	for (int i = 0; i < STORMY; i++)
		check_result(0, sluice_producer_close(producers[i]));
}

/* One thread waits all the time, another adds, removes, receives, closes and opens again; a process sends to all. */
static void a_storm(int kind)
{
	struct storm storm = {.poller = poller_of_kind(kind)};
	struct tally *told = shared_memory(sizeof *told);
	struct sluice_consumer *consumers[STORMY] = {0};
	bool polled[STORMY] = {0};
	uint64_t random = 5, closed = 0, received = 0;
	const uint64_t rounds = scaled(4000);
	char name[] = "storm-0";
	pthread_t thread;

	process_start(send_until_told, told, 1);
	check(!pthread_create(&thread, NULL, wait_in_the_storm, &storm));
	for (uint64_t round = 0; round < rounds; round++) {
		const unsigned i = (unsigned)(random_next(&random) % STORMY);
		const struct sluice_message *message;

		name[6] = (char)('0' + i);
		if (!consumers[i])
			consumers[i] = new_consumer(name);
		if (!polled[i]) {
			while (!sluice_receive(consumers[i], 0, &message)) {
				check_result(0, sluice_release(message));
				received++;
			}
			poll_consumer(storm.poller, consumers[i], &storm);
			polled[i] = true;
		} else if (random_next(&random) % 4) {
			check_result(0, sluice_poller_remove(storm.poller, consumers[i]));
			polled[i] = false;
		} else {
			check_result(0, sluice_consumer_close(consumers[i]));
			consumers[i] = NULL;
			polled[i] = false;
			closed++;
		}
	}
	for (int i = 0; i < STORMY; i++) {
		closed += polled[i] && consumers[i];
		check_result(0, sluice_consumer_close(consumers[i]));
	}
	while (atomic_load(&storm.closed) < closed)
		sched_yield();
	atomic_store(&storm.over, true);
	check(!pthread_join(thread, NULL));
	check_equal(closed, storm.closed);
	tally_add(told);
	processes_finish();
	end_poller(storm.poller);
	print_message(
		"%llu messages received, %llu closed\n", (unsigned long long)received, (unsigned long long)closed);
	for (int i = 0; i < STORMY; i++) {
		name[6] = (char)('0' + i);
		/* It is there if what was sent last is. */
		check(sluice_channel_remove(name, NULL, 0) <= 0);
	}
}

static void entries_come_and_go_under_traffic(void **state)
{
	(void)state;
	a_storm(0);
	a_storm(1);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		promise(one_that_is_added_while_a_thread_waits_is_waited_for),
		promise(one_that_is_removed_while_a_thread_waits_is_not_reported),
		promise(one_that_is_closed_while_a_thread_waits_says_so_once),
		promise(one_that_was_closed_can_be_removed_before_it_is_told),
		promise(the_descriptor_tells_of_one_that_was_closed),
		promise(only_one_thread_waits_and_nobody_destroys_meanwhile),
		promise(a_call_that_comes_as_the_poller_goes_is_refused),
		promise(a_thread_that_spins_lets_others_in),
		promise(a_wake_up_that_a_removed_entry_got_goes_to_another),
		promise(a_child_s_copy_is_dead_and_its_parent_goes_on),
		promise(entries_come_and_go_under_traffic),
	};

	return cmocka_run_group_tests_name("poller: races", tests, NULL, NULL);
}

int main(int count, char **arguments)
{
	return polling_main(count, arguments, "race_test", run);
}
