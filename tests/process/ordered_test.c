/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered channels: what was published before something else began to be published is handed out before it, whichever
 * producers they came from.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

#define PRODUCERS 4

static const struct sluice_channel_options *ordered(struct sluice_channel_options *channel, uint32_t mode)
{
	*channel = *CHANNEL(.mode = mode, .flags = SLUICE_ORDERED, .depth = 64);
	return channel;
}

/* A token that goes round from producer to producer, and the number that it has reached. */
struct relay {
	uint32_t mode;
	uint32_t consumers;
	int64_t rounds;
	int pipes[PRODUCERS][2];
};

/* Publishes the number that comes through its pipe and, as soon as publish has returned, hands on the next. */
static void relay_numbers(void *shared, unsigned index)
{
	struct relay *relay = shared;
	struct sluice_channel_options channel;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = ordered(&channel, relay->mode)));
	int64_t number;

	check(sluice_producer_wait(producer, relay->consumers, SLUICE_FOREVER) >= (int)relay->consumers);
	for (int64_t round = 0; round < relay->rounds; round++) {
		check(read(relay->pipes[index][0], &number, sizeof number) == sizeof number);
		check_result(0, try_to_send(producer, number, SLUICE_FOREVER));
		number++;
		check(write(relay->pipes[(index + 1) % PRODUCERS][1], &number, sizeof number) == sizeof number);
	}
	check_result(0, sluice_producer_close(producer));
}

static void expect_numbers(void *shared, unsigned index)
{
	struct relay *relay = shared;
	struct sluice_channel_options channel;
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = ordered(&channel, relay->mode),
						.flags = SLUICE_END_OF_STREAM, .expected_producers = PRODUCERS));

	(void)index;
	for (int64_t number = 0; number < relay->rounds * PRODUCERS; number++) {
		const struct sluice_message *message = NULL;

		check_result(0, sluice_receive(consumer, SLUICE_FOREVER, &message));
		check_equal(number, number_of(message));
		check_result(0, sluice_release(message));
	}
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(consumer));
}

static void run_relay(uint32_t mode, uint32_t consumers)
{
	struct relay *relay = shared_memory(sizeof *relay);
	const int64_t first = 0;

	*relay = (struct relay){.mode = mode, .consumers = consumers, .rounds = (int64_t)scaled(10000)};
	for (unsigned i = 0; i < PRODUCERS; i++)
		check(!pipe(relay->pipes[i]));
	check(write(relay->pipes[0][1], &first, sizeof first) == sizeof first);
	for (unsigned i = 0; i < PRODUCERS; i++)
		process_start(relay_numbers, relay, i);
	for (unsigned i = 0; i < consumers; i++)
		process_start(expect_numbers, relay, i);
	processes_finish();
	for (unsigned i = 0; i < PRODUCERS; i++) {
		close(relay->pipes[i][0]);
		close(relay->pipes[i][1]);
	}
}

static void a_queue_hands_out_in_the_order_that_producers_agreed_on(void **state)
{
	(void)state;
	run_relay(SLUICE_QUEUE, 1);
}

static void a_broadcast_hands_out_to_each_in_the_order_that_producers_agreed_on(void **state)
{
	(void)state;
	run_relay(SLUICE_BROADCAST, 2);
}

/* Producers that do not wait for each other, and when each publish began and ended. */
struct rush {
	uint64_t messages; /* of each producer */
	struct tally ready;
	uint64_t total; /* messages received */
	struct {
		uint64_t begin_ns;
		_Atomic uint64_t end_ns;
	} published[];
};

static void rush_in(void *shared, unsigned index)
{
	struct rush *rush = shared;
	struct sluice_channel_options channel;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = ordered(&channel, 0)));
	const struct sluice_tensor_spec spec = {.name = "number", .dtype = SLUICE_INT64};

	tally_meet(&rush->ready, PRODUCERS + 1);
	for (uint64_t i = 0; i < rush->messages; i++) {
		const uint64_t number = index * rush->messages + i;
		struct sluice_message *message = NULL;

		check_result(0, sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message));
		memcpy(sluice_data(message, 0), &number, sizeof number);
		rush->published[number].begin_ns = now_ns();
		check_result(0, sluice_publish(message));
		atomic_store(&rush->published[number].end_ns, now_ns());
	}
	check_result(0, sluice_producer_close(producer));
}

