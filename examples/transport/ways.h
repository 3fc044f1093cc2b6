/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways a token batch can take, each with a receiver that sleeps and one that spins; and the batches themselves,
 * kept in private memory so that every way sends the very same ones.
 */
#ifndef EXAMPLES_WAYS_H
#define EXAMPLES_WAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/sluice.h>

#include "../common/batch.h"

enum way { SOCKET_ASLEEP, SLUICE_ASLEEP, SOCKET_SPINNING, SLUICE_SPINNING, WAYS };

/* A channel for each kind of receiver. */
enum channel { CHANNEL_ASLEEP, CHANNEL_SPINNING, CHANNELS };

static inline bool way_is_socket(enum way way)
{
	return way == SOCKET_ASLEEP || way == SOCKET_SPINNING;
}

static inline bool way_spins(enum way way)
{
	return way == SOCKET_SPINNING || way == SLUICE_SPINNING;
}

static inline enum channel way_channel(enum way way)
{
	return way_spins(way) ? CHANNEL_SPINNING : CHANNEL_ASLEEP;
}

/* What travels beside the tensors of a batch: int64 [2], when filling began and when the filled batch was handed over. */
#define HANDED_NS   BATCH_TENSORS
#define WAY_TENSORS (BATCH_TENSORS + 1)
#define HANDED_SPECS                                                                                                   \
	{                                                                                                              \
		"handed_ns", SLUICE_INT64, 1,                                                                          \
		{                                                                                                      \
			2                                                                                              \
		}                                                                                                      \
	}

/* A batch in private memory; `tensors` point into `memory`. */
struct stored_batch {
	struct batch batch;
	void *memory;
};

/* The batches that one tokenizer published, and that one sender will send. */
struct part {
	uint64_t origin; /* sluice_origin of its lane */
	struct stored_batch *batches;
	size_t count;
	size_t capacity;
};

/* The order to send one batch. */
struct request {
	uint32_t way;
	uint32_t index; /* in its part */
};

/* How a sender process reaches the outside. */
struct sender {
	const struct part *part;
	const char *channels[CHANNELS];
	int control; /* requests come in here; its end is the sender's end */
	int data;    /* Unix stream socket to the receiver */
};

/* Serves requests until there are no more. Returns 0, or a negative errno after saying what is wrong. */
int sender_run(const struct sender *sender);

/* What to reserve, or to lay out in a private buffer, for sending `batch`. */
void way_specs(const struct batch *batch, struct sluice_tensor_spec ret_specs[WAY_TENSORS]);

#endif
