/* SPDX-License-Identifier: Apache-2.0 */
/* What a message carries: tensors of all types and shapes, what travels beside them, and that readers cannot write. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_both(const struct sluice_producer_options *options)
{
	producer = join_producer("tokens", options);
	consumer = join_consumer("tokens", NULL);
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static struct sluice_message *reserve(const struct sluice_tensor_spec *specs, size_t count)
{
	struct sluice_message *message = NULL;

	check_result(0, sluice_reserve(producer, specs, count, PATIENCE, &message));
	check_equal(count, sluice_tensor_count(message));
	return message;
}

static uint64_t bytes_of(const struct sluice_tensor_spec *spec)
{
	uint64_t bytes = (spec->dtype >> 8 & 0xff) / 8;

	for (uint32_t i = 0; i < spec->ndim; i++)
		bytes *= (uint64_t)spec->shape[i];
	return bytes;
}

static void check_tensor(const struct sluice_tensor *tensor, const struct sluice_tensor_spec *spec, uint32_t alignment)
{
	check(tensor != NULL);
	check(!strcmp(spec->name, tensor->name));
	check_equal(spec->dtype, tensor->dtype);
	check_equal(spec->ndim, tensor->ndim);
	for (uint32_t i = 0; i < spec->ndim; i++)
		check_equal(spec->shape[i], tensor->shape[i]);
	check_equal(bytes_of(spec), tensor->bytes);
	check(tensor->data != NULL);
	check_equal(0, (uintptr_t)tensor->data % alignment);
}

/* Sends `count` tensors of known content; they must arrive with the same names, types, shapes and content. */
static void check_passes(const struct sluice_tensor_spec *specs, size_t count, uint32_t alignment)
{
	struct sluice_message *message = reserve(specs, count);
	const struct sluice_message *received;
	uint64_t sums[SLUICE_MAX_TENSORS];

	for (uint32_t i = 0; i < count; i++) {
		check_tensor(sluice_tensor(message, i), &specs[i], alignment);
		check(sluice_data(message, i) == sluice_tensor(message, i)->data);
	}
	for (uint32_t i = 0; i < count; i++)
		sums[i] = pattern_fill(sluice_data(message, i), bytes_of(&specs[i]), i);
	check_result(0, sluice_publish(message));
	received = hold(consumer);
	check_equal(count, sluice_tensor_count(received));
	for (uint32_t i = 0; i < count; i++) {
		const struct sluice_tensor *tensor = sluice_tensor(received, i);

		check_tensor(tensor, &specs[i], alignment);
		check(sluice_tensor_find(received, specs[i].name) == tensor);
		check_equal(sums[i], pattern_sum(tensor->data, tensor->bytes, i));
	}
	check(sluice_tensor(received, (uint32_t)count) == NULL);
	check(sluice_tensor_find(received, "nobody") == NULL && sluice_tensor_find(received, "") == NULL);
	check_result(0, sluice_release(received));
}

static const uint32_t dtypes[] = {SLUICE_INT8, SLUICE_INT16, SLUICE_INT32, SLUICE_INT64, SLUICE_UINT8, SLUICE_UINT16,
	SLUICE_UINT32, SLUICE_UINT64, SLUICE_FLOAT16, SLUICE_FLOAT32, SLUICE_FLOAT64, SLUICE_BFLOAT16, SLUICE_BOOL,
	SLUICE_FLOAT8_E3M4, SLUICE_FLOAT8_E4M3, SLUICE_FLOAT8_E4M3B11FNUZ, SLUICE_FLOAT8_E4M3FN, SLUICE_FLOAT8_E4M3FNUZ,
	SLUICE_FLOAT8_E5M2, SLUICE_FLOAT8_E5M2FNUZ, SLUICE_FLOAT8_E8M0FNU};
#define DTYPES (sizeof dtypes / sizeof *dtypes)

static void every_type_passes_inside_the_descriptor_and_beside_it(void **state)
{
	static const int64_t lengths[] = {1, 3, 1000};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < DTYPES; i++)
		for (unsigned j = 0; j < 3; j++)
			check_passes(
				&(struct sluice_tensor_spec){
					.name = "ids", .dtype = dtypes[i], .ndim = 1, .shape = {lengths[j]}},
				1, 64);
	close_both();
}

