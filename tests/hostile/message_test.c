/* SPDX-License-Identifier: Apache-2.0 */
/* Messages asked for wrongly and handles used wrongly: the code that the header names, and nothing changed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../support/exchange.h"
#include "../support/harness.h"

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_both(const struct sluice_channel_options *channel)
{
	producer = join_producer("tokens", PRODUCER(.channel = channel));
	consumer = join_consumer("tokens", CONSUMER(.channel = channel));
}

/* The channel must work as if nothing had been, with `sequence` as the next message's number. */
static void check_unharmed_and_close(uint64_t sequence)
{
	const struct sluice_message *message;

	send_number(producer, 4711);
	message = hold_number(consumer, 4711);
	check_equal(sequence, sluice_sequence(message));
	check_result(0, sluice_release(message));
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void check_reserve(int expected, const struct sluice_tensor_spec *specs, size_t count)
{
	struct sluice_message *const none = (void *)&expected;
	struct sluice_message *message = none;

	check_result(expected, sluice_reserve(producer, specs, count, 0, &message));
	check((expected != 0) == (message == none));
	if (!expected)
		check_result(0, sluice_discard(message));
}

static struct sluice_tensor_spec bytes_spec(const char *name, int64_t bytes)
{
	return (struct sluice_tensor_spec){.name = name, .dtype = SLUICE_UINT8, .ndim = 1, .shape = {bytes}};
}

static void more_than_half_a_lane_is_refused_and_exactly_half_fits(void **state)
{
	static const uint32_t alignments[] = {64, 256, 4096};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const struct sluice_channel_options *channel = CHANNEL(.lane_bytes = 1 << 20);
		struct sluice_geometry geometry;
		struct sluice_tensor_spec spec = bytes_spec("all", 0);
		int64_t largest;

		producer = join_producer("tokens", PRODUCER(.channel = channel, .alignment = alignments[i]));
		consumer = join_consumer("tokens", NULL);
		check_result(0, sluice_producer_geometry(producer, &geometry));
		largest = (int64_t)geometry.max_message_bytes;
		check(largest > 0 && (uint64_t)largest <= geometry.lane_bytes / 2);
		for (int64_t more = 1; more < INT64_C(1) << 55; more *= 64) {
			spec.shape[0] = largest + more;
			check_reserve(-EMSGSIZE, &spec, 1);
		}
		for (unsigned round = 0; round < 5; round++) {
			send_bytes(producer, round, largest);
			check_equal(round, sluice_correlation_id(hold(consumer)));
			send_bytes(producer, round + 1, 1);
			check_result(0, sluice_consumer_close(consumer));
			consumer = join_consumer("tokens", NULL);
			check_result(0, sluice_release(hold(consumer)));
			check_result(0, sluice_release(hold(consumer)));
		}
		check_unharmed_and_close(10);
	}
}

static void several_tensors_share_the_limit_each_rounded_up(void **state)
{
	struct sluice_geometry geometry;
	struct sluice_tensor_spec specs[3];
	int64_t third;

	(void)state;
	open_both(CHANNEL(.lane_bytes = 1 << 18));
	check_result(0, sluice_producer_geometry(producer, &geometry));
	third = (int64_t)(geometry.max_message_bytes / geometry.alignment - 2) * geometry.alignment;
	specs[0] = bytes_spec("a", 1);
	specs[1] = bytes_spec("b", geometry.alignment);
	specs[2] = bytes_spec("c", third);
	check_reserve(0, specs, 3);
	specs[1].shape[0]++;
	check_reserve(-EMSGSIZE, specs, 3);
	specs[1].shape[0]--;
	specs[2].shape[0] += (int64_t)geometry.max_message_bytes - third;
	check_reserve(-EMSGSIZE, specs, 3);
	check_unharmed_and_close(0);
}

static void sizes_whose_sum_wraps_are_refused(void **state)
{
	struct sluice_tensor_spec specs[8];

	(void)state;
	open_both(CHANNEL());
	for (unsigned i = 0; i < 8; i++)
		specs[i] = bytes_spec((const char *[]){"a", "b", "c", "d", "e", "f", "g", "h"}[i], INT64_C(1) << 62);
	for (unsigned count = 1; count <= 8; count++)
		check_reserve(-EMSGSIZE, specs, count);
	for (unsigned i = 0; i < 8; i++)
		specs[i].shape[0] = INT64_MAX;
	for (unsigned count = 1; count <= 8; count++)
		check_reserve(-EMSGSIZE, specs, count);
	check_unharmed_and_close(0);
}

