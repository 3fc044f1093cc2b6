/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting: time-outs of every kind, wake-ups in both directions, signals, and waiting for a counterpart. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "../support/exchange.h"
#include "../support/harness.h"

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_both(void)
{
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2), .spin_ns = SLUICE_NO_SPIN));
	consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void receive_keeps_its_time_out(void **state)
{
	(void)state;
	open_both();
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, 1));
	check_result(-ETIMEDOUT, nothing_within(consumer, 3 * MILLISECOND));
	check_result(-ETIMEDOUT, nothing_within(consumer, -1));
	check_result(-ETIMEDOUT, nothing_within(consumer, INT64_MIN));
	close_both();
}

static void reserve_keeps_its_time_out(void **state)
{
	(void)state;
	open_both();
	send_numbers(producer, 0, 2);
	check_result(-EAGAIN, try_to_send(producer, 2, 0));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, 1));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, 3 * MILLISECOND));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, -1));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, INT64_MIN));
	take_numbers(consumer, 0, 1);
	check_result(0, try_to_send(producer, 2, SLUICE_FOREVER));
	take_numbers(consumer, 1, 2);
	close_both();
}

static void a_time_out_that_is_past_still_takes_what_is_there(void **state)
{
	const int64_t past[] = {0, -1, INT64_MIN};

	(void)state;
	open_both();
	for (int i = 0; i < 3; i++) {
		const struct sluice_message *message = NULL;

		check_result(0, try_to_send(producer, i, past[i]));
		check_result(0, sluice_receive(consumer, past[i], &message));
		check_equal(i, number_of(message));
		check_result(0, sluice_release(message));
	}
	close_both();
}

static void waiting_for_a_counterpart_keeps_its_time_out(void **state)
{
	(void)state;
	open_both();
	check_result(1, sluice_producer_wait(producer, 0, 0));
	check_result(1, sluice_producer_wait(producer, 1, 0));
	check_result(1, sluice_producer_wait(producer, 1, -1));
	check_result(1, sluice_producer_wait(producer, 1, SLUICE_FOREVER));
	check_result(-EAGAIN, sluice_producer_wait(producer, 2, 0));
	check_result(-ETIMEDOUT, sluice_producer_wait(producer, 2, 3 * MILLISECOND));
	check_result(-ETIMEDOUT, sluice_producer_wait(producer, 2, -1));
	check_result(1, sluice_consumer_wait(consumer, 0, 0));
	check_result(1, sluice_consumer_wait(consumer, 1, 0));
	check_result(1, sluice_consumer_wait(consumer, 1, SLUICE_FOREVER));
	check_result(-EAGAIN, sluice_consumer_wait(consumer, 2, 0));
	check_result(-ETIMEDOUT, sluice_consumer_wait(consumer, 2, 3 * MILLISECOND));
	check_result(-ETIMEDOUT, sluice_consumer_wait(consumer, 2, INT64_MIN));
	close_both();
}

static void wait_for_three_consumers(void *shared, unsigned index)
{
	struct tally *tallies = shared;

	(void)index;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	tally_add(&tallies[0]);
	check_result(3, sluice_producer_wait(producer, 3, SLUICE_FOREVER));
	tally_add(&tallies[1]);
	check_result(0, sluice_producer_close(producer));
}

