/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcasts: every consumer sees every message in order, the slowest sets the pace, joiners start where they should. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../support/exchange.h"
#include "../support/harness.h"
#include "../support/traffic.h"

#define BROADCAST(...) CHANNEL(.mode = SLUICE_BROADCAST, __VA_ARGS__)

static struct sluice_producer *open_broadcast(uint32_t depth)
{
	return join_producer("ranks", PRODUCER(.channel = BROADCAST(.depth = depth)));
}

static struct sluice_consumer *join_rank(uint32_t flags)
{
	return join_consumer("ranks", CONSUMER(.channel = BROADCAST(.flags = SLUICE_ATTACH_ONLY), .flags = flags));
}

static void two_producers_reach_three_consumers_each_with_everything_in_order(void **state)
{
	(void)state;
	traffic_run("ranks", &(struct traffic_plan){.mode = SLUICE_BROADCAST,
				     .producers = 2,
				     .consumers = 3,
				     .messages = scaled(60000),
				     .lane_bytes = 1 << 20,
				     .depth = 128,
				     .sizes = TRAFFIC_MIXED});
}

static void everything_arrives_whole_in_small_lanes_and_batches(void **state)
{
	(void)state;
	traffic_run("ranks", &(struct traffic_plan){.mode = SLUICE_BROADCAST,
				     .producers = 2,
				     .consumers = 3,
				     .messages = scaled(20000),
				     .lane_bytes = 1 << 16,
				     .depth = 16,
				     .sizes = TRAFFIC_ANY,
				     .batch = 8});
}

static void ranks_that_hold_and_release_in_any_order_see_everything(void **state)
{
	(void)state;
	traffic_run("ranks", &(struct traffic_plan){.mode = SLUICE_BROADCAST,
				     .producers = 2,
				     .consumers = 3,
				     .messages = scaled(20000),
				     .lane_bytes = 1 << 20,
				     .depth = 128,
				     .sizes = TRAFFIC_ANY,
				     .held = 50});
}

static void ranks_that_sleep_at_once_lose_no_wake_up(void **state)
{
	(void)state;
	traffic_run("ranks", &(struct traffic_plan){.mode = SLUICE_BROADCAST,
				     .producers = 2,
				     .consumers = 3,
				     .messages = scaled(10000),
				     .lane_bytes = 1 << 16,
				     .depth = 4,
				     .sizes = TRAFFIC_MIXED,
				     .spin_ns = SLUICE_NO_SPIN});
}

static void a_late_joiner_starts_at_the_oldest_that_is_retained(void **state)
{
	struct sluice_producer *producer = open_broadcast(8);
	struct sluice_consumer *early, *late;
	int64_t first;

	(void)state;
	send_numbers(producer, 0, 3);
	early = join_rank(0);
	take_numbers(early, 0, 2);
	hold_number(early, 2);
	send_numbers(producer, 3, 2);
	late = join_rank(0);
	first = take(late);
	check(first <= 2);
	take_numbers(late, first + 1, (unsigned)(4 - first));
	check_result(-EAGAIN, nothing_within(late, 0));
	check_result(0, sluice_consumer_close(late));
	take_numbers(early, 3, 2);
	check_result(0, sluice_consumer_close(early));
	check_result(0, sluice_producer_close(producer));
}