static void shapes_whose_product_overflows_are_refused(void **state)
{
	static const struct sluice_tensor_spec specs[] = {
		{.name = "a", .dtype = SLUICE_UINT8, .ndim = 2, .shape = {INT64_C(1) << 32, INT64_C(1) << 32}},
		{.name = "a", .dtype = SLUICE_UINT8, .ndim = 2, .shape = {INT64_MAX, INT64_MAX}},
		{.name = "a", .dtype = SLUICE_UINT8, .ndim = 2, .shape = {INT64_MAX, 3}},
		{.name = "a", .dtype = SLUICE_INT64, .ndim = 1, .shape = {INT64_MAX}},
		{.name = "a", .dtype = SLUICE_INT64, .ndim = 1, .shape = {INT64_C(1) << 61}},
		{.name = "a",
			.dtype = SLUICE_INT8,
			.ndim = 8,
			.shape = {65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536}},
	};

	(void)state;
	open_both(CHANNEL());
	for (unsigned i = 0; i < sizeof specs / sizeof *specs; i++)
		check_reserve(-EOVERFLOW, &specs[i], 1);
	check_unharmed_and_close(0);
}

static void too_many_tensors_or_dimensions_are_refused(void **state)
{
	struct sluice_tensor_spec specs[SLUICE_MAX_TENSORS + 1];
	char names[SLUICE_MAX_TENSORS + 1][8];

	(void)state;
	open_both(CHANNEL());
	for (unsigned i = 0; i <= SLUICE_MAX_TENSORS; i++) {
		snprintf(names[i], sizeof names[i], "t%u", i);
		specs[i] = bytes_spec(names[i], 4);
	}
	check_reserve(-E2BIG, specs, SLUICE_MAX_TENSORS + 1);
	check_reserve(-E2BIG, specs, SIZE_MAX);
	check_reserve(0, specs, SLUICE_MAX_TENSORS);
	specs[0].ndim = SLUICE_MAX_DIMENSIONS + 1;
	check_reserve(-E2BIG, specs, 1);
	specs[0].ndim = UINT32_MAX;
	check_reserve(-E2BIG, specs, 2);
	check_unharmed_and_close(0);
}

static void types_that_are_not_carried_are_refused(void **state)
{
	static const uint32_t wrong[] = {0, UINT32_MAX, SLUICE_DTYPE(0, 0), SLUICE_DTYPE(0, 7), SLUICE_DTYPE(0, 128),
		SLUICE_DTYPE(1, 1), SLUICE_DTYPE(2, 8), SLUICE_DTYPE(2, 128), SLUICE_DTYPE(3, 64), SLUICE_DTYPE(4, 32),
		SLUICE_DTYPE(5, 64), SLUICE_DTYPE(6, 1), SLUICE_DTYPE(7, 16), SLUICE_DTYPE(15, 8), SLUICE_DTYPE(99, 8),
		SLUICE_INT32 + (1 << 16), SLUICE_INT32 & 0xffff, SLUICE_INT32 | 1u << 31};

	(void)state;
	open_both(CHANNEL());
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct sluice_tensor_spec spec = bytes_spec("a", 8);

		spec.dtype = wrong[i];
		check_reserve(-EINVAL, &spec, 1);
	}
	check_unharmed_and_close(0);
}

static void names_and_dimensions_that_mean_nothing_are_refused(void **state)
{
	static const char longest[] = "1234567890123456789012345678901",
			  too_long[] = "12345678901234567890123456789012";
	struct sluice_tensor_spec specs[2] = {bytes_spec("a", 8), bytes_spec("a", 8)};

	(void)state;
	open_both(CHANNEL());
	check_reserve(-EINVAL, specs, 2);
	specs[1].name = "";
	check_reserve(-EINVAL, specs, 2);
	specs[1].name = NULL;
	check_reserve(-EINVAL, specs, 2);
	specs[1].name = too_long;
	check_reserve(-EINVAL, specs, 2);
	specs[1].name = longest;
	check_reserve(0, specs, 2);
	specs[1].shape[0] = -1;
	check_reserve(-EINVAL, specs, 2);
	specs[1].shape[0] = INT64_MIN;
	check_reserve(-EINVAL, specs, 2);
	specs[1] = (struct sluice_tensor_spec){.name = "b", .dtype = SLUICE_INT8, .ndim = 2, .shape = {0, -5}};
	check_reserve(-EINVAL, specs, 2);
	check_reserve(-EINVAL, specs, 0);
	check_unharmed_and_close(0);
}

