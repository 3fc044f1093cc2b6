/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include <errno.h>
#include <string.h>

struct sluice_cuda_status status_of(struct sluice_consumer *consumer)
{
	struct sluice_cuda_status status;

	check_result(0, sluice_cuda_status(consumer, &status));
	return status;
}

struct pair begin_with(const struct sluice_channel_options *channel, uint32_t flags)
{
	const struct sluice_cuda_options options = {.size = sizeof options, .flags = flags};
	struct pair pair;

	memset(&pair, 0, sizeof pair);
	device_use(0);
	pair.producer = join_producer(PRODUCER(.channel = channel));
	pair.consumer = join_consumer(CONSUMER(.channel = channel));
	check_result(0, sluice_cuda_attach(pair.consumer, &options));
	pair.stream = device_stream();
	pair.memory = device_allocate((size_t)DEPTH * BYTES);
	return pair;
}

struct pair begin(uint32_t flags)
{
	return begin_with(CHANNEL(.depth = DEPTH), flags);
}

void end(struct pair *pair)
{
	const struct sluice_message *message;

	/* A backlog would keep the channel. */
	while (sluice_receive(pair->consumer, 0, &message) == 0)
		check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(pair->consumer));
	check_result(0, sluice_producer_close(pair->producer));
	device_end_stream(pair->stream);
	device_free(pair->memory);
	device_let_go(0);
}

void upload_and_release(struct pair *pair, const struct sluice_message *message, uintptr_t to)
{
	check_result(0, sluice_cuda_upload(message, 0, to, BYTES, pair->stream));
	check_result(0, sluice_cuda_release(message, pair->stream));
}

bool has_pattern(uintptr_t memory, uint64_t seed)
{
	static uint8_t copy[BYTES];

	device_read(copy, memory, BYTES);
	return is_pattern(copy, seed, BYTES);
}

void fill(struct pair *pair)
{
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair->producer, i, BYTES, 0));
	check_result(-EAGAIN, send_pattern(pair->producer, DEPTH, BYTES, 0));
}
