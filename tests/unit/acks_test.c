/* SPDX-License-Identifier: Apache-2.0 */
/* Acknowledgements: what a device wrote releases exactly what its consumer said, and rubbish releases nothing. */
#include "acks.h"

#include <stdlib.h>
#include <string.h>

#include "claims.h"

#include "../support/harness.h"

#define DEPTH 8
#define SLOT  5

static const struct lane_key lane = {.slot = 2, .incarnation = 9};
static const struct claims_owner consumer = {.slot = SLOT, .incarnation = 77};

/* A control object with one consumer, and the claims of a lane of which it holds messages 16 to 23. */
struct scene {
	struct layout_control *control;
	struct layout_claims *claims;
	uint64_t held[DEPTH];
};

static struct scene begin(void)
{
	struct scene scene = {
		.control = shared_memory(sizeof(struct layout_control)),
		.claims = shared_memory(sizeof(struct layout_claims) + DEPTH * sizeof(uint64_t)),
	};

	scene.control->members[SLOT].word =
		layout_member_word(consumer.incarnation, SLUICE_ROLE_CONSUMER, LAYOUT_MEMBER_ALIVE);
	for (uint64_t i = 0; i < DEPTH; i++) {
		uint64_t *word = &scene.claims->u.claims[i];

		*word = layout_claim_encode((struct layout_claim){.lap = 2});
		check(claims_take(word, *word, 3, consumer, &scene.held[i]));
	}
	return scene;
}

static struct acks_run run_of(const struct scene *scene, uint64_t first, uint32_t count)
{
	return (struct acks_run){lane, 16 + first, scene->held[first], count, 3};
}

#define TICKET layout_ticket_encode(41, consumer.incarnation)

static void announce(const struct scene *scene, struct acks_run run)
{
	acks_announce(scene->control, SLOT, 7, TICKET, &run);
}

static void acknowledge(const struct scene *scene)
{
	scene->control->consumers[SLOT].words[3] = TICKET;
}

static uint32_t collect(const struct scene *scene)
{
	return acks_collect(scene->control, lane, scene->claims, DEPTH);
}

static bool is_free(const struct scene *scene, uint64_t index)
{
	return claims_is_done(&scene->claims->u.claims[index], 3);
}

static void nothing_is_released_before_the_ticket_is_there(void **state)
{
	const struct scene scene = begin();

	(void)state;
	check(!acks_exist(scene.control));
	check(!acks_wait_for(scene.control, lane));
	announce(&scene, run_of(&scene, 2, 3));
	check(acks_exist(scene.control));
	check(acks_wait_for(scene.control, lane));
	check(!acks_wait_for(scene.control, (struct lane_key){2, 10}));
	check_equal(0, collect(&scene));
	/* Neither by another ticket, one before or after, nor by that of another incarnation. */
	scene.control->consumers[SLOT].words[3] = TICKET - 1;
	check_equal(0, collect(&scene));
	scene.control->consumers[SLOT].words[3] = TICKET + 1;
	check_equal(0, collect(&scene));
	scene.control->consumers[SLOT].words[3] = layout_ticket_encode(41, consumer.incarnation - 1);
	check_equal(0, collect(&scene));
	acknowledge(&scene);
	check_equal(3, collect(&scene));
	check_equal(0, collect(&scene));
	for (uint64_t i = 0; i < DEPTH; i++)
		check_equal(i >= 2 && i < 5, is_free(&scene, i));
	acks_withdraw(scene.control, SLOT, 7);
	check(!acks_exist(scene.control));
	check(!acks_wait_for(scene.control, lane));
}

static void a_run_may_go_over_the_end_of_the_lane(void **state)
{
	struct scene scene = begin();
	uint64_t *word = &scene.claims->u.claims[0];

	(void)state;
	check(claims_release(word, scene.held[0]));
	check(claims_take(word, *word, 4, consumer, &scene.held[0]));
	announce(&scene, run_of(&scene, 6, 3)); /* 22, 23, and 24 of the next lap */
	acknowledge(&scene);
	check_equal(3, collect(&scene));
	check(claims_is_done(word, 4));
	check(is_free(&scene, 6) && is_free(&scene, 7) && !is_free(&scene, 1));
}

static void what_moved_on_stays_as_it_is(void **state)
{
	struct scene scene = begin();
	uint64_t *words = scene.claims->u.claims;
	const struct claims_owner other = {1, 1};
	uint64_t held;

	(void)state;
	announce(&scene, run_of(&scene, 0, 4));
	check(claims_return(&words[0], scene.held[0], false)); /* given back, */
	check(claims_return(&words[1], scene.held[1], false)); /* and taken by another, */
	check(claims_take(&words[1], words[1], 3, other, &held));
	check(claims_return(&words[2], scene.held[2], false)); /* or by itself again */
	check(claims_take(&words[2], words[2], 3, consumer, &held));
	acknowledge(&scene);
	check_equal(1, collect(&scene));
	check_equal(LAYOUT_RETURNED, layout_claim_decode(words[0]).state);
	check_equal(LAYOUT_CLAIMED, layout_claim_decode(words[1]).state);
	check_equal(LAYOUT_CLAIMED, layout_claim_decode(words[2]).state);
	check(is_free(&scene, 3));
}

