/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acknowledgements: messages of a queue that a consumer has released behind a GPU's work, and which are done with once
 * the GPU has written a ticket into a word of the consumer's page. Whoever comes by then releases them by an exact swap
 * from the word by which that consumer holds them: it itself, a producer that wants room, who looks after others, who
 * recovers the dead. Knows words and entries, and nothing of GPUs.
 *
 * A ticket carries the incarnation of its consumer and is never used twice. So a write that comes late, from a consumer
 * that was stopped and declared dead, acknowledges no entry of whoever has the slot now; and if it acknowledges its
 * own, the swap finds another claim word, because the message was given back before the slot was.
 */
#ifndef SLUICE_LIB_ACKS_H
#define SLUICE_LIB_ACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "claims.h"
#include "lane_table.h"
#include "layout.h"

/* Nobody is woken by a GPU: who waits for room while there are entries of its lane looks again after so long. */
#define ACKS_LOOK_NS UINT64_C(200000)

/* Messages in a row of one lane, held by words that differ in their laps only. */
struct acks_run {
	struct lane_key lane;
	uint64_t sequence; /* of the first */
	uint64_t claim;    /* the word by which it is held */
	uint32_t count;
	uint32_t word; /* of the page, that the GPU writes the ticket to */
};

/* ---- the consumer's side; its threads exclude one another ---- */

/*
 * Fills entry `index` of the consumer in `slot`. Ends with a read-modify-write: after a full fence (D3) the caller
 * looks whether the lane's producer sleeps, who may have gone to sleep for long before there was an entry.
 */
void acks_announce(
	struct layout_control *control, uint32_t slot, uint32_t index, uint64_t ticket, const struct acks_run *run);

/* Takes entry `index` away. */
void acks_withdraw(struct layout_control *control, uint32_t slot, uint32_t index);

/* ---- everybody's side ---- */

/* True if some consumer has entries. One line that is seldom written. */
static inline bool acks_exist(const struct layout_control *control)
{
	uint64_t any = 0;
	for (int i = 0; i < LAYOUT_MAP_WORDS; i++)
		/* relaxed: one who misses it looks again soon, or is woken: see acks_announce */
		any |= atomic_load_relaxed(&control->acknowledging.words[i]);
	return any != 0;
}

/* True if a living consumer has an entry of lane `key`. */
bool acks_wait_for(const struct layout_control *control, struct lane_key key);

/*
 * Releases what GPUs have acknowledged of lane `key`, with its claims and depth. Returns how many messages that were.
 */
uint32_t acks_collect(
	const struct layout_control *control, struct lane_key key, struct layout_claims *claims, uint32_t depth);

/* The same of one consumer, dead or alive. */
uint32_t acks_collect_from(const struct layout_control *control, struct claims_owner consumer, struct lane_key key,
	struct layout_claims *claims, uint32_t depth);

#endif
