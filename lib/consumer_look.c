/* SPDX-License-Identifier: Apache-2.0 */
/* Which message is next: turns over lanes or the oldest of all, and when there will be no more. */
#include "consumer.h"

#include <errno.h>
#include <string.h>

#include "atomic.h"
#include "clock.h"
#include "course.h"
#include "lane_table.h"
#include "peers.h"
#include "roster.h"

/* ---- taking ---- */

static int fault_of(struct sluice_consumer *consumer, struct consumer_lane *lane, enum consumer_lane_found found,
	struct lane_fault fault)
{
	if (found == LANE_OVERTAKEN) {
		if (!peers_count_me(&consumer->channel))
			return -ESTALE; /* producers go on without the dead */
		consumer_lane_give_up(lane);
	}
	return consumer_note_fault(consumer, lane, fault);
}

/* Takes what was just found in `lane`. */
static int take(struct sluice_consumer *consumer, struct consumer_lane *lane, uint64_t budget,
	const struct sluice_message **ret_message)
{
	/* One poisoned message must not condemn its neighbours: what was delivered before is delivered alone. */
	if (lane->bytes > budget || (lane->repeated && budget != ANY_MESSAGE))
		return LOOK_TOO_LARGE;
	struct sluice_message *message = message_pool_take(&consumer->pool, &consumer->handle);
	if (message == NULL)
		return -ENOMEM;
	struct lane_fault fault;
	enum consumer_lane_found found = consumer_lane_take(lane, message, &fault);
	if (found == LANE_EMPTY)
		return LOOK_NOTHING;
	if (found != LANE_FOUND) {
		/* D3: K2 or B1 before, the look for the sleeper after, pairs with D2 in doorbell_arm */
		atomic_fence_after_rmw();
		consumer_wake_producer(consumer, lane->key.slot); /* what cannot be read has been released */
		return fault_of(consumer, lane, found, fault);
	}
	if ((message->flags & LAYOUT_STAMPED) != 0) {
		message->stamps.receive_ns = clock_monotonic_ns();
		stats_record(&consumer->page->queue_wait, message->stamps.receive_ns - message->stamps.publish_ns);
	}
	consumer_account(consumer, message, lane->bytes);
	*ret_message = message;
	return LOOK_TAKEN;
}

static int take_from(struct sluice_consumer *consumer, struct consumer_lane *lane, uint64_t budget,
	const struct sluice_message **ret_message)
{
	/* As many as others can have taken before us; more is nobody's taking, and others have their turn. */
	for (uint64_t i = 0; i < 2 * (uint64_t)lane->reader.depth; i++) {
		struct lane_fault fault;
		enum consumer_lane_found found = consumer_lane_peek(lane, &fault);
		if (found == LANE_EMPTY)
			return LOOK_NOTHING;
		if (found != LANE_FOUND)
			return fault_of(consumer, lane, found, fault);
		int result = take(consumer, lane, budget, ret_message);
		if (result != LOOK_NOTHING)
			return result;
	}
	return LOOK_NOTHING;
}

void consumer_begin_turn(struct sluice_consumer *consumer)
{
	uint64_t bytes;
	/* With no other lane to be fair to, large messages need not end a turn each. */
	uint64_t quanta = consumer->lane_count > 1 ? 1 : consumer->quantum_messages;
	bool endless = __builtin_mul_overflow(consumer->quantum_bytes, quanta, &bytes) ||
		       __builtin_add_overflow(consumer->received_bytes, bytes, &consumer->turn_until_bytes);
	if (endless)
		consumer->turn_until_bytes = UINT64_MAX;
	consumer->turn_until = consumer->received_messages + consumer->quantum_messages;
}

static void next_lane(struct sluice_consumer *consumer)
{
	consumer->current = consumer->current + 1 < consumer->lane_count ? consumer->current + 1 : 0;
	consumer_begin_turn(consumer);
}

/* A lane whose turn is over must not keep others, old or new, waiting. */
static void end_turn_if_over(struct sluice_consumer *consumer)
{
	if (consumer->received_messages < consumer->turn_until && consumer->received_bytes < consumer->turn_until_bytes)
		return;
	next_lane(consumer);
	int error = consumer_between_turns(consumer);
	if (error < 0)
		consumer->pending_error = error; /* the message is taken all the same */
}

