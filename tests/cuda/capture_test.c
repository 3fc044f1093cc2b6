/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs that are captured in the same process meanwhile, as by torch: what is refused, and what is not to be disturbed. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "pair.h"

static void use_everything(struct pair *pair)
{
	struct sluice_producer *late = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH)));
	struct sluice_cuda_buffer *buffer;
	uintptr_t address;

	/* Pins a lane, uploads, reads in place, allocates, frees, releases, and looks for that. */
	check_result(0, send_pattern(late, 1, BYTES, 0));
	for (uint64_t i = 0; i < 2; i++) {
		const struct sluice_message *message = hold(pair->consumer);

		check_result(0, sluice_cuda_pointer(message, 0, &address));
		check_result(0, sluice_cuda_buffer_create(pair->consumer, BYTES, pair->stream, &buffer));
		check_result(
			0, sluice_cuda_upload(message, 0, sluice_cuda_buffer_address(buffer), BYTES, pair->stream));
		upload_and_release(pair, message, pair->memory);
		check_result(0, sluice_cuda_buffer_destroy(buffer, pair->stream));
	}
	check_equal(2, status_of(pair->consumer).pinned_lanes);
	eventually(sluice_cuda_collect(pair->consumer) == 0);
	/* And unpins it. */
	check_result(0, sluice_producer_close(late));
	eventually(sluice_receive(pair->consumer, 0, &(const struct sluice_message *){NULL}) == -EAGAIN &&
		   status_of(pair->consumer).lanes == 1);
	check_equal(0, status_of(pair->consumer).error);
}

static void a_capture_of_another_stream_is_not_disturbed(void)
{
	for (uint32_t flags = 0; flags <= SLUICE_CUDA_NO_STREAM_WRITES; flags += SLUICE_CUDA_NO_STREAM_WRITES) {
		struct pair pair = begin(flags);
		stream_handle captured = device_stream();

		check_result(0, send_pattern(pair.producer, 0, BYTES, 0));
		device_begin_strict_capture(captured);
		use_everything(&pair);
		device_end_capture(captured);
		device_end_stream(captured);
		end(&pair);
	}
}

static void *use_in_a_thread(void *pair)
{
	use_everything(pair);
	return NULL;
}

static void nor_one_of_another_thread(void)
{
	struct pair pair = begin(SLUICE_CUDA_NO_STREAM_WRITES);
	stream_handle captured = device_stream();
	pthread_t thread;

	check_result(0, send_pattern(pair.producer, 0, BYTES, 0));
	device_begin_strict_capture(captured);
	check(!pthread_create(&thread, NULL, use_in_a_thread, &pair));
	check(!pthread_join(thread, NULL));
	device_end_capture(captured);
	device_end_stream(captured);
	end(&pair);
}

static void a_stream_that_is_captured_is_refused(void)
{
	struct pair pair = begin(0);
	stream_handle other = device_stream();
	struct sluice_cuda_buffer *buffer;
	const struct sluice_message *message;
	uint64_t offset;

	check_result(0, sluice_cuda_buffer_create(pair.consumer, BYTES, pair.stream, &buffer));
	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_begin_strict_capture(pair.stream);
	check_result(-EBUSY, sluice_cuda_upload(message, 0, pair.memory, BYTES, pair.stream));
	check_result(-EBUSY, sluice_cuda_upload_batch(&message, 1, pair.memory, BYTES, pair.stream, &offset));
	check_result(-EBUSY, sluice_cuda_release(message, pair.stream));
	check_result(-EBUSY, sluice_cuda_follow(pair.consumer, pair.stream, other));
	check_result(-EBUSY, sluice_cuda_follow(pair.consumer, other, pair.stream));
	check_result(-EBUSY, sluice_cuda_buffer_follow(buffer, pair.stream, other));
	check_result(-EBUSY, sluice_cuda_buffer_destroy(buffer, pair.stream));
	device_end_capture(pair.stream);
	check_equal(BYTES, sluice_cuda_buffer_bytes(buffer));
	check_result(0, sluice_cuda_upload(message, 0, sluice_cuda_buffer_address(buffer), BYTES, pair.stream));
	check_result(0, sluice_cuda_release(message, pair.stream));
	device_synchronize(pair.stream);
	check(has_pattern(sluice_cuda_buffer_address(buffer), 1));
	check_result(0, sluice_cuda_buffer_destroy(buffer, pair.stream));
	device_end_stream(other);
	end(&pair);
}

