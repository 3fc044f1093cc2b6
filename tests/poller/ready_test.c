/* SPDX-License-Identifier: Apache-2.0 */
/* What a poller reports, and when: messages, room, the end, the dead; for one entry and for many. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "polling.h"

#define MANY 12

static const char *channel_name(unsigned index)
{
	static char names[4][32];
	static unsigned turn;
	char *name = names[turn++ % 4];

	snprintf(name, sizeof names[0], "channel-%u", index);
	return name;
}

static void many_channels_are_waited_for_at_once(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumers[MANY];
	struct sluice_producer *producers[MANY];
	uint64_t random = 1;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		consumers[i] = join_consumer(channel_name(i), CONSUMER(.channel = CHANNEL()));
		producers[i] = join_producer(channel_name(i), NULL);
		poll_consumer(poller, consumers[i], &consumers[i]);
	}
	expect_nothing(poller);
	for (unsigned round = 0; round < 200; round++) {
		const unsigned i = (unsigned)(random_next(&random) % MANY);

		send_number(producers[i], round);
		expect_event(poller, SLUICE_POLL_RECEIVE, &consumers[i], 0);
		take_numbers(consumers[i], round, 1);
		expect_nothing(poller);
	}
	for (unsigned i = 0; i < MANY; i++) {
		check_result(0, sluice_consumer_close(consumers[i]));
		check_result(0, sluice_producer_close(producers[i]));
	}
	end_poller(poller);
}

static void an_entry_is_reported_as_long_as_it_is_ready(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);

	(void)state;
	poll_consumer(poller, consumer, consumer);
	send_numbers(producer, 0, 3);
	for (int i = 0; i < 3; i++) {
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		take_numbers(consumer, i, 1);
	}
	expect_nothing(poller);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
	expect_event(poller, SLUICE_POLL_CLOSED, consumer, 0);
	end_poller(poller);
}

static void everybody_has_a_turn_when_more_is_ready_than_asked_for(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_poller_event events[5];
	struct sluice_consumer *consumers[MANY];
	struct sluice_producer *producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.mode = SLUICE_BROADCAST, .expected_consumers = MANY)));
	unsigned seen[MANY] = {0};

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		consumers[i] = join_consumer("tokens", NULL);
		poll_consumer(poller, consumers[i], &seen[i]);
	}
	send_number(producer, 7);
	for (unsigned i = 0; i < MANY; i++) {
		check_result(5, sluice_poller_wait(poller, events, 5, PATIENCE));
		for (unsigned k = 0; k < 5; k++)
			(*(unsigned *)events[k].data)++;
	}
	for (unsigned i = 0; i < MANY; i++)
		check_equal(5, seen[i]);
	for (unsigned i = 0; i < MANY; i++) {
		take_numbers(consumers[i], 7, 1);
		check_result(0, sluice_consumer_close(consumers[i]));
	}
	check_result(0, sluice_producer_close(producer));
	end_poller(poller);
}

/* Waits for all; with more entries than one call of the kernel takes. */
static void more_entries_than_one_system_call_takes(void **state)
{
	enum { EACH = 100, CHANNELS = 2 };
	struct sluice_poller *poller = new_poller(NEVER);
	static struct sluice_consumer *consumers[CHANNELS][EACH];
	struct sluice_producer *producers[CHANNELS];

	(void)state;
	for (unsigned c = 0; c < CHANNELS; c++) {
		producers[c] = join_producer(channel_name(c), PRODUCER(.channel = CHANNEL(.mode = SLUICE_BROADCAST)));
		for (unsigned i = 0; i < EACH; i++) {
			consumers[c][i] = join_consumer(channel_name(c), NULL);
			poll_consumer(poller, consumers[c][i], &consumers[c][i]);
		}
	}
	for (int round = 0; round < 4; round++) {
		struct sluice_poller_event events[CHANNELS * EACH];
		unsigned channel = (unsigned)round % 2;

		if (round == 2)
			check(sluice_poller_fd(poller) >= 0);
		check_result(0, sluice_poller_wait(poller, events, 1, MILLISECOND));
		send_number(producers[channel], round);
		check_result(EACH, sluice_poller_wait(poller, events, CHANNELS * EACH, PATIENCE));
		for (unsigned i = 0; i < EACH; i++)
			take_numbers(consumers[channel][i], round, 1);
	}
	for (unsigned c = 0; c < CHANNELS; c++) {
		for (unsigned i = 0; i < EACH; i++)
			check_result(0, sluice_consumer_close(consumers[c][i]));
		check_result(0, sluice_producer_close(producers[c]));
	}
	end_poller(poller);
}

