/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No wake-up is lost: processes send and receive with random delays in between, so that a poller falls asleep and is
 * woken at every distance from each other. Its sleeps never end by themselves here: one lost wake-up ends the test.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "polling.h"

#define CHANNELS 3

static const char *const names[CHANNELS] = {"park-0", "park-1", "park-2"};

/* Up to 40 us, mostly shorter, sometimes none. */
static void dawdle(uint64_t *random)
{
	const uint64_t number = random_next(random);
	const uint64_t longest = number % 4 == 0 ? 0 : UINT64_C(40000) >> number / 4 % 6;
	const uint64_t end = longest ? now_ns() + number / 64 % longest : 0;

	while (longest && now_ns() < end)
		continue;
}

struct park {
	uint64_t messages; /* of each channel */
};

static void send_all(void *shared, unsigned index)
{
	struct park *park = shared;
	struct sluice_producer *producer = join_producer(names[index], PRODUCER(.channel = CHANNEL()));
	uint64_t random = index;

	for (uint64_t i = 0; i < park->messages; i++) {
		send_number(producer, (int64_t)i);
		dawdle(&random);
	}
	check_result(0, sluice_producer_close(producer));
}

static void receive_all(void *shared, unsigned index)
{
	struct park *park = shared;
	struct sluice_consumer *consumer = join_consumer(names[index], CONSUMER(.channel = CHANNEL(.depth = 2)));
	uint64_t random = index + 7;

	for (uint64_t i = 0; i < park->messages; i++) {
		check_equal(i, take(consumer));
		dawdle(&random);
	}
	check_result(0, sluice_consumer_close(consumer));
}

/* One of the channels at the poller, whichever end that is. */
struct end {
	struct sluice_consumer *consumer;
	struct sluice_producer *producer;
	uint64_t next;
};

/* Does one thing that an event asks for; sometimes all that can be done at once. */
static void work_off(struct end *end, uint64_t *random, uint64_t messages)
{
	const struct sluice_message *message;
	const bool all = random_next(random) % 2;

	do {
		if (end->producer && try_to_send(end->producer, (int64_t)end->next, 0))
			return;
		if (end->consumer && sluice_receive(end->consumer, 0, &message))
			return;
		if (end->consumer) {
			check_equal(end->next, number_of(message));
			check_result(0, sluice_release(message));
		}
		dawdle(random);
	} while (++end->next < messages && all);
}

static void leave(struct sluice_poller *poller, struct end *end)
{
	check_result(0, sluice_poller_remove(poller, end->consumer ? (void *)end->consumer : (void *)end->producer));
	check_result(0, sluice_consumer_close(end->consumer));
	check_result(0, sluice_producer_close(end->producer));
}

/* `sending` of the channels wait for room here, the others for messages. */
static void park_and_unpark(bool by_descriptor, unsigned sending)
{
	struct park *park = shared_memory(sizeof *park);
	struct sluice_poller *poller = new_poller(NEVER);
	struct end ends[CHANNELS] = {0};
	const int descriptor = by_descriptor ? sluice_poller_fd(poller) : -1;
	uint64_t random = sending, waits = 0;
	unsigned left = CHANNELS;

	park->messages = rounds(6000);
	for (unsigned i = 0; i < CHANNELS; i++) {
		if (i < sending) {
			ends[i].producer = join_producer(
				names[i], PRODUCER(.channel = CHANNEL(.depth = 2), .spin_ns = SLUICE_NO_SPIN));
			poll_producer(poller, ends[i].producer, 0, &ends[i]);
		} else {
			ends[i].consumer =
				join_consumer(names[i], CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
			poll_consumer(poller, ends[i].consumer, &ends[i]);
		}
		process_start(i < sending ? receive_all : send_all, park, i);
	}
	while (left > 0) {
		struct sluice_poller_event events[2];
		int count;

		if (by_descriptor)
			check(is_readable(descriptor, PATIENCE));
		count = sluice_poller_wait(poller, events, 2, by_descriptor ? 0 : PATIENCE);
		check(count > 0 || (count == 0 && by_descriptor));
		waits += count == 0;
		for (int i = 0; i < count; i++) {
			struct end *end = events[i].data;

			if (end->next < park->messages)
				work_off(end, &random, park->messages);
			if (end->next == park->messages) {
				leave(poller, end);
				left--;
			}
		}
		dawdle(&random);
	}
	processes_finish();
	end_poller(poller);
	print_message("%llu messages a channel%s", (unsigned long long)park->messages, by_descriptor ? "" : "\n");
	if (by_descriptor)
		print_message(", asleep %llu times\n", (unsigned long long)waits);
}

static void no_message_is_slept_through_in_a_wait(void **state)
{
	(void)state;
	park_and_unpark(false, 0);
}

static void no_message_is_slept_through_by_the_descriptor(void **state)
{
	(void)state;
	park_and_unpark(true, 0);
}

static void no_room_is_slept_through_in_a_wait(void **state)
{
	(void)state;
	park_and_unpark(false, CHANNELS);
}

static void no_room_is_slept_through_by_the_descriptor(void **state)
{
	(void)state;
	park_and_unpark(true, CHANNELS);
}

static void messages_and_room_are_waited_for_together(void **state)
{
	(void)state;
	park_and_unpark(false, 1);
	park_and_unpark(true, 1);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		promise(no_message_is_slept_through_in_a_wait),
		promise(no_message_is_slept_through_by_the_descriptor),
		promise(no_room_is_slept_through_in_a_wait),
		promise(no_room_is_slept_through_by_the_descriptor),
		promise(messages_and_room_are_waited_for_together),
	};

	return cmocka_run_group_tests_name("poller: park and unpark", tests, NULL, NULL);
}

int main(int count, char **arguments)
{
	return polling_main(count, arguments, "park_test", run);
}