static void the_dead_acknowledge_to_their_recoverer_only(void **state)
{
	const struct scene scene = begin();

	(void)state;
	announce(&scene, run_of(&scene, 0, 2));
	acknowledge(&scene);
	scene.control->members[SLOT].word =
		layout_member_word(consumer.incarnation, SLUICE_ROLE_CONSUMER, LAYOUT_MEMBER_DEAD);
	check_equal(0, collect(&scene));
	check(!acks_wait_for(scene.control, lane));
	scene.control->members[SLOT].word =
		layout_member_word(consumer.incarnation + 1, SLUICE_ROLE_CONSUMER, LAYOUT_MEMBER_ALIVE);
	check_equal(0, collect(&scene)); /* the next holder's they are not */
	check_equal(2, acks_collect_from(scene.control, consumer, lane, scene.claims, DEPTH));
}

static void rubbish_releases_nothing(void **state)
{
	struct scene scene = begin();
	const struct acks_run good = run_of(&scene, 2, 3);
	const struct layout_claim held = layout_claim_decode(good.claim);
	struct acks_run bad[16];
	unsigned count = 0;
	struct layout_claim claim;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		bad[i] = good;
	bad[count++].word = LAYOUT_ACKS;
	bad[count++].word = UINT32_MAX;
	bad[count++].count = DEPTH + 1;
	bad[count++].count = UINT32_MAX;
	bad[count++].lane.slot = UINT32_MAX;
	bad[count++].lane.incarnation++;
	bad[count++].sequence += 8; /* of another lap than the claim */
	bad[count++].sequence = UINT64_MAX;
	claim = held, claim.state = LAYOUT_RETURNED, bad[count++].claim = layout_claim_encode(claim);
	claim = held, claim.state = LAYOUT_RELEASED, bad[count++].claim = layout_claim_encode(claim);
	claim = held, claim.slot++, bad[count++].claim = layout_claim_encode(claim);
	claim = held, claim.incarnation++, bad[count++].claim = layout_claim_encode(claim);
	claim = held, claim.deliveries++, bad[count++].claim = layout_claim_encode(claim);
	acknowledge(&scene);
	for (unsigned i = 0; i < count; i++) {
		announce(&scene, bad[i]);
		check_equal(0, collect(&scene));
		acks_withdraw(scene.control, SLOT, 7);
	}
	/* A ticket of another incarnation than its page. */
	acks_announce(scene.control, SLOT, 7, TICKET + (UINT64_C(1) << LAYOUT_TICKET_BITS), &good);
	scene.control->consumers[SLOT].words[3] = TICKET + (UINT64_C(1) << LAYOUT_TICKET_BITS);
	check_equal(0, collect(&scene));
	acks_withdraw(scene.control, SLOT, 7);
	for (uint64_t i = 0; i < DEPTH; i++)
		check(!is_free(&scene, i));
	announce(&scene, good);
	acknowledge(&scene);
	check_equal(3, collect(&scene));
}

/* A zombie of the same slot writes each field of an entry while its successor has filled the others. */
static void an_entry_that_two_wrote_is_none(void **state)
{
	struct scene scene = begin();
	struct layout_ack *ack = &scene.control->consumers[SLOT].acks[7];
	struct layout_ack mine;

	(void)state;
	announce(&scene, run_of(&scene, 2, 1));
	acknowledge(&scene);
	mine = *ack;
	/* More of its messages, another one, all in the same lap and held alike. */
	ack->count = 4;
	check_equal(0, collect(&scene));
	*ack = mine;
	ack->sequence++;
	check_equal(0, collect(&scene));
	*ack = mine;
	ack->word = 4;
	scene.control->consumers[SLOT].words[4] = TICKET;
	check_equal(0, collect(&scene));
	*ack = mine;
	ack->seal ^= 1;
	check_equal(0, collect(&scene));
	for (uint64_t i = 0; i < DEPTH; i++)
		check(!is_free(&scene, i));
	*ack = mine;
	check_equal(1, collect(&scene));
}

static void any_bytes_at_all_leave_others_alone(void **state)
{
	struct scene scene = begin();
	uint64_t *words = scene.claims->u.claims;
	const struct claims_owner other = {1, 1};
	uint64_t random = 1, held[DEPTH];

	(void)state;
	/* All is another's. */
	for (uint64_t i = 0; i < DEPTH; i++) {
		check(claims_return(&words[i], scene.held[i], false));
		check(claims_take(&words[i], words[i], 3, other, &held[i]));
	}
	for (uint64_t round = 0; round < scaled(200000); round++) {
		struct layout_consumer_page *page = &scene.control->consumers[SLOT];
		uint8_t *bytes = (uint8_t *)page->acks;

		for (unsigned i = 0; i < 8; i++) {
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
			bytes[(random >> 33) % 480] = (uint8_t)(random >> 56);
		}
		/* Sound seals, so that it is not they alone that keep rubbish out. */
		for (unsigned i = 0; i < 10 && round % 2; i++)
			page->acks[i].seal = layout_ack_seal(&page->acks[i]);
		page->pending = random;
		page->words[random >> 60] = page->acks[0].ticket;
		scene.control->acknowledging.words[0] = UINT64_MAX;
		collect(&scene);
		acks_wait_for(scene.control, lane);
	}
	for (uint64_t i = 0; i < DEPTH; i++)
		check_equal(held[i], words[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(nothing_is_released_before_the_ticket_is_there),
		promise(a_run_may_go_over_the_end_of_the_lane),
		promise(what_moved_on_stays_as_it_is),
		promise(the_dead_acknowledge_to_their_recoverer_only),
		promise(rubbish_releases_nothing),
		promise(an_entry_that_two_wrote_is_none),
		promise(any_bytes_at_all_leave_others_alone),
	};

	return cmocka_run_group_tests_name("acks", tests, NULL, NULL);
}