static void a_producer_waits_until_enough_consumers_came(void **state)
{
	struct tally *tallies = shared_memory(2 * sizeof *tallies);
	struct sluice_consumer *consumers[3];

	(void)state;
	process_start(wait_for_three_consumers, tallies, 0);
	tally_wait(&tallies[0], 1);
	for (int i = 0; i < 3; i++) {
		check_equal(0, tally_read(&tallies[1]));
		consumers[i] = join_consumer("tokens", NULL);
	}
	processes_finish();
	for (int i = 0; i < 3; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
}

static void wait_for_three_producers(void *shared, unsigned index)
{
	struct tally *tallies = shared;

	(void)index;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	tally_add(&tallies[0]);
	check_result(3, sluice_consumer_wait(consumer, 3, SLUICE_FOREVER));
	tally_add(&tallies[1]);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_consumer_waits_until_enough_producers_came(void **state)
{
	struct tally *tallies = shared_memory(2 * sizeof *tallies);
	struct sluice_producer *producers[3];

	(void)state;
	process_start(wait_for_three_producers, tallies, 0);
	tally_wait(&tallies[0], 1);
	for (int i = 0; i < 3; i++) {
		check_equal(0, tally_read(&tallies[1]));
		producers[i] = join_producer("tokens", NULL);
	}
	processes_finish();
	for (int i = 0; i < 3; i++)
		check_result(0, sluice_producer_close(producers[i]));
}

static void a_member_that_left_is_not_counted(void **state)
{
	struct sluice_consumer *other;

	(void)state;
	open_both();
	other = join_consumer("tokens", NULL);
	check_result(2, sluice_producer_wait(producer, 2, 0));
	check_result(0, sluice_consumer_close(other));
	check_result(1, sluice_producer_wait(producer, 1, 0));
	check_result(-EAGAIN, sluice_producer_wait(producer, 2, 0));
	close_both();
}

/* Receives numbers from 0 on until a negative one comes. */
static void receive_until_told(void *shared, unsigned index)
{
	int64_t expected = index, number;

	(void)shared;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	do {
		const struct sluice_message *message = NULL;

		check_result(0, sluice_receive(consumer, SLUICE_FOREVER, &message));
		number = number_of(message);
		check(number < 0 || number == expected++);
		check_result(0, sluice_release(message));
	} while (number >= 0);
	check_result(0, sluice_consumer_close(consumer));
}

/* How often the producer woke a consumer, a consumer woke the producer, and the producer slept. */
struct wakeups {
	uint64_t by_publish;
	uint64_t by_release;
	uint64_t stalls;
};

static struct wakeups wakeups_so_far(void)
{
	struct sluice_channel_stat *stat = NULL;
	struct wakeups wakeups = {0};

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(1, stat->lane_count);
	wakeups.by_publish = stat->lanes[0].wakeups_sent;
	wakeups.stalls = stat->lanes[0].stalls;
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].role == SLUICE_ROLE_CONSUMER)
			wakeups.by_release += stat->members[i].wakeups_sent;
	sluice_channel_stat_free(stat);
	return wakeups;
}

static void a_publish_wakes_a_consumer_that_sleeps(void **state)
{
	const uint64_t end = now_ns() + PATIENCE;
	int64_t number = 0;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	process_start(receive_until_told, NULL, 0);
	do {
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		send_number(producer, number++);
	} while ((number < 5 || !wakeups_so_far().by_publish) && now_ns() < end);
	check(wakeups_so_far().by_publish >= 1);
	send_number(producer, -1);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

/* Sends numbers from 0 on, far more than fit, until the tally says that it is enough. */
static void send_until_told(void *shared, unsigned index)
{
	int64_t number = index;

	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	while (!tally_read(shared))
		check_result(0, try_to_send(producer, number++, SLUICE_FOREVER));
	check_result(0, sluice_producer_close(producer));
}

static void a_release_wakes_a_producer_that_sleeps(void **state)
{
	struct tally *enough = shared_memory(sizeof *enough);
	const uint64_t end = now_ns() + PATIENCE;
	const struct sluice_message *message;
	struct wakeups wakeups;
	int64_t number = 0;
	int result;

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 2), .flags = SLUICE_END_OF_STREAM));
	process_start(send_until_told, enough, 0);
	do {
		wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
		take_numbers(consumer, number++, 1);
		wakeups = wakeups_so_far();
	} while ((number < 5 || !wakeups.stalls || !wakeups.by_release) && now_ns() < end);
	check(wakeups.stalls && wakeups.by_release);
	tally_add(enough);
	while ((result = sluice_receive(consumer, PATIENCE, &message)) == 0) {
		check_equal(number++, number_of(message));
		check_result(0, sluice_release(message));
	}
	check_result(-ENODATA, result);
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
}

/* Sixteen KiB at a time through a lane that holds four: waits for bytes, not for a descriptor. */
static void send_wide(void *shared, unsigned index)
{
	(void)shared;
	(void)index;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	for (int i = 0; i < 9; i++)
		send_bytes(producer, i, 16384);
	check_result(0, sluice_producer_close(producer));
}

static void a_release_wakes_a_producer_that_sleeps_for_bytes(void **state)
{
	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 64)));
	process_start(send_wide, NULL, 0);
	for (unsigned i = 0; i < 9; i++) {
		const struct sluice_message *message;

		if (i < 5)
			wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
		message = hold(consumer);
		check_equal(i, sluice_correlation_id(message));
		check_result(0, sluice_release(message));
	}
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
}

