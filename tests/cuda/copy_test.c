/* SPDX-License-Identifier: Apache-2.0 */
/* Pinning lanes, and getting what is in them to the device: one by one, in batches, in place. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"

#include "cuda.h" /* the library's: how large registrations are */

#define DEPTH 64
#define LANE  (64 * 1024)

static struct sluice_cuda_status status_of(struct sluice_consumer *consumer)
{
	struct sluice_cuda_status status;

	check_result(0, sluice_cuda_status(consumer, &status));
	return status;
}

struct pair {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	stream_handle stream;
	uintptr_t memory;
};

static struct pair begin(uint32_t flags)
{
	const struct sluice_cuda_options options = {.size = sizeof options, .flags = flags};
	struct pair pair;

	device_use(0);
	pair.producer = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH, .lane_bytes = LANE)));
	pair.consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH, .lane_bytes = LANE)));
	check_result(0, sluice_cuda_attach(pair.consumer, &options));
	pair.stream = device_stream();
	pair.memory = device_allocate(4 * LANE);
	return pair;
}

static void end(struct pair *pair)
{
	const struct sluice_message *message;

	while (sluice_receive(pair->consumer, 0, &message) == 0)
		check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(pair->consumer));
	check_result(0, sluice_producer_close(pair->producer));
	device_end_stream(pair->stream);
	device_free(pair->memory);
	device_let_go(0);
}

static bool device_has(uintptr_t memory, uint64_t seed, uint64_t bytes)
{
	uint8_t *copy = malloc(bytes);
	bool same;

	check(copy != NULL);
	device_read(copy, memory, bytes);
	same = is_pattern(copy, seed, bytes);
	free(copy);
	return same;
}

/* ---- pinning ---- */

static void lanes_are_pinned_when_they_are_found(void)
{
	struct pair pair = begin(0);
	struct sluice_producer *late;
	const struct sluice_message *message;
	struct sluice_cuda_status status = status_of(pair.consumer);

	check_equal(1, status.lanes);
	check_equal(1, status.pinned_lanes);
	check(status.pinned_bytes > LANE);
	check_equal(0, status.pin_error);
	late = join_producer(PRODUCER(.channel = CHANNEL(), .lane_bytes = 1 << 20));
	check_result(-EAGAIN, sluice_receive(pair.consumer, 0, &message));
	status = status_of(pair.consumer);
	check_equal(2, status.pinned_lanes);
	check(status.pinned_bytes > (1 << 20));
	check_result(0, sluice_producer_close(late));
	eventually(sluice_receive(pair.consumer, 0, &message) == -EAGAIN && status_of(pair.consumer).lanes == 1);
	check_equal(1, status_of(pair.consumer).pinned_lanes);
	check(status_of(pair.consumer).pinned_bytes < (1 << 20));
	end(&pair);
}

static void read_only_where_the_device_can(void)
{
	for (int can = 1; can >= 0; can--) {
		struct pair pair;

		standin()->set_attribute(113, can);
		if (!can)
			break;
		pair = begin(0);
		check_equal(1, standin_count().read_only);
		check_equal(SLUICE_CUDA_READ_ONLY, status_of(pair.consumer).features & SLUICE_CUDA_READ_ONLY);
		end(&pair);
	}
}

static void what_cannot_be_read_only_may_be_refused(void)
{
	struct pair pair;
	struct sluice_cuda_status status;
	const struct sluice_message *message;

	standin()->set_attribute(113, 0);
	pair = begin(0);
	status = status_of(pair.consumer);
	check_equal(0, status.pinned_lanes);
	check_result(-EIO, status.pin_error);
	check(strstr(status.pin_reason, "cuMemHostRegister") != NULL);
	check_result(0, send_pattern(pair.producer, 1, 1000, 0));
	message = hold(pair.consumer);
	check(is_pattern(sluice_tensor(message, 0)->data, 1, 1000));
	check_result(-EIO, sluice_cuda_upload(message, 0, pair.memory, LANE, pair.stream));
	check_result(0, sluice_cuda_release(message, pair.stream));
	end(&pair);
}

static void a_driver_may_take_it_all_the_same(void)
{
	struct pair pair;

	standin()->set_attribute(113, 0);
	standin()->set_strict(false);
	pair = begin(0);
	check_equal(1, status_of(pair.consumer).pinned_lanes);
	check_equal(0, standin_count().read_only);
	end(&pair);
}