static void a_lane_takes_sixty_four_schemas_and_no_more(void **state)
{
	char name[8];

	(void)state;
	open_both(CHANNEL());
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 64; i++) {
			struct sluice_tensor_spec spec = bytes_spec(name, i);
			struct sluice_message *message;
			const struct sluice_message *received;

			snprintf(name, sizeof name, "t%u", i);
			check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
			check_result(0, sluice_publish(message));
			received = hold(consumer);
			check(!strcmp(name, sluice_tensor(received, 0)->name));
			check_equal(i, sluice_tensor(received, 0)->bytes);
			check_result(0, sluice_release(received));
		}
		check_reserve(-ENOBUFS, &(struct sluice_tensor_spec){.name = "t0", .dtype = SLUICE_INT8, .ndim = 1}, 1);
		check_reserve(
			-ENOBUFS, &(struct sluice_tensor_spec){.name = "t64", .dtype = SLUICE_UINT8, .ndim = 1}, 1);
		check_reserve(
			-ENOBUFS, &(struct sluice_tensor_spec){.name = "t0", .dtype = SLUICE_UINT8, .ndim = 2}, 1);
	}
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void one_reservation_at_a_time(void **state)
{
	const struct sluice_tensor_spec spec = bytes_spec("a", 100);
	struct sluice_message *message, *second = NULL;

	(void)state;
	open_both(CHANNEL());
	for (unsigned i = 0; i < 3; i++) {
		check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
		check_reserve(-EBUSY, &spec, 1);
		check_result(-EBUSY, sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &second));
		check(second == NULL);
		check_equal(0, sluice_sequence(message));
		check_result(0, sluice_discard(message));
	}
	check_unharmed_and_close(0);
}

static void check_dead_reservation(struct sluice_message *message)
{
	const struct sluice_trace trace = {.flags = 1};

	check_result(-EALREADY, sluice_publish(message));
	check_result(-EALREADY, sluice_publish_more(message));
	check_result(-EALREADY, sluice_discard(message));
	check_result(-EALREADY, sluice_shrink(message, 0, 1));
	check_result(-EALREADY, sluice_set_correlation_id(message, 1));
	check_result(-EALREADY, sluice_set_deadline(message, 1));
	check_result(-EALREADY, sluice_set_trace(message, &trace));
	check(sluice_data(message, 0) == NULL);
	check(sluice_tensor(message, 0) == NULL);
	check_equal(0, sluice_tensor_count(message));
}

static void a_message_is_published_or_discarded_once(void **state)
{
	const struct sluice_tensor_spec spec = bytes_spec("a", 100);
	struct sluice_message *message;
	const struct sluice_message *received;

	(void)state;
	open_both(CHANNEL());
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	check_result(0, sluice_publish(message));
	check_dead_reservation(message);
	received = hold(consumer);
	check_equal(0, sluice_correlation_id(received));
	check_equal(100, sluice_tensor(received, 0)->bytes);
	check_result(0, sluice_release(received));
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	check_result(0, sluice_discard(message));
	check_dead_reservation(message);
	check_unharmed_and_close(1);
}

static void a_message_is_released_once(void **state)
{
	const struct sluice_message *messages[3];

	(void)state;
	open_both(CHANNEL(.depth = 4));
	send_numbers(producer, 0, 3);
	for (unsigned i = 0; i < 3; i++)
		messages[i] = hold(consumer);
	check_result(0, sluice_release(messages[1]));
	check_result(-EALREADY, sluice_release(messages[1]));
	check_equal(0, sluice_tensor_count(messages[1]));
	check(sluice_tensor(messages[1], 0) == NULL);
	check_equal(0, number_of(messages[0]));
	check_result(-EALREADY, sluice_release_batch(messages, 3));
	for (unsigned i = 0; i < 3; i++)
		check_result(-EALREADY, sluice_release(messages[i]));
	check_unharmed_and_close(3);
}

static void what_belongs_to_the_other_side_is_left_alone(void **state)
{
	const struct sluice_tensor_spec spec = bytes_spec("a", 100);
	struct sluice_message *message;
	const struct sluice_message *received;

	(void)state;
	open_both(CHANNEL());
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	check(sluice_data(message, 1) == NULL && sluice_data(message, UINT32_MAX) == NULL);
	check(sluice_tensor(message, 1) == NULL && sluice_tensor(message, UINT32_MAX) == NULL);
	check_result(0, sluice_publish(message));
	received = hold(consumer);
	message = (struct sluice_message *)(uintptr_t)received;
	check(sluice_data(message, 0) == NULL);
	check_result(-EALREADY, sluice_publish(message));
	check_result(-EALREADY, sluice_discard(message));
	check_result(-EALREADY, sluice_set_correlation_id(message, 9));
	check_result(-EALREADY, sluice_shrink(message, 0, 9));
	check_equal(100, sluice_tensor(received, 0)->bytes);
	check_result(0, sluice_release(received));
	check_unharmed_and_close(1);
}

