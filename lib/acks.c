/* SPDX-License-Identifier: Apache-2.0 */
#include "acks.h"

#include "claims.h"
#include "roster.h"

/* ---- the consumer's side ---- */

void acks_announce(
	struct layout_control *control, uint32_t slot, uint32_t index, uint64_t ticket, const struct acks_run *run)
{
	struct layout_consumer_page *page = &control->consumers[slot];
	struct layout_ack *ack = &page->acks[index];
	const struct layout_ack filled = {
		.ticket = ticket,
		.sequence = run->sequence,
		.claim = run->claim,
		.lane_slot = run->lane.slot,
		.lane_incarnation = run->lane.incarnation,
		.count = run->count,
		.word = run->word,
	};
	/* relaxed: published by Q1; after Q2, whose exchange keeps them behind it */
	atomic_store_relaxed(&ack->sequence, filled.sequence);                 /* relaxed: as said */
	atomic_store_relaxed(&ack->claim, filled.claim);                       /* relaxed: as said */
	atomic_store_relaxed(&ack->lane_slot, filled.lane_slot);               /* relaxed: as said */
	atomic_store_relaxed(&ack->lane_incarnation, filled.lane_incarnation); /* relaxed: as said */
	atomic_store_relaxed(&ack->count, filled.count);                       /* relaxed: as said */
	atomic_store_relaxed(&ack->word, filled.word);                         /* relaxed: as said */
	atomic_store_relaxed(&ack->seal, layout_ack_seal(&filled));            /* relaxed: as said */
	/* Q1: announce, pairs with Q3 in load_entry; the consumer's own reads of the payload come before it too */
	atomic_store_release(&ack->ticket, ticket);
	atomic_or_full(
		&page->pending, UINT64_C(1) << index); /* Q1: after the entry, pairs with Q3 in acks_collect_from */
	/*
	 * Q1: after both, pairs with Q3 in next_consumer; with D3 at the caller who goes to sleep sees it or is woken
	 */
	atomic_or_full(&control->acknowledging.words[slot / 64], UINT64_C(1) << (slot % 64));
}

void acks_withdraw(struct layout_control *control, uint32_t slot, uint32_t index)
{
	struct layout_consumer_page *page = &control->consumers[slot];
	/*
	 * Q2: gone, before it is filled again, pairs with Q3 in load_entry; an exchange, so that what follows stays
	 * behind
	 */
	atomic_exchange_full(&page->acks[index].ticket, UINT64_C(0));
	uint64_t bit = UINT64_C(1) << index;
	/* Q2: likewise, here and below */
	if (atomic_and_full(&page->pending, ~bit) == bit)
		/* Q2: as said */
		atomic_and_full(&control->acknowledging.words[slot / 64], ~(UINT64_C(1) << (slot % 64)));
}

/* ---- everybody's side ---- */

/* Copies an entry; false if there is none, it changed meanwhile, or several wrote it. */
static bool load_entry(const struct layout_ack *shared, uint64_t *ret_ticket, struct acks_run *ret_run)
{
	struct layout_ack ack;
	ack.ticket = atomic_load_acquire(&shared->ticket); /* Q3: pairs with Q1 in acks_announce */
	if (ack.ticket == 0)
		return false;
	/* Q3: each before the second look at the ticket, pairs with Q2 in acks_withdraw */
	ack.sequence = atomic_load_acquire(&shared->sequence);                                       /* Q3: as said */
	ack.claim = atomic_load_acquire(&shared->claim);                                             /* Q3: as said */
	ack.lane_slot = atomic_load_acquire(&shared->lane_slot);                                     /* Q3: as said */
	ack.lane_incarnation = atomic_load_acquire(&shared->lane_incarnation);                       /* Q3: as said */
	ack.count = atomic_load_acquire(&shared->count);                                             /* Q3: as said */
	ack.word = atomic_load_acquire(&shared->word);                                               /* Q3: as said */
	ack.seal = atomic_load_acquire(&shared->seal);                                               /* Q3: as said */
	if (atomic_load_acquire(&shared->ticket) != ack.ticket || ack.seal != layout_ack_seal(&ack)) /* Q3: as said */
		return false;
	*ret_ticket = ack.ticket;
	*ret_run = (struct acks_run){
		.lane = {ack.lane_slot, ack.lane_incarnation},
		.sequence = ack.sequence,
		.claim = ack.claim,
		.count = ack.count,
		.word = ack.word,
	};
	return true;
}