static void a_refusal_is_told_and_breaks_nothing(void)
{
	static const struct {
		int result;
		int error;
	} refusals[] = {{2, -ENOMEM}, {800, -EPERM}, {801, -ENOTSUP}, {304, -EACCES}, {1, -EIO}, {999, -EIO}};

	for (unsigned i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
		struct pair pair = begin(0);
		struct sluice_producer *late;
		struct sluice_cuda_status status;
		const struct sluice_message *message;
		uintptr_t address;
		uint64_t offset;

		standin()->fail("cuMemHostRegister", 0, refusals[i].result);
		late = join_producer(PRODUCER(.channel = CHANNEL()));
		check_result(0, send_pattern(late, 1, 1000, 0));
		message = hold(pair.consumer);
		check(is_pattern(sluice_tensor(message, 0)->data, 1, 1000));
		status = status_of(pair.consumer);
		check_equal(1, status.pinned_lanes);
		check_equal(2, status.lanes);
		check_result(refusals[i].error, status.pin_error);
		check(strstr(status.pin_reason, "cuMemHostRegister") != NULL);
		check_result(refusals[i].error, sluice_cuda_upload(message, 0, pair.memory, LANE, pair.stream));
		check_result(refusals[i].error,
			sluice_cuda_upload_batch(&message, 1, pair.memory, LANE, pair.stream, &offset));
		check_result(refusals[i].error, sluice_cuda_pointer(message, 0, &address));
		check_result(refusals[i].error, status_of(pair.consumer).error);
		check_result(0, sluice_cuda_release(message, pair.stream));
		check_result(0, sluice_producer_close(late));
		/* Once that lane has gone there is nothing to tell. */
		eventually(
			sluice_receive(pair.consumer, 0, &message) == -EAGAIN && status_of(pair.consumer).lanes == 1);
		check_equal(0, status_of(pair.consumer).pin_error);
		end(&pair);
	}
}

static void pageable_copies_are_to_be_asked_for(void)
{
	struct pair pair = begin(SLUICE_CUDA_PAGEABLE);
	struct sluice_producer *late;
	const struct sluice_message *message;

	standin()->fail("cuMemHostRegister", 0, 2);
	late = join_producer(PRODUCER(.channel = CHANNEL()));
	check_result(0, send_pattern(late, 1, 1000, 0));
	message = hold(pair.consumer);
	check_result(0, sluice_cuda_upload(message, 0, pair.memory, LANE, pair.stream));
	check_result(0, sluice_cuda_release(message, pair.stream));
	device_synchronize(pair.stream);
	check(device_has(pair.memory, 1, 1000));
	check_equal(1, status_of(pair.consumer).pageable_copies);
	check_equal(1, standin_count().pageable);
	check_result(0, sluice_producer_close(late));
	end(&pair);
}

static void words_that_cannot_be_pinned_are_done_without(void)
{
	static const char *const calls[] = {"cuMemHostRegister", "cuMemHostGetDevicePointer", "cuCtxPushCurrent"};

	for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
		struct sluice_producer *producer;
		struct sluice_cuda_status status;

		/* No context is current, so that one is pushed for each: the first is for attaching's questions. */
		standin()->fail(calls[i], 0, 2);
		check_result(0, sluice_cuda_attach(consumer, NULL));
		status = status_of(consumer);
		check_result(-ENOMEM, status.write_error);
		check(strstr(status.write_reason, calls[i]) != NULL);
		check_equal(0, status.features & SLUICE_CUDA_STREAM_WRITES);
		producer = join_producer(PRODUCER(.channel = CHANNEL()));
		check_result(0, send_pattern(producer, 1, 1000, 0));
		check_result(0, sluice_cuda_release(hold(consumer), NULL));
		eventually(sluice_cuda_collect(consumer) == 0);
		check_equal(1, status_of(consumer).by_event);
		check_result(0, sluice_consumer_close(consumer));
		check_result(0, sluice_producer_close(producer));
	}
}

/* ---- in parts ---- */

static void large_lanes_are_pinned_in_parts(void)
{
	struct pair pair;
	const struct sluice_message *message;
	uint64_t copies;
	uintptr_t address;

	cuda_chunk_bytes = 16384;
	pair = begin(0);
	check_equal(1, status_of(pair.consumer).pinned_lanes);
	if (standin())
		check_equal(16384, standin_count().largest);
	/* Larger than a part, and so in several copies. */
	for (uint64_t i = 0; i < 20; i++) {
		check_result(0, send_pattern(pair.producer, i, 30000, PATIENCE));
		message = hold(pair.consumer);
		copies = status_of(pair.consumer).copies;
		check_result(0, sluice_cuda_upload(message, 0, pair.memory, LANE, pair.stream));
		check(status_of(pair.consumer).copies - copies >= 2);
		check_result(0, sluice_cuda_pointer(message, 0, &address));
		check_result(0, sluice_cuda_release(message, pair.stream));
		device_synchronize(pair.stream);
		check(device_has(pair.memory, i, 30000));
	}
	end(&pair);
}

