/* SPDX-License-Identifier: Apache-2.0 */
/* A message handle: a reservation of a producer, or what a consumer holds. */
#ifndef SLUICE_LIB_MESSAGE_H
#define SLUICE_LIB_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/message.h>

#include "handle.h"
#include "lane.h"
#include "layout.h"

enum message_state {
	MESSAGE_NONE = 0,
	MESSAGE_RESERVED = 1,
	MESSAGE_HELD = 2,
	MESSAGE_LEAVING = 3 /* released behind a device's work: held until that is done, and no more the caller's */
};

struct consumer_lane;

/* In the order of use: what changes with each message of a consumer lies in the first two cache lines. */
struct sluice_message {
	_Alignas(64) struct handle *handle; /* the producer or consumer it belongs to */
	uint32_t state; /* enum message_state; release may come from another thread than the next receive */
	uint32_t
		flags; /* enum layout_descriptor_flags; trace, deadline and stamps mean something only if they say so */
	uint64_t sequence;
	uint64_t correlation_id;
	const struct layout_descriptor *descriptor; /* consumer: for the annex, which is read when asked for */
	struct {                                    /* of a received message */
		uint64_t *claim;
		uint64_t claimed; /* the claim word that says that it is held */
		/* These, the origin and the tensors change with the shape only, of which no two lanes share one. */
		uint64_t shape; /* which of the lane's shapes the tensors describe: see consumer_lane_describe */
		struct consumer_lane *lane;
		const uint64_t
			*member; /* the producer's word in the roster, and what it is while the producer is there */
		uint64_t member_there;
	} held;
	uint64_t origin;
	uint32_t tensor_count;
	uint32_t deliveries;
	struct sluice_tensor tensors[SLUICE_MAX_TENSORS];
	struct sluice_stamps stamps;
	struct { /* of a reservation */
		struct lane_room room;
		uint64_t deadline_ns;
		struct sluice_trace trace;
		bool shrunk;
		int64_t first[SLUICE_MAX_TENSORS];    /* first dimensions as reserved */
		uint64_t offsets[SLUICE_MAX_TENSORS]; /* from the payload's start, bytes */
	} reserved;
	struct sluice_message *next_leaving; /* of those that leave together */
};

static inline enum message_state message_state(const struct sluice_message *message)
{
	return (enum message_state)atomic_load_acquire(&message->state); /* G2: pairs with G1 in message_set_state */
}

static inline void message_set_state(struct sluice_message *message, enum message_state state)
{
	/* G1: pairs with G2 in message_state: who reuses a handle or drops its lane comes after the thread that released */
	atomic_store_release(&message->state, (uint32_t)state);
}

/*
 * Message handles of one consumer. The consumer's thread takes them; any thread gives one back by setting its state to
 * MESSAGE_NONE. Grows when all are in use and never shrinks, so that a handle released long ago is still readable.
 */
struct message_pool {
	struct sluice_message **messages;
	uint32_t count;
	uint32_t hint; /* where the last one was found */
};

/* A handle that nobody uses, in state MESSAGE_NONE; NULL when out of memory. It stays free until its state is set. */
struct sluice_message *message_pool_take(struct message_pool *pool, struct handle *handle);

/* Makes the first handles, if there are none. False when out of memory. */
bool message_pool_start(struct message_pool *pool, struct handle *handle);

/* The same if the last one or the one after it will do, else NULL. The pool is not empty. */
static inline struct sluice_message *message_pool_next(struct message_pool *pool)
{
	uint32_t hint = pool->hint;
	if (message_state(pool->messages[hint]) == MESSAGE_NONE)
		return pool->messages[hint];
	hint = hint + 1 < pool->count ? hint + 1 : 0;
	if (message_state(pool->messages[hint]) != MESSAGE_NONE)
		return NULL;
	pool->hint = hint;
	return pool->messages[hint];
}

/* How many handles in a row are free, at most `most`, from the one that message_pool_next would give; 0 if that has none. */
static inline uint32_t message_pool_row(struct message_pool *pool, uint32_t most)
{
	if (message_pool_next(pool) == NULL)
		return 0;
	uint32_t row = 1;
	most = most < pool->count - pool->hint ? most : pool->count - pool->hint;
	while (row < most && message_state(pool->messages[pool->hint + row]) == MESSAGE_NONE)
		row++;
	return row;
}

/* Starts over at the first handle if that is free: those of a batch after a batch are the same ones, still in the cache. */
static inline void message_pool_rewind(struct message_pool *pool)
{
	if (message_state(pool->messages[0]) == MESSAGE_NONE)
		pool->hint = 0;
}

#endif