/* Notes in which order the messages come; `order` lies behind the times of `rush`. */
static void note_order(void *shared, unsigned index)
{
	struct rush *rush = shared;
	uint64_t *order = (void *)&rush->published[PRODUCERS * rush->messages];
	struct sluice_channel_options channel;
	const struct sluice_message *message;
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = ordered(&channel, 0), .flags = SLUICE_END_OF_STREAM,
						.expected_producers = PRODUCERS));

	(void)index;
	tally_meet(&rush->ready, PRODUCERS + 1);
	while (sluice_receive(consumer, SLUICE_FOREVER, &message) == 0) {
		check(rush->total < PRODUCERS * rush->messages);
		order[rush->total++] = (uint64_t)number_of(message);
		check_result(0, sluice_release(message));
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void no_message_overtakes_one_whose_publish_ended_before_its_own_began(void **state)
{
	const uint64_t messages = scaled(100000), total = messages * PRODUCERS;
	struct rush *rush = shared_memory(sizeof *rush + total * (sizeof rush->published[0] + sizeof(uint64_t)));
	const uint64_t *order = (void *)&rush->published[total];
	uint64_t latest_begin_ns = 0;

	(void)state;
	rush->messages = messages;
	for (unsigned i = 0; i < PRODUCERS; i++)
		process_start(rush_in, rush, i);
	process_start(note_order, rush, 0);
	processes_finish();
	check_equal(total, rush->total);
	for (uint64_t i = 0; i < total; i++) {
		check(rush->published[order[i]].end_ns >= latest_begin_ns);
		if (rush->published[order[i]].begin_ns > latest_begin_ns)
			latest_begin_ns = rush->published[order[i]].begin_ns;
	}
}

static void publish_some_and_leave(void *shared, unsigned index)
{
	struct sluice_channel_options channel;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = ordered(&channel, 0)));

	(void)shared;
	send_numbers(producer, index, 60);
	check_result(0, sluice_producer_close(producer));
}

static void what_is_published_after_all_others_left_comes_last(void **state)
{
	struct sluice_channel_options channel;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = ordered(&channel, 0)));
	struct sluice_producer *producer;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < PRODUCERS; i++)
			process_start(publish_some_and_leave, NULL, i);
		processes_finish();
		producer = join_producer("tokens", NULL);
		send_number(producer, -1);
		for (unsigned i = 0; i < PRODUCERS * 60; i++)
			check(take(consumer) >= 0);
		check_equal(-1, take(consumer));
		check_result(-EAGAIN, nothing_within(consumer, 0));
		check_result(0, sluice_producer_close(producer));
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void what_a_closing_consumer_gives_back_comes_before_what_is_younger(void **state)
{
	struct sluice_channel_options channel;
	struct sluice_producer *producers[PRODUCERS];
	const struct sluice_message *youngest;
	struct sluice_consumer *consumer, *other;

	(void)state;
	for (int64_t i = 0; i < PRODUCERS; i++)
		producers[i] = join_producer("tokens", PRODUCER(.channel = ordered(&channel, 0)));
	for (int64_t number = 0; number < 40; number++)
		send_number(producers[number % PRODUCERS], number);
	consumer = join_consumer("tokens", NULL);
	for (int64_t number = 0; number < 10; number++)
		hold_number(consumer, number);
	other = join_consumer("tokens", NULL);
	youngest = hold_number(other, 10);
	check_result(0, sluice_consumer_close(consumer));
	take_numbers(other, 0, 10);
	take_numbers(other, 11, 29);
	check_result(0, sluice_release(youngest));
	check_result(0, sluice_consumer_close(other));
	for (int i = 0; i < PRODUCERS; i++)
		check_result(0, sluice_producer_close(producers[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_queue_hands_out_in_the_order_that_producers_agreed_on),
		promise(a_broadcast_hands_out_to_each_in_the_order_that_producers_agreed_on),
		promise(no_message_overtakes_one_whose_publish_ended_before_its_own_began),
		promise(what_is_published_after_all_others_left_comes_last),
		promise(what_a_closing_consumer_gives_back_comes_before_what_is_younger),
	};

	return cmocka_run_group_tests_name("ordered", tests, NULL, NULL);
}