/* A lane has nothing to take. Its producer may sleep until more is free than is: that waits for nothing now. */
static void feed(struct sluice_consumer *consumer, struct consumer_lane *lane)
{
	const struct layout_control *control = consumer->channel.control;
	if (UNLIKELY(doorbell_slot_is_armed(&control->sleeping_producers, lane->key.slot % LAYOUT_SLOTS)) &&
		consumer_lane_feeds(lane, control))
		consumer_wake_producer(consumer, lane->key.slot);
}

static int look_by_turns(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[consumer->current];
		int result = take_from(consumer, lane, budget, ret_message);
		if (result == LOOK_NOTHING)
			feed(consumer, lane);
		if (result == LOOK_TAKEN)
			end_turn_if_over(consumer);
		if (result != LOOK_NOTHING)
			return result;
		next_lane(consumer);
	}
	return LOOK_NOTHING;
}

/* The attached lane whose next message has the lowest ticket; looks only at those in `which`, and takes those out. */
static int lowest_ticket(struct sluice_consumer *consumer, bool which[LAYOUT_LANES], struct consumer_lane **best)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[i];
		struct lane_fault fault;
		if (!which[i])
			continue;
		enum consumer_lane_found found = consumer_lane_peek(lane, &fault);
		if (found == LANE_EMPTY) {
			feed(consumer, lane);
			continue;
		}
		if (found != LANE_FOUND)
			return fault_of(consumer, lane, found, fault);
		which[i] = false;
		if (*best == NULL || lane->ticket < (*best)->ticket)
			*best = lane;
	}
	return 0;
}

/*
 * Hands out the oldest. A lane that was empty when we looked may have got an older message before another lane got the
 * one that we found: whatever was published before the message in hand is visible now, so one more look at the empty
 * lanes, and at the table of lanes, finds it.
 */
static int look_by_order(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	/* Lanes that never stand still are no reason to miss a deadline. */
	for (int round = 0; round < 16; round++) {
		bool which[LAYOUT_LANES];
		struct consumer_lane *best = NULL;
		memset(which, true, sizeof which);
		int result = lowest_ticket(consumer, which, &best);
		if (result < 0 || best == NULL)
			return result;
		uint32_t before = consumer->lanes_changed;
		int changed = consumer_between_turns(consumer);
		if (changed < 0)
			return changed;
		if (consumer->lanes_changed != before || (changed > 0 && consumer->pending_error == 0))
			continue; /* other lanes, or messages to look at again */
		/* O2: the second look (C1), pairs with O1 in publish_properly */
		result = lowest_ticket(consumer, which, &best);
		if (result < 0)
			return result;
		result = take(consumer, best, budget, ret_message);
		if (result != LOOK_NOTHING)
			return result;
	}
	return LOOK_NOTHING;
}

/* So many messages at most are taken at once before somebody looks properly, though a lane's turn may be longer. */
#define AT_ONCE_MOST 64

/*
 * What may be taken without a proper look: the rest of a turn but its last message. Nothing while something is the matter
 * that such a look would find.
 */
static void allow_at_once(struct sluice_consumer *consumer)
{
	consumer->at_once_until = 0;
	if (consumer->ordered || consumer->pending_error != 0 || consumer->lane_count == 0)
		return;
	uint64_t most = consumer->received_messages + AT_ONCE_MOST;
	consumer->at_once = consumer->lanes[consumer->current];
	consumer->at_once_until = (most < consumer->turn_until ? most : consumer->turn_until) - 1;
}

bool consumer_goes_on(struct sluice_consumer *consumer)
{
	const struct layout_epochs *epochs = &consumer->channel.control->epochs;
	if (consumer->lane_count != 1 || consumer->at_once_until == 0 || consumer->ordered ||
		consumer->received_messages < consumer->at_once_until || consumer->pending_error != 0 ||
		consumer->attachment != NULL || !peers_count_me(&consumer->channel))
		return false;
	/* relaxed, both: a proper look finds out what they stand for (E2, R2), and one that is missed here shows the next time */
	if (atomic_load_relaxed(&epochs->lanes) != consumer->lanes_epoch ||
		(!consumer->at_once->broadcast &&
			atomic_load_relaxed(&epochs->redelivery) != consumer->redelivery_epoch)) /* relaxed: as said */
		return false;
	consumer_begin_turn(consumer);
	consumer->at_once_until = consumer->received_messages + AT_ONCE_MOST;
	return true;
}

