/* SPDX-License-Identifier: Apache-2.0 */
/* What one consumer is given: batches, fair turns over lanes, the end of a stream, and what goes back when it closes. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "../support/exchange.h"
#include "../support/harness.h"

#define BATCH 16

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_both(const struct sluice_channel_options *channel)
{
	producer = join_producer("tokens", PRODUCER(.channel = channel));
	consumer = join_consumer("tokens", CONSUMER(.channel = channel));
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_batch_holds_as_many_messages_as_asked_for_and_there(void **state)
{
	const struct sluice_message *messages[BATCH];

	(void)state;
	open_both(CHANNEL(.depth = 16));
	send_numbers(producer, 0, 10);
	check_result(4, sluice_receive_batch(consumer, 4, 0, 0, PATIENCE, messages));
	for (int i = 0; i < 4; i++)
		check_equal(i, number_of(messages[i]));
	check_result(0, sluice_release_batch(messages, 4));
	check_result(6, sluice_receive_batch(consumer, BATCH, 0, 0, PATIENCE, messages));
	for (int i = 0; i < 6; i++)
		check_equal(4 + i, number_of(messages[i]));
	check_result(0, sluice_release_batch(messages, 6));
	check_result(-EAGAIN, sluice_receive_batch(consumer, BATCH, 0, 0, 0, messages));
	check_result(-ETIMEDOUT, sluice_receive_batch(consumer, BATCH, 0, 0, MILLISECOND, messages));
	close_both();
}

/* Batches that begin at even and odd places, beside one who takes single messages, and laps of the lane. */
static void a_batch_takes_what_others_left_wherever_it_begins(void **state)
{
	const struct sluice_message *messages[BATCH];
	const struct sluice_message *taken;
	struct sluice_consumer *other;
	int64_t next = 0;

	(void)state;
	open_both(CHANNEL(.depth = 16));
	other = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 16)));
	for (unsigned round = 0; round < 64; round++) {
		unsigned first = round % 3, wanted = 1 + round % 11;
		uint32_t seen = 0;

		send_numbers(producer, next, 16);
		for (unsigned i = 0; i < first; i++)
			take_numbers(consumer, next + i, 1);
		check_result(0, sluice_receive(other, PATIENCE, &taken));
		check_equal(next + first, number_of(taken));
		for (unsigned left = 15 - first; left > 0;) {
			int count = sluice_receive_batch(consumer, wanted, 0, 0, PATIENCE, messages);

			check(count >= 1 && (unsigned)count <= wanted && (unsigned)count <= left);
			for (int i = 0; i < count; i++)
				seen |= UINT32_C(1) << (number_of(messages[i]) - next);
			check_result(0, sluice_release_batch(messages, (size_t)count));
			left -= (unsigned)count;
		}
		check_result(0, sluice_release(taken));
		check_equal(0xffff & ~((UINT32_C(2) << first) - 1), seen);
		next += 16;
	}
	check_result(0, sluice_consumer_close(other));
	close_both();
}

static void a_batch_is_released_in_any_order_and_each_message_once(void **state)
{
	const struct sluice_message *messages[BATCH], *mixed[BATCH + 2];

	(void)state;
	open_both(CHANNEL(.depth = 16));
	for (int64_t next = 0; next < 160; next += 16) {
		send_numbers(producer, next, 16);
		check_result(16, sluice_receive_batch(consumer, 16, 0, 0, PATIENCE, messages));
		for (unsigned i = 0; i < 16; i++)
			mixed[i] = messages[i * 5 % 16];
		mixed[16] = messages[15];
		mixed[17] = NULL;
		check_result(0, sluice_release(messages[15]));
		check_result(-EALREADY, sluice_release_batch(mixed, 18));
		check_result(-EALREADY, sluice_release_batch(messages, 16));
	}
	close_both();
}