static void sixteen_tensors_pass_in_one_message(void **state)
{
	struct sluice_tensor_spec specs[SLUICE_MAX_TENSORS];
	char names[SLUICE_MAX_TENSORS][SLUICE_MAX_TENSOR_NAME + 1];

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (uint32_t count = 1; count <= SLUICE_MAX_TENSORS; count++) {
		for (uint32_t i = 0; i < count; i++) {
			memset(names[i], 'n', SLUICE_MAX_TENSOR_NAME);
			snprintf(names[i] + SLUICE_MAX_TENSOR_NAME - 2, 3, "%02u", i);
			specs[i] = (struct sluice_tensor_spec){.name = names[i],
				.dtype = dtypes[i],
				.ndim = i % 9,
				.shape = {i % 3, 2, 3, 1, 1, 2, 1, 2}};
		}
		check_passes(specs, count, 64);
	}
	close_both();
}

static void sixteen_tensors_of_eight_dimensions_pass(void **state)
{
	struct sluice_tensor_spec specs[SLUICE_MAX_TENSORS];
	static const char *const names[] = {
		"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (unsigned round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < SLUICE_MAX_TENSORS; i++)
			specs[i] = (struct sluice_tensor_spec){.name = names[i],
				.dtype = SLUICE_INT16,
				.ndim = 8,
				.shape = {1 + i % 2, 2, 1, 3, 2, 1, 2, 1 + round % 3}};
		check_passes(specs, SLUICE_MAX_TENSORS, 64);
	}
	close_both();
}

/* Reservations in a row are compared with the last one: by what a name says, wherever it lies and whatever was there before. */
static void a_name_is_what_it_says_and_not_where_it_lies(void **state)
{
	static const char *const names[] = {"input_ids", "input_ids", "input_ide", "inqut_ide", "in", "in", "input_id",
		"input_ids_", "input_ids", "a_name_of_thirty_one_characters", "a_name_of_thirty_one_charActers",
		"a_name_of_thirty_one_character"};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sluice_tensor_spec spec = {.dtype = SLUICE_INT32, .ndim = 1, .shape = {2}};

	(void)state;
	check(pages != MAP_FAILED);
	open_both(PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) { /* at one place */
		spec.name = strcpy(pages, names[i]);
		check_passes(&spec, 1, 64);
		check_passes(&spec, 1, 64);
	}
	spec.name = strcpy(
		pages + page - 4, "input_ids"); /* where the second page goes away, and whoever reads on faults */
	check_passes(&spec, 1, 64);
	check_passes(&spec, 1, 64);
	strcpy(pages + page - 4, "inp");
	check_result(0, munmap(pages + page, page));
	check_passes(&spec, 1, 64);
	close_both();
	check_result(0, munmap(pages, page));
}

static void a_scalar_has_no_dimensions_and_one_element(void **state)
{
	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < DTYPES; i++)
		check_passes(&(struct sluice_tensor_spec){.name = "scalar", .dtype = dtypes[i]}, 1, 64);
	close_both();
}

static void tensors_without_elements_pass(void **state)
{
	static const struct sluice_tensor_spec specs[] = {
		{.name = "none", .dtype = SLUICE_INT32, .ndim = 1, .shape = {0}},
		{.name = "wide", .dtype = SLUICE_INT64, .ndim = 2, .shape = {INT64_C(1) << 33, 0}},
		{.name = "tall", .dtype = SLUICE_INT8, .ndim = 3, .shape = {0, INT64_C(1) << 40, 5}},
		{.name = "full", .dtype = SLUICE_INT8, .ndim = 1, .shape = {500}},
		{.name = "last", .dtype = SLUICE_FLOAT64, .ndim = 8, .shape = {7, 7, 7, 7, 7, 7, 7, 0}},
	};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (size_t first = 0; first < 5; first++)
		for (size_t count = 1; first + count <= 5; count++)
			check_passes(specs + first, count, 64);
	close_both();
}

static void payloads_start_where_the_alignment_asked_for_says(void **state)
{
	static const uint32_t alignments[] = {64, 128, 256, 512, 1024, 2048, 4096};

	(void)state;
	for (unsigned i = 0; i < sizeof alignments / sizeof *alignments; i++) {
		open_both(PRODUCER(.channel = CHANNEL(.lane_bytes = 1 << 18), .alignment = alignments[i]));
		for (int64_t bytes = 1; bytes < 30000; bytes = bytes * 3 + 1) {
			const struct sluice_tensor_spec specs[2] = {
				{.name = "a", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {bytes}},
				{.name = "b", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {bytes}},
			};

			check_passes(specs, 2, alignments[i]);
		}
		close_both();
	}
}

