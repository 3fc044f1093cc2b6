/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer, as its files share it: consumer.c opens and closes, consumer_lanes.c keeps the lanes it reads in step with the
 * channel's table, consumer_look.c finds and takes the next message, consumer_receive.c waits for it and hands it out,
 * consumer_release.c takes it back.
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
#include "spin.h"
#include "stats.h"

/*
 * Somebody above, to whom it matters which lanes a consumer has mapped, and who keeps messages that leave. All calls
 * are made in the consumer's thread.
 */
struct consumer_attachment {
	/* A lane was mapped; `lane->attachment`, NULL by then, is the attachment's to use. */
	void (*mapped)(struct consumer_attachment *attachment, struct consumer_lane *lane);
	/* It will be unmapped next. No message of it is held or leaves. */
	void (*unmapping)(struct consumer_attachment *attachment, struct consumer_lane *lane);
	/* Releases those that are done with. */
	void (*collect)(struct consumer_attachment *attachment);
	/* How long the consumer may sleep before it does that again; 0: as long as any sleeper. */
	uint64_t (*nap_ns)(struct consumer_attachment *attachment);
	/* The consumer closes: nothing may be left of all this. The attachment is not called any more. */
	void (*closing)(struct consumer_attachment *attachment);
};

struct sluice_consumer {
	struct handle handle;
	struct message_pool pool; /* outlives close: see message_pool */
	struct layout_consumer_page *page;
	uint64_t received_messages; /* the page is told, and not asked: others may write there */
	uint64_t received_bytes;
	uint64_t turn_until; /* received_messages and received_bytes at which the turn of a lane is over */
	uint64_t turn_until_bytes;
	/* Messages of this lane may be taken at once until received_messages is so high; see consumer_look. */
	struct consumer_lane *at_once;
	uint64_t at_once_until;
	struct channel channel;
	struct consumer_lane
		*lanes[LAYOUT_LANES]; /* the first `lane_count` are attached, the next `spare_count` are not */
	uint32_t lane_count;
	uint32_t spare_count;
	uint32_t lanes_changed;                /* counts changes of the order above */
	struct lane_key refused[LAYOUT_LANES]; /* by table index: lanes that could not be attached, told once */
	uint64_t lanes_epoch;
	uint64_t redelivery_epoch;
	uint32_t current; /* whose turn it is */
	uint32_t quantum_messages;
	uint64_t quantum_bytes;
	uint32_t flags;
	uint32_t expected_producers;
	struct spin spin;
	struct sampler liveness; /* when one that never waits looks after the others; counts messages and looks */
	uint64_t looked_after;   /* received_messages when it was last asked */
	int pending_error;       /* found while something else was under way */
	bool ordered;
	bool has_fault;
	struct sluice_fault fault;
	struct consumer_attachment *attachment; /* or NULL */
};

/* The budget of a call that takes one message, whatever it is; that of a batch is always less. */
#define ANY_MESSAGE UINT64_MAX

/* What one look for a message came to. */
enum look {
	LOOK_NOTHING = 0,
	LOOK_TAKEN = 1,
	LOOK_TOO_LARGE = 2 /* the next one is over the caller's budget */
};

/* ---- consumer_receive.c ---- */

/* What a consumer does for the channel now and then. `now_ns` is CLOCK_MONOTONIC. */
void consumer_look_after(struct sluice_consumer *consumer, uint64_t now_ns);

/* Wakes another consumer: this one may have been woken for a message that it is not going to take. */
void consumer_leave_to_others(struct sluice_consumer *consumer);

/* ---- consumer_release.c ---- */

/*
 * Gives back for others to take what is in `state`, of those that are of a queue; forgets the rest. What was held does not
 * count as a delivery, what was leaving does.
 */
void consumer_give_back(struct sluice_consumer *consumer, enum message_state state);

/* Releases a message that leaves, as sluice_release would. Any thread, one at a time. */
void consumer_finish_leaving(struct sluice_message *message);

/* Gives messages that leave back for others to take; of a broadcast, releases them. */
void consumer_return_leaving(struct sluice_consumer *consumer);

/* How long it may sleep at most, since what an attachment waits for wakes nobody; 0: as long as any sleeper. */
static inline uint64_t consumer_nap_ns(struct sluice_consumer *consumer)
{
	return consumer->attachment != NULL ? consumer->attachment->nap_ns(consumer->attachment) : 0;
}

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

/* Begins the turn of the current lane. */
void consumer_begin_turn(struct sluice_consumer *consumer);

/* Takes the next message of at most `budget` bytes, if there is one. Returns enum look or a negative errno. */
int consumer_look(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message);

/* One look at everything there is to wait for. LOOK_NOTHING means that a sleep is in order; -ENODATA the end. */
int consumer_look_at_all(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message);

/*
 * The same without taking anything: LOOK_TAKEN if there is a message. An error is kept for the next receive, which says
 * the same.
 */
int consumer_peek(struct sluice_consumer *consumer);

/* ---- the common course, without a call ---- */

/* Counts messages that are handed to the caller, of `bytes` bytes together. */
static inline void consumer_count(struct sluice_consumer *consumer, uint64_t messages, uint64_t bytes)
{
	consumer->received_messages += messages;
	consumer->received_bytes += bytes;
	struct layout_consumer_page *page = consumer->page;
	atomic_store_relaxed(&page->received_messages, consumer->received_messages); /* relaxed: a figure for people */
	atomic_store_relaxed(&page->received_bytes, consumer->received_bytes);       /* relaxed: likewise */
}

/* Hands a message of `bytes` bytes to the caller. */
static inline void consumer_account(struct sluice_consumer *consumer, struct sluice_message *message, uint64_t bytes)
{
	consumer_count(consumer, 1, bytes);
	message_set_state(message, MESSAGE_HELD);
}

/*
 * Takes a message if the lane whose turn it is has one like the one before, and its turn goes on. False: nothing was
 * changed, have consumer_look look properly.
 */
static inline bool consumer_take_at_once(
	struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	struct consumer_lane *lane = consumer->at_once;
	if (UNLIKELY(consumer->received_messages >= consumer->at_once_until))
		return false;
	struct sluice_message *message = message_pool_next(&consumer->pool);
	uint64_t bytes = lane->last_words.payload_bytes;
	if (message == NULL || consumer->received_bytes + bytes >= consumer->turn_until_bytes ||
		!consumer_lane_take_next(lane, budget, message))
		return false;
	consumer_account(consumer, message, bytes);
	*ret_message = message;
	return true;
}

/*
 * For a consumer of one lane whose turn is over: begins the next one, without a proper look, if nothing has happened that such a
 * look would find. False if the turn is not over, or something has.
 */
bool consumer_goes_on(struct sluice_consumer *consumer);

/* True if some lane has a message to look at. Looks at the one line of each that a publish changes. */
static inline bool consumer_has_sign(const struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (!consumer->lanes[i]->given_up &&
			lane_reader_look(&consumer->lanes[i]->reader, consumer->lanes[i]->next) >= 0)
			return true;
	return false;
}

#endif