/* ---- sleeping until another process does something ---- */

/* Sends `index` messages on "tokens", each when a consumer sleeps. */
static void send_to_sleepers(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)shared;
	for (unsigned i = 0; i < index; i++) {
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		send_number(producer, i);
	}
	check_result(0, sluice_producer_close(producer));
}

static void a_publish_wakes_a_poller_that_sleeps(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *other = join_consumer("other", CONSUMER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));

	(void)state;
	poll_consumer(poller, other, other);
	poll_consumer(poller, consumer, consumer);
	process_start(send_to_sleepers, NULL, 50);
	for (unsigned i = 0; i < 50; i++) {
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		take_numbers(consumer, i, 1);
	}
	processes_finish();
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_consumer_close(other));
}

/* Receives and releases `index` messages on "tokens", each when a producer sleeps. */
static void release_for_sleepers(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)shared;
	for (unsigned i = 0; i < index; i++) {
		wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
		take_numbers(consumer, i, 1);
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void a_release_wakes_a_poller_that_sleeps_for_room(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2)));

	(void)state;
	poll_producer(poller, producer, 0, producer);
	expect_event(poller, SLUICE_POLL_ROOM, producer, 0);
	send_numbers(producer, 0, 2);
	expect_nothing(poller);
	process_start(release_for_sleepers, NULL, 50);
	for (unsigned i = 0; i < 50; i++) {
		expect_event(poller, SLUICE_POLL_ROOM, producer, 0);
		check_result(0, try_to_send(producer, i + 2, 0));
	}
	processes_finish();
	end_poller(poller);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
}

/* Would rather have ten messages than four, and waits long for the rest. */
static void linger_over_a_batch(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));
	const struct sluice_message *messages[10];
	int received = 0;

	tally_add(shared);
	while (received < (int)index) {
		int count = sluice_receive_batch(consumer, 10, 0, PATIENCE, PATIENCE, messages);

		check(count > 0);
		check_result(0, sluice_release_batch(messages, (size_t)count));
		received += count;
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void nobody_lingers_while_a_poller_waits_for_room(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 4)));
	struct tally *joined = shared_memory(sizeof *joined);
	const uint64_t begin = now_ns();

	(void)state;
	process_start(linger_over_a_batch, joined, 60);
	tally_wait(joined, 1);
	poll_producer(poller, producer, 0, producer);
	for (int i = 0; i < 64; i++) {
		if (i % 4 == 0 && i > 0)
			wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1); /* with four in hand */
		expect_event(poller, SLUICE_POLL_ROOM, producer, 0);
		check_result(0, try_to_send(producer, i, 0));
	}
	/* Fifteen batches of four; each would have ended about a second later by itself. */
	check(now_ns() - begin < 5 * (uint64_t)SECOND);
	processes_finish();
	end_poller(poller);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
}

