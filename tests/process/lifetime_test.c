/* SPDX-License-Identifier: Apache-2.0 */
/* Birth and death of channels: who opens while the last one leaves, what stays behind for whom, and that the rest goes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

#define TINY(...) CHANNEL(.lane_bytes = 4096, .depth = 2, __VA_ARGS__)

/* The one who opens must end up in the same channel as one who opens after it. */
static void exchange_with_oneself(struct sluice_producer *producer, int64_t number)
{
	struct sluice_consumer *consumer =
		join_consumer("race", CONSUMER(.channel = TINY(.flags = SLUICE_ATTACH_ONLY)));

	send_number(producer, number);
	take_numbers(consumer, number, 1);
	check_result(0, sluice_consumer_close(consumer));
}

struct race {
	uint32_t rounds;
	struct tally meetings;
};

/* One of two: in even rounds the first is the last one out while the second opens, in odd rounds the other way round. */
static void open_against_the_last_one_out(void *shared, unsigned index)
{
	struct race *race = shared;
	uint32_t met = 0;

	for (uint32_t round = 0; round < race->rounds; round++) {
		struct sluice_producer *producer = NULL;
		struct sluice_consumer *leaver = NULL;

		if (round % 2 == index)
			leaver = join_consumer("race", CONSUMER(.channel = TINY()));
		tally_meet(&race->meetings, met += 2);
		if (leaver)
			check_result(0, sluice_consumer_close(leaver));
		else
			producer = join_producer("race", PRODUCER(.channel = TINY()));
		tally_meet(&race->meetings, met += 2);
		if (producer) {
			exchange_with_oneself(producer, round);
			check_result(0, sluice_producer_close(producer));
			check_equal(0, sandbox_objects(NULL));
		}
		tally_meet(&race->meetings, met += 2);
	}
}

static void an_opener_that_races_the_last_one_out_gets_a_channel_that_works(void **state)
{
	struct race *race = shared_memory(sizeof *race);

	(void)state;
	race->rounds = (uint32_t)scaled(10000);
	process_start(open_against_the_last_one_out, race, 0);
	process_start(open_against_the_last_one_out, race, 1);
	processes_finish();
	check_equal(6 * race->rounds, tally_read(&race->meetings));
}

/* Opens and closes without any agreement with the others, in both roles. */
static void open_and_close(void *shared, unsigned index)
{
	const struct race *race = shared;

	for (uint32_t round = 0; round < race->rounds; round++) {
		if ((round + index) % 2) {
			struct sluice_producer *producer = join_producer("race", PRODUCER(.channel = TINY()));

			check_result(0, sluice_producer_close(producer));
		} else {
			struct sluice_consumer *consumer = join_consumer("race", CONSUMER(.channel = TINY()));

			check_result(0, sluice_consumer_close(consumer));
		}
	}
}

static void processes_that_open_and_close_at_will_leave_nothing_and_a_name_that_works(void **state)
{
	struct race *race = shared_memory(sizeof *race);
	struct sluice_producer *producer;

	(void)state;
	race->rounds = (uint32_t)scaled(10000);
	for (unsigned i = 0; i < 3; i++)
		process_start(open_and_close, race, i);
	processes_finish();
	check_equal(0, sandbox_objects(NULL));
	producer = join_producer("race", PRODUCER(.channel = TINY()));
	exchange_with_oneself(producer, 1);
	check_result(0, sluice_producer_close(producer));
}

static void publish_three_and_leave(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)shared;
	send_numbers(producer, index, 3);
	check_result(0, sluice_producer_close(producer));
}

static void take_three_and_leave(void *shared, unsigned index)
{
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(.flags = SLUICE_ATTACH_ONLY)));

	(void)shared;
	take_numbers(consumer, index, 3);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_backlog_outlives_everybody_and_reaches_a_later_consumer(void **state)
{
	(void)state;
	process_start(publish_three_and_leave, NULL, 40);
	processes_finish();
	check(sandbox_objects(NULL) > 0);
	process_start(take_three_and_leave, NULL, 40);
	processes_finish();
	check_equal(0, sandbox_objects(NULL));
}

static void hold_two_and_leave(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)shared;
	hold_number(consumer, index);
	hold_number(consumer, index + 1);
	check_result(0, sluice_consumer_close(consumer));
}

static void what_was_held_by_the_last_one_out_is_backlog_again(void **state)
{
	(void)state;
	process_start(publish_three_and_leave, NULL, 50);
	processes_finish();
	for (int i = 0; i < 3; i++) {
		process_start(hold_two_and_leave, NULL, 50);
		processes_finish();
		check(sandbox_objects(NULL) > 0);
	}
	process_start(take_three_and_leave, NULL, 50);
	processes_finish();
	check_equal(0, sandbox_objects(NULL));
}

