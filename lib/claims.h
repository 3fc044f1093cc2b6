/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: who has which message of a queue. One word a message, changed only by compare-and-swap from an exact value,
 * so that taking a message and recording who took it is one instruction, and a stopped member that wakes up late can
 * change nothing that has moved on without it. Knows words, not lanes.
 */
#ifndef SLUICE_LIB_CLAIMS_H
#define SLUICE_LIB_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "layout.h"
#include "plant.h"

struct claims_owner {
	uint32_t slot;
	uint32_t incarnation;
};

enum claims_view {
	CLAIMS_OPEN,  /* nobody has it: it may be taken */
	CLAIMS_TAKEN, /* somebody has it or is done with it */
	CLAIMS_AHEAD, /* the word belongs to a later lap: the reader was lapped */
	CLAIMS_BROKEN /* no sequence of events leads to this word */
};

static inline uint32_t claims_lap(uint64_t sequence, uint32_t depth_shift)
{
	return (uint32_t)(sequence >> depth_shift) + 1;
}

/* What `word` says about the message of lap `lap`, which is published. */
static inline enum claims_view claims_look(uint64_t word, uint32_t lap)
{
	struct layout_claim claim = layout_claim_decode(word);
	int32_t ahead = (int32_t)(claim.lap - lap);
	if (ahead > 0)
		return CLAIMS_AHEAD;
	if (ahead == 0)
		return claim.state == LAYOUT_RETURNED ? CLAIMS_OPEN : CLAIMS_TAKEN;
	/* The producer reuses a descriptor only when the last lap's message was done with. */
	bool done = claim.state == LAYOUT_RELEASED || claim.state == LAYOUT_SET_ASIDE;
	return ahead == -1 && done ? CLAIMS_OPEN : CLAIMS_BROKEN;
}

/*
 * Takes the message of lap `lap` for `owner` if the word is still exactly `seen`, for which claims_look said
 * CLAIMS_OPEN. On success `*ret_held` is the word that says so, which release and return need.
 */
static inline bool claims_take(
	uint64_t *word, uint64_t seen, uint32_t lap, struct claims_owner owner, uint64_t *ret_held)
{
	struct layout_claim last = layout_claim_decode(seen);
	uint32_t deliveries = last.lap == lap ? last.deliveries : 0;
	uint64_t held = layout_claim_encode((struct layout_claim){
		.lap = lap,
		.state = LAYOUT_CLAIMED,
		.deliveries = deliveries < LAYOUT_MAX_DELIVERIES ? deliveries + 1
								 : deliveries - 1, /* never the same word twice */
		.slot = owner.slot,
		.incarnation = owner.incarnation,
	});
	PLANT_LATE_OWNER(word, seen, held);
	/*
	 * K1: take, pairs with K1 in claims_take of other consumers, of whom one wins, and with K4 in claims_return.
	 * The descriptor is copied after it. What the producer wrote is ordered by C1, not by this.
	 */
	if (!atomic_swap_exact(word, seen, held))
		return false;
	*ret_held = held;
	return true;
}

/* The word by which `owner` holds a message that was never delivered before, but for the lap in its low half. */
static inline uint64_t claims_first(struct claims_owner owner)
{
	return layout_claim_encode((struct layout_claim){
		.state = LAYOUT_CLAIMED, .deliveries = 1, .slot = owner.slot, .incarnation = owner.incarnation});
}

/* True if `seen` says that the message of lap `lap` was never taken: released in the lap before, by whomever. */
static inline bool claims_is_fresh(uint64_t seen, uint32_t lap)
{
	return (seen & LAYOUT_CLAIM_PLACE) == (uint32_t)(lap - 1);
}

/* claims_take for a word for which claims_is_fresh; `held` is claims_first of the taker, and the lap. */
static inline bool claims_take_fresh(uint64_t *word, uint64_t seen, uint64_t held)
{
	PLANT_LATE_OWNER(word, seen, held);
	return atomic_swap_exact(word, seen, held); /* K1: as in claims_take */
}

/* True if one instruction can swap this word and the next: they lie in one unit of 16 bytes. */
static inline bool claims_begins_pair(const uint64_t *word)
{
	return (uintptr_t)word % 16 == 0;
}

/* claims_take_fresh for two words of which the first begins a pair: both or none. False also where that is not to be had. */
static inline bool claims_take_fresh_pair(
	uint64_t *words, uint64_t seen0, uint64_t seen1, uint64_t held0, uint64_t held1)
{
	PLANT_SINGLY();
	return atomic_swap_pair_exact(words, seen0, seen1, held0, held1); /* K1: as in claims_take, twice */
}

/* The word that `held` becomes when its holder is done with it. */
static inline uint64_t claims_released(uint64_t held)
{
	return held & ~(UINT64_C(3) << 32);
}

/* Releases what `held` took; false if it is no longer its holder's. */
static inline bool claims_release(uint64_t *word, uint64_t held)
{
	PLANT_PLAIN_RELEASE(word, held);
	/* K2: release, pairs with K3 in claims_is_done: the holder's reads of the payload come before the producer's reuse */
	return atomic_swap_exact(word, held, claims_released(held));
}

/* The same for two words of which the first begins a pair: both or none. False also where that is not to be had. */
static inline bool claims_release_pair(uint64_t *words, uint64_t held0, uint64_t held1)
{
	PLANT_SINGLY();
	/* K2: as in claims_release, twice */
	return atomic_swap_pair_exact(words, held0, held1, claims_released(held0), claims_released(held1));
}

/* Gives back what `held` took, to be taken by another; a clean return does not count as a delivery. False as above. */
bool claims_return(uint64_t *word, uint64_t held, bool clean);

/* Gives up on what `held` took: its memory is free, and nobody gets it again. False as above. */
static inline bool claims_set_aside(uint64_t *word, uint64_t held)
{
	/* K2: as a release, since its holder is dead. Released is 0, so only these bits need setting. */
	return atomic_swap_exact(word, held, claims_released(held) | (uint64_t)LAYOUT_SET_ASIDE << 32);
}

/* True once the message of lap `lap` is done with: its memory may be used again. */
static inline bool claims_is_done(const uint64_t *word, uint32_t lap)
{
	uint64_t seen = atomic_load_acquire(word); /* K3: reclaim, pairs with K2 in claims_release */
	struct layout_claim claim = layout_claim_decode(seen);
	return claim.lap == lap && (claim.state == LAYOUT_RELEASED || claim.state == LAYOUT_SET_ASIDE);
}

/* True if `word` says that `owner` holds the message of lap `lap`. */
static inline bool claims_is_held_by(uint64_t word, uint32_t lap, struct claims_owner owner)
{
	struct layout_claim claim = layout_claim_decode(word);
	return claim.lap == lap && claim.state == LAYOUT_CLAIMED && claim.slot == owner.slot &&
	       claim.incarnation == (owner.incarnation & LAYOUT_INCARNATION_MASK);
}

#endif