static void room_is_room_for_as_much_as_was_asked_for(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_producer *producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 16, .lane_bytes = 65536)));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	const struct sluice_tensor_spec spec = {.name = "b", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {30000}};
	struct sluice_message *message = NULL;

	(void)state;
	for (int i = 0; i < 5; i++)
		send_bytes(producer, i, 10000);
	poll_producer(poller, producer, 20000, NULL);
	expect_nothing(poller);
	check_result(0, sluice_poller_remove(poller, producer));
	poll_producer(poller, producer, 10000, NULL);
	expect_event(poller, SLUICE_POLL_ROOM, NULL, 0);
	check_result(0, sluice_poller_remove(poller, producer));
	/* Nothing said: what the last reservation asked for. */
	check_result(-EAGAIN, sluice_reserve(producer, &spec, 1, 0, &message));
	poll_producer(poller, producer, 0, NULL);
	for (int i = 0; i < 3; i++) {
		expect_nothing(poller);
		check_result(0, sluice_release(hold(consumer)));
	}
	expect_event(poller, SLUICE_POLL_ROOM, NULL, 0);
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	check_result(0, sluice_discard(message));
	end_poller(poller);
	for (int i = 0; i < 2; i++)
		check_result(0, sluice_release(hold(consumer)));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

/* ---- ends ---- */

static void the_end_of_a_stream_is_reported_after_its_messages(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_END_OF_STREAM));

	(void)state;
	poll_consumer(poller, consumer, consumer);
	expect_nothing(poller);
	process_start(send_some, NULL, 3);
	for (unsigned i = 0; i < 3; i++) {
		expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
		take_numbers(consumer, i, 1);
	}
	expect_event(poller, SLUICE_POLL_HANGUP, consumer, -ENODATA);
	expect_event(poller, SLUICE_POLL_HANGUP, consumer, -ENODATA);
	check_result(-ENODATA, nothing_within(consumer, 0));
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
	end_poller(poller);
}

/* Joins as the counterpart of `index`: a producer (0) with messages, a consumer (1); and waits to be killed. */
static void join_and_stay(void *shared, unsigned index)
{
	if (index == 0)
		send_numbers(join_producer("tokens", PRODUCER(.channel = CHANNEL())), 0, 2);
	else
		join_consumer("tokens", NULL);
	tally_add(shared);
	for (;;)
		pause();
}

static unsigned start_and_wait(process_body body, unsigned index)
{
	struct tally *ready = shared_memory(sizeof *ready);
	unsigned process = process_start(body, ready, index);

	tally_wait(ready, 1);
	return process;
}

static void kill_hard(unsigned process)
{
	kill(process_pid(process), SIGKILL);
	check(WIFSIGNALED(process_status(process)));
}

static void the_death_of_the_last_counterpart_is_reported_to_who_asks(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_REPORT_GONE));
	struct sluice_producer *producer;
	unsigned other;

	(void)state;
	poll_consumer(poller, consumer, consumer);
	expect_nothing(poller);
	other = start_and_wait(join_and_stay, 0);
	take_numbers(consumer, 0, 1);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
	kill_hard(other);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0); /* what it left comes first */
	take_numbers(consumer, 1, 1);
	expect_event(poller, SLUICE_POLL_HANGUP, consumer, -EPIPE);
	check_result(-EPIPE, nothing_within(consumer, 0));
	check_result(0, sluice_consumer_close(consumer));
	expect_event(poller, SLUICE_POLL_CLOSED, consumer, 0);

	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2), .flags = SLUICE_REPORT_GONE));
	send_numbers(producer, 0, 2);
	other = start_and_wait(join_and_stay, 1);
	poll_producer(poller, producer, 0, producer);
	expect_nothing(poller);
	kill_hard(other);
	expect_event(poller, SLUICE_POLL_HANGUP, producer, -EPIPE);
	check_result(0, sluice_producer_close(producer));
	end_poller(poller);
	check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
}

/* A consumer that receives one message and is killed with it. */
static void hold_one_and_stay(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)index;
	hold_number(consumer, 0);
	tally_add(shared);
	for (;;)
		pause();
}

static void a_message_that_comes_back_from_the_dead_is_reported(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer;
	unsigned other;

	(void)state;
	send_number(producer, 0);
	other = start_and_wait(hold_one_and_stay, 0);
	consumer = join_consumer("tokens", NULL);
	poll_consumer(poller, consumer, consumer);
	expect_nothing(poller);
	kill_hard(other);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
	take_numbers(consumer, 0, 1);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
	end_poller(poller);
}