static void ragged_batches_pass_as_ids_and_where_each_row_starts(void **state)
{
	const struct sluice_tensor_spec specs[2] = {
		{.name = "input_ids", .dtype = SLUICE_INT32, .ndim = 1, .shape = {4096}},
		{.name = "cu_seqlens", .dtype = SLUICE_INT32, .ndim = 1, .shape = {33}},
	};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL(.lane_bytes = 1 << 16)));
	for (int32_t rows = 0; rows <= 32; rows++) {
		struct sluice_message *message = reserve(specs, 2);
		int32_t *ids = sluice_data(message, 0), *starts = sluice_data(message, 1);
		const struct sluice_message *received;
		int32_t end = 0;

		for (int32_t row = 0; row < rows; row++) {
			starts[row] = end;
			for (int32_t i = 0; i < row * 3; i++)
				ids[end++] = row;
		}
		starts[rows] = end;
		check_result(0, sluice_shrink(message, 0, end));
		check_result(0, sluice_shrink(message, 1, rows + 1));
		check_equal(end, sluice_tensor(message, 0)->shape[0]);
		check_result(0, sluice_publish(message));
		received = hold(consumer);
		check_equal(end, sluice_tensor_find(received, "input_ids")->shape[0]);
		check_equal((uint64_t)end * 4, sluice_tensor_find(received, "input_ids")->bytes);
		check_equal(rows + 1, sluice_tensor_find(received, "cu_seqlens")->shape[0]);
		ids = (int32_t *)(uintptr_t)sluice_tensor(received, 0)->data;
		starts = (int32_t *)(uintptr_t)sluice_tensor(received, 1)->data;
		check_equal(end, starts[rows]);
		for (int32_t row = 0; row < rows; row++)
			for (int32_t i = starts[row]; i < starts[row + 1]; i++)
				check_equal(row, ids[i]);
		check_result(0, sluice_release(received));
	}
	close_both();
}

static void what_shrinking_gives_back_is_room_for_the_next(void **state)
{
	const struct sluice_tensor_spec spec = {.name = "ids", .dtype = SLUICE_UINT8, .ndim = 2, .shape = {16, 1024}};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL(.lane_bytes = 32768, .depth = 64)));
	for (unsigned i = 0; i < 8; i++) {
		struct sluice_message *message = reserve(&spec, 1);

		check_result(0, sluice_shrink(message, 0, i % 2));
		check_result(0, sluice_publish(message));
	}
	for (unsigned i = 0; i < 8; i++) {
		const struct sluice_message *message = hold(consumer);

		check_equal(i % 2, sluice_tensor(message, 0)->shape[0]);
		check_equal(1024, sluice_tensor(message, 0)->shape[1]);
		check_equal(i % 2 * 1024, sluice_tensor(message, 0)->bytes);
		check_result(0, sluice_release(message));
	}
	close_both();
}

static void what_travels_beside_the_tensors_arrives_with_them(void **state)
{
	const struct sluice_tensor_spec spec = {.name = "ids", .dtype = SLUICE_INT32, .ndim = 1, .shape = {4}};
	struct sluice_trace trace = {.flags = 1}, none = {0}, found;

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		trace.trace_id[i] = (uint8_t)(i + 1);
	memset(trace.parent_id, 0xab, sizeof trace.parent_id);
	open_both(PRODUCER(.channel = CHANNEL(.depth = 2)));
	for (unsigned i = 0; i < 8; i++) {
		struct sluice_message *message = reserve(&spec, 1);
		const struct sluice_message *received;

		check_equal(0, sluice_correlation_id(message));
		check_equal(0, sluice_deadline(message));
		check_result(0, sluice_set_correlation_id(message, i & 1 ? UINT64_MAX - i : 0));
		check_result(0, sluice_set_deadline(message, i & 2 ? UINT64_C(1) << 62 | i : 0));
		check_result(0, sluice_set_trace(message, &trace));
		if (!(i & 4))
			check_result(0, sluice_set_trace(message, NULL));
		check_result(0, sluice_publish(message));
		received = hold(consumer);
		check_equal(i & 1 ? UINT64_MAX - i : 0, sluice_correlation_id(received));
		check_equal(i & 2 ? UINT64_C(1) << 62 | i : 0, sluice_deadline(received));
		memset(&found, 0x55, sizeof found);
		sluice_trace(received, &found);
		check(!memcmp(i & 4 ? &trace : &none, &found, sizeof found));
		check_result(0, sluice_release(received));
	}
	close_both();
}

static void stamps_are_taken_of_all_messages_or_of_none(void **state)
{
	static const uint32_t rates[] = {SLUICE_STAMP_ALL, SLUICE_STAMP_NONE};

	(void)state;
	for (unsigned r = 0; r < 2; r++) {
		open_both(PRODUCER(.channel = CHANNEL(), .sample_rate_hz = rates[r]));
		for (unsigned i = 0; i < 50; i++) {
			const uint64_t begin_ns = now_ns();
			const struct sluice_message *message;
			struct sluice_stamps stamps = {1, 1, 1};

			send_number(producer, i);
			message = hold(consumer);
			sluice_stamps(message, &stamps);
			if (rates[r] == SLUICE_STAMP_ALL) {
				check(begin_ns <= stamps.reserve_ns && stamps.reserve_ns <= stamps.publish_ns);
				check(stamps.publish_ns <= stamps.receive_ns && stamps.receive_ns <= now_ns());
			} else {
				check(!stamps.reserve_ns && !stamps.publish_ns && !stamps.receive_ns);
			}
			check_result(0, sluice_release(message));
		}
		close_both();
	}
}