/* ---- how much room is worth a wake-up ---- */

#define FULL 64 /* messages in the lane */

/* Fills a lane, waits for room once more, and says when it got it. */
static void send_one_too_many(void *shared, unsigned index)
{
	(void)index;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = FULL), .spin_ns = SLUICE_NO_SPIN));
	send_numbers(producer, 0, FULL + 1);
	tally_add(shared);
	check_result(0, sluice_producer_close(producer));
}

/* A full lane, of which the consumer holds all messages and the producer sleeps. */
static struct tally *fill_and_hold(const struct sluice_message *messages[FULL])
{
	struct tally *sent = shared_memory(sizeof *sent);

	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = FULL)));
	process_start(send_one_too_many, sent, 0);
	for (int64_t i = 0; i < FULL; i++)
		messages[i] = hold_number(consumer, i);
	wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
	return sent;
}

static void release_range(const struct sluice_message *const *messages, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		check_result(0, sluice_release(messages[i]));
}

static void end_full(struct tally *sent)
{
	tally_wait(sent, 1);
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
}

static void a_producer_is_woken_when_a_quarter_is_free_and_not_before(void **state)
{
	const struct sluice_message *messages[FULL];
	struct tally *sent = fill_and_hold(messages);

	(void)state;
	release_range(messages, 0, FULL / 4 - 1);
	check_equal(0, wakeups_so_far().by_release);
	release_range(messages, FULL / 4 - 1, FULL / 4);
	tally_wait(sent, 1);
	check_equal(1, wakeups_so_far().by_release);
	release_range(messages, FULL / 4, FULL);
	check_equal(FULL, take(consumer));
	end_full(sent);
}

static void the_oldest_message_counts_though_it_is_released_last(void **state)
{
	const struct sluice_message *messages[FULL];
	struct tally *sent = fill_and_hold(messages);

	(void)state;
	release_range(messages, 1, FULL);
	check_equal(0, wakeups_so_far().by_release); /* no room yet: it is reclaimed in order */
	release_range(messages, 0, 1);
	check_equal(FULL, take(consumer));
	end_full(sent);
}

static void who_finds_nothing_wakes_a_producer_that_hopes_for_more(void **state)
{
	const struct sluice_message *messages[FULL];
	struct tally *sent = fill_and_hold(messages);

	(void)state;
	release_range(messages, 0, 1);
	check_equal(0, wakeups_so_far().by_release);
	check_equal(FULL, take(consumer)); /* waits for what the producer can send only now */
	check_equal(1, wakeups_so_far().by_release);
	release_range(messages, 1, FULL);
	end_full(sent);
}

static void *wait_for_the_last(void *nothing)
{
	check_equal(FULL, take(consumer));
	return nothing;
}

static void any_room_is_enough_while_consumers_sleep(void **state)
{
	const struct sluice_message *messages[FULL];
	struct tally *sent = fill_and_hold(messages);
	pthread_t receiver;

	(void)state;
	check_result(0, pthread_create(&receiver, NULL, wait_for_the_last, NULL));
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	release_range(messages, 0, 1); /* from another thread than the one that has looked in vain */
	check_equal(1, wakeups_so_far().by_release);
	check_result(0, pthread_join(receiver, NULL));
	release_range(messages, 1, FULL);
	end_full(sent);
}

static void looks_in_vain_wake_a_producer_that_waits_for_others_once(void **state)
{
	struct tally *sent = shared_memory(sizeof *sent);
	const struct sluice_message *message;
	struct sluice_consumer *second;
	uint64_t before;

	(void)state;
	consumer = join_consumer("tokens",
		CONSUMER(.channel = CHANNEL(.mode = SLUICE_BROADCAST, .depth = FULL, .expected_consumers = 2)));
	process_start(send_one_too_many, sent, 0);
	take_numbers(consumer, 0, FULL);
	wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
	before = wakeups_so_far().by_release; /* while they were taken, a full lane may have had its producer asleep */
	for (int i = 0; i < 1000; i++) {
		check_result(-EAGAIN, sluice_receive(consumer, 0, &message));
		if (i % 100 == 0)
			wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
	}
	check(wakeups_so_far().by_release <= before + 1);
	second = join_consumer("tokens", NULL);
	take_numbers(second, 0, FULL + 1);
	check_equal(FULL, take(consumer));
	tally_wait(sent, 1);
	processes_finish();
	check_result(0, sluice_consumer_close(second));
	check_result(0, sluice_consumer_close(consumer));
}

