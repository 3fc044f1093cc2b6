/* SPDX-License-Identifier: Apache-2.0 */
/* A producer and an attached consumer in one process, with a stream and memory for all messages of their lane. */
#ifndef TEST_CUDA_PAIR_H
#define TEST_CUDA_PAIR_H

#include "check.h"
#include "device.h"

#define DEPTH 8
#define BYTES 4096

struct pair {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	stream_handle stream;
	uintptr_t memory;
	struct device_gate gate;
};

/* `flags` are those of sluice_cuda_options. */
struct pair begin_with(const struct sluice_channel_options *channel, uint32_t flags);
struct pair begin(uint32_t flags);
void end(struct pair *pair);

struct sluice_cuda_status status_of(struct sluice_consumer *consumer);

void upload_and_release(struct pair *pair, const struct sluice_message *message, uintptr_t to);

/* True if `BYTES` bytes of the device are the pattern of `seed`. */
bool has_pattern(uintptr_t memory, uint64_t seed);

/* Fills the lane. */
void fill(struct pair *pair);

#endif