static void what_is_published_while_nobody_is_there_is_kept_for_the_next(void **state)
{
	struct sluice_producer *producer = open_broadcast(4);
	struct sluice_consumer *consumer = join_rank(0);
	int64_t first, end = 4;

	(void)state;
	send_numbers(producer, 0, 2);
	take_numbers(consumer, 0, 2);
	check_result(0, sluice_consumer_close(consumer));
	send_numbers(producer, 2, 2);
	/* The room of the two that were taken may be used again, that of the two that nobody saw may not. */
	while (try_to_send(producer, end, 0) != -EAGAIN)
		check(end++ < 6);
	consumer = join_rank(0);
	first = take(consumer);
	check(first <= 2);
	take_numbers(consumer, first + 1, (unsigned)(end - first - 1));
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void one_who_starts_at_the_newest_sees_only_what_comes(void **state)
{
	struct sluice_producer *producer = open_broadcast(8), *other;
	struct sluice_consumer *oldest = join_rank(0), *newest;

	(void)state;
	send_numbers(producer, 0, 3);
	newest = join_rank(SLUICE_START_NEWEST);
	check_result(-EAGAIN, nothing_within(newest, 0));
	send_numbers(producer, 3, 2);
	take_numbers(newest, 3, 2);
	other = join_producer("ranks", NULL);
	send_numbers(other, 100, 3);
	take_numbers(newest, 100, 3);
	take_numbers(oldest, 0, 5);
	take_numbers(oldest, 100, 3);
	check_result(0, sluice_consumer_close(oldest));
	check_result(0, sluice_consumer_close(newest));
	check_result(0, sluice_producer_close(other));
	check_result(0, sluice_producer_close(producer));
}

static void the_slowest_sets_the_pace(void **state)
{
	struct sluice_producer *producer = open_broadcast(4);
	struct sluice_consumer *fast = join_rank(0), *slow = join_rank(0);
	const struct sluice_message *first, *second;

	(void)state;
	send_numbers(producer, 0, 4);
	take_numbers(fast, 0, 4);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	first = hold_number(slow, 0);
	second = hold_number(slow, 1);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	check_result(0, sluice_release(second));
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	check_equal(0, number_of(first));
	check_result(0, sluice_release(first));
	send_numbers(producer, 4, 2);
	check_result(-EAGAIN, try_to_send(producer, 6, 0));
	take_numbers(slow, 2, 4);
	take_numbers(fast, 4, 2);
	check_result(0, sluice_consumer_close(fast));
	check_result(0, sluice_consumer_close(slow));
	check_result(0, sluice_producer_close(producer));
}

static void one_who_leaves_no_longer_sets_the_pace(void **state)
{
	struct sluice_producer *producer = open_broadcast(4);
	struct sluice_consumer *fast = join_rank(0), *slow = join_rank(0);

	(void)state;
	send_numbers(producer, 0, 4);
	take_numbers(fast, 0, 4);
	hold_number(slow, 0);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	check_result(0, sluice_consumer_close(slow));
	send_numbers(producer, 4, 4);
	take_numbers(fast, 4, 4);
	check_result(0, sluice_consumer_close(fast));
	check_result(0, sluice_producer_close(producer));
}

static void send_until_nobody_holds_it_up(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("ranks", PRODUCER(.spin_ns = SLUICE_NO_SPIN));

	(void)index;
	for (int i = 0; i < 8; i++)
		check_result(0, try_to_send(producer, i, SLUICE_FOREVER));
	check_result(0, sluice_producer_close(producer));
	tally_add(shared);
}

static void one_who_leaves_wakes_the_producer_that_waits_for_it(void **state)
{
	struct tally *sent = shared_memory(sizeof *sent);
	struct sluice_consumer *fast = join_consumer("ranks", CONSUMER(.channel = BROADCAST(.depth = 4)));
	struct sluice_consumer *slow = join_rank(0);

	(void)state;
	process_start(send_until_nobody_holds_it_up, sent, 0);
	take_numbers(fast, 0, 4);
	hold_number(slow, 0);
	wait_until_asleep("ranks", SLUICE_ROLE_PRODUCER, 1);
	check_equal(0, tally_read(sent));
	check_result(0, sluice_consumer_close(slow));
	take_numbers(fast, 4, 4);
	processes_finish();
	check_result(0, sluice_consumer_close(fast));
}

static void messages_are_kept_until_the_expected_number_of_consumers_came(void **state)
{
	struct sluice_producer *producer =
		join_producer("ranks", PRODUCER(.channel = BROADCAST(.depth = 4, .expected_consumers = 2)));
	struct sluice_consumer *first = join_rank(0), *second;

	(void)state;
	send_numbers(producer, 0, 4);
	take_numbers(first, 0, 4);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	second = join_rank(0);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	take_numbers(second, 0, 4);
	send_numbers(producer, 4, 4);
	take_numbers(first, 4, 4);
	check_result(0, sluice_consumer_close(first));
	take_numbers(second, 4, 4);
	send_numbers(producer, 8, 4);
	take_numbers(second, 8, 4);
	check_result(0, sluice_consumer_close(second));
	check_result(0, sluice_producer_close(producer));
}

static void one_consumer_that_comes_twice_is_not_two_at_one_time(void **state)
{
	struct sluice_producer *producer =
		join_producer("ranks", PRODUCER(.channel = BROADCAST(.depth = 4, .expected_consumers = 2)));
	struct sluice_consumer *first = join_rank(0), *second;

	(void)state;
	send_numbers(producer, 0, 4);
	take_numbers(first, 0, 4);
	check_result(0, sluice_consumer_close(first));
	first = join_rank(0);
	take_numbers(first, 0, 4);
	check_result(-EAGAIN, try_to_send(producer, 4, 0));
	second = join_rank(0);
	take_numbers(second, 0, 4);
	check_result(0, try_to_send(producer, 4, 0));
	take_numbers(first, 4, 1);
	take_numbers(second, 4, 1);
	check_result(0, sluice_consumer_close(first));
	check_result(0, sluice_consumer_close(second));
	check_result(0, sluice_producer_close(producer));
}

static void what_is_kept_for_the_expected_outlives_those_who_saw_it(void **state)
{
	struct sluice_producer *producer =
		join_producer("ranks", PRODUCER(.channel = BROADCAST(.expected_consumers = 2)));
	struct sluice_consumer *first = join_rank(0), *second;

	(void)state;
	send_numbers(producer, 0, 3);
	take_numbers(first, 0, 3);
	check_result(0, sluice_producer_close(producer));
	check_result(-EAGAIN, nothing_within(first, 0));
	second = join_rank(0);
	take_numbers(second, 0, 3);
	check_result(0, sluice_consumer_close(first));
	check_result(0, sluice_consumer_close(second));
}

static void lanes_that_join_later_are_seen_from_their_first_message(void **state)
{
	struct sluice_producer *producers[3] = {open_broadcast(8)};
	struct sluice_consumer *consumers[2] = {join_rank(0), join_rank(SLUICE_START_NEWEST)};

	(void)state;
	for (unsigned p = 0; p < 3; p++) {
		if (p)
			producers[p] = join_producer("ranks", NULL);
		send_numbers(producers[p], p * 10, 4);
		for (unsigned c = 0; c < 2; c++)
			take_numbers(consumers[c], p * 10, 4);
	}
	for (unsigned p = 0; p < 3; p++)
		check_result(0, sluice_producer_close(producers[p]));
	for (unsigned c = 0; c < 2; c++)
		check_result(0, sluice_consumer_close(consumers[c]));
}

static void a_broadcast_ends_for_each_consumer_when_it_has_seen_all(void **state)
{
	struct sluice_producer *producer = open_broadcast(8);
	struct sluice_consumer *consumers[2] = {join_rank(SLUICE_END_OF_STREAM), join_rank(SLUICE_END_OF_STREAM)};

	(void)state;
	send_numbers(producer, 0, 3);
	check_result(0, sluice_producer_close(producer));
	take_numbers(consumers[0], 0, 3);
	check_result(-ENODATA, nothing_within(consumers[0], SLUICE_FOREVER));
	take_numbers(consumers[1], 0, 3);
	check_result(-ENODATA, nothing_within(consumers[1], SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(consumers[0]));
	check_result(0, sluice_consumer_close(consumers[1]));
}

/* A stream of two producers, one consumer that sees all of it, and others that join and leave in the middle. */
#define STREAM_PRODUCERS 2

struct stream {
	uint32_t messages;
	struct tally over;
};

static void stream(void *shared, unsigned index)
{
	struct stream *all = shared;
	struct sluice_producer *producer = join_producer("ranks", PRODUCER(.channel = BROADCAST()));

	(void)index;
	check(sluice_producer_wait(producer, 1, SLUICE_FOREVER) >= 1);
	send_numbers(producer, 0, all->messages);
	check_result(0, sluice_producer_close(producer));
}

/* Origins seen and the number that must come next of each. */
struct origins {
	uint64_t origin[STREAM_PRODUCERS];
	int64_t next[STREAM_PRODUCERS];
	unsigned count;
};

static void check_next(struct origins *origins, const struct sluice_message *message)
{
	unsigned i;

	for (i = 0; i < origins->count && origins->origin[i] != sluice_origin(message); i++)
		continue;
	if (i == origins->count) {
		check(i < STREAM_PRODUCERS);
		origins->origin[i] = sluice_origin(message);
		origins->next[i] = number_of(message);
		origins->count++;
	}
	check_equal(origins->next[i], number_of(message));
	check_equal(number_of(message), sluice_sequence(message));
	origins->next[i]++;
}

static void watch_all(void *shared, unsigned index)
{
	struct stream *all = shared;
	struct origins origins = {0};
	const struct sluice_message *message;
	struct sluice_consumer *consumer =
		join_consumer("ranks", CONSUMER(.channel = BROADCAST(), .flags = SLUICE_END_OF_STREAM,
					       .expected_producers = STREAM_PRODUCERS));
	int result;

	(void)index;
	while ((result = sluice_receive(consumer, SLUICE_FOREVER, &message)) == 0) {
		if (sluice_sequence(message) == 0)
			check_equal(0, number_of(message));
		check_next(&origins, message);
		check_result(0, sluice_release(message));
	}
	check_result(-ENODATA, result);
	check_equal(STREAM_PRODUCERS, origins.count);
	for (unsigned i = 0; i < STREAM_PRODUCERS; i++)
		check_equal(all->messages, origins.next[i]);
	tally_add(&all->over);
	check_result(0, sluice_consumer_close(consumer));
}

static void watch_a_while(void *shared, unsigned index)
{
	struct stream *all = shared;
	uint64_t random = index;

	while (!tally_read(&all->over)) {
		struct sluice_consumer *consumer = join_consumer("ranks",
			CONSUMER(.channel = BROADCAST(), .flags = random_next(&random) % 2 ? SLUICE_START_NEWEST : 0));
		struct origins origins = {0};
		const struct sluice_message *message, *kept = NULL;

		for (uint64_t left = random_next(&random) % 100; left; left--) {
			if (sluice_receive(consumer, MILLISECOND, &message))
				break;
			check_next(&origins, message);
			if (kept)
				check_result(0, sluice_release(kept));
			kept = message;
		}
		check_result(0, sluice_consumer_close(consumer));
	}
}

static void consumers_join_and_leave_in_mid_stream_and_each_sees_no_hole(void **state)
{
	struct stream *all = shared_memory(sizeof *all);

	(void)state;
	all->messages = (uint32_t)scaled(20000);
	process_start(watch_all, all, 0);
	for (unsigned i = 0; i < STREAM_PRODUCERS; i++)
		process_start(stream, all, i);
	process_start(watch_a_while, all, 1);
	process_start(watch_a_while, all, 2);
	processes_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(two_producers_reach_three_consumers_each_with_everything_in_order),
		promise(everything_arrives_whole_in_small_lanes_and_batches),
		promise(ranks_that_hold_and_release_in_any_order_see_everything),
		promise(ranks_that_sleep_at_once_lose_no_wake_up),
		promise(a_late_joiner_starts_at_the_oldest_that_is_retained),
		promise(what_is_published_while_nobody_is_there_is_kept_for_the_next),
		promise(one_who_starts_at_the_newest_sees_only_what_comes),
		promise(the_slowest_sets_the_pace),
		promise(one_who_leaves_no_longer_sets_the_pace),
		promise(one_who_leaves_wakes_the_producer_that_waits_for_it),
		promise(messages_are_kept_until_the_expected_number_of_consumers_came),
		promise(one_consumer_that_comes_twice_is_not_two_at_one_time),
		promise(what_is_kept_for_the_expected_outlives_those_who_saw_it),
		promise(lanes_that_join_later_are_seen_from_their_first_message),
		promise(a_broadcast_ends_for_each_consumer_when_it_has_seen_all),
		promise(consumers_join_and_leave_in_mid_stream_and_each_sees_no_hole),
	};

	return cmocka_run_group_tests_name("broadcast", tests, NULL, NULL);
}
