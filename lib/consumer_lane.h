/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One consumer's view of one lane: where it is in it, taking its messages, giving them back.
 *
 * Queue: messages are claimed one by one; `next` only skips what others have. Broadcast: `next` is what to read, and
 * the cursor in shared memory is the oldest message that this consumer has not released.
 *
 * These structs are never freed while their consumer is open, because a release in another thread may be on its last
 * lines in one; their mappings go as soon as the lane is gone and no message of it is held.
 */
#ifndef SLUICE_LIB_CONSUMER_LANE_H
#define SLUICE_LIB_CONSUMER_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "claims.h"
#include "lane.h"
#include "lane_table.h"
#include "message.h"
#include "recover.h"

struct consumer_lane {
	struct lane_key key;
	struct lane_objects objects;
	struct lane_reader reader;
	struct layout_claims *claims;
	struct claims_owner owner; /* this consumer */
	bool attached;
	bool broadcast;
	bool given_up;               /* its producer broke the rules: nothing more is read from it */
	uint64_t next;               /* sequence number of the next message to look at */
	struct lane_schema *schemas; /* private copies, loaded as messages name them */
	uint64_t schemas_loaded;     /* bit map */
	/* What the last message looked like; the next one often looks the same. */
	struct layout_descriptor_head last_head;
	uint64_t shape; /* a number for it, never 0, never used twice; handles remember which they describe */
	uint32_t tensor_count;
	uint64_t offsets[SLUICE_MAX_TENSORS];             /* where its tensors lie, from the payload's start, bytes */
	struct sluice_tensor tensors[SLUICE_MAX_TENSORS]; /* all of them but `data` */
	/* Broadcast only. Releases come from any thread. */
	uint8_t *released;    /* by descriptor: 1 if released and still behind the cursor's oldest */
	uint32_t advancing;   /* 1 while a thread moves the cursor */
	uint64_t cursor_word; /* as it should be in shared memory; changed by the thread that advances */
	/* The message that consumer_lane_peek found. */
	uint64_t seen;              /* its claim word */
	uint64_t ticket;            /* its place in an ordered channel */
	uint64_t bytes;             /* its payload */
	bool repeated;              /* it was delivered before, to somebody who died with it */
	struct recover_watch watch; /* for messages held too long */
};

/* What is wrong with a lane, for sluice_consumer_fault. */
struct lane_fault {
	const char *reason;
	uint64_t sequence;
};

/*
 * Attaches a lane. In a broadcast it sets this consumer's cursor to the oldest retained message, or behind the newest.
 * Returns 0, -ENOENT (it has gone), -EBADMSG (`*ret_fault` says why), -ENOMEM, -EMFILE ...
 */
int consumer_lane_attach(struct consumer_lane *lane, const struct channel *channel, struct lane_key key, bool newest,
	struct lane_fault *ret_fault);
/* Unmaps the lane; the struct may be attached again. */
void consumer_lane_detach(struct consumer_lane *lane);

enum consumer_lane_found {
	LANE_EMPTY,    /* nothing to take now */
	LANE_FOUND,    /* consumer_lane_take may take it */
	LANE_BROKEN,   /* the fault says why; `next` has moved on */
	LANE_OVERTAKEN /* broadcast: overwritten before it was read, which only happens to the dead */
};

/* Looks for the next message that may be taken, moving `next` past what others have. */
enum consumer_lane_found consumer_lane_peek(struct consumer_lane *lane, struct lane_fault *ret_fault);

/*
 * Takes the message that consumer_lane_peek has just found and fills `message`. LANE_EMPTY: another was quicker, look
 * again. LANE_BROKEN: it was taken, could not be read, and has been dropped.
 */
enum consumer_lane_found consumer_lane_take(
	struct consumer_lane *lane, struct sluice_message *message, struct lane_fault *ret_fault);

/* What a release brought about. */
struct lane_release {
	int error;  /* 0, or -ESTALE: it was no longer this consumer's */
	bool moved; /* memory may have become free */
};

/* Releases a held message. Any thread. Touches nothing of the lane afterwards: it may be gone at once. */
struct lane_release consumer_lane_release(struct sluice_message *message);

/* Queue: true if a message that this consumer went past has been given back. Reads claim words only, 8 bytes a message. */
bool consumer_lane_has_returned(const struct consumer_lane *lane);

/* Starts over at the oldest message, to find what has been returned. Queue only. */
void consumer_lane_rescan(struct consumer_lane *lane);

/* Broadcast: reads nothing more from a lane whose producer overwrites what is needed, and holds nobody back in it. */
void consumer_lane_give_up(struct consumer_lane *lane);

/* True if the lane has ended and no message in it is left for this consumer or held by another. */
bool consumer_lane_is_finished(const struct consumer_lane *lane, const struct layout_control *control);

/* True if the lane has ended and nobody needs anything in it any more. */
bool consumer_lane_is_drained(const struct consumer_lane *lane, const struct layout_control *control);

/* Broadcast: stops counting, leaving behind how far this consumer got. */
void consumer_lane_depart(struct consumer_lane *lane);

#endif
