/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers: releasing messages, and giving them back for others to take. */
#include "consumer.h"

#include <errno.h>

#include "atomic.h"
#include "clock.h"
#include "course.h"

/* ---- release ---- */

/* Wakes whom a release concerns: the producer, for room, and all who wait for the end of the stream. */
static COLD int wake_after_release(struct sluice_message *message, bool starved, bool abandoned)
{
	struct sluice_consumer *consumer = (struct sluice_consumer *)message->handle;
	struct layout_control *control = consumer->channel.control;
	const struct consumer_lane *lane = message->held.lane;
	/* Consumers that sleep have looked in vain already: then any room is enough. */
	if (starved && (consumer_lane_frees_enough(lane, control) || (doorbell_is_armed(&control->sleeping_consumers) &&
									     consumer_lane_frees_some(lane, control))))
		consumer_wake_producer(consumer, lane->key.slot);
	if (abandoned)
		doorbell_ring_all(control->bells, &control->sleeping_consumers);
	message_set_state(message, MESSAGE_NONE);
	return 0;
}

/*
 * Wakes whoever waits for what a release means, and gives the handle back: until then the lane cannot go. `moved`: memory
 * may have become free.
 */
static inline int let_go(struct sluice_message *message, bool moved)
{
	struct sluice_consumer *consumer = (struct sluice_consumer *)message->handle;
	const struct layout_control *control = consumer->channel.control;
	uint32_t slot = (uint32_t)message->origin % LAYOUT_SLOTS;
	atomic_fence_after_rmw(); /* D3: K2 or B1 before, the looks for sleepers after, pairs with D2 in doorbell_arm */
	bool starved = moved && doorbell_slot_is_armed(&control->sleeping_producers, slot);
	/*
	 * It may be the last message that others wait for at the end of the stream. A producer that leaves after this
	 * look rings them itself.
	 */
	bool abandoned =
		atomic_load_acquire(message->held.member) != message->held.member_there; /* M2: as in roster_look */
	if (UNLIKELY(starved || abandoned))
		return wake_after_release(message, starved && !abandoned, abandoned);
	message_set_state(message, MESSAGE_NONE);
	return 0;
}

static COLD int give_up(struct sluice_message *message)
{
	let_go(message, false);
	return -ESTALE;
}

static COLD int release_properly(struct sluice_message *message)
{
	struct sluice_consumer *consumer = (struct sluice_consumer *)message->handle;
	if ((message->flags & LAYOUT_STAMPED) != 0)
		stats_record(&consumer->page->hold_time, clock_monotonic_ns() - message->stamps.receive_ns);
	struct lane_release release = consumer_lane_release(message);
	let_go(message, release.moved);
	return release.error;
}

int sluice_release(const struct sluice_message *const_message)
{
	if (const_message == NULL)
		return -EINVAL;
	int error = handle_check(const_message->handle);
	if (error != 0)
		return error;
	if (message_state(const_message) != MESSAGE_HELD) /* one of a producer never is */
		return -EALREADY;
	struct sluice_message *message = (struct sluice_message *)(uintptr_t)const_message;
	if (UNLIKELY((message->flags & LAYOUT_STAMPED) != 0 || message->held.lane->broadcast))
		return release_properly(message);
	if (UNLIKELY(!claims_release(message->held.claim, message->held.claimed)))
		return give_up(message);
	return let_go(message, true);
}

/* True if `message` is held, of the same consumer and lane as `first`, and its release needs nothing but its claim word. */
static inline bool releases_like(const struct sluice_message *message, const struct sluice_message *first)
{
	return message != NULL && message->handle == first->handle && message_state(message) == MESSAGE_HELD &&
	       message->held.lane == first->held.lane && (message->flags & LAYOUT_STAMPED) == 0;
}