static void shrinking_has_limits(void **state)
{
	const struct sluice_tensor_spec specs[2] = {bytes_spec("a", 100), {.name = "scalar", .dtype = SLUICE_INT64}};
	struct sluice_message *message;

	(void)state;
	open_both(CHANNEL());
	check_result(0, sluice_reserve(producer, specs, 2, 0, &message));
	check_result(-EINVAL, sluice_shrink(message, 0, 101));
	check_result(-EINVAL, sluice_shrink(message, 0, -1));
	check_result(-EINVAL, sluice_shrink(message, 0, INT64_MIN));
	check_result(-EINVAL, sluice_shrink(message, 1, 1));
	check_result(-EINVAL, sluice_shrink(message, 2, 1));
	check_result(-EINVAL, sluice_shrink(message, UINT32_MAX, 1));
	check_equal(100, sluice_tensor(message, 0)->bytes);
	check_result(0, sluice_shrink(message, 0, 30));
	check_equal(30, sluice_tensor(message, 0)->bytes);
	check_result(0, sluice_shrink(message, 0, 100));
	check_equal(100, sluice_tensor(message, 0)->bytes);
	check_result(0, sluice_discard(message));
	check_unharmed_and_close(0);
}

static void a_closed_producer_refuses_every_call(void **state)
{
	const struct sluice_tensor_spec spec = bytes_spec("a", 100);
	struct sluice_message *message = NULL;
	struct sluice_geometry geometry;

	(void)state;
	open_both(CHANNEL());
	check_result(0, sluice_producer_close(producer));
	check_result(-EBADF, sluice_producer_close(producer));
	check_result(-EBADF, sluice_reserve(producer, &spec, 1, 0, &message));
	check_result(-EBADF, sluice_producer_wait(producer, 0, 0));
	check_result(-EBADF, sluice_producer_geometry(producer, &geometry));
	check(message == NULL);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_closed_consumer_refuses_every_call(void **state)
{
	const struct sluice_message *messages[2] = {NULL, NULL};
	struct sluice_geometry geometry;
	struct sluice_fault fault;

	(void)state;
	open_both(CHANNEL());
	send_number(producer, 1);
	check_result(0, sluice_consumer_close(consumer));
	check_result(-EBADF, sluice_consumer_close(consumer));
	check_result(-EBADF, sluice_receive(consumer, 0, messages));
	check_result(-EBADF, sluice_receive_batch(consumer, 2, 0, 0, 0, messages));
	check_result(-EBADF, sluice_consumer_wait(consumer, 0, 0));
	check_result(-EBADF, sluice_consumer_geometry(consumer, &geometry));
	check_result(-EBADF, sluice_consumer_fault(consumer, &fault));
	check(!messages[0] && !messages[1]);
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 1, 1);
	check_result(-ENOENT, sluice_consumer_fault(consumer, &fault));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void every_code_has_a_sentence(void **state)
{
	static const int codes[] = {0, -EAGAIN, -ETIMEDOUT, -EINTR, -ENODATA, -EBADMSG, -ESTALE, -ENOMEM, -ECHILD,
		-EALREADY, -EBADF, -EBUSY, -EMSGSIZE, -E2BIG, -EOVERFLOW, -EINVAL, -ENOBUFS, -ENOENT, -EEXIST, -ENOSPC,
		-EUSERS, -EPERM, -EACCES, -ELOOP, -EPROTO, -EPROTONOSUPPORT, -ENOTSUP, -ENOLCK, -EMFILE, -ENFILE,
		INT32_MIN, INT32_MAX, -99999};

	(void)state;
	for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
		const char *sentence = sluice_strerror(codes[i]);

		check(sentence && sentence[0] && sentence[strlen(sentence) - 1] != '.');
		if (codes[i] != INT32_MIN)
			check(!strcmp(sentence, sluice_strerror(-codes[i])));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(more_than_half_a_lane_is_refused_and_exactly_half_fits),
		promise(several_tensors_share_the_limit_each_rounded_up),
		promise(sizes_whose_sum_wraps_are_refused),
		promise(shapes_whose_product_overflows_are_refused),
		promise(too_many_tensors_or_dimensions_are_refused),
		promise(types_that_are_not_carried_are_refused),
		promise(names_and_dimensions_that_mean_nothing_are_refused),
		promise(a_lane_takes_sixty_four_schemas_and_no_more),
		promise(one_reservation_at_a_time),
		promise(a_message_is_published_or_discarded_once),
		promise(a_message_is_released_once),
		promise(what_belongs_to_the_other_side_is_left_alone),
		promise(shrinking_has_limits),
		promise(a_closed_producer_refuses_every_call),
		promise(a_closed_consumer_refuses_every_call),
		promise(every_code_has_a_sentence),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
