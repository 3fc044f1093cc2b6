/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which message: one word, exact swaps, and latecomers that change nothing. */
#include <errno.h>

#include "claims.h"

#include "../support/harness.h"
#include "corrupt.h"

static const struct claims_owner alice = {.slot = 3, .incarnation = 7};
static const struct claims_owner bob = {.slot = LAYOUT_SLOTS - 1, .incarnation = UINT32_MAX};

/* Laps around which a comparison could go wrong: 32 bits, and the sign of their difference. */
static const uint32_t laps[] = {0, 1, 2, 77, INT32_MAX, UINT32_C(1) << 31, (UINT32_C(1) << 31) + 1, UINT32_MAX};

static uint64_t word_of(uint32_t lap, enum layout_claim_state state)
{
	return layout_claim_encode((struct layout_claim){.lap = lap, .state = state, .deliveries = 1, .slot = 3});
}

/* Takes what must be free to take. */
static uint64_t take(uint64_t *word, uint32_t lap, struct claims_owner owner)
{
	uint64_t held;

	check_equal(CLAIMS_OPEN, claims_look(*word, lap));
	check(claims_take(word, *word, lap, owner, &held));
	check_equal(*word, held);
	return held;
}

/* ---- looking ---- */

static void each_state_of_each_lap_looks_as_it_is(void **state)
{
	static const struct {
		int32_t ahead;
		enum claims_view views[4]; /* released, claimed, returned, set aside */
	} table[] = {
		{0, {CLAIMS_TAKEN, CLAIMS_TAKEN, CLAIMS_OPEN, CLAIMS_TAKEN}},
		{-1, {CLAIMS_OPEN, CLAIMS_BROKEN, CLAIMS_BROKEN, CLAIMS_OPEN}},
		{1, {CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD}},
		{2, {CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD}},
		{INT32_MAX, {CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD, CLAIMS_AHEAD}},
		{-2, {CLAIMS_BROKEN, CLAIMS_BROKEN, CLAIMS_BROKEN, CLAIMS_BROKEN}},
		{INT32_MIN, {CLAIMS_BROKEN, CLAIMS_BROKEN, CLAIMS_BROKEN, CLAIMS_BROKEN}},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++)
		for (unsigned k = 0; k < COUNT_OF(laps); k++)
			for (enum layout_claim_state claim = LAYOUT_RELEASED; claim <= LAYOUT_SET_ASIDE; claim++) {
				uint64_t word = word_of(laps[k] + (uint32_t)table[i].ahead, claim);

				check_equal(table[i].views[claim], claims_look(word, laps[k]));
			}
}

static void a_fresh_word_is_open_for_the_first_message_only(void **state)
{
	(void)state;
	check_equal(CLAIMS_OPEN, claims_look(0, claims_lap(0, 4)));
	check_equal(CLAIMS_OPEN, claims_look(0, claims_lap(15, 4)));
	check_equal(CLAIMS_BROKEN, claims_look(0, claims_lap(16, 4)));
	check(!claims_is_done(&(uint64_t){0}, claims_lap(0, 4)));
}

static void the_short_way_is_for_what_was_released_a_lap_before_and_takes_the_same(void **state)
{
	(void)state;
	for (unsigned i = 0; i < COUNT_OF(laps); i++) {
		const uint64_t held = claims_first(alice) | laps[i];
		uint64_t word = word_of(laps[i] - 1, LAYOUT_RELEASED), other = word, long_way;

		for (int ahead = -2; ahead <= 1; ahead++)
			for (unsigned k = LAYOUT_RELEASED; k <= LAYOUT_SET_ASIDE; k++)
				check((ahead == -1 && k == LAYOUT_RELEASED) ==
					claims_is_fresh(word_of(laps[i] + (uint32_t)ahead, k), laps[i]));
		check(!claims_take_fresh(&word, word + 1, held));
		check(claims_take_fresh(&word, word, held));
		check(claims_take(&other, other, laps[i], alice, &long_way));
		check_equal(long_way, word);
	}
}

static void only_released_and_set_aside_messages_of_that_lap_are_done(void **state)
{
	(void)state;
	for (unsigned k = 0; k < COUNT_OF(laps); k++)
		for (enum layout_claim_state claim = LAYOUT_RELEASED; claim <= LAYOUT_SET_ASIDE; claim++) {
			uint64_t word = word_of(laps[k], claim);

			check((claim == LAYOUT_RELEASED || claim == LAYOUT_SET_ASIDE) ==
				claims_is_done(&word, laps[k]));
			check(!claims_is_done(&word, laps[k] + 1));
			check(!claims_is_done(&word, laps[k] - 1));
		}
}