static void a_tensor_in_two_parts_may_have_no_address(void)
{
	struct pair pair;
	unsigned apart = 0;

	cuda_chunk_bytes = 16384;
	standin()->set_attribute(91, 0);
	pair = begin(0);
	check_equal(0, status_of(pair.consumer).features & SLUICE_CUDA_SAME_ADDRESS);
	for (uint64_t i = 0; i < 40; i++) {
		const struct sluice_message *message;
		uintptr_t address;
		int result;

		check_result(0, send_pattern(pair.producer, i, 5000, PATIENCE));
		message = hold(pair.consumer);
		result = sluice_cuda_pointer(message, 0, &address);
		if (result == -EXDEV)
			apart++;
		else
			check_result(0, result);
		if (!result)
			check(device_has(address, i, 5000));
		check_result(0, sluice_cuda_release(message, pair.stream));
		device_synchronize(pair.stream);
	}
	check(apart > 0 && apart < 40);
	check_result(-EXDEV, status_of(pair.consumer).error);
	end(&pair);
}

static void parts_are_let_go_when_one_is_refused(void)
{
	struct pair pair;

	cuda_chunk_bytes = 16384;
	standin()->fail("cuMemHostRegister", 3, 2); /* the words, and two parts before it */
	pair = begin(0);
	check_equal(0, status_of(pair.consumer).pinned_lanes);
	check_equal(1, standin_count().registrations);
	end(&pair);
}

/* ---- one by one ---- */

static void a_tensor_of_any_size_arrives(void)
{
	static const uint64_t sizes[] = {1, 64, 100, 128, 129, 4096, 5000, 30000, LANE / 2};
	struct pair pair = begin(0);

	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		const struct sluice_message *message;
		uintptr_t address;

		check_result(0, send_pattern(pair.producer, i, sizes[i], PATIENCE));
		message = hold(pair.consumer);
		check_result(-EMSGSIZE, sluice_cuda_upload(message, 0, pair.memory, sizes[i] - 1, pair.stream));
		check_result(0, sluice_cuda_upload(message, 0, pair.memory, sizes[i], pair.stream));
		check_result(-EINVAL, sluice_cuda_upload(message, 1, pair.memory, sizes[i], pair.stream));
		check_result(0, sluice_cuda_upload(message, SLUICE_CUDA_ALL, pair.memory + LANE, LANE, pair.stream));
		check_result(0, sluice_cuda_pointer(message, 0, &address));
		check_result(-EINVAL, sluice_cuda_pointer(message, 1, &address));
		check_result(-EINVAL, sluice_cuda_pointer(message, 0, NULL));
		device_synchronize(pair.stream);
		check(device_has(pair.memory, i, sizes[i]));
		check(device_has(pair.memory + LANE, i, sizes[i]));
		if (standin())
			check(device_has(address, i, sizes[i]));
		check_result(0, sluice_cuda_release(message, pair.stream));
	}
	check_equal(0, status_of(pair.consumer).pageable_copies);
	if (standin())
		check_equal(0, standin_count().pageable);
	end(&pair);
}

static void an_empty_tensor_is_no_copy(void)
{
	struct pair pair = begin(0);
	const struct sluice_message *message;
	uint64_t offset = 1;

	check_result(0, send_pattern(pair.producer, 1, 0, 0));
	message = hold(pair.consumer);
	check_result(0, sluice_cuda_upload(message, 0, pair.memory, 0, pair.stream));
	check_result(0, sluice_cuda_upload_batch(&message, 1, pair.memory, 0, pair.stream, &offset));
	check_equal(0, offset);
	check_equal(0, status_of(pair.consumer).copies);
	check_result(0, sluice_cuda_release(message, pair.stream));
	end(&pair);
}

static void all_of_a_message_lies_as_in_the_lane(void)
{
	struct pair pair = begin(0);
	const struct sluice_tensor_spec specs[3] = {{.name = "a", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {1000}},
		{.name = "b", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {3}},
		{.name = "c", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {5000}}};
	const struct sluice_message *message;
	struct sluice_message *room;
	uint8_t copy[5000];

	check_result(0, sluice_reserve(pair.producer, specs, 3, 0, &room));
	for (uint32_t i = 0; i < 3; i++)
		memset(sluice_data(room, i), (int)i + 1, (size_t)specs[i].shape[0]);
	check_result(0, sluice_publish(room));
	message = hold(pair.consumer);
	check_result(0, sluice_cuda_upload(message, SLUICE_CUDA_ALL, pair.memory, LANE, pair.stream));
	check_equal(1, status_of(pair.consumer).copies);
	device_synchronize(pair.stream);
	for (uint32_t i = 0; i < 3; i++) {
		const struct sluice_tensor *tensor = sluice_tensor(message, i);

		device_read(copy, pair.memory + (uintptr_t)tensor->data - (uintptr_t)sluice_tensor(message, 0)->data,
			tensor->bytes);
		for (uint64_t j = 0; j < tensor->bytes; j++)
			check_equal(i + 1, copy[j]);
	}
	check_result(0, sluice_cuda_release(message, pair.stream));
	end(&pair);
}