static void a_batch_keeps_to_its_bytes_but_holds_one_message_at_least(void **state)
{
	const struct sluice_message *messages[BATCH];

	(void)state;
	open_both(CHANNEL(.depth = 16));
	for (int i = 0; i < 6; i++)
		send_bytes(producer, i, 4096);
	check_result(3, sluice_receive_batch(consumer, BATCH, 3 * 4096 + 100, 0, PATIENCE, messages));
	check_result(0, sluice_release_batch(messages, 3));
	check_result(1, sluice_receive_batch(consumer, BATCH, 100, 0, PATIENCE, messages));
	check_equal(3, sluice_correlation_id(messages[0]));
	check_result(0, sluice_release_batch(messages, 1));
	check_result(2, sluice_receive_batch(consumer, BATCH, 0, 0, PATIENCE, messages));
	check_result(0, sluice_release_batch(messages, 2));
	close_both();
}

static void send_ten(void *shared, unsigned index)
{
	(void)shared;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 4)));
	send_numbers(producer, index, 10);
	check_result(0, sluice_producer_close(producer));
}

static void a_batch_lingers_until_it_is_full(void **state)
{
	const struct sluice_message *messages[BATCH];

	(void)state;
	open_both(CHANNEL(.depth = 16));
	process_start(send_ten, NULL, 0);
	check_result(10, sluice_receive_batch(consumer, 10, 0, SLUICE_FOREVER, SLUICE_FOREVER, messages));
	for (int i = 0; i < 10; i++)
		check_equal(i, number_of(messages[i]));
	check_result(0, sluice_release_batch(messages, 10));
	processes_finish();
	close_both();
}

static void a_batch_that_lingers_returns_when_its_producer_waits_for_room(void **state)
{
	const struct sluice_message *messages[BATCH];
	int64_t next = 0;

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 4)));
	process_start(send_ten, NULL, 0);
	while (10 - next > 4) { /* as long as the rest does not fit, the producer will wait */
		int count = sluice_receive_batch(consumer, BATCH, 0, SLUICE_FOREVER, PATIENCE, messages);

		check(count >= 1 && count <= 4);
		for (int i = 0; i < count; i++)
			check_equal(next + i, number_of(messages[i]));
		next += count;
		check_result(0, sluice_release_batch(messages, (size_t)count));
	}
	take_numbers(consumer, next, (unsigned)(10 - next));
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
}

static void a_batch_goes_on_where_it_was_left(void **state)
{
	const struct sluice_message *messages[BATCH];
	int count;

	(void)state;
	open_both(CHANNEL(.depth = 16));
	process_start(send_ten, NULL, 0);
	count = sluice_receive_batch(consumer, 10, 0, 0, PATIENCE, messages);
	check(count >= 1);
	while (count < 10) {
		int more = sluice_receive_more(consumer, (size_t)count, 10, 0, 1000, messages);

		check(more >= count);
		count = more;
	}
	for (int i = 0; i < 10; i++)
		check_equal(i, number_of(messages[i]));
	check_result(10, sluice_receive_more(consumer, 10, 10, 0, SLUICE_FOREVER, messages));
	check_result(0, sluice_release_batch(messages, 10));
	processes_finish();

	for (int i = 0; i < 4; i++)
		send_bytes(producer, i, 4096);
	check_result(1, sluice_receive_batch(consumer, 1, 0, 0, PATIENCE, messages));
	check_result(3, sluice_receive_more(consumer, 1, BATCH, 3 * 4096 + 100, 0, messages)); /* its bytes count */
	check_result(-EINVAL, sluice_receive_more(consumer, 0, BATCH, 0, 0, messages));
	check_result(-EINVAL, sluice_receive_more(consumer, 3, 2, 0, 0, messages));
	check_result(0, sluice_release(messages[2]));
	check_result(-EINVAL, sluice_receive_more(consumer, 3, BATCH, 0, 0, messages));
	check_result(3, sluice_receive_more(consumer, 2, BATCH, 0, 0, messages));
	check_result(0, sluice_release_batch(messages, 3));
	close_both();
}

