/* SPDX-License-Identifier: Apache-2.0 */
/* Queues under traffic: every message exactly once and in its producer's order, whoever comes and goes meanwhile. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../support/exchange.h"
#include "../support/harness.h"
#include "../support/traffic.h"

static void one_producer_and_one_consumer_exchange_every_message_once(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 1,
				      .consumers = 1,
				      .messages = scaled(200000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_MIXED});
}

static void four_producers_feed_one_consumer_every_message_once(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 4,
				      .consumers = 1,
				      .messages = scaled(50000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_MIXED});
}

static void one_producer_feeds_four_consumers_each_message_to_one(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 1,
				      .consumers = 4,
				      .messages = scaled(200000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_MIXED});
}

static void four_producers_feed_four_consumers_each_message_to_one(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 4,
				      .consumers = 4,
				      .messages = scaled(50000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_MIXED});
}

static void messages_of_any_size_up_to_half_the_lane_arrive_whole(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(20000),
				      .lane_bytes = 1 << 16,
				      .depth = 64,
				      .sizes = TRAFFIC_ANY});
}

static void a_lane_of_two_messages_passes_every_one(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(20000),
				      .lane_bytes = 4096,
				      .depth = 2,
				      .sizes = TRAFFIC_ANY});
}

static void members_that_sleep_at_once_lose_no_wake_up(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(20000),
				      .lane_bytes = 1 << 16,
				      .depth = 4,
				      .sizes = TRAFFIC_MIXED,
				      .spin_ns = SLUICE_NO_SPIN});
}

static void messages_held_by_the_hundred_are_released_in_any_order(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(50000),
				      .lane_bytes = 1 << 22,
				      .depth = 512,
				      .sizes = TRAFFIC_ANY,
				      .held = 150});
}

static void messages_are_released_by_other_threads(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(40000),
				      .lane_bytes = 1 << 18,
				      .depth = 64,
				      .sizes = TRAFFIC_MIXED,
				      .release_threads = 3});
}

static void batches_carry_every_message_once(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 4,
				      .consumers = 2,
				      .messages = scaled(50000),
				      .lane_bytes = 1 << 20,
				      .depth = 128,
				      .sizes = TRAFFIC_MIXED,
				      .batch = 32,
				      .held = 40});
}

#define CHURN_PRODUCERS  3
#define CHURN_CONSUMERS  3
#define CHURN_GENERATION 100
#define MOST_GENERATIONS 40

/* Members that come and go: producers for a generation of messages, consumers for some and then away with one in hand. */
struct churn {
	uint32_t generations;
	struct tally released;
	_Atomic uint8_t seen[CHURN_PRODUCERS * MOST_GENERATIONS * CHURN_GENERATION];
};

static uint32_t churn_total(const struct churn *churn)
{
	return CHURN_PRODUCERS * churn->generations * CHURN_GENERATION;
}

static void come_and_go_producing(void *shared, unsigned index)
{
	struct churn *churn = shared;

	for (uint32_t generation = 0; generation < churn->generations; generation++) {
		struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
		const unsigned first = (index * churn->generations + generation) * CHURN_GENERATION;

		send_numbers(producer, first, CHURN_GENERATION);
		check_result(0, sluice_producer_close(producer));
	}
}

static void release_once(struct churn *churn, const struct sluice_message *message)
{
	const int64_t number = number_of(message);

	check(number >= 0 && number < (int64_t)churn_total(churn));
	check_equal(1, sluice_delivery_count(message));
	check_equal(0, atomic_fetch_add(&churn->seen[number], 1));
	check_result(0, sluice_release(message));
	tally_add(&churn->released);
}

static void come_and_go_consuming(void *shared, unsigned index)
{
	struct churn *churn = shared;
	uint64_t random = index;

	while (tally_read(&churn->released) < churn_total(churn)) {
		struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
		const struct sluice_message *in_hand = NULL;

		for (uint64_t left = random_next(&random) % 50; left; left--) {
			const struct sluice_message *message = NULL;
			int result = sluice_receive(consumer, MILLISECOND, &message);

			check(result == 0 || result == -ETIMEDOUT);
			if (in_hand)
				release_once(churn, in_hand);
			in_hand = message;
			if (!message)
				break;
		}
		check_result(0, sluice_consumer_close(consumer));
	}
}

static void members_join_and_leave_in_mid_stream_and_no_message_is_lost_or_doubled(void **state)
{
	struct churn *churn = shared_memory(sizeof *churn);

	(void)state;
	churn->generations = (uint32_t)scaled(MOST_GENERATIONS);
	for (unsigned i = 0; i < CHURN_PRODUCERS; i++)
		process_start(come_and_go_producing, churn, i);
	for (unsigned i = 0; i < CHURN_CONSUMERS; i++)
		process_start(come_and_go_consuming, churn, i);
	processes_finish();
	check_equal(churn_total(churn), tally_read(&churn->released));
}

static void what_is_published_before_any_consumer_came_is_kept(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer;

	(void)state;
	send_numbers(producer, 0, 8);
	check_result(-EAGAIN, try_to_send(producer, 8, 0));
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 0, 8);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void a_message_out_of_order_in_release_frees_no_room_before_its_elders(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 4)));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	const struct sluice_message *messages[4];

	(void)state;
	send_numbers(producer, 0, 4);
	for (int i = 0; i < 4; i++)
		messages[i] = hold_number(consumer, i);
	for (int i = 3; i > 0; i--) {
		check_result(0, sluice_release(messages[i]));
		check_equal(0, number_of(messages[0]));
		check_result(-EAGAIN, try_to_send(producer, 4, 0));
	}
	check_result(0, sluice_release(messages[0]));
	send_numbers(producer, 4, 4);
	take_numbers(consumer, 4, 4);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(one_producer_and_one_consumer_exchange_every_message_once),
		promise(four_producers_feed_one_consumer_every_message_once),
		promise(one_producer_feeds_four_consumers_each_message_to_one),
		promise(four_producers_feed_four_consumers_each_message_to_one),
		promise(messages_of_any_size_up_to_half_the_lane_arrive_whole),
		promise(a_lane_of_two_messages_passes_every_one),
		promise(members_that_sleep_at_once_lose_no_wake_up),
		promise(messages_held_by_the_hundred_are_released_in_any_order),
		promise(messages_are_released_by_other_threads),
		promise(batches_carry_every_message_once),
		promise(members_join_and_leave_in_mid_stream_and_no_message_is_lost_or_doubled),
		promise(what_is_published_before_any_consumer_came_is_kept),
		promise(a_message_out_of_order_in_release_frees_no_room_before_its_elders),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