static void collect_leaving(struct sluice_consumer *consumer)
{
	if (UNLIKELY(consumer->attachment != NULL))
		consumer->attachment->collect(consumer->attachment);
}

static int look(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	collect_leaving(consumer);
	if (UNLIKELY(!peers_count_me(&consumer->channel)))
		return -ESTALE; /* also one that never sleeps has to learn of it: nobody would give back what it takes now */
	if (UNLIKELY(consumer->pending_error != 0)) {
		int error = consumer->pending_error;
		consumer->pending_error = 0;
		return error;
	}
	return consumer->ordered ? look_by_order(consumer, budget, ret_message)
				 : look_by_turns(consumer, budget, ret_message);
}

int consumer_look(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	int result = look(consumer, budget, ret_message);
	allow_at_once(consumer);
	return result;
}

/* ---- end of stream ---- */

/* Enough producers have closed cleanly, none is there, and none died without being replaced. */
static bool producers_are_gone(const struct sluice_consumer *consumer)
{
	const struct layout_control *control = consumer->channel.control;
	/* N2: before M2, pairs with N1 in give_up_slot: whoever is counted here is seen to be gone below */
	if (atomic_load_acquire(&control->epochs.producers_closed) < consumer->expected_producers)
		return false;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		struct roster_view view = roster_look(&control->members[slot]);
		if (view.role == SLUICE_ROLE_PRODUCER &&
			(view.state == LAYOUT_MEMBER_ALIVE || view.state == LAYOUT_MEMBER_DEAD))
			return false;
	}
	return true;
}

/*
 * 1 at the end of the stream, 0 if not, or a negative errno. The roster first: a producer that is gone by now linked
 * its lane before it went, so the table then has every lane there is.
 */
static int is_over(struct sluice_consumer *consumer)
{
	if ((consumer->flags & SLUICE_END_OF_STREAM) == 0 || !producers_are_gone(consumer))
		return 0;
	int changed = consumer_between_turns(consumer);
	if (changed != 0)
		return changed < 0 ? changed : 0;
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (!consumer_lane_is_finished(consumer->lanes[i], consumer->channel.control))
			return 0;
	return 1;
}

/* ---- both ---- */

static int look_at_all(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	/* Epochs that never stand still are no reason to miss a deadline. */
	for (int round = 0; round < 16; round++) {
		int result = look(consumer, budget, ret_message);
		if (result != LOOK_NOTHING)
			return result;
		result = consumer_between_turns(consumer);
		if (result < 0)
			return result;
		if (result > 0)
			continue;
		result = is_over(consumer);
		return result > 0 ? -ENODATA : result;
	}
	return LOOK_NOTHING;
}

/* One look at everything there is to wait for. LOOK_NOTHING means that a sleep is in order. */
int consumer_look_at_all(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	int result = look_at_all(consumer, budget, ret_message);
	allow_at_once(consumer);
	return result;
}

/* True if a lane has a message, or an error that is kept. */
static bool peek_at_lanes(struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[(consumer->current + i) % consumer->lane_count];
		struct lane_fault fault;
		enum consumer_lane_found found = consumer_lane_peek(lane, &fault);
		if (found == LANE_EMPTY) {
			feed(consumer, lane);
			continue;
		}
		if (found != LANE_FOUND)
			consumer->pending_error = fault_of(consumer, lane, found, fault);
		return true;
	}
	return false;
}

static int peek(struct sluice_consumer *consumer)
{
	/* As in consumer_look_at_all. */
	for (int round = 0; round < 16; round++) {
		bool found = consumer->pending_error != 0 || peek_at_lanes(consumer);
		if (found)
			return consumer->pending_error != 0 ? consumer->pending_error : LOOK_TAKEN;
		int result = consumer_between_turns(consumer);
		if (result > 0)
			continue;
		if (result == 0)
			result = is_over(consumer);
		if (result < 0)
			consumer->pending_error = result;
		return result > 0 ? -ENODATA : result;
	}
	return LOOK_NOTHING;
}

int consumer_peek(struct sluice_consumer *consumer)
{
	collect_leaving(consumer);
	int result = peek(consumer);
	allow_at_once(consumer);
	return result;
}
