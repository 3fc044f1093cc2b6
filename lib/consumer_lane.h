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

#include <errno.h>
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
	const uint64_t *member;    /* the producer's word in the roster, and what it is while the producer is there */
	uint64_t member_there;
	uint64_t fed; /* the tail for which a look in vain has woken the producer */
	bool attached;
	bool broadcast;
	bool given_up;               /* its producer broke the rules: nothing more is read from it */
	uint64_t next;               /* sequence number of the next message to look at */
	struct lane_schema *schemas; /* private copies, loaded as messages name them */
	uint64_t schemas_loaded;     /* bit map */
	uint64_t claimed_first;      /* claims_first of this consumer */
	/* What the last message looked like; the next one often looks the same. */
	struct layout_descriptor_head last_head;
	struct lane_words last_words;
	uint64_t
		places; /* so many of the payload's units may such a message start at; 0: each must be looked at whole */
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
	void *attachment;           /* of the consumer's attachment, if it has one */
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

/* Makes the handle's tensors those of the lane's last shape, but for their addresses. */
void consumer_lane_describe(struct consumer_lane *lane, struct sluice_message *message);

/* Fills in the stamps that the message in `descriptor` says it has. */
void consumer_lane_read_stamps(const struct layout_descriptor *descriptor, struct sluice_message *message);

static inline uint64_t *consumer_lane_claim(const struct consumer_lane *lane, uint64_t sequence)
{
	return &lane->claims->u.claims[sequence & (lane->reader.depth - 1)];
}

/* What a look at the next message came to: all of its head that may differ from the last one's. */
struct consumer_lane_sight {
	const struct layout_descriptor *descriptor;
	uint64_t place;
	uint64_t correlation_id;
};

/*
 * True if message `sequence` is there and looks like the last one, which `message` described. The description is read
 * before the claim, each word once, and used after it: the claim's success proves that until then nobody could write there.
 */
static inline bool consumer_lane_sees(const struct consumer_lane *lane, uint64_t sequence,
	const struct sluice_message *message, struct consumer_lane_sight *ret_sight)
{
	uint64_t index = sequence & (lane->reader.depth - 1);
	const struct layout_descriptor *descriptor = &lane->reader.data->descriptors[index];
	/* C1: as in lane_reader_look */
	if (atomic_load_acquire(&descriptor->head.sequence) != sequence + 1)
		return false;
	__builtin_prefetch(descriptor->payload); /* the rest of a small message travels while it is being claimed */
	if (message->held.shape != lane->shape ||
		!lane_reader_repeats(descriptor, &lane->last_words, &ret_sight->place) ||
		(uint32_t)ret_sight->place >= lane->places)
		return false;
	ret_sight->descriptor = descriptor;
	ret_sight->correlation_id = atomic_load_relaxed(&descriptor->head.correlation_id); /* relaxed: after C1 */
	return true;
}

/* Makes the handle that of message `sequence`, as it was seen: all but its claim and state. */
static inline void consumer_lane_fill(const struct consumer_lane *lane, uint64_t sequence,
	const struct consumer_lane_sight *sight, struct sluice_message *message)
{
	message->descriptor = sight->descriptor;
	message->sequence = sequence;
	message->correlation_id = sight->correlation_id;
	message->flags = LANE_PLACE_FLAGS(sight->place);
	message->deliveries = 1;
	const uint8_t *base = (message->flags & LAYOUT_PAYLOAD_INLINE) != 0
				      ? sight->descriptor->payload
				      : lane->reader.payload + (uint64_t)(uint32_t)sight->place * LAYOUT_UNIT;
	message->tensors[0].data = base + lane->offsets[0];
	for (uint32_t i = 1; i < message->tensor_count; i++)
		message->tensors[i].data = base + lane->offsets[i];
}

/*
 * The common course of peek and take in one: the next message is there, nobody had it before, and it looks like the last
 * one. False, and nothing was changed, if it is not so: then those two find out. Calls nothing, so that whoever includes
 * it needs no stack.
 */
static inline bool consumer_lane_take_next(struct consumer_lane *lane, uint64_t budget, struct sluice_message *message)
{
	uint64_t sequence = lane->next;
	struct consumer_lane_sight sight;
	if (lane->last_words.payload_bytes > budget || !consumer_lane_sees(lane, sequence, message, &sight))
		return false;
	if (!lane->broadcast) {
		uint32_t lap = claims_lap(sequence, lane->reader.depth_shift);
		uint64_t *claim = consumer_lane_claim(lane, sequence);
		uint64_t seen = atomic_load_acquire(claim); /* C2: as in peek_queue */
		uint64_t held = lane->claimed_first | lap;
		if (!claims_is_fresh(seen, lap) || !claims_take_fresh(claim, seen, held))
			return false;
		message->held.claim = claim;
		message->held.claimed = held;
	} else if (lane->given_up) {
		return false;
	}

	atomic_prefetch_write(consumer_lane_claim(lane, sequence + 16));
	lane->next = sequence + 1;
	lane->bytes = lane->last_words.payload_bytes;
	consumer_lane_fill(lane, sequence, &sight, message);
	return true;
}

/*
 * The same for up to `most` messages of a queue in a row, with a free handle for each, two claims at a time where that can
 * be. All are looked at before the first is claimed, so that their lines travel at the same time. Returns how many.
 */
uint32_t consumer_lane_take_run(struct consumer_lane *lane, struct sluice_message *const *messages, uint32_t most);

/* What a release brought about. */
struct lane_release {
	int error;  /* 0, or -ESTALE: it was no longer this consumer's */
	bool moved; /* memory may have become free */
};

/* Releases a held message of a broadcast. Any thread. Touches nothing of the lane afterwards: it may be gone at once. */
struct lane_release consumer_lane_release_broadcast(struct sluice_message *message);

/* The same for all messages. */
static inline struct lane_release consumer_lane_release(struct sluice_message *message)
{
	if (message->held.lane->broadcast)
		return consumer_lane_release_broadcast(message);
	bool ours = claims_release(message->held.claim, message->held.claimed);
	return (struct lane_release){.error = ours ? 0 : -ESTALE, .moved = ours};
}

/* Queue: true if a message that this consumer went past has been given back. Reads claim words only, 8 bytes a message. */
bool consumer_lane_has_returned(const struct consumer_lane *lane);

/*
 * For a producer that sleeps for want of room. consumer_lane_frees_some: it could take back something now, though maybe not
 * enough. consumer_lane_frees_enough: as much as it asked for. Of all that must be done with for that, the first and the
 * last message are looked at: whoever is done with one of the two later finds both, and a wake-up too many does no harm.
 */
bool consumer_lane_frees_some(const struct consumer_lane *lane, const struct layout_control *control);
/*
 * The same for who looks in vain, and once for each tail: a producer that is woken takes back what it can, so that the tail
 * moves, unless all waits for consumers who are expected.
 */
bool consumer_lane_feeds(struct consumer_lane *lane, const struct layout_control *control);
bool consumer_lane_frees_enough(const struct consumer_lane *lane, const struct layout_control *control);

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