static void a_copy_that_fails_says_so(void)
{
	static const struct {
		const char *call;
		int result;
		int error;
	} failures[] = {
		{"cuStreamGetCtx", 400, -EINVAL}, /* first: of none before is known what it is */
		{"cuMemcpyHtoDAsync", 999, -EIO},
		{"cuMemcpyHtoDAsync", 1, -EINVAL},
		{"cuStreamIsCapturing", 999, -EIO},
	};
	struct pair pair = begin(0);
	const struct sluice_message *message;
	uint64_t offset;

	check_result(0, send_pattern(pair.producer, 1, 1000, 0));
	message = hold(pair.consumer);
	for (unsigned i = 0; i < sizeof failures / sizeof failures[0]; i++) {
		stream_handle stream = device_stream();

		standin()->fail(failures[i].call, 0, failures[i].result);
		check_result(failures[i].error, sluice_cuda_upload(message, 0, pair.memory, LANE, stream));
		check(strstr(status_of(pair.consumer).reason, failures[i].call) != NULL);
		standin()->fail(failures[i].call, 0, failures[i].result);
		check_result(
			failures[i].error, sluice_cuda_upload_batch(&message, 1, pair.memory, LANE, stream, &offset));
		device_end_stream(stream);
	}
	/* No memory of the device. */
	check_result(-EINVAL, sluice_cuda_upload(message, 0, 4096, LANE, pair.stream));
	check_result(0, sluice_cuda_upload(message, 0, pair.memory, LANE, pair.stream));
	check_result(0, sluice_cuda_release(message, pair.stream));
	end(&pair);
}

/* ---- batches ---- */

/* Sends, receives, uploads and checks a batch; returns in how many copies. */
static int batch_of(struct pair *pair, uint64_t count, uint64_t bytes)
{
	const struct sluice_message *messages[DEPTH];
	uint64_t offsets[DEPTH];
	int64_t needed;
	int copies;

	for (uint64_t i = 0; i < count; i++)
		check_result(0, send_pattern(pair->producer, 1000 + i, bytes + i % 3, PATIENCE));
	check_equal(count, sluice_receive_batch(pair->consumer, count, 0, 0, PATIENCE, messages));
	needed = sluice_cuda_batch_bytes(messages, count);
	check(needed > 0);
	check_result(-EMSGSIZE,
		sluice_cuda_upload_batch(messages, count, pair->memory, (uint64_t)needed - 1, pair->stream, offsets));
	copies = sluice_cuda_upload_batch(messages, count, pair->memory, (uint64_t)needed, pair->stream, offsets);
	check(copies > 0);
	check_result(0, sluice_cuda_release_batch(messages, count, pair->stream));
	device_synchronize(pair->stream);
	for (uint64_t i = 0; i < count; i++) {
		check_equal(0, offsets[i] % 64);
		check(offsets[i] + bytes + i % 3 <= (uint64_t)needed);
		check(device_has(pair->memory + offsets[i], 1000 + i, bytes + i % 3));
	}
	eventually(sluice_cuda_collect(pair->consumer) == 0);
	return copies;
}

static void a_batch_is_one_copy_or_two_at_the_end_of_the_lane(void)
{
	struct pair pair = begin(0);
	unsigned ones = 0, twos = 0;

	/* 32 messages of 1000 bytes take a bit more than half the lane: every second batch meets its end. */
	for (unsigned i = 0; i < 40; i++) {
		const int copies = batch_of(&pair, 30, 1000);

		check(copies <= 2);
		ones += copies == 1;
		twos += copies == 2;
	}
	check(ones > 0 && twos > 0);
	end(&pair);
}

static void small_messages_are_one_copy_too(void)
{
	struct pair pair = begin(0);

	/* They lie in the descriptors, 64 of them. */
	for (unsigned i = 0; i < 20; i++)
		check(batch_of(&pair, 24, 60) <= 2);
	end(&pair);
}