/* ---- taking, releasing, returning ---- */

static void taking_records_who_has_it(void **state)
{
	uint64_t word = 0;
	struct layout_claim claim = layout_claim_decode(take(&word, 1, bob));

	(void)state;
	check(claim.lap == 1 && claim.state == LAYOUT_CLAIMED && claim.deliveries == 1);
	check(claim.slot == bob.slot && claim.incarnation == (bob.incarnation & LAYOUT_INCARNATION_MASK));
	check_equal(CLAIMS_TAKEN, claims_look(word, 1));
	check(claims_is_held_by(word, 1, bob));
	check(!claims_is_held_by(word, 2, bob));
	check(!claims_is_held_by(word, 1, alice));
	check(!claims_is_held_by(word, 1, (struct claims_owner){bob.slot, bob.incarnation - 1}));
	check(!claims_is_held_by(word, 1, (struct claims_owner){bob.slot - 1, bob.incarnation}));
}

static void the_second_of_two_takers_gets_nothing(void **state)
{
	uint64_t word = 0;
	const uint64_t seen = word;
	const uint64_t held = take(&word, 1, alice);
	uint64_t nothing = 4711;

	(void)state;
	check(!claims_take(&word, seen, 1, bob, &nothing));
	check_equal(4711, nothing);
	check_equal(held, word);
}

static void releasing_keeps_all_but_the_state(void **state)
{
	uint64_t word = 0;
	const uint64_t held = take(&word, 1, bob);
	struct layout_claim claim;

	(void)state;
	check(claims_release(&word, held));
	claim = layout_claim_decode(word);
	check(claim.lap == 1 && claim.state == LAYOUT_RELEASED && claim.deliveries == 1);
	check(claim.slot == bob.slot && claim.incarnation == (bob.incarnation & LAYOUT_INCARNATION_MASK));
	check(claims_is_done(&word, 1));
	check(!claims_is_held_by(word, 1, bob));
	check(!claims_release(&word, held));
	check(!claims_return(&word, held, true));
	check(claims_is_done(&word, 1));
}

static void a_word_that_differs_in_any_bit_is_neither_taken_nor_released_nor_returned(void **state)
{
	uint64_t word = 0;
	const uint64_t held = take(&word, 1, alice);
	uint64_t nothing;

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		const uint64_t other = held ^ UINT64_C(1) << bit;

		check(!claims_take(&word, other, 1, bob, &nothing));
		check(!claims_release(&word, other));
		check(!claims_return(&word, other, true));
		check(!claims_return(&word, other, false));
		check_equal(held, word);
	}
	check(claims_release(&word, held));
}

static void a_returned_message_is_open_again(void **state)
{
	(void)state;
	for (unsigned clean = 0; clean < 2; clean++) {
		uint64_t word = 0;
		const uint64_t held = take(&word, 1, alice);

		check(claims_return(&word, held, clean != 0));
		check_equal(CLAIMS_OPEN, claims_look(word, 1));
		check(!claims_is_done(&word, 1));
		check(!claims_release(&word, held));
		check(claims_release(&word, take(&word, 1, bob)));
	}
}

/* ---- deliveries ---- */

static uint32_t deliveries(uint64_t word)
{
	return layout_claim_decode(word).deliveries;
}

static void a_second_take_counts_as_a_delivery_unless_the_first_was_returned_cleanly(void **state)
{
	uint64_t word = 0;
	uint64_t held = take(&word, 1, alice);

	(void)state;
	check_equal(1, deliveries(held));
	check(claims_return(&word, held, false));
	held = take(&word, 1, bob);
	check_equal(2, deliveries(held));
	check(claims_return(&word, held, true));
	held = take(&word, 1, alice);
	check_equal(2, deliveries(held));
	check(claims_return(&word, held, false));
	check_equal(3, deliveries(take(&word, 1, alice)));
}

static void the_count_begins_anew_with_each_lap(void **state)
{
	uint64_t word = 0;

	(void)state;
	for (uint32_t lap = 1; lap < 5; lap++) {
		for (unsigned i = 0; i < lap; i++)
			check(claims_return(&word, take(&word, lap, alice), false));
		check_equal(lap, deliveries(word));
		check(claims_release(&word, take(&word, lap, bob)));
	}
}

static void a_full_count_stays_high_and_no_claim_is_like_the_last(void **state)
{
	uint64_t word = 0;
	uint64_t last = 0;

	(void)state;
	for (uint32_t i = 1; i <= 200; i++) {
		const uint64_t held = take(&word, 1, alice);

		check(held != last);
		check(deliveries(held) == i ||
			(i > LAYOUT_MAX_DELIVERIES && deliveries(held) >= LAYOUT_MAX_DELIVERIES - 1));
		check(claims_is_held_by(held, 1, alice));
		check(claims_return(&word, held, false));
		last = held;
	}
	check(claims_release(&word, take(&word, 1, bob)));
	check_equal(1, deliveries(take(&word, 2, bob)));
}