static void a_batch_that_goes_on_returns_when_the_producer_of_its_first_messages_waits_for_room(void **state)
{
	const struct sluice_message *messages[BATCH];

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 4)));
	process_start(send_ten, NULL, 0);
	int count = sluice_receive_batch(consumer, BATCH, 0, 0, PATIENCE, messages);
	check(count >= 1 && count <= 4);
	count = sluice_receive_more(consumer, (size_t)count, BATCH, 0, SLUICE_FOREVER, messages);
	check(count >= 1 && count <= 4);
	for (int i = 0; i < count; i++)
		check_equal(i, number_of(messages[i]));
	check_result(0, sluice_release_batch(messages, (size_t)count));
	take_numbers(consumer, count, (unsigned)(10 - count));
	processes_finish();
	check_result(0, sluice_consumer_close(consumer));
}

/* Longest run of messages of one lane among the next `count`. */
static unsigned longest_run(unsigned count)
{
	uint64_t last = 0;
	unsigned run = 0, longest = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct sluice_message *message = hold(consumer);

		run = run && sluice_origin(message) == last ? run + 1 : 1;
		last = sluice_origin(message);
		longest = run > longest ? run : longest;
		check_result(0, sluice_release(message));
	}
	return longest;
}

/* Messages that are taken, `at_once` at a time, before number `wanted` is among them. */
static unsigned taken_before(int64_t wanted, size_t at_once)
{
	const struct sluice_message *messages[BATCH];

	for (unsigned taken = 0;;) {
		int count = sluice_receive_batch(consumer, at_once, 0, 0, 0, messages);
		bool found = false;

		check(count > 0);
		for (int i = 0; i < count; i++)
			found |= number_of(messages[i]) == wanted;
		check_result(0, sluice_release_batch(messages, (size_t)count));
		if (found)
			return taken;
		taken += (unsigned)count;
	}
}

#define BACKLOG 900 /* messages; many more than a consumer may take without looking for anything else */
#define SOON    200

static void a_backlog_does_not_keep_a_new_lane_waiting(void **state)
{
	struct sluice_producer *other;

	(void)state;
	for (size_t at_once = 1; at_once <= BATCH; at_once += BATCH - 1) {
		open_both(CHANNEL(.depth = 1024));
		send_numbers(producer, 0, BACKLOG);
		taken_before(300, at_once); /* each handle once: a consumer looks properly until it knows the shape */
		other = join_producer("tokens", NULL);
		send_number(other, -1);
		check(taken_before(-1, at_once) <= SOON);
		check(taken_before(BACKLOG - 1, at_once) > SOON);
		check_result(0, sluice_producer_close(other));
		close_both();
	}
}

static void a_backlog_does_not_keep_a_returned_message_waiting(void **state)
{
	struct sluice_consumer *other;

	(void)state;
	for (size_t at_once = 1; at_once <= BATCH; at_once += BATCH - 1) {
		open_both(CHANNEL(.depth = 1024));
		other = join_consumer("tokens", NULL);
		send_numbers(producer, 0, BACKLOG);
		hold_number(other, 0);
		taken_before(300, at_once);
		check_result(0, sluice_consumer_close(other));
		check(taken_before(0, at_once) <= SOON);
		check(taken_before(BACKLOG - 1, at_once) > SOON);
		close_both();
	}
}

static void lanes_take_turns_of_a_quantum_of_messages(void **state)
{
	struct sluice_producer *other;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 64)));
	other = join_producer("tokens", NULL);
	send_numbers(producer, 0, 64);
	send_numbers(other, 0, 64);
	consumer = join_consumer("tokens", CONSUMER(.quantum_messages = 4));
	check(longest_run(128) <= 4);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(0, sluice_producer_close(other));
	close_both();
}

