/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doorbells: sleeping without losing a wake-up, waking without a system call when nobody sleeps.
 *
 * Use. A sleeper arms its bell, looks once more at everything it waits for, and sleeps only if nothing was there.
 * Whoever made something happen does so, then a full fence, then asks doorbell_is_armed, and rings if so.
 *
 * Why nothing is lost. Arming (D1) and the sleeper's second look are separated by a full fence (D2), and so are the
 * event's store and the waker's look at the map (the caller's fence, D3). So either the sleeper's look sees the event,
 * or the waker's look sees the sleeper. Between arming and sleeping the futex's own comparison (D6) closes the gap: a
 * waker exchanges the word to 0 first (D4), after the bit (D5). A waker that dies half way, or a sleeper that was woken
 * and dies before it acts, costs the longest sleep (waiter.h), not more.
 *
 * Why a word each. A flag shared by several sleepers loses wake-ups when one of them clears it; a count leaks when a
 * sleeper is killed. A killed sleeper's own word is exchanged to 0 once and rings nobody after.
 */
#ifndef SLUICE_LIB_DOORBELL_H
#define SLUICE_LIB_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "layout.h"

/* The bell of one member: its word and its bit in the map that wakers look at. */
struct doorbell {
	uint32_t *word;
	uint64_t *map_word;
	uint64_t bit;
};

static inline struct doorbell doorbell_of(
	struct layout_bell bells[LAYOUT_SLOTS], struct layout_slot_map *map, uint32_t slot)
{
	return (struct doorbell){&bells[slot].word, &map->words[slot / 64], UINT64_C(1) << (slot % 64)};
}

/* Announces that its member is about to sleep; look at everything again before doorbell_sleep. */
void doorbell_arm(struct doorbell bell);

/* Takes the announcement back, woken or not. */
void doorbell_disarm(struct doorbell bell);

/* The same; true if the bell was rung since it was armed: a publish may count on it then. */
bool doorbell_withdraw(struct doorbell bell);

/* Sleeps until rung, up to `timeout_ns`. Returns 0, -ETIMEDOUT or -EINTR; may return early for no reason. */
int doorbell_sleep(struct doorbell bell, uint64_t timeout_ns);

/* True if anybody on the map may be asleep. The caller has a full fence (D3) between its event and this look. */
static inline bool doorbell_is_armed(const struct layout_slot_map *map)
{
	uint64_t any = 0;
	for (int i = 0; i < LAYOUT_MAP_WORDS; i++)
		any |= atomic_load_relaxed(&map->words[i]); /* relaxed: ordered by D3, the caller's fence */
	return any != 0;
}

/* The same for one slot. */
static inline bool doorbell_slot_is_armed(const struct layout_slot_map *map, uint32_t slot)
{
	/* relaxed: ordered by D3, the caller's fence */
	return (atomic_load_relaxed(&map->words[slot / 64]) >> (slot % 64) & 1) != 0;
}

/* Wakes the member if it sleeps; true if it really was asleep. */
bool doorbell_ring(struct doorbell bell);

/* Wakes one sleeper, beginning to look at slot `start`; true if one really woke. */
bool doorbell_ring_one(struct layout_bell bells[LAYOUT_SLOTS], struct layout_slot_map *map, uint32_t start);

/* Wakes all sleepers; returns how many really woke. */
uint32_t doorbell_ring_all(struct layout_bell bells[LAYOUT_SLOTS], struct layout_slot_map *map);

#endif