/* ---- latecomers ---- */

static void a_zombie_changes_nothing_after_another_took_its_message(void **state)
{
	uint64_t word = 0;
	const uint64_t zombie = take(&word, 1, alice);
	uint64_t held;

	(void)state;
	check(claims_return(&word, zombie, false)); /* by whoever recovers the dead */
	held = take(&word, 1, bob);
	check(!claims_release(&word, zombie));
	check(!claims_return(&word, zombie, false));
	check_equal(held, word);
	check(claims_release(&word, held));
	check(!claims_release(&word, zombie));
	check(claims_is_done(&word, 1));
}

static void a_zombie_is_not_mistaken_for_its_slots_next_holder(void **state)
{
	const struct claims_owner next = {.slot = alice.slot, .incarnation = alice.incarnation + 1};
	uint64_t word = 0;
	const uint64_t zombie = take(&word, 1, alice);

	(void)state;
	check(claims_return(&word, zombie, true)); /* so that even the count is the same */
	check(claims_is_held_by(take(&word, 1, next), 1, next));
	check(!claims_is_held_by(word, 1, alice));
	check(!claims_release(&word, zombie));
	check(claims_is_held_by(word, 1, next));
}

static void a_zombie_changes_nothing_in_later_laps(void **state)
{
	uint64_t word = 0;
	const uint64_t zombie = take(&word, 1, alice);

	(void)state;
	check(claims_return(&word, zombie, false));
	check(claims_release(&word, take(&word, 1, bob)));
	for (uint32_t lap = 2; lap < 10; lap++) {
		const uint64_t held = take(&word, lap, alice);

		check(!claims_release(&word, zombie));
		check(!claims_return(&word, zombie, true));
		check(claims_release(&word, held));
	}
}

static void a_pair_is_taken_and_released_whole_or_not_at_all(void **state)
{
	_Alignas(16) uint64_t words[4] = {0, 0, 0, 0};
	uint64_t held = claims_first(alice) | 1;

	(void)state;
	check(claims_begins_pair(&words[0]) && !claims_begins_pair(&words[1]) && claims_begins_pair(&words[2]));
	words[3] = word_of(1, LAYOUT_CLAIMED);
	check(!claims_take_fresh_pair(&words[2], 0, 0, held, held));
	check_equal(0, words[2]);
	check_equal(word_of(1, LAYOUT_CLAIMED), words[3]);
	if (!claims_take_fresh_pair(&words[0], 0, 0, held, held))
		return; /* not to be had here: callers go one by one */
	check_equal(held, words[0]);
	check_equal(held, words[1]);
	words[1] = word_of(1, LAYOUT_RETURNED);
	check(!claims_release_pair(&words[0], held, held));
	check_equal(held, words[0]);
	words[1] = held;
	check(claims_release_pair(&words[0], held, held));
	check(claims_is_done(&words[0], 1) && claims_is_done(&words[1], 1));
}

static void a_message_set_aside_is_done_with_and_stays_so(void **state)
{
	uint64_t word = 0;
	const uint64_t held = take(&word, 1, alice);
	struct layout_claim claim;

	(void)state;
	check(!claims_set_aside(&word, held ^ 1));
	check(claims_set_aside(&word, held));
	claim = layout_claim_decode(word);
	check(claim.lap == 1 && claim.state == LAYOUT_SET_ASIDE && claim.deliveries == 1 && claim.slot == alice.slot);
	check(!claims_set_aside(&word, held));
	check(claims_is_done(&word, 1));
	check_equal(CLAIMS_TAKEN, claims_look(word, 1));
	check(!claims_release(&word, held));
	check(!claims_return(&word, held, false));
	take(&word, 2, bob);
}

/* ---- laps ---- */

static void a_message_and_its_place_name_the_lap(void **state)
{
	(void)state;
	for (uint32_t shift = 1; shift <= 20; shift++) {
		const uint64_t messages = UINT64_C(1) << shift;

		check_equal(1, claims_lap(0, shift));
		check_equal(1, claims_lap(messages - 1, shift));
		check_equal(2, claims_lap(messages, shift));
		check_equal(UINT32_MAX, claims_lap(messages * (UINT32_MAX - UINT64_C(1)), shift));
		check_equal(0, claims_lap(messages * UINT32_MAX, shift));
		check_equal(1, claims_lap(messages << 32, shift));
	}
}