static void a_batch_of_several_lanes_is_a_copy_each(void)
{
	struct pair pair = begin(0);
	struct sluice_producer *other = join_producer(PRODUCER(.channel = CHANNEL(), .lane_bytes = LANE));
	const struct sluice_message *messages[4];
	uint64_t offsets[4];

	check_result(0, send_pattern(pair.producer, 0, 1000, 0));
	check_result(0, send_pattern(pair.producer, 1, 1000, 0));
	messages[0] = hold(pair.consumer);
	messages[1] = hold(pair.consumer);
	check_result(0, send_pattern(other, 2, 2000, 0));
	check_result(0, send_pattern(other, 3, 3000, 0));
	messages[2] = hold(pair.consumer);
	messages[3] = hold(pair.consumer);
	check_equal(2, sluice_cuda_upload_batch(messages, 4, pair.memory, LANE, pair.stream, offsets));
	check_equal(0, offsets[2] % 256);
	device_synchronize(pair.stream);
	for (uint64_t i = 0; i < 4; i++)
		check(device_has(pair.memory + offsets[i], i, sluice_tensor(messages[i], 0)->bytes));
	check_result(0, sluice_cuda_release_batch(messages, 4, pair.stream));
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check_result(-EALREADY, sluice_cuda_upload_batch(messages, 4, pair.memory, LANE, pair.stream, offsets));
	check_result(-EINVAL, sluice_cuda_upload_batch(NULL, 4, pair.memory, LANE, pair.stream, offsets));
	check_result(-EINVAL, sluice_cuda_upload_batch(messages, 0, pair.memory, LANE, pair.stream, offsets));
	check_result(-EINVAL, sluice_cuda_upload_batch(messages, 4, pair.memory, LANE, pair.stream, NULL));
	check_result(0, sluice_producer_close(other));
	end(&pair);
}

static void a_batch_of_many_tensors_has_an_offset_each(void)
{
	struct pair pair = begin(0);
	const struct sluice_tensor_spec specs[2] = {{.name = "a", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {700}},
		{.name = "b", .dtype = SLUICE_UINT8, .ndim = 2, .shape = {100, 10}}};
	const struct sluice_message *messages[5];
	uint64_t offsets[11] = {[10] = 12345};
	uint8_t copy[1000];

	for (uint32_t i = 0; i < 5; i++) {
		struct sluice_message *room;

		check_result(0, sluice_reserve(pair.producer, specs, 2, 0, &room));
		memset(sluice_data(room, 0), (int)(10 + i), 700);
		memset(sluice_data(room, 1), (int)(20 + i), 1000);
		check_result(0, sluice_shrink(room, 1, 50)); /* the offsets stay */
		check_result(0, sluice_publish(room));
		messages[i] = hold(pair.consumer);
	}
	check_equal(1, sluice_cuda_upload_batch(messages, 5, pair.memory, LANE, pair.stream, offsets));
	check_equal(12345, offsets[10]);
	device_synchronize(pair.stream);
	for (uint32_t i = 0; i < 10; i++) {
		const uint64_t bytes = i % 2 ? 500 : 700;

		device_read(copy, pair.memory + offsets[i], bytes);
		for (uint64_t j = 0; j < bytes; j++)
			check_equal((i % 2 ? 20 : 10) + i / 2, copy[j]);
	}
	check_result(0, sluice_cuda_release_batch(messages, 5, pair.stream));
	end(&pair);
}

static const struct check_case cases[] = {
	CASE(lanes_are_pinned_when_they_are_found),
	STANDIN(read_only_where_the_device_can),
	STANDIN(what_cannot_be_read_only_may_be_refused),
	STANDIN(a_driver_may_take_it_all_the_same),
	STANDIN(a_refusal_is_told_and_breaks_nothing),
	STANDIN(pageable_copies_are_to_be_asked_for),
	STANDIN(words_that_cannot_be_pinned_are_done_without),
	CASE(large_lanes_are_pinned_in_parts),
	STANDIN(a_tensor_in_two_parts_may_have_no_address),
	STANDIN(parts_are_let_go_when_one_is_refused),
	CASE(a_tensor_of_any_size_arrives),
	CASE(an_empty_tensor_is_no_copy),
	CASE(all_of_a_message_lies_as_in_the_lane),
	STANDIN(a_copy_that_fails_says_so),
	CASE(a_batch_is_one_copy_or_two_at_the_end_of_the_lane),
	CASE(small_messages_are_one_copy_too),
	CASE(a_batch_of_several_lanes_is_a_copy_each),
	CASE(a_batch_of_many_tensors_has_an_offset_each),
};

int main(int count, char **arguments)
{
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