static bool is_of(const struct acks_run *run, struct lane_key key)
{
	return run->lane.slot == key.slot && run->lane.incarnation == key.incarnation;
}

/* An entry may be rubbish: it must name words of its consumer's own, and index nothing beyond the lane and the page. */
static bool is_sound(const struct acks_run *run, uint64_t ticket, struct claims_owner consumer, uint32_t depth)
{
	struct layout_claim claim = layout_claim_decode(run->claim);
	uint32_t incarnation = consumer.incarnation & LAYOUT_INCARNATION_MASK;
	uint32_t depth_shift = (uint32_t)__builtin_ctz(depth);
	return run->word < LAYOUT_ACKS && run->count <= depth && claim.state == LAYOUT_CLAIMED &&
	       claim.slot == consumer.slot && claim.incarnation == incarnation &&
	       claim.lap == claims_lap(run->sequence, depth_shift) && layout_ticket_incarnation(ticket) == incarnation;
}

static uint32_t release_run(const struct acks_run *run, struct layout_claims *claims, uint32_t depth)
{
	uint32_t released = 0;
	uint32_t depth_shift = (uint32_t)__builtin_ctz(depth);
	for (uint64_t sequence = run->sequence; sequence != run->sequence + run->count; sequence++) {
		uint64_t *word = &claims->u.claims[sequence & (depth - 1)];
		uint64_t held = (run->claim & ~(uint64_t)UINT32_MAX) | claims_lap(sequence, depth_shift);
		/* relaxed: the swap compares again; a look first leaves the line with whoever has it */
		if (atomic_load_relaxed(word) == held)
			released += claims_release(word, held);
	}
	return released;
}

uint32_t acks_collect_from(const struct layout_control *control, struct claims_owner consumer, struct lane_key key,
	struct layout_claims *claims, uint32_t depth)
{
	const struct layout_consumer_page *page = &control->consumers[consumer.slot % LAYOUT_SLOTS];
	uint32_t released = 0;
	uint64_t bits = atomic_load_acquire(&page->pending); /* Q3: as in load_entry */
	for (; bits != 0; bits &= bits - 1) {
		struct acks_run run;
		uint64_t ticket;
		if (!load_entry(&page->acks[__builtin_ctzll(bits)], &ticket, &run) || !is_of(&run, key) ||
			!is_sound(&run, ticket, consumer, depth))
			continue;
		/*
		 * Q5: pairs with the device's write, Q4 in write_ticket: its reads of the payload come before the reuse
		 */
		if (atomic_load_acquire(&page->words[run.word]) == ticket)
			released += release_run(&run, claims, depth);
	}
	return released;
}

/* Calls for each living consumer that has entries; 0 when there is no other. */
static bool next_consumer(const struct layout_control *control, uint32_t *slot, struct claims_owner *ret_consumer)
{
	for (; *slot < LAYOUT_SLOTS; (*slot)++) {
		/* Q3: as in load_entry */
		if ((atomic_load_acquire(&control->acknowledging.words[*slot / 64]) >> (*slot % 64) & 1) == 0)
			continue;
		struct roster_view view = roster_look(&control->members[*slot]);
		if (view.state != LAYOUT_MEMBER_ALIVE || view.role != SLUICE_ROLE_CONSUMER)
			continue; /* declared dead: what it had acknowledged was released before */
		*ret_consumer = (struct claims_owner){*slot, view.incarnation};
		(*slot)++;
		return true;
	}
	return false;
}

uint32_t acks_collect(
	const struct layout_control *control, struct lane_key key, struct layout_claims *claims, uint32_t depth)
{
	uint32_t released = 0;
	struct claims_owner consumer;
	for (uint32_t slot = 0; next_consumer(control, &slot, &consumer);)
		released += acks_collect_from(control, consumer, key, claims, depth);
	return released;
}

bool acks_wait_for(const struct layout_control *control, struct lane_key key)
{
	struct claims_owner consumer;
	for (uint32_t slot = 0; next_consumer(control, &slot, &consumer);) {
		const struct layout_consumer_page *page = &control->consumers[consumer.slot];
		uint64_t bits = atomic_load_acquire(&page->pending); /* Q3: as in load_entry */
		for (; bits != 0; bits &= bits - 1) {
			struct acks_run run;
			uint64_t ticket;
			if (load_entry(&page->acks[__builtin_ctzll(bits)], &ticket, &run) && is_of(&run, key))
				return true;
		}
	}
	return false;
}