static void a_backlog_of_many_producers_is_delivered_whole(void **state)
{
	struct sluice_consumer *consumer;
	unsigned seen = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		process_start(publish_three_and_leave, NULL, 10 * i);
	processes_finish();
	consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_END_OF_STREAM, .expected_producers = 5));
	for (unsigned i = 0; i < 15; i++) {
		const int64_t number = take(consumer);

		check(number >= 0 && number < 50 && number % 10 < 3);
		seen += 1u << (number / 10 * 3 + number % 10);
	}
	check_equal((1u << 15) - 1, seen);
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_persistent_channel_stays_until_it_is_removed(void **state)
{
	struct sluice_geometry geometry;
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.flags = SLUICE_PERSISTENT, .depth = 32)));
	check_result(0, sluice_producer_geometry(producer, &geometry));
	check_equal(SLUICE_PERSISTENT, geometry.flags);
	check_result(0, sluice_producer_close(producer));
	check(sandbox_objects(NULL) > 0);
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.flags = SLUICE_ATTACH_ONLY)));
	check_result(0, sluice_consumer_geometry(consumer, &geometry));
	check_equal(32, geometry.depth);
	check_equal(SLUICE_PERSISTENT, geometry.flags);
	producer = join_producer("tokens", NULL);
	send_number(producer, 1);
	take_numbers(consumer, 1, 1);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
	check_equal(0, sandbox_objects(NULL));
}

static void nothing_is_left_whoever_of_a_channel_leaves_last(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
		struct sluice_consumer *consumer = join_consumer("tokens", NULL);

		send_numbers(producer, 0, 8);
		take_numbers(consumer, 0, 8);
		if (order == 0)
			check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
		if (order == 1)
			check_result(0, sluice_producer_close(producer));
		check_equal(0, sandbox_objects(NULL));
	}
}

static void a_thousand_producers_come_and_go_before_one_consumer(void **state)
{
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = TINY()));

	(void)state;
	for (int64_t i = 0; i < 1000; i++) {
		struct sluice_producer *producer = join_producer("tokens", NULL);

		send_number(producer, i);
		check_result(0, sluice_producer_close(producer));
		take_numbers(consumer, i, 1);
	}
	/* The lanes of those who left, which it has drained, may not all stay mapped. */
	check(sandbox_mappings() < 3 * SLUICE_MAX_MEMBERS);
	check(sandbox_objects(NULL) < 3 * SLUICE_MAX_MEMBERS);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_thousand_consumers_come_and_go_before_one_producer(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = TINY()));

	(void)state;
	for (int64_t i = 0; i < 1000; i++) {
		struct sluice_consumer *consumer = join_consumer("tokens", NULL);

		send_number(producer, i);
		take_numbers(consumer, i, 1);
		check_result(0, sluice_consumer_close(consumer));
	}
	check(sandbox_mappings() < 3 * SLUICE_MAX_MEMBERS);
	check(sandbox_objects(NULL) < 3 * SLUICE_MAX_MEMBERS);
	check_result(0, sluice_producer_close(producer));
}

static void a_closed_lane_stays_readable_while_its_messages_are_held(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	const struct sluice_message *message;
	const struct sluice_tensor *tensor;

	(void)state;
	send_bytes(producer, 77, 5000);
	message = hold(consumer);
	check_result(0, sluice_producer_close(producer));
	producer = join_producer("tokens", NULL);
	send_bytes(producer, 78, 5000);
	tensor = sluice_tensor(message, 0);
	for (unsigned i = 0; i < 5000; i++)
		check_equal(77, ((const unsigned char *)tensor->data)[i]);
	check_result(0, sluice_release(message));
	message = hold(consumer);
	check_equal(78, sluice_correlation_id(message));
	check_result(0, sluice_release(message));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void closing_discards_an_open_reservation(void **state)
{
	const struct sluice_tensor_spec spec = {.name = "ids", .dtype = SLUICE_INT32, .ndim = 1, .shape = {16}};
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_END_OF_STREAM));
	struct sluice_message *message;

	(void)state;
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	check_result(0, sluice_producer_close(producer));
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(consumer));
}

static void closing_nothing_is_fine(void **state)
{
	(void)state;
	check_result(0, sluice_producer_close(NULL));
	check_result(0, sluice_consumer_close(NULL));
	sluice_channel_stat_free(NULL);
	sluice_channel_list_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(an_opener_that_races_the_last_one_out_gets_a_channel_that_works),
		promise(processes_that_open_and_close_at_will_leave_nothing_and_a_name_that_works),
		promise(a_backlog_outlives_everybody_and_reaches_a_later_consumer),
		promise(what_was_held_by_the_last_one_out_is_backlog_again),
		promise(a_backlog_of_many_producers_is_delivered_whole),
		promise(a_persistent_channel_stays_until_it_is_removed),
		promise(nothing_is_left_whoever_of_a_channel_leaves_last),
		promise(a_thousand_producers_come_and_go_before_one_consumer),
		promise(a_thousand_consumers_come_and_go_before_one_producer),
		promise(a_closed_lane_stays_readable_while_its_messages_are_held),
		promise(closing_discards_an_open_reservation),
		promise(closing_nothing_is_fine),
	};

	return cmocka_run_group_tests_name("lifetime", tests, NULL, NULL);
}
