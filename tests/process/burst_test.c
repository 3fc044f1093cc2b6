/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts: sluice_publish_more leaves sleepers to what ends the burst, which wakes as many as separate publishes would have.
 * Counts of wake-ups tell, not a clock; what a test does to sleepers it does again if they woke by themselves meanwhile.
 */
#include <errno.h>

#include "../support/exchange.h"
#include "../support/harness.h"

static struct sluice_producer *producer;

static void send_more(int64_t number)
{
	struct sluice_tensor_spec spec = {"number", SLUICE_INT64, 1, {1}};
	struct sluice_message *message;

	check_result(0, sluice_reserve(producer, &spec, 1, PATIENCE, &message));
	*(int64_t *)sluice_data(message, 0) = number;
	check_result(0, sluice_publish_more(message));
}

/* How many consumers the producer woke so far. */
static uint64_t woken_so_far(void)
{
	struct sluice_channel_stat *stat = NULL;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(1, stat->lane_count);
	uint64_t woken = stat->lanes[0].wakeups_sent;
	sluice_channel_stat_free(stat);
	return woken;
}

/* Receives until a negative number comes. */
static void receive_until_told(void *shared, unsigned index)
{
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));

	(void)shared;
	(void)index;
	while (take(consumer) >= 0)
		;
	check_result(0, sluice_consumer_close(consumer));
}

static void end_with_a_negative_number(void)
{
	send_more(-1);
	check_result(0, sluice_producer_close(producer)); /* which ends the burst */
	processes_finish();
}

/* One wake-up is sent by a flush or the next publish, and none before. */
static void a_burst_wakes_sleepers_at_its_end(void **state)
{
	const uint64_t end = now_ns() + PATIENCE;
	unsigned woken = 0;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	process_start(receive_until_told, NULL, 0);
	while (woken < 4 && now_ns() < end) {
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		uint64_t before = woken_so_far();

		send_more(0);
		send_more(0);
		check_equal(before, woken_so_far());
		if (woken % 2 == 0)
			check_result(0, sluice_flush(producer));
		else
			send_number(producer, 0);
		woken += woken_so_far() > before;
		check_result(0, sluice_flush(producer));
	}
	check_equal(4, woken);
	end_with_a_negative_number();
}

/* Receives one message at a time and keeps it until the test allows the next; a negative number ends it. */
static void keep_one_until_told(void *shared, unsigned index)
{
	struct tally *tallies = shared;
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	int64_t number = 0;

	(void)index;
	for (unsigned round = 1; number >= 0; round++) {
		const struct sluice_message *message = hold(consumer);

		number = number_of(message);
		tally_add(&tallies[0]);
		if (number >= 0)
			tally_wait(&tallies[1], round);
		check_result(0, sluice_release(message));
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void a_burst_wakes_a_sleeper_for_each_of_its_messages(void **state)
{
	enum { SLEEPERS = 3 };
	const uint64_t end = now_ns() + PATIENCE;
	struct tally *tallies = shared_memory(2 * sizeof *tallies);
	bool woken[2] = {false}; /* by a publish, by a flush */

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < SLEEPERS; i++)
		process_start(keep_one_until_told, tallies, i);
	for (unsigned round = 1; !(woken[0] && woken[1]) && now_ns() < end; round++) {
		bool flush = round % 2 == 0;

		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, SLEEPERS);
		uint64_t before = woken_so_far();

		for (unsigned i = 1; i < SLEEPERS; i++)
			send_more(0);
		if (flush)
			send_more(0);
		else
			send_number(producer, 0);
		check_result(0, sluice_flush(producer));
		uint64_t sent = woken_so_far() - before;
		check(sent <= SLEEPERS);
		woken[flush] |= sent == SLEEPERS;
		tally_wait(&tallies[0], SLEEPERS * round);
		tally_add(&tallies[1]);
	}
	check(woken[0] && woken[1]);
	for (unsigned i = 0; i < SLEEPERS; i++)
		send_number(producer, -1);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

/* A burst of so many messages, and then `wait`, once the consumer is asleep; until that sends a wake-up. */
static void expect_end_of_burst(unsigned messages, void (*wait)(void *context), void *context)
{
	const uint64_t end = now_ns() + PATIENCE;
	bool woken;

	do {
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		for (unsigned i = 0; i < messages; i++)
			send_more(0);
		uint64_t before = woken_so_far();

		wait(context);
		woken = woken_so_far() > before;
		check_result(0, sluice_flush(producer));
	} while (!woken && now_ns() < end);
	check(woken);
}

static void wait_for_consumers(void *context)
{
	(void)context;
	check_result(-EAGAIN, sluice_producer_wait(producer, 2, 0));
}

static void a_producer_that_waits_for_consumers_has_ended_its_burst(void **state)
{
	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	process_start(receive_until_told, NULL, 0);
	expect_end_of_burst(1, wait_for_consumers, NULL);
	end_with_a_negative_number();
}

static void try_for_room(void *context)
{
	(void)context;
	check(try_to_send(producer, 0, 0) <= 0); /* there is some if the consumer woke by itself */
}

static void look_for_room(void *context)
{
	struct sluice_poller_event event;

	check(sluice_poller_wait(context, &event, 1, 0) >= 0);
}

/* Neither goes to sleep: whoever asks again and again waits as well. */
static void a_producer_that_only_asks_for_room_has_ended_its_burst(void **state)
{
	struct sluice_poller *poller = NULL;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2)));
	process_start(receive_until_told, NULL, 0);
	expect_end_of_burst(2, try_for_room, NULL);
	check_result(0, sluice_poller_create(NULL, &poller));
	check_result(0, sluice_poller_add(poller, &(struct sluice_poller_entry){.producer = producer}));
	expect_end_of_burst(2, look_for_room, poller);
	check_result(0, sluice_poller_destroy(poller));
	end_with_a_negative_number();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_burst_wakes_sleepers_at_its_end),
		promise(a_burst_wakes_a_sleeper_for_each_of_its_messages),
		promise(a_producer_that_waits_for_consumers_has_ended_its_burst),
		promise(a_producer_that_only_asks_for_room_has_ended_its_burst),
	};

	return cmocka_run_group_tests_name("burst", tests, NULL, NULL);
}