static void room_that_was_not_worth_a_wake_up_is_found_when_time_is_over(void **state)
{
	const struct sluice_message *message;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = FULL), .spin_ns = SLUICE_NO_SPIN));
	consumer = join_consumer("tokens", CONSUMER());
	send_numbers(producer, 0, FULL);
	check_result(-ETIMEDOUT, try_to_send(producer, FULL, MILLISECOND));
	message = hold_number(consumer, 0);
	check_result(0, sluice_release(message));
	check_result(0, try_to_send(producer, FULL, MILLISECOND));
	take_numbers(consumer, 1, FULL);
	close_both();
}

static void note_signal(int number)
{
	(void)number;
}

/* Calls that a signal must interrupt; each returns what the library returned. */
static int interrupted_receive(void)
{
	return nothing_within(consumer, SLUICE_FOREVER);
}

static int interrupted_batch(void)
{
	const struct sluice_message *messages[4];

	return sluice_receive_batch(consumer, 4, 0, SLUICE_FOREVER, PATIENCE, messages);
}

static int interrupted_reserve(void)
{
	send_numbers(producer, 0, 2);
	return try_to_send(producer, 2, SLUICE_FOREVER);
}

static int interrupted_producer_wait(void)
{
	return sluice_producer_wait(producer, 5, SLUICE_FOREVER);
}

static int interrupted_consumer_wait(void)
{
	return sluice_consumer_wait(consumer, 5, PATIENCE);
}

static int (*const interrupted_calls[])(void) = {interrupted_receive, interrupted_batch, interrupted_reserve,
	interrupted_producer_wait, interrupted_consumer_wait};

/* Makes the call of its index, and then uses the channel as if nothing had been. */
static void be_interrupted(void *shared, unsigned index)
{
	struct tally *tallies = shared;
	struct sigaction action = {.sa_handler = note_signal, .sa_flags = index % 2 ? SA_RESTART : 0};
	const bool sent = interrupted_calls[index] == interrupted_reserve;

	check(!sigaction(SIGUSR1, &action, NULL));
	open_both();
	tally_add(&tallies[0]);
	check_result(-EINTR, interrupted_calls[index]());
	tally_add(&tallies[1]);
	if (sent)
		take_numbers(consumer, 0, 2);
	send_number(producer, 9);
	take_numbers(consumer, 9, 1);
	close_both();
}

static void a_signal_ends_every_wait_with_eintr_and_spoils_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof interrupted_calls / sizeof *interrupted_calls; i++) {
		struct tally *tallies = shared_memory(2 * sizeof *tallies);
		unsigned process = process_start(be_interrupted, tallies, i);
		const uint64_t end = now_ns() + PATIENCE;

		tally_wait(&tallies[0], 1);
		/* Again and again: a signal may come before the process has gone to sleep. */
		do
			kill(process_pid(process), SIGUSR1);
		while (!tally_wait_for(&tallies[1], 1, MILLISECOND) && now_ns() < end);
		processes_finish();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(receive_keeps_its_time_out),
		promise(reserve_keeps_its_time_out),
		promise(a_time_out_that_is_past_still_takes_what_is_there),
		promise(waiting_for_a_counterpart_keeps_its_time_out),
		promise(a_producer_waits_until_enough_consumers_came),
		promise(a_consumer_waits_until_enough_producers_came),
		promise(a_member_that_left_is_not_counted),
		promise(a_publish_wakes_a_consumer_that_sleeps),
		promise(a_release_wakes_a_producer_that_sleeps),
		promise(a_release_wakes_a_producer_that_sleeps_for_bytes),
		promise(a_producer_is_woken_when_a_quarter_is_free_and_not_before),
		promise(the_oldest_message_counts_though_it_is_released_last),
		promise(who_finds_nothing_wakes_a_producer_that_hopes_for_more),
		promise(any_room_is_enough_while_consumers_sleep),
		promise(looks_in_vain_wake_a_producer_that_waits_for_others_once),
		promise(room_that_was_not_worth_a_wake_up_is_found_when_time_is_over),
		promise(a_signal_ends_every_wait_with_eintr_and_spoils_nothing),
	};

	return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