static void lanes_take_turns_of_a_quantum_of_bytes(void **state)
{
	struct sluice_producer *other;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	other = join_producer("tokens", NULL);
	for (int i = 0; i < 8; i++) {
		send_bytes(producer, i, 4096);
		send_bytes(other, i, 4096);
	}
	consumer = join_consumer("tokens", CONSUMER(.quantum_bytes = 8192));
	check(longest_run(16) <= 3);
	check_result(0, sluice_producer_close(other));
	close_both();
}

static void the_end_of_a_stream_is_told_apart_from_silence(void **state)
{
	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_END_OF_STREAM));
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
	producer = join_producer("tokens", NULL);
	check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
	send_numbers(producer, 0, 3);
	check_result(0, sluice_producer_close(producer));
	take_numbers(consumer, 0, 3);
	check_result(-ENODATA, nothing_within(consumer, 0));
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(-ENODATA, nothing_within(consumer, -1));
	producer = join_producer("tokens", NULL);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	send_number(producer, 3);
	take_numbers(consumer, 3, 1);
	check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
	close_both();
}

static void a_consumer_that_did_not_ask_for_the_end_sees_silence(void **state)
{
	(void)state;
	open_both(CHANNEL());
	send_number(producer, 0);
	check_result(0, sluice_producer_close(producer));
	take_numbers(consumer, 0, 1);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_stream_ends_when_the_expected_number_of_producers_have_closed(void **state)
{
	const struct sluice_message *messages[BATCH];

	(void)state;
	consumer = join_consumer(
		"tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_END_OF_STREAM, .expected_producers = 2));
	for (int round = 0; round < 2; round++) {
		check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
		producer = join_producer("tokens", NULL);
		check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
		check_result(0, sluice_producer_close(producer));
	}
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(-ENODATA, sluice_receive_batch(consumer, BATCH, 0, 0, SLUICE_FOREVER, messages));
	check_result(0, sluice_consumer_close(consumer));
}

static void wait_for_the_end(void *shared, unsigned index)
{
	(void)index;
	consumer = join_consumer(
		"tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_END_OF_STREAM, .spin_ns = SLUICE_NO_SPIN));
	tally_add(shared);
	check_result(-ENODATA, nothing_within(consumer, SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(consumer));
}

static void sleeping_consumers_learn_of_the_end(void **state)
{
	struct tally *joined = shared_memory(sizeof *joined);

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < 3; i++)
		process_start(wait_for_the_end, joined, i);
	tally_wait(joined, 3);
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 3);
	check_result(0, sluice_producer_close(producer));
	processes_finish();
}

static void die_with_a_lane_open(void *shared, unsigned index)
{
	(void)index;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_number(producer, 1);
	tally_add(shared);
	raise(SIGKILL);
}

static void a_producer_that_was_killed_does_not_end_the_stream(void **state)
{
	struct tally *published = shared_memory(sizeof *published);
	int status;

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_END_OF_STREAM));
	status = process_status(process_start(die_with_a_lane_open, published, 0));
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	check_equal(1, tally_read(published));
	take_numbers(consumer, 1, 1);
	check_result(-ETIMEDOUT, nothing_within(consumer, 5 * MILLISECOND));
	check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_closing_consumer_gives_back_what_it_holds(void **state)
{
	const struct sluice_message *youngest;
	struct sluice_consumer *other;

	(void)state;
	open_both(CHANNEL());
	send_numbers(producer, 0, 4);
	for (int i = 0; i < 3; i++)
		hold_number(consumer, i);
	other = join_consumer("tokens", NULL);
	youngest = hold_number(other, 3);
	check_result(-EAGAIN, nothing_within(other, 0));
	check_result(0, sluice_consumer_close(consumer));
	for (int i = 0; i < 3; i++) {
		const struct sluice_message *message = hold_number(other, i);

		check_equal(1, sluice_delivery_count(message));
		check_result(0, sluice_release(message));
	}
	check_result(-EAGAIN, nothing_within(other, 0));
	check_result(0, sluice_release(youngest));
	consumer = other;
	close_both();
}

/* Index 0 takes three messages and closes once the other one sleeps; index 1 gets them then. */
static void hold_or_wait(void *shared, unsigned index)
{
	struct tally *taken = shared;

	if (index == 1)
		tally_wait(taken, 3);
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	if (index == 1) {
		take_numbers(consumer, 0, 3);
		check_result(0, sluice_consumer_close(consumer));
		return;
	}
	for (int i = 0; i < 3; i++) {
		hold_number(consumer, i);
		tally_add(taken);
	}
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	check_result(0, sluice_consumer_close(consumer));
}

static void what_a_closing_consumer_held_wakes_one_that_sleeps(void **state)
{
	struct tally *taken = shared_memory(sizeof *taken);

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	process_start(hold_or_wait, taken, 0);
	process_start(hold_or_wait, taken, 1);
	send_numbers(producer, 0, 3);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

static void a_message_returned_at_many_closes_still_counts_as_one_delivery(void **state)
{
	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.max_deliveries = 2)));
	send_number(producer, 7);
	for (int i = 0; i < 10; i++) {
		const struct sluice_message *message;

		consumer = join_consumer("tokens", NULL);
		message = hold_number(consumer, 7);
		check_equal(1, sluice_delivery_count(message));
		check_result(0, sluice_consumer_close(consumer));
	}
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 7, 1);
	close_both();
}

