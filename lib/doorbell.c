/* SPDX-License-Identifier: Apache-2.0 */
#include "doorbell.h"

#include "sys.h"

void doorbell_arm(struct doorbell bell)
{
	atomic_store_relaxed(bell.word, 1); /* relaxed: D1 orders it before the map's bit, D5 the waker's look at it */
	atomic_or_full(bell.map_word, bell.bit); /* D1: armed, after the word, pairs with D5 in doorbell_ring */
	atomic_fence_after_rmw(); /* D2: D1 before, the second look after, pairs with D3 of all who ring */
}

void doorbell_disarm(struct doorbell bell)
{
	atomic_and_full(bell.map_word, ~bell.bit); /* D5: disarmed, as in doorbell_ring */
	atomic_store_relaxed(bell.word, 0);        /* relaxed: a waker that still sees 1 makes one useless call */
}

bool doorbell_withdraw(struct doorbell bell)
{
	atomic_and_full(bell.map_word, ~bell.bit); /* D5: disarmed, as in doorbell_ring */
	/* D4: as in doorbell_ring: whoever exchanges the 1 away has the wake-up, a waker or this sleeper */
	return atomic_exchange_full(bell.word, 0) == 0;
}

int doorbell_sleep(struct doorbell bell, uint64_t timeout_ns)
{
	return sys_futex_wait(bell.word, 1, timeout_ns); /* D6: the kernel compares, pairs with D4 in doorbell_ring */
}

bool doorbell_ring(struct doorbell bell)
{
	/* D5: the bit first, pairs with D1 in doorbell_arm: a sleeper that arms again in between sets it again */
	atomic_and_full(bell.map_word, ~bell.bit);
	if (atomic_exchange_full(bell.word, 0) != 1) /* D4: rung, pairs with D6 in doorbell_sleep */
		return false;
	/* All of them are the same member's: one of its calls, and a poller that slept in its place and was not called yet. */
	return sys_futex_wake(bell.word, INT32_MAX) > 0;
}

bool doorbell_ring_one(struct layout_bell bells[LAYOUT_SLOTS], struct layout_slot_map *map, uint32_t start)
{
	for (uint32_t i = 0; i < LAYOUT_SLOTS; i++) {
		uint32_t slot = (start + i) % LAYOUT_SLOTS;
		if (doorbell_slot_is_armed(map, slot) && doorbell_ring(doorbell_of(bells, map, slot)))
			return true;
	}
	return false;
}

uint32_t doorbell_ring_all(struct layout_bell bells[LAYOUT_SLOTS], struct layout_slot_map *map)
{
	uint32_t woken = 0;
	if (!doorbell_is_armed(map))
		return 0;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		if (doorbell_slot_is_armed(map, slot) && doorbell_ring(doorbell_of(bells, map, slot)))
			woken++;
	return woken;
}
