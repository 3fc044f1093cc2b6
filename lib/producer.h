/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A producer, as its two files share it (producer.c reserves and publishes, producer_room.c has to do with its lane's room
 * and with whom to wake), and as a poller sees it, which sleeps in its place until there is room.
 */
#ifndef SLUICE_LIB_PRODUCER_H
#define SLUICE_LIB_PRODUCER_H

#include <sluice/producer.h>

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "handle.h"
#include "lane.h"
#include "message.h"
#include "plan.h"
#include "recover.h"
#include "spin.h"
#include "stats.h"

struct sluice_producer {
	struct handle handle;
	struct channel channel;
	struct lane_objects objects;
	struct lane_writer writer;
	struct layout_claims *claims;
	struct layout_lane_stats *stats;
	struct sampler sampler;
	struct spin spin;
	uint64_t owed; /* messages for which sluice_publish_more has not looked for sleepers */
	uint32_t last_schema;
	struct lane_words words; /* what the head of the last reservation says, if it is not shrunk */
	uint64_t place;          /* words.place but for the unit and what travels beside */
	bool broadcast;
	bool ordered;
	bool report_gone;
	struct sampler liveness;       /* when a producer that never waits looks after the others */
	struct recover_watch watch;    /* for messages held too long */
	struct sluice_message message; /* the one reservation */
	struct plan plan;              /* of the last reservation, which the next one often repeats */
	bool has_plan;
	struct { /* of that reservation's tensors: where their names lay, and how long they were with their last 0 */
		const char *address;
		size_t bytes;
	} names[SLUICE_MAX_TENSORS];
};

/* ---- producer_room.c ---- */

/* Takes back what consumers are done with; true if that was anything. */
bool producer_reclaim(struct sluice_producer *producer);

/* Looks for room for `bytes` payload bytes, taking back what it must. */
bool producer_find_room(struct sluice_producer *producer, uint64_t bytes, struct lane_room *ret_room);

/* The same, and waits for it. Returns 0 or what sluice_reserve says then. */
int producer_wait_for_room(
	struct sluice_producer *producer, uint64_t bytes, int64_t timeout_ns, struct lane_room *ret_room);

/* Wakes whoever the last `messages` published are for. The caller has a full fence (D3) after them. Returns 0. */
int producer_wake_consumers(struct sluice_producer *producer, uint64_t messages);

/* Looks for sleepers if sluice_publish_more has left that to later. */
void producer_settle(struct sluice_producer *producer);

/* ---- for a poller ---- */

struct handle *producer_handle(struct sluice_producer *producer);
struct channel *producer_channel(struct sluice_producer *producer);

/* True if it was opened with SLUICE_REPORT_GONE. */
bool producer_reports_gone(const struct sluice_producer *producer);

/* True if a message of `bytes` payload bytes fits into its lane when that is empty. */
bool producer_can_hold(const struct sluice_producer *producer, uint64_t bytes);

/*
 * True if there is room now, after taking back what consumers are done with, for a message of `bytes` payload bytes; 0:
 * for what was last asked to be reserved.
 */
bool producer_has_room(struct sluice_producer *producer, uint64_t bytes);

/* What a producer that waits does for the channel now and then: it may be waiting for the dead. `now_ns` is CLOCK_MONOTONIC. */
void producer_look_after(struct sluice_producer *producer, uint64_t now_ns);

/* What it does before its bell is armed; `bytes` as in producer_has_room. */
void producer_before_arming(struct sluice_producer *producer, uint64_t bytes);

/* How long it may sleep at most once its bell is armed, since GPUs wake nobody; 0: as long as any sleeper. */
uint64_t producer_nap_ns(const struct sluice_producer *producer);

/* What it does once its bell is armed and there still is no room, before it sleeps. */
void producer_before_sleep(struct sluice_producer *producer);

#endif