/* Releases `first`, and `second` unless that is NULL, in one swap if it can. Returns how many; 0: not `first` either. */
static inline size_t swap_released(const struct sluice_message *first, const struct sluice_message *second)
{
	if (second != NULL && second->held.claim == first->held.claim + 1 && claims_begins_pair(first->held.claim) &&
		claims_release_pair(first->held.claim, first->held.claimed, second->held.claimed))
		return 2;
	return claims_release(first->held.claim, first->held.claimed) ? 1 : 0;
}

/*
 * Releases the messages at the front that are of one queue's lane and need nothing special, and looks once for all of them
 * whom it concerns. Returns how many; 0: have sluice_release find out about the first.
 */
static size_t release_run(const struct sluice_message *const *messages, size_t count)
{
	const struct sluice_message *first = messages[0];
	if (first == NULL || handle_check(first->handle) != 0 || message_state(first) != MESSAGE_HELD ||
		first->held.lane->broadcast || !releases_like(first, first))
		return 0;
	size_t released = 0;
	size_t seen = 1; /* messages behind those that were looked at and are alike */
	while (seen > 0) {
		seen += seen == 1 && released + 1 < count && releases_like(messages[released + 1], first);
		size_t more = swap_released(messages[released], seen == 2 ? messages[released + 1] : NULL);
		if (more == 0)
			break;
		released += more;
		seen -= more;
		seen += seen == 0 && released < count && releases_like(messages[released], first);
	}
	if (released == 0)
		return 0;
	/* The last one is kept longest: while it is held the lane cannot go. */
	for (size_t i = 0; i + 1 < released; i++)
		message_set_state((struct sluice_message *)(uintptr_t)messages[i], MESSAGE_NONE);
	let_go((struct sluice_message *)(uintptr_t)messages[released - 1], true);
	return released;
}

int sluice_release_batch(const struct sluice_message *const *messages, size_t count)
{
	if (messages == NULL && count > 0)
		return -EINVAL;
	int first_error = 0;
	for (size_t i = 0; i < count;) {
		size_t released = release_run(&messages[i], count - i);
		if (LIKELY(released != 0)) {
			i += released;
			continue;
		}
		int error = sluice_release(messages[i++]);
		first_error = first_error != 0 ? first_error : error;
	}
	return first_error;
}

/* ---- giving back ---- */

void consumer_give_back(struct sluice_consumer *consumer, enum message_state state)
{
	/*
	 * What leaves counts as delivered: the device may have failed over it. And this consumer may take it again, whose
	 * claim word must then be another than the one that an acknowledgement speaks of.
	 */
	bool clean = state == MESSAGE_HELD;
	bool returned = false;
	for (uint32_t i = 0; i < consumer->pool.count; i++) {
		struct sluice_message *message = consumer->pool.messages[i];
		if (message_state(message) != state)
			continue;
		if (!message->held.lane->broadcast)
			returned |= claims_return(message->held.claim, message->held.claimed, clean);
		message_set_state(message, MESSAGE_NONE);
	}
	struct layout_control *control = consumer->channel.control;
	if (!returned)
		return;
	atomic_add_full(&control->epochs.redelivery, UINT64_C(1)); /* R1: after K4, pairs with R2 in rescan_returned */
	atomic_fence_after_rmw(); /* D3: R1 before, the look for sleepers after, pairs with D2 in doorbell_arm */
	doorbell_ring_all(control->bells, &control->sleeping_consumers);
}

/* ---- messages that leave ---- */

void consumer_finish_leaving(struct sluice_message *message)
{
	/* Who else saw the acknowledgement may have released it already: -ESTALE is as good. */
	(void)release_properly(message);
}

void consumer_return_leaving(struct sluice_consumer *consumer)
{
	if (consumer->channel.config.mode == SLUICE_QUEUE) {
		consumer_give_back(consumer, MESSAGE_LEAVING);
		return;
	}
	for (uint32_t i = 0; i < consumer->pool.count; i++)
		if (message_state(consumer->pool.messages[i]) == MESSAGE_LEAVING)
			consumer_finish_leaving(consumer->pool.messages[i]);
}
