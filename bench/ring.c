/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit for a stream: a ring with what a queue of many consumers cannot do without, and nothing else. A ready flag in
 * each slot beside the payload, a claim word for each slot that the consumer takes by compare-and-swap and gives back by a
 * store, and a producer that looks for room a quarter of the ring at a time.
 */
#include <errno.h>
#include <stdatomic.h>

#include "case.h"
#include "payload.h"
#include "stream.h"

#define RING_SLOT_BYTES 128
#define RING_ELEMENTS   16

/* A claim word of message n: n * 4 + state; a slot that was never used counts as released. */
enum ring_state { RING_TAKEN = 1, RING_RELEASED = 2 };

struct ring_slot {
	_Alignas(RING_SLOT_BYTES) _Atomic uint64_t ready; /* number of the message, from 1 */
	int32_t payload[RING_ELEMENTS];
};

struct ring {
	struct ring_slot *slots;
	_Atomic uint64_t *claims;
	uint64_t depth; /* a power of two */
};

static struct ring ring_open(const struct side *side)
{
	unsigned char *base = side->scratch;

	return (struct ring){
		.slots = (struct ring_slot *)base,
		.claims = (_Atomic uint64_t *)(base + side->of->depth * sizeof(struct ring_slot)),
		.depth = side->of->depth,
	};
}

/* Waits until all messages up to `number` are released; one consumer releases in order. */
static void ring_await(const struct ring *ring, uint64_t number)
{
	_Atomic uint64_t *claim = &ring->claims[number & (ring->depth - 1)];

	while (atomic_load_explicit(claim, memory_order_acquire) != number * 4 + RING_RELEASED)
		;
}

static void ring_take(const struct ring *ring, uint64_t number, int *error)
{
	struct ring_slot *slot = &ring->slots[number & (ring->depth - 1)];
	_Atomic uint64_t *claim = &ring->claims[number & (ring->depth - 1)];
	uint64_t before = number > ring->depth ? (number - ring->depth) * 4 + RING_RELEASED : 0;

	while (atomic_load_explicit(&slot->ready, memory_order_acquire) != number)
		;
	if (!atomic_compare_exchange_strong(claim, &before, number * 4 + RING_TAKEN))
		*error = -EBUSY;
	if (payload_sum(slot->payload, RING_ELEMENTS) != payload_expected(RING_ELEMENTS, (uint32_t)number))
		*error = -EBADMSG;
	atomic_store_explicit(claim, number * 4 + RING_RELEASED, memory_order_release);
}

int limit_ring_first(struct side *side)
{
	struct ring ring = ring_open(side);
	uint64_t step = side_step(side->of->bytes);
	uint64_t room = ring.depth; /* messages up to this number have room */

	for (uint64_t number = 1; number <= side_total(side); number++) {
		struct ring_slot *slot = &ring.slots[number & (ring.depth - 1)];

		if (number == side_warm_up(side) + 1)
			side_start(side);
		if (number % step == 1)
			side_check_time(side, number - 1, step);
		if (number > room) {
			room += ring.depth / 4;
			ring_await(&ring, room - ring.depth);
		}
		payload_fill(slot->payload, RING_ELEMENTS, (uint32_t)number);
		atomic_store_explicit(&slot->ready, number, memory_order_release);
	}
	side_finish(side);
	return 0;
}

int limit_ring_second(struct side *side)
{
	struct ring ring = ring_open(side);
	struct stream_meter meter = {.side = side};
	int error = 0;

	for (uint64_t number = 1; number <= side_total(side) && error == 0; number++) {
		stream_tick(&meter);
		ring_take(&ring, number, &error);
		stream_count(&meter, 1);
	}
	if (error)
		return side_fail(side, error, "ring");
	side_finish(side);
	return 0;
}
