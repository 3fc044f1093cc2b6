/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer's attachment to CUDA, as its files share it: cuda.c attaches, detaches and tells; cuda_pin.c registers
 * memory; cuda_copy.c uploads; cuda_release.c releases behind streams; cuda_buffer.c has memory on the device. Nothing
 * below knows of it: a consumer knows a struct consumer_attachment.
 */
#ifndef SLUICE_LIB_CUDA_H
#define SLUICE_LIB_CUDA_H

#include <sluice/cuda.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer.h"
#include "cuda_driver.h"
#include "message.h"

/* Messages that leave together: released behind the same work of the same stream. */
struct cuda_group {
	struct cuda_group *next;
	struct sluice_message *messages; /* by next_leaving */
	uint64_t count;
	uint64_t ticket;
	uint64_t before;  /* what stood in the word when the ticket was given out */
	uint64_t entries; /* bit map: of the page's words and entries that are this group's */
	uint32_t word;
	cuda_event event; /* instead of all these, or NULL */
};

/*
 * Registered parts of a lane are so large, the last one smaller. A variable for tests alone: lanes in them are small.
 */
extern uint64_t cuda_chunk_bytes;

/* A lane that was registered, or not. */
struct cuda_pin {
	uint8_t *base;
	uint64_t bytes;
	uint64_t chunk_bytes;
	uint32_t chunks;
	struct cuda_reason reason; /* why not; error 0: it is */
	struct cuda_reason unseen; /* why kernels cannot read it; error 0: they can */
	uintptr_t addresses[];     /* of each chunk for kernels */
};

struct cuda {
	struct consumer_attachment base; /* first: what a consumer knows of this */
	struct sluice_consumer *consumer;
	pthread_mutex_t mutex; /* of all that follows, but for what is said there */
	struct cuda_driver
		*driver; /* NULL: not attached. Changed by the consumer's thread while no other is in a call */
	uint32_t flags;  /* enum sluice_cuda_flags; likewise */
	/* Acknowledgements. */
	bool writes;
	void *words_page; /* what is registered of the consumer's page */
	uint64_t words_bytes;
	uintptr_t words_address; /* of `words`, for the device */
	uint64_t used;           /* bit map of words and entries of the page */
	uint64_t last_ticket;
	struct cuda_group *first; /* in the order of their release */
	struct cuda_group *last;
	struct cuda_group *spare;
	uint64_t pending;  /* messages in groups; read without the mutex too */
	uint32_t by_event; /* groups that have an event */
	bool failed;       /* the device did: nothing comes any more */
	/* What the status tells. */
	struct sluice_cuda_status figures; /* counters */
	struct cuda_reason pin_reason;
	struct cuda_reason write_reason;
	struct cuda_reason reason;
};

/* The attachment of a consumer, or NULL if there never was one. */
static inline struct cuda *cuda_of(const struct sluice_consumer *consumer)
{
	return (struct cuda *)consumer->attachment;
}

/* Keeps why a call failed and returns its error. The mutex is not held. */
int cuda_note(struct cuda *cuda, const struct cuda_reason *reason);

/*
 * The attachment of a message that is held, for a call on it. Returns 0, -EINVAL (NULL), -EBADF, -ECHILD, -EALREADY or
 * -ENOTCONN.
 */
int cuda_check_message(const struct sluice_message *message, struct cuda **ret_cuda);

/* The same of a consumer. */
int cuda_check_consumer(struct sluice_consumer *consumer, struct cuda **ret_cuda);

/* ---- cuda_pin.c: of the consumer's thread ---- */

/* Registers a lane that was mapped; lets it go. */
void cuda_pin_lane(struct cuda *cuda, struct consumer_lane *lane);
void cuda_unpin_lane(struct cuda *cuda, struct consumer_lane *lane);

/* Registers the consumer's words, if streams can write to them. */
void cuda_pin_words(struct cuda *cuda);
void cuda_unpin_words(struct cuda *cuda);

/* ---- cuda_release.c ---- */

/* What a consumer's calls do: see struct consumer_attachment. */
void cuda_collect(struct consumer_attachment *attachment);
uint64_t cuda_nap_ns(struct consumer_attachment *attachment);

/*
 * Waits for all that the context was given, and lets everything that leaves go, or gives it back. 0 or a negative
 * errno; -EBUSY, unless `closing`: a stream of the context is captured, and nothing was changed.
 */
int cuda_settle(struct cuda *cuda, bool closing, struct cuda_reason *reason);

#endif
