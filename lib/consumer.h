/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer, as its three files share it: consumer_lanes.c keeps the lanes it reads in step with the channel's table,
 * consumer_look.c finds and takes the next message, consumer.c waits, receives, releases, opens and closes.
 */
#ifndef SLUICE_LIB_CONSUMER_H
#define SLUICE_LIB_CONSUMER_H

#include <sluice/consumer.h>

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "consumer_lane.h"
#include "handle.h"
#include "message.h"
#include "stats.h"

struct sluice_consumer {
	struct handle handle;
	struct message_pool pool; /* outlives close: see message_pool */
	struct channel channel;
	struct layout_consumer_page *page;
	struct consumer_lane
		*lanes[LAYOUT_LANES]; /* the first `lane_count` are attached, the next `spare_count` are not */
	uint32_t lane_count;
	uint32_t spare_count;
	uint32_t lanes_changed;                /* counts changes of the order above */
	struct lane_key refused[LAYOUT_LANES]; /* by table index: lanes that could not be attached, told once */
	uint64_t lanes_epoch;
	uint64_t redelivery_epoch;
	uint32_t current; /* whose turn it is */
	uint32_t turn_messages;
	uint64_t turn_bytes;
	uint32_t quantum_messages;
	uint64_t quantum_bytes;
	uint32_t flags;
	uint32_t expected_producers;
	int64_t spin_ns;
	struct sampler liveness; /* when a consumer that never waits looks after the others */
	int pending_error;       /* found while something else was under way */
	bool ordered;
	bool has_fault;
	struct sluice_fault fault;
};

/* The budget of a call that takes one message, whatever it is; that of a batch is always less. */
#define ANY_MESSAGE UINT64_MAX

/* What one look for a message came to. */
enum look {
	LOOK_NOTHING = 0,
	LOOK_TAKEN = 1,
	LOOK_TOO_LARGE = 2 /* the next one is over the caller's budget */
};

/* ---- consumer.c ---- */

/* What a consumer does for the channel now and then. `now_ns` is CLOCK_MONOTONIC. */
void consumer_look_after(struct sluice_consumer *consumer, uint64_t now_ns);

/* Wakes another consumer: this one may have been woken for a message that it is not going to take. */
void consumer_leave_to_others(struct sluice_consumer *consumer);

/* ---- consumer_lanes.c ---- */

/* Keeps for sluice_consumer_fault what is wrong with a lane. Returns -EBADMSG. */
int consumer_note_fault(struct sluice_consumer *consumer, const struct consumer_lane *lane, struct lane_fault fault);

/* Wakes the producer in `slot` if it sleeps. The caller has a full fence (D3) after what the producer may wait for. */
void consumer_wake_producer(struct sluice_consumer *consumer, uint32_t slot);

/* Brings the attached lanes in step with the table. Returns how many are new, or a negative errno. */
int consumer_sync_lanes(struct sluice_consumer *consumer, bool newest);

/* Starts over at the oldest message of each lane, to find what others gave back. */
void consumer_rescan(struct sluice_consumer *consumer);

/*
 * What is done between turns and before sleeping: new lanes, returned messages, drained lanes. Returns 1 if there may
 * be something new to receive, 0, or a negative errno.
 */
int consumer_between_turns(struct sluice_consumer *consumer);

/* Stops counting in all lanes; then unmaps and frees them. */
void consumer_depart_lanes(struct sluice_consumer *consumer);
void consumer_forget_lanes(struct sluice_consumer *consumer);

/* ---- consumer_look.c ---- */

/* Takes the next message of at most `budget` bytes, if there is one. Returns enum look or a negative errno. */
int consumer_look(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message);

/* One look at everything there is to wait for. LOOK_NOTHING means that a sleep is in order; -ENODATA the end. */
int consumer_look_at_all(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message);

/*
 * The same without taking anything: LOOK_TAKEN if there is a message. An error is kept for the next receive, which says
 * the same.
 */
int consumer_peek(struct sluice_consumer *consumer);

#endif