static void a_producer_that_dies_leaves_who_did_not_ask_waiting_for_the_next(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_poller_event event;
	unsigned other;

	(void)state;
	poll_consumer(poller, consumer, consumer);
	kill_hard(start_and_wait(join_and_stay, 0));
	take_numbers(consumer, 0, 2);
	check_result(0, sluice_poller_wait(poller, &event, 1, 3 * SECOND / 2));
	other = process_start(send_some, NULL, 1);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
	take_numbers(consumer, 0, 1);
	check_equal(0, process_status(other));
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

static void members_of_a_removed_channel_go_on(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);

	(void)state;
	poll_consumer(poller, consumer, consumer);
	expect_nothing(poller);
	check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
	expect_nothing(poller);
	send_number(producer, 1);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
	take_numbers(consumer, 1, 1);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	end_poller(poller);
}

/* ---- time ---- */

static void a_wait_keeps_its_time_out(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_poller_event event;

	(void)state;
	for (int entries = 0; entries < 2; entries++) {
		uint64_t begin = now_ns();

		check_result(0, sluice_poller_wait(poller, &event, 1, -1));
		check_result(0, sluice_poller_wait(poller, &event, 1, 0));
		check(now_ns() - begin < (uint64_t)SECOND);
		begin = now_ns();
		check_result(0, sluice_poller_wait(poller, &event, 1, 30 * MILLISECOND));
		check(now_ns() - begin >= 30 * (uint64_t)MILLISECOND);
		begin = now_ns();
		check_result(0, sluice_poller_wait(poller, &event, 1, 1100 * MILLISECOND));
		check(now_ns() - begin >= 1100 * (uint64_t)MILLISECOND);
		if (entries == 0)
			poll_consumer(poller, consumer, NULL);
	}
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

/* Nobody is counted on who is in no call: a publish would spend its wake-up there. */
static void after_a_wait_that_found_nothing_nobody_is_asleep(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_channel_stat *stat = NULL;
	struct sluice_poller_event event;

	(void)state;
	poll_consumer(poller, consumer, NULL);
	for (int timeout = 0; timeout < 2; timeout++) {
		check_result(0, sluice_poller_wait(poller, &event, 1, timeout * MILLISECOND));
		check_result(0, sluice_channel_stat("tokens", NULL, &stat));
		check_equal(1, stat->member_count);
		check_equal(0, stat->members[0].asleep);
		sluice_channel_stat_free(stat);
	}
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

static void note_signal(int number)
{
	(void)number;
}

static void be_interrupted(void *shared, unsigned index)
{
	struct tally *tallies = shared;
	struct sigaction action = {.sa_handler = note_signal};
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);
	struct sluice_poller_event event;

	check(!sigaction(SIGUSR1, &action, NULL));
	poll_consumer(poller, consumer, consumer);
	if (index)
		check(sluice_poller_fd(poller) >= 0);
	tally_add(&tallies[0]);
	check_result(-EINTR, sluice_poller_wait(poller, &event, 1, SLUICE_FOREVER));
	tally_add(&tallies[1]);
	send_number(producer, 9);
	while (sluice_poller_wait(poller, &event, 1, PATIENCE) == -EINTR)
		continue;
	take_numbers(consumer, 9, 1);
	end_poller(poller);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_signal_ends_a_wait_with_eintr(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct tally *tallies = shared_memory(2 * sizeof *tallies);
		unsigned process = process_start(be_interrupted, tallies, i);
		const uint64_t end = now_ns() + PATIENCE;

		tally_wait(&tallies[0], 1);
		do
			kill(process_pid(process), SIGUSR1);
		while (!tally_wait_for(&tallies[1], 1, MILLISECOND) && now_ns() < end);
		processes_finish();
	}
}

/* ---- bad input ---- */

static void what_makes_no_sense_is_refused(void **state)
{
	struct sluice_poller *poller = NULL, *other;
	struct sluice_poller_event event;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);
	struct sluice_poller_entry both = {.consumer = consumer, .producer = producer}, none = {0};
	struct sluice_poller_entry entry = {.consumer = consumer},
				   large = {.producer = producer, .room_bytes = 1 << 20};

	(void)state;
	check_result(-EINVAL, sluice_poller_create(NULL, NULL));
	check_result(-EINVAL, sluice_poller_create(POLLER(.size = 8), &poller));
	check_result(-EINVAL, sluice_poller_create(POLLER(.backend = 3), &poller));
	check_result(-EINVAL, sluice_poller_create(POLLER(.spin_ns = -2), &poller));
	check(poller == NULL);
	poller = new_poller(0);
	other = new_poller(0);
	check_result(-EINVAL, sluice_poller_add(NULL, &entry));
	check_result(-EINVAL, sluice_poller_add(poller, NULL));
	check_result(-EINVAL, sluice_poller_add(poller, &both));
	check_result(-EINVAL, sluice_poller_add(poller, &none));
	check_result(-EMSGSIZE, sluice_poller_add(poller, &large));
	check_result(-EINVAL, sluice_poller_remove(NULL, consumer));
	check_result(-EINVAL, sluice_poller_remove(poller, NULL));
	check_result(-ENOENT, sluice_poller_remove(poller, consumer));
	check_result(0, sluice_poller_add(poller, &entry));
	check_result(-EEXIST, sluice_poller_add(poller, &entry));
	check_result(-EBUSY, sluice_poller_add(other, &entry));
	check_result(-ENOENT, sluice_poller_remove(other, consumer));
	check_result(0, sluice_poller_remove(poller, consumer));
	check_result(-ENOENT, sluice_poller_remove(poller, consumer));
	check_result(0, sluice_poller_add(other, &entry));
	check_result(-EINVAL, sluice_poller_wait(NULL, &event, 1, 0));
	check_result(-EINVAL, sluice_poller_wait(poller, NULL, 1, 0));
	check_result(-EINVAL, sluice_poller_wait(poller, &event, 0, 0));
	check_result(-EINVAL, sluice_poller_fd(NULL));
	check_result(-EINVAL, sluice_poller_backend(NULL));
	check_result(0, sluice_poller_destroy(NULL));
	end_poller(poller);
	check_result(-EBADF, sluice_poller_add(poller, &entry));
	check_result(-EBADF, sluice_poller_remove(poller, consumer));
	check_result(-EBADF, sluice_poller_wait(poller, &event, 1, 0));
	check_result(-EBADF, sluice_poller_fd(poller));
	check_result(-EBADF, sluice_poller_backend(poller));
	check_result(-EBADF, sluice_poller_destroy(poller));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_result(-EBADF, sluice_poller_add(other, &entry));
	end_poller(other);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		promise(many_channels_are_waited_for_at_once),
		promise(an_entry_is_reported_as_long_as_it_is_ready),
		promise(everybody_has_a_turn_when_more_is_ready_than_asked_for),
		promise(more_entries_than_one_system_call_takes),
		promise(a_publish_wakes_a_poller_that_sleeps),
		promise(a_release_wakes_a_poller_that_sleeps_for_room),
		promise(nobody_lingers_while_a_poller_waits_for_room),
		promise(room_is_room_for_as_much_as_was_asked_for),
		promise(the_end_of_a_stream_is_reported_after_its_messages),
		promise(the_death_of_the_last_counterpart_is_reported_to_who_asks),
		promise(a_message_that_comes_back_from_the_dead_is_reported),
		promise(a_producer_that_dies_leaves_who_did_not_ask_waiting_for_the_next),
		promise(members_of_a_removed_channel_go_on),
		promise(a_wait_keeps_its_time_out),
		promise(after_a_wait_that_found_nothing_nobody_is_asleep),
		promise(a_signal_ends_a_wait_with_eintr),
		promise(what_makes_no_sense_is_refused),
	};

	return cmocka_run_group_tests_name("poller: ready", tests, NULL, NULL);
}

int main(int count, char **arguments)
{
	return polling_main(count, arguments, "ready_test", run);
}