static void laps_go_on_past_two_to_the_32(void **state)
{
	const uint32_t shift = 1;
	uint64_t sequence = (UINT64_C(1) << 33) - 20;
	uint64_t word = word_of(claims_lap(sequence, shift) - 1, LAYOUT_RELEASED);

	(void)state;
	for (; sequence < (UINT64_C(1) << 33) + 20; sequence += 2) {
		const uint32_t lap = claims_lap(sequence, shift);
		uint64_t held;

		check_equal(CLAIMS_BROKEN, claims_look(word, lap + 1));
		check_equal(CLAIMS_TAKEN, claims_look(word, lap - 1));
		held = take(&word, lap, alice);
		check_equal(1, deliveries(held));
		check_equal(CLAIMS_AHEAD, claims_look(word, lap - 1));
		check(claims_return(&word, held, false));
		held = take(&word, lap, bob);
		check_equal(2, deliveries(held));
		check(claims_release(&word, held));
		check(claims_is_done(&word, lap) && !claims_is_done(&word, lap + 1));
	}
}

/* ---- races ---- */

#define TAKERS 4
#define WORDS  64

struct race {
	struct tally start;
	uint64_t words[WORDS];
	uint64_t taken[TAKERS];
	uint64_t laps;
};

/* Takes what it can get of one lap, and returns every third. */
static void take_lap(struct race *race, unsigned taker, uint32_t lap)
{
	const struct claims_owner owner = {.slot = taker, .incarnation = taker + 1};
	uint64_t held;

	for (unsigned i = 0; i < WORDS; i++) {
		const uint64_t seen = atomic_load_acquire(&race->words[i]);

		if (claims_look(seen, lap) != CLAIMS_OPEN || !claims_take(&race->words[i], seen, lap, owner, &held))
			continue;
		check(claims_is_held_by(atomic_load_acquire(&race->words[i]), lap, owner));
		if (layout_claim_decode(held).deliveries < 3 && (i + lap + taker) % 3 == 0) {
			check(claims_return(&race->words[i], held, false));
			continue;
		}
		race->taken[taker]++;
		check(claims_release(&race->words[i], held));
	}
}

static bool lap_is_done(const struct race *race, uint32_t lap)
{
	for (unsigned i = 0; i < WORDS; i++) {
		const uint64_t word = atomic_load_acquire(&race->words[i]);

		if (!claims_is_done(&word, lap) && claims_look(word, lap) != CLAIMS_AHEAD)
			return false;
	}
	return true;
}

static void take_all(void *shared, unsigned taker)
{
	struct race *race = shared;

	tally_meet(&race->start, TAKERS);
	for (uint32_t lap = 1; lap <= race->laps; lap++)
		do
			take_lap(race, taker, lap);
		while (!lap_is_done(race, lap));
}

static void of_many_takers_one_wins_each_message(void **state)
{
	struct race *race = shared_memory(sizeof *race);
	uint64_t taken = 0;

	(void)state;
	race->laps = scaled(20000);
	for (unsigned i = 0; i < TAKERS; i++)
		process_start(take_all, race, i);
	processes_finish();
	for (unsigned i = 0; i < TAKERS; i++)
		taken += race->taken[i];
	check_equal(race->laps * WORDS, taken);
	for (unsigned i = 0; i < WORDS; i++)
		check(claims_is_done(&race->words[i], (uint32_t)race->laps));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(each_state_of_each_lap_looks_as_it_is),
		promise(a_fresh_word_is_open_for_the_first_message_only),
		promise(the_short_way_is_for_what_was_released_a_lap_before_and_takes_the_same),
		promise(only_released_and_set_aside_messages_of_that_lap_are_done),
		promise(taking_records_who_has_it),
		promise(the_second_of_two_takers_gets_nothing),
		promise(releasing_keeps_all_but_the_state),
		promise(a_word_that_differs_in_any_bit_is_neither_taken_nor_released_nor_returned),
		promise(a_returned_message_is_open_again),
		promise(a_second_take_counts_as_a_delivery_unless_the_first_was_returned_cleanly),
		promise(the_count_begins_anew_with_each_lap),
		promise(a_full_count_stays_high_and_no_claim_is_like_the_last),
		promise(a_zombie_changes_nothing_after_another_took_its_message),
		promise(a_zombie_is_not_mistaken_for_its_slots_next_holder),
		promise(a_zombie_changes_nothing_in_later_laps),
		promise(a_pair_is_taken_and_released_whole_or_not_at_all),
		promise(a_message_set_aside_is_done_with_and_stays_so),
		promise(a_message_and_its_place_name_the_lap),
		promise(laps_go_on_past_two_to_the_32),
		promise(of_many_takers_one_wins_each_message),
	};

	return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