static void sequence_and_origin_name_a_message(void **state)
{
	struct sluice_producer *other;
	const struct sluice_message *messages[4];

	(void)state;
	open_both(CHANNEL());
	other = join_producer("tokens", NULL);
	send_number(producer, 0);
	send_number(producer, 1);
	send_number(other, 2);
	send_number(other, 3);
	for (int i = 0; i < 4; i++) {
		const struct sluice_message *message = hold(consumer);

		messages[number_of(message)] = message;
	}
	for (unsigned i = 0; i < 4; i++)
		check_equal(i % 2, sluice_sequence(messages[i]));
	check_equal(sluice_origin(messages[0]), sluice_origin(messages[1]));
	check_equal(sluice_origin(messages[2]), sluice_origin(messages[3]));
	check(sluice_origin(messages[0]) != sluice_origin(messages[2]));
	check_result(0, sluice_release_batch(messages, 4));
	check_result(0, sluice_producer_close(other));
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_batch_holds_as_many_messages_as_asked_for_and_there),
		promise(a_batch_takes_what_others_left_wherever_it_begins),
		promise(a_batch_is_released_in_any_order_and_each_message_once),
		promise(a_batch_keeps_to_its_bytes_but_holds_one_message_at_least),
		promise(a_batch_lingers_until_it_is_full),
		promise(a_batch_that_lingers_returns_when_its_producer_waits_for_room),
		promise(a_batch_goes_on_where_it_was_left),
		promise(a_batch_that_goes_on_returns_when_the_producer_of_its_first_messages_waits_for_room),
		promise(a_backlog_does_not_keep_a_new_lane_waiting),
		promise(a_backlog_does_not_keep_a_returned_message_waiting),
		promise(lanes_take_turns_of_a_quantum_of_messages),
		promise(lanes_take_turns_of_a_quantum_of_bytes),
		promise(the_end_of_a_stream_is_told_apart_from_silence),
		promise(a_consumer_that_did_not_ask_for_the_end_sees_silence),
		promise(a_stream_ends_when_the_expected_number_of_producers_have_closed),
		promise(sleeping_consumers_learn_of_the_end),
		promise(a_producer_that_was_killed_does_not_end_the_stream),
		promise(a_closing_consumer_gives_back_what_it_holds),
		promise(what_a_closing_consumer_held_wakes_one_that_sleeps),
		promise(a_message_returned_at_many_closes_still_counts_as_one_delivery),
		promise(sequence_and_origin_name_a_message),
	};

	return cmocka_run_group_tests_name("receive", tests, NULL, NULL);
}