static void so_is_the_default_stream_if_it_waits_for_one(void)
{
	struct pair pair = begin(0);
	stream_handle captured = device_blocking_stream();
	const struct sluice_message *message;

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_begin_strict_capture(captured);
	check_result(-EBUSY, sluice_cuda_upload(message, 0, pair.memory, BYTES, NULL));
	check_result(-EBUSY, sluice_cuda_release(message, NULL));
	check_result(0, sluice_cuda_upload(message, 0, pair.memory, BYTES, pair.stream));
	device_end_capture(captured);
	check_result(0, sluice_cuda_follow(pair.consumer, pair.stream, NULL));
	check_result(0, sluice_cuda_release(message, NULL));
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check(has_pattern(pair.memory, 1));
	device_end_stream(captured);
	end(&pair);
}

/* The driver refuses to wait for all of a context, and the capture does not survive that. */
static void detaching_has_to_wait_for_the_capture(void)
{
	struct pair pair = begin(0);
	stream_handle captured = device_stream();

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	device_hold(pair.stream, &pair.gate);
	upload_and_release(&pair, hold(pair.consumer), pair.memory);
	device_begin_capture(captured);
	check_result(-EBUSY, sluice_cuda_detach(pair.consumer));
	check_result(-EBUSY, status_of(pair.consumer).error);
	check_equal(1, status_of(pair.consumer).attached);
	check_equal(1, status_of(pair.consumer).pinned_lanes);
	check_equal(1, status_of(pair.consumer).pending);
	device_end_spoilt_capture(captured);
	device_let_on(&pair.gate);
	check_result(0, sluice_cuda_detach(pair.consumer));
	check(has_pattern(pair.memory, 1));
	check_equal(0, held_messages());
	device_end_stream(captured);
	end(&pair);
}

static void *let_on(void *gate)
{
	device_let_on(gate);
	return NULL;
}

static void closing_waits_for_what_was_released(void)
{
	for (uint32_t flags = 0; flags <= SLUICE_CUDA_NO_STREAM_WRITES; flags += SLUICE_CUDA_NO_STREAM_WRITES) {
		struct pair pair = begin(flags);
		struct sluice_consumer *other = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
		stream_handle captured = device_stream();
		const struct sluice_message *message;
		pthread_t thread;

		check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
		device_hold(pair.stream, &pair.gate);
		upload_and_release(&pair, hold(pair.consumer), pair.memory);
		device_begin_capture(captured);
		check(!pthread_create(&thread, NULL, let_on, &pair.gate));
		check_result(0, sluice_consumer_close(pair.consumer));
		check(!pthread_join(thread, NULL));
		device_end_spoilt_capture(captured);
		check(has_pattern(pair.memory, 1));
		check_result(-EAGAIN, sluice_receive(other, 0, &message));
		pair.consumer = other;
		device_end_stream(captured);
		end(&pair);
	}
}

static const struct check_case cases[] = {
	CASE(a_capture_of_another_stream_is_not_disturbed),
	CASE(nor_one_of_another_thread),
	CASE(a_stream_that_is_captured_is_refused),
	CASE(so_is_the_default_stream_if_it_waits_for_one),
	STANDIN(detaching_has_to_wait_for_the_capture),
	STANDIN(closing_waits_for_what_was_released),
};

int main(int count, char **arguments)
{
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