static void stamps_are_sampled_by_rate_and_not_by_message(void **state)
{
	const uint64_t rate = 100, messages = scaled(20000), begin_ns = now_ns();
	uint64_t stamped = 0, due;

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL(), .sample_rate_hz = (uint32_t)rate));
	for (uint64_t i = 0; i < messages; i++) {
		const struct sluice_message *message;
		struct sluice_stamps stamps;

		send_number(producer, (int64_t)i);
		message = hold(consumer);
		sluice_stamps(message, &stamps);
		check(!stamps.reserve_ns == !stamps.publish_ns && !stamps.publish_ns == !stamps.receive_ns);
		stamped += stamps.publish_ns != 0;
		check_result(0, sluice_release(message));
	}
	/* The rate is met by leaving out messages, not by looking at the clock each time: a few more may be stamped. */
	due = (now_ns() - begin_ns) * rate / (uint64_t)SECOND;
	check(stamped >= 1 && stamped <= due + messages / 8);
	close_both();
}

static void a_discarded_message_never_was(void **state)
{
	const struct sluice_tensor_spec spec = {.name = "ids", .dtype = SLUICE_INT32, .ndim = 1, .shape = {2000}};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL(.lane_bytes = 16384, .depth = 2)));
	for (int64_t i = 0; i < 20; i++) {
		const struct sluice_message *message;

		for (unsigned j = 0; j < 3; j++)
			check_result(0, sluice_discard(reserve(&spec, 1)));
		send_number(producer, i);
		message = hold_number(consumer, i);
		check_equal(i, sluice_sequence(message));
		check_result(0, sluice_release(message));
	}
	check_result(-EAGAIN, nothing_within(consumer, 0));
	close_both();
}

/* Receives a message of so many bytes and stores into it. */
static void store_into_a_tensor(void *shared, unsigned bytes)
{
	const struct sluice_message *message;
	volatile unsigned char *data;

	(void)shared;
	signal(SIGSEGV, SIG_DFL);
	consumer = join_consumer("tokens", NULL);
	message = hold(consumer);
	check_equal(bytes, sluice_tensor(message, 0)->bytes);
	data = (volatile unsigned char *)(uintptr_t)sluice_tensor(message, 0)->data;
	check_equal(0x5a, data[bytes / 2]);
	data[bytes / 2] = 1;
	_exit(0);
}

static void a_store_into_a_received_tensor_faults(void **state)
{
	static const unsigned sizes[] = {8, 64, 100, 4096, 30000};

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int status;

		send_bytes(producer, 0x5a, sizes[i]);
		status = process_status(process_start(store_into_a_tensor, NULL, sizes[i]));
		check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
		producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	}
	check_result(0, sluice_producer_close(producer));
}

static void a_received_tensor_cannot_be_made_writable(void **state)
{
	static const unsigned sizes[] = {8, 30000};

	(void)state;
	open_both(PRODUCER(.channel = CHANNEL()));
	for (unsigned i = 0; i < 2; i++) {
		const struct sluice_message *message;
		uintptr_t page;

		send_bytes(producer, 1, sizes[i]);
		message = hold(consumer);
		page = (uintptr_t)sluice_tensor(message, 0)->data & ~(uintptr_t)4095;
		check(mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) && errno == EACCES);
		check_result(0, sluice_release(message));
	}
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(every_type_passes_inside_the_descriptor_and_beside_it),
		promise(sixteen_tensors_pass_in_one_message),
		promise(sixteen_tensors_of_eight_dimensions_pass),
		promise(a_name_is_what_it_says_and_not_where_it_lies),
		promise(a_scalar_has_no_dimensions_and_one_element),
		promise(tensors_without_elements_pass),
		promise(payloads_start_where_the_alignment_asked_for_says),
		promise(ragged_batches_pass_as_ids_and_where_each_row_starts),
		promise(what_shrinking_gives_back_is_room_for_the_next),
		promise(what_travels_beside_the_tensors_arrives_with_them),
		promise(stamps_are_taken_of_all_messages_or_of_none),
		promise(stamps_are_sampled_by_rate_and_not_by_message),
		promise(a_discarded_message_never_was),
		promise(a_store_into_a_received_tensor_faults),
		promise(a_received_tensor_cannot_be_made_writable),
	};

	return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
