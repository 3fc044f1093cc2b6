/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers: turns over lanes, waiting, receiving and releasing. */
#include <sluice/consumer.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"
#include "channel.h"
#include "clock.h"
#include "consumer_lane.h"
#include "handle.h"
#include "message.h"
#include "peers.h"
#include "recover.h"
#include "roster.h"
#include "stats.h"
#include "waiter.h"

#define DEFAULT_QUANTUM_MESSAGES 32
#define DEFAULT_QUANTUM_BYTES    (UINT64_C(1) << 20)

struct sluice_consumer {
	struct handle handle;
	struct message_pool pool; /* outlives close: see message_pool */
	struct channel channel;
	struct layout_consumer_page *page;
	struct consumer_lane
		*lanes[LAYOUT_LANES]; /* the first `lane_count` are attached, the next `spare_count` are not */
	uint32_t lane_count;
	uint32_t spare_count;
	uint32_t lanes_changed;                /* counts changes of the order above */
	struct lane_key refused[LAYOUT_LANES]; /* by table index: lanes that could not be attached, told once */
	uint64_t lanes_epoch;
	uint64_t redelivery_epoch;
	uint32_t current; /* whose turn it is */
	uint32_t turn_messages;
	uint64_t turn_bytes;
	uint32_t quantum_messages;
	uint64_t quantum_bytes;
	uint32_t flags;
	uint32_t expected_producers;
	int64_t spin_ns;
	struct sampler liveness; /* when a consumer that never waits looks after the others */
	int pending_error;       /* found while something else was under way */
	bool ordered;
	bool has_fault;
	struct sluice_fault fault;
};

/* ---- faults ---- */

static int note_fault(struct sluice_consumer *consumer, const struct consumer_lane *lane, struct lane_fault fault)
{
	consumer->fault = (struct sluice_fault){
		.slot = lane->key.slot,
		.incarnation = lane->key.incarnation,
		.pid = lane->objects.geometry.pid,
		.sequence = fault.sequence,
	};
	memcpy(consumer->fault.program, lane->objects.geometry.program, sizeof consumer->fault.program);
	consumer->fault.program[sizeof consumer->fault.program - 1] = '\0';
	snprintf(consumer->fault.reason, sizeof consumer->fault.reason, "%s", fault.reason);
	consumer->has_fault = true;
	stats_add(&consumer->page->faults, 1);
	return -EBADMSG;
}

/* ---- waking ---- */

static void wake_producer(struct sluice_consumer *consumer, uint32_t slot)
{
	struct layout_control *control = consumer->channel.control;
	if (__builtin_expect(!doorbell_slot_is_armed(&control->sleeping_producers, slot), 1))
		return;
	if (doorbell_ring(doorbell_of(control->bells, &control->sleeping_producers, slot)))
		atomic_add_relaxed(&consumer->page->wakeups_sent, UINT64_C(1)); /* relaxed: a figure for people */
}

/* ---- which lanes there are ---- */

static bool has_lane(const struct sluice_consumer *consumer, struct lane_key key)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (consumer->lanes[i]->key.slot == key.slot && consumer->lanes[i]->key.incarnation == key.incarnation)
			return true;
	return false;
}

static bool holds_messages_of(const struct sluice_consumer *consumer, const struct consumer_lane *lane)
{
	for (uint32_t i = 0; i < consumer->pool.count; i++) {
		const struct sluice_message *message = consumer->pool.messages[i];
		if (message_state(message) == MESSAGE_HELD && message->of.held.lane == lane)
			return true;
	}
	return false;
}

/* Lets go of lanes that were taken away. One whose release is on its last lines in another thread goes the next time. */
static bool drop_gone_lanes(struct sluice_consumer *consumer)
{
	bool all = true;
	for (uint32_t i = 0; i < consumer->lane_count;) {
		struct consumer_lane *lane = consumer->lanes[i];
		bool gone = !lane_table_has(consumer->channel.control, lane->key);
		if (gone && !holds_messages_of(consumer, lane)) {
			consumer_lane_detach(lane);
			consumer->lanes[i] = consumer->lanes[--consumer->lane_count];
			consumer->lanes[consumer->lane_count] = lane;
			consumer->spare_count++;
			consumer->lanes_changed++;
			continue;
		}
		all &= !gone;
		i++;
	}
	if (consumer->current >= consumer->lane_count)
		consumer->current = 0;
	return all;
}

/* An unattached struct at the end of the attached ones. */
static struct consumer_lane *spare_lane(struct sluice_consumer *consumer)
{
	if (consumer->spare_count == 0) {
		consumer->lanes[consumer->lane_count] = calloc(1, sizeof(struct consumer_lane));
		if (consumer->lanes[consumer->lane_count] == NULL)
			return NULL;
		consumer->spare_count = 1;
	}
	return consumer->lanes[consumer->lane_count];
}

static bool was_refused(const struct sluice_consumer *consumer, uint32_t index, struct lane_key key)
{
	return consumer->refused[index].slot == key.slot && consumer->refused[index].incarnation == key.incarnation;
}

/* A lane that cannot be attached is told once as a fault and then left alone. */
static void refuse_lane(struct sluice_consumer *consumer, uint32_t index, struct lane_key key, struct lane_fault fault)
{
	struct consumer_lane nowhere = {.key = key};
	const struct layout_member *member = &consumer->channel.control->members[key.slot % LAYOUT_SLOTS];
	if (roster_look(member).incarnation == key.incarnation) {
		nowhere.objects.geometry.pid = member->pid;
		memcpy(nowhere.objects.geometry.program, member->program, sizeof member->program);
	}
	consumer->refused[index] = key;
	consumer->pending_error = note_fault(consumer, &nowhere, fault);
}

static int attach_lane(struct sluice_consumer *consumer, uint32_t index, struct lane_key key, bool newest)
{
	struct lane_fault fault = {"objects that this user may not open", UINT64_MAX};
	struct consumer_lane *lane = consumer->lane_count < LAYOUT_LANES ? spare_lane(consumer) : NULL;
	if (lane == NULL)
		return -ENOMEM;
	int error = consumer_lane_attach(lane, &consumer->channel, key, newest, &fault);
	if (error == -ENOENT)
		return 0; /* it went while we looked; the epoch tells */
	if (error == -ENOMEM || error == -EMFILE || error == -ENFILE)
		return error; /* ours to mend, and to be tried again */
	if (error != 0) {
		refuse_lane(consumer, index, key, fault);
		return 0;
	}
	consumer->lane_count++;
	consumer->spare_count--;
	consumer->lanes_changed++;
	if (lane->broadcast) /* its producer waited for us to look; the cursor's move ended with a full fence, D3 */
		wake_producer(consumer, key.slot);
	return 1;
}

/* Brings the attached lanes in step with the table. Returns how many are new, or a negative errno. */
static int sync_lanes(struct sluice_consumer *consumer, bool newest)
{
	/* E2: before L2, pairs with E1 in lane_table_link: whoever sees the epoch sees the entries */
	uint64_t epoch = atomic_load_acquire(&consumer->channel.control->epochs.lanes);
	if (epoch == consumer->lanes_epoch)
		return 0;
	int attached = 0;
	bool all = drop_gone_lanes(consumer);
	for (uint32_t i = 0; i < LAYOUT_LANES; i++) {
		struct lane_key key;
		if (!lane_table_entry(consumer->channel.control, i, &key) || has_lane(consumer, key) ||
			was_refused(consumer, i, key))
			continue;
		int result = attach_lane(consumer, i, key, newest);
		if (result < 0)
			return result;
		attached += result;
	}
	if (all)
		consumer->lanes_epoch = epoch;
	return attached;
}

static void rescan(struct sluice_consumer *consumer)
{
	consumer->lanes_changed++; /* what was found before is no longer where the lanes look */
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		consumer_lane_rescan(consumer->lanes[i]);
}

/* Looks from the start of each lane for what others gave back. True if there was a reason to. */
static bool rescan_returned(struct sluice_consumer *consumer)
{
	/* R2: before C2, pairs with R1 in give_back: whoever sees the epoch sees the claim words that were returned */
	uint64_t epoch = atomic_load_acquire(&consumer->channel.control->epochs.redelivery);
	if (epoch == consumer->redelivery_epoch)
		return false;
	consumer->redelivery_epoch = epoch;
	rescan(consumer);
	return true;
}

static bool any_drained(const struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (consumer_lane_is_drained(consumer->lanes[i], consumer->channel.control))
			return true;
	return false;
}

/* Takes away lanes that ended and are drained, unless somebody is at the gate: then the next turn does. */
static void retire_drained(struct sluice_consumer *consumer)
{
	if (!any_drained(consumer) || channel_lock_gate(&consumer->channel, 0) != 0)
		return;
	struct lane_table table = channel_lane_table(&consumer->channel);
	lane_table_retire_all(&table);
	channel_unlock_gate(&consumer->channel);
}

/*
 * What is done between turns and before sleeping: new lanes, returned messages, drained lanes. Returns 1 if there may be
 * something new to receive, 0, or a negative errno.
 */
static int between_turns(struct sluice_consumer *consumer)
{
	int attached = sync_lanes(consumer, false);
	if (attached < 0)
		return attached;
	bool returned = consumer->channel.config.mode == SLUICE_QUEUE && rescan_returned(consumer);
	retire_drained(consumer);
	return attached > 0 || returned || consumer->pending_error != 0;
}

/* ---- taking ---- */

/* The budget of a call that takes one message, whatever it is; that of a batch is always less. */
#define ANY_MESSAGE UINT64_MAX

/* What one look for a message came to. */
enum look {
	LOOK_NOTHING = 0,
	LOOK_TAKEN = 1,
	LOOK_TOO_LARGE = 2 /* the next one is over the caller's budget */
};

static int fault_of(struct sluice_consumer *consumer, struct consumer_lane *lane, enum consumer_lane_found found,
	struct lane_fault fault)
{
	if (found == LANE_OVERTAKEN) {
		if (!peers_count_me(&consumer->channel))
			return -ESTALE; /* producers go on without the dead */
		consumer_lane_give_up(lane);
	}
	return note_fault(consumer, lane, fault);
}

static void account(struct sluice_consumer *consumer, struct consumer_lane *lane, struct sluice_message *message)
{
	stats_add(&consumer->page->received_messages, 1);
	stats_add(&consumer->page->received_bytes, lane->bytes);
	if (message->stamps.publish_ns != 0) {
		message->stamps.receive_ns = clock_monotonic_ns();
		stats_record(&consumer->page->queue_wait, message->stamps.receive_ns - message->stamps.publish_ns);
	}
	message_set_state(message, MESSAGE_HELD);
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
		wake_producer(consumer, lane->key.slot); /* what cannot be read has been released */
		return fault_of(consumer, lane, found, fault);
	}
	account(consumer, lane, message);
	*ret_message = message;
	return LOOK_TAKEN;
}

static int take_from(struct sluice_consumer *consumer, struct consumer_lane *lane, uint64_t budget,
	const struct sluice_message **ret_message)
{
	for (;;) {
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
}

static void next_lane(struct sluice_consumer *consumer)
{
	consumer->current = consumer->current + 1 < consumer->lane_count ? consumer->current + 1 : 0;
	consumer->turn_messages = 0;
	consumer->turn_bytes = 0;
}

/* Counts a message against its lane's turn; a lane whose turn is over must not keep others, old or new, waiting. */
static int count_turn(struct sluice_consumer *consumer, const struct consumer_lane *lane)
{
	consumer->turn_bytes += lane->bytes;
	if (++consumer->turn_messages < consumer->quantum_messages && consumer->turn_bytes < consumer->quantum_bytes)
		return 0;
	next_lane(consumer);
	int result = between_turns(consumer);
	return result < 0 ? result : 0;
}

static int look_by_turns(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[consumer->current];
		int result = take_from(consumer, lane, budget, ret_message);
		if (result == LOOK_TAKEN) {
			int error = count_turn(consumer, lane);
			if (error < 0)
				consumer->pending_error = error; /* this message is taken all the same */
		}
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
		if (found == LANE_EMPTY)
			continue;
		if (found != LANE_FOUND)
			return fault_of(consumer, lane, found, fault);
		which[i] = false;
		if (*best == NULL || lane->ticket < (*best)->ticket)
			*best = lane;
	}
	return 0;
}

/*
 * Hands out the oldest. A lane that was empty when we looked may have got an older message before another lane got the one
 * that we found: whatever was published before the message in hand is visible now, so one more look at the empty lanes,
 * and at the table of lanes, finds it.
 */
static int look_by_order(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	for (;;) {
		bool which[LAYOUT_LANES];
		struct consumer_lane *best = NULL;
		memset(which, true, sizeof which);
		int result = lowest_ticket(consumer, which, &best);
		if (result < 0 || best == NULL)
			return result;
		uint32_t before = consumer->lanes_changed;
		int changed = between_turns(consumer);
		if (changed < 0)
			return changed;
		if (consumer->lanes_changed != before || (changed > 0 && consumer->pending_error == 0))
			continue; /* other lanes, or messages to look at again */
		/* O2: the second look (C1), pairs with O1 in sluice_publish */
		result = lowest_ticket(consumer, which, &best);
		if (result < 0)
			return result;
		result = take(consumer, best, budget, ret_message);
		if (result != LOOK_NOTHING)
			return result;
	}
}

static int look(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	if (__builtin_expect(consumer->pending_error != 0, 0)) {
		int error = consumer->pending_error;
		consumer->pending_error = 0;
		return error;
	}
	return consumer->ordered ? look_by_order(consumer, budget, ret_message)
				 : look_by_turns(consumer, budget, ret_message);
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
 * 1 at the end of the stream, 0 if not, or a negative errno. The roster first: a producer that is gone by now linked its
 * lane before it went, so the table then has every lane there is.
 */
static int is_over(struct sluice_consumer *consumer)
{
	if ((consumer->flags & SLUICE_END_OF_STREAM) == 0 || !producers_are_gone(consumer))
		return 0;
	int changed = between_turns(consumer);
	if (changed != 0)
		return changed < 0 ? changed : 0;
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (!consumer_lane_is_finished(consumer->lanes[i], consumer->channel.control))
			return 0;
	return 1;
}

/* ---- waiting ---- */

/* One look at everything there is to wait for. LOOK_NOTHING means that a sleep is in order. */
static int look_at_all(struct sluice_consumer *consumer, uint64_t budget, const struct sluice_message **ret_message)
{
	/* Epochs that never stand still are no reason to miss a deadline. */
	for (int round = 0; round < 16; round++) {
		int result = look(consumer, budget, ret_message);
		if (result != LOOK_NOTHING)
			return result;
		result = between_turns(consumer);
		if (result < 0)
			return result;
		if (result > 0)
			continue;
		result = is_over(consumer);
		return result > 0 ? -ENODATA : result;
	}
	return LOOK_NOTHING;
}

/* What a consumer does for the channel now and then. */
static void look_after_others(struct sluice_consumer *consumer, uint64_t now_ns)
{
	struct channel *channel = &consumer->channel;
	bool due = now_ns >= channel->liveness_due_ns;
	peers_look_after(channel, now_ns);
	if (!due || channel->config.mode == SLUICE_BROADCAST)
		return;
	/* Also for what somebody gave back who was stopped or died before he could say so (R1). */
	rescan(consumer);
	if (channel->config.take_back_ns == 0)
		return;
	struct lane_table table = channel_lane_table(channel);
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[i];
		(void)recover_overdue(&table, lane->key, &lane->objects, &lane->watch, now_ns,
			channel->config.take_back_ns,
			channel->config.max_deliveries); /* out of memory: others look too */
	}
}

static int wait_for_message(struct sluice_consumer *consumer, struct waiter *waiter, uint64_t budget,
	const struct sluice_message **ret_message)
{
	for (;;) {
		enum waiter_next next = waiter_step(waiter);
		if (waiter->now_ns != 0)
			look_after_others(consumer, waiter->now_ns);
		if (next == WAITER_SLEEP)
			doorbell_arm(consumer->channel.bell);
		/* Before the look (M2), which so sees all that those who are gone did (M1, X1). */
		bool gone = (consumer->flags & SLUICE_REPORT_GONE) != 0 && peers_are_gone(&consumer->channel);
		if (next == WAITER_OVER && !gone)
			return deadline_error(&waiter->deadline);
		int result = look_at_all(consumer, budget, ret_message);
		if (result == LOOK_NOTHING && gone)
			result = -EPIPE;
		if (result != LOOK_NOTHING) {
			if (next == WAITER_SLEEP)
				doorbell_disarm(consumer->channel.bell);
			return result;
		}
		if (next == WAITER_SPIN)
			continue;
		stats_add(&consumer->page->sleeps, 1);
		result = peers_sleep(&consumer->channel, consumer->channel.bell, waiter);
		if (result != 0)
			return result;
		look_after_others(consumer, waiter->now_ns);
	}
}

/* A consumer that always finds something looks after the others all the same, by a clock that it seldom reads. */
static void look_after_if_due(struct sluice_consumer *consumer)
{
	if (__builtin_expect(!sampler_is_due(&consumer->liveness), 1))
		return;
	uint64_t now_ns = clock_monotonic_ns();
	sampler_stamped(&consumer->liveness, now_ns);
	look_after_others(consumer, now_ns);
}

static int receive_one(struct sluice_consumer *consumer, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	look_after_if_due(consumer);
	int result = look(consumer, ANY_MESSAGE, ret_message);
	if (result == LOOK_NOTHING)
		result = look_at_all(consumer, ANY_MESSAGE, ret_message);
	if (result == LOOK_NOTHING) {
		struct waiter waiter = waiter_for(timeout_ns, consumer->spin_ns);
		result = wait_for_message(consumer, &waiter, ANY_MESSAGE, ret_message);
	}
	return result;
}

/* ---- receive ---- */

int sluice_receive(struct sluice_consumer *consumer, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	if (consumer == NULL || ret_message == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	int result = receive_one(consumer, timeout_ns, ret_message);
	return result < 0 ? result : 0;
}

/* True if a producer whose messages are in the batch sleeps for want of room. */
static bool starves_producer(
	const struct sluice_consumer *consumer, const struct sluice_message *const *messages, size_t count)
{
	const struct layout_slot_map *map = &consumer->channel.control->sleeping_producers;
	if (!doorbell_is_armed(map))
		return false;
	for (size_t i = 0; i < count; i++)
		if (doorbell_slot_is_armed(map, (uint32_t)messages[i]->origin % LAYOUT_SLOTS))
			return true;
	return false;
}

/* A publish may have woken this consumer alone: if it leaves without that message, another has to hear of it. */
static void pass_wakeup_on(struct sluice_consumer *consumer, int result)
{
	struct layout_control *control = consumer->channel.control;
	if (result == LOOK_TAKEN)
		return;
	atomic_fence_full(); /* D3: for others, after the look that left the message where it is */
	if (doorbell_is_armed(&control->sleeping_consumers))
		doorbell_ring_one(control->bells, &control->sleeping_consumers, consumer->channel.slot + 1);
}

/*
 * Waits for one more message of a batch that is under way. Like wait_for_message, but a producer that waits for room ends it
 * too: it rings sleeping consumers when it goes to sleep itself.
 */
static int linger(struct sluice_consumer *consumer, struct waiter *waiter, uint64_t budget,
	const struct sluice_message **messages, size_t count)
{
	for (;;) {
		enum waiter_next next = waiter_step(waiter);
		if (next == WAITER_OVER || starves_producer(consumer, messages, count)) {
			pass_wakeup_on(consumer, LOOK_NOTHING);
			return LOOK_NOTHING;
		}
		if (next == WAITER_SLEEP)
			doorbell_arm(consumer->channel.bell);
		int result = look_at_all(consumer, budget, &messages[count]);
		bool stop = result != LOOK_NOTHING || starves_producer(consumer, messages, count);
		if (stop && next == WAITER_SLEEP)
			doorbell_disarm(consumer->channel.bell);
		if (stop) {
			pass_wakeup_on(consumer, result);
			return result;
		}
		if (next == WAITER_SPIN)
			continue;
		if (peers_sleep(&consumer->channel, consumer->channel.bell, waiter) != 0)
			return LOOK_NOTHING; /* over, or interrupted: what there is so far is an answer */
		look_after_others(consumer, waiter->now_ns);
	}
}

static uint64_t batch_bytes(const struct sluice_message *message)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < message->tensor_count; i++)
		bytes += message->tensors[i].bytes;
	return bytes;
}

int sluice_receive_batch(struct sluice_consumer *consumer, size_t max_messages, uint64_t max_bytes, int64_t linger_ns,
	int64_t timeout_ns, const struct sluice_message **ret_messages)
{
	if (consumer == NULL || ret_messages == NULL || max_messages == 0 || max_messages > INT32_MAX)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	int result = receive_one(consumer, timeout_ns, &ret_messages[0]);
	if (result < 0)
		return result;

	if (ret_messages[0]->deliveries > 1)
		return 1; /* alone: see take */
	uint64_t left = max_bytes != 0 && max_bytes < ANY_MESSAGE ? max_bytes : ANY_MESSAGE - 1;
	struct waiter waiter = waiter_for(linger_ns, consumer->spin_ns);
	size_t count = 1;
	while (count < max_messages) {
		uint64_t taken = max_bytes != 0 ? batch_bytes(ret_messages[count - 1]) : 0;
		left = taken < left ? left - taken : 0;
		result = look(consumer, left, &ret_messages[count]);
		if (result == LOOK_NOTHING && linger_ns > 0)
			result = linger(consumer, &waiter, left, ret_messages, count);
		if (result != LOOK_TAKEN)
			break;
		count++;
	}
	/* The end of the stream shows again by itself; anything else that went wrong is told by the next call. */
	if (result < 0 && result != -ENODATA)
		consumer->pending_error = result;
	return (int)count;
}

/* ---- release ---- */

int sluice_release(const struct sluice_message *const_message)
{
	if (const_message == NULL)
		return -EINVAL;
	int error = handle_check(const_message->handle);
	if (error != 0)
		return error;
	if (const_message->handle->kind != HANDLE_CONSUMER || message_state(const_message) != MESSAGE_HELD)
		return -EALREADY;
	struct sluice_message *message = (struct sluice_message *)(uintptr_t)const_message;
	struct sluice_consumer *consumer = (struct sluice_consumer *)message->handle;
	const struct layout_control *control = consumer->channel.control;
	struct lane_key lane = {(uint32_t)message->origin % LAYOUT_SLOTS, (uint32_t)(message->origin >> 32)};

	if (message->stamps.receive_ns != 0)
		stats_record(&consumer->page->hold_time, clock_monotonic_ns() - message->stamps.receive_ns);
	struct lane_release release = consumer_lane_release(message);
	message_set_state(message, MESSAGE_NONE);
	atomic_fence_after_rmw(); /* D3: K2 or B1 before, the looks for sleepers after, pairs with D2 in doorbell_arm */
	if (release.moved)
		wake_producer(consumer, lane.slot);
	/*
	 * It may be the last message that others wait for at the end of the stream. A producer that leaves after this look
	 * rings them itself.
	 */
	if (__builtin_expect(lane_table_is_abandoned(control, lane), 0))
		doorbell_ring_all(consumer->channel.control->bells, &consumer->channel.control->sleeping_consumers);
	return release.error;
}

int sluice_release_batch(const struct sluice_message *const *messages, size_t count)
{
	if (messages == NULL && count > 0)
		return -EINVAL;
	int first_error = 0;
	for (size_t i = 0; i < count; i++) {
		int error = sluice_release(messages[i]);
		first_error = first_error != 0 ? first_error : error;
	}
	return first_error;
}

/* ---- open and close ---- */

static int check_options(const struct sluice_consumer_options *options)
{
	const uint32_t known = SLUICE_START_NEWEST | SLUICE_END_OF_STREAM | SLUICE_REPORT_GONE;
	if (options->size != sizeof *options || (options->flags & ~known) != 0)
		return -EINVAL;
	return options->spin_ns < SLUICE_NO_SPIN ? -EINVAL : 0;
}

static void set_up(struct sluice_consumer *consumer, const struct sluice_consumer_options *options)
{
	consumer->page = &consumer->channel.control->consumers[consumer->channel.slot];
	peers_start(&consumer->channel);
	consumer->lanes_epoch = UINT64_MAX;
	/* R2: before any lane's tail is read: what is returned later is seen as a change */
	consumer->redelivery_epoch = atomic_load_acquire(&consumer->channel.control->epochs.redelivery);
	consumer->quantum_messages =
		options->quantum_messages != 0 ? options->quantum_messages : DEFAULT_QUANTUM_MESSAGES;
	consumer->quantum_bytes = options->quantum_bytes != 0 ? options->quantum_bytes : DEFAULT_QUANTUM_BYTES;
	consumer->flags = options->flags;
	consumer->expected_producers = options->expected_producers != 0 ? options->expected_producers : 1;
	consumer->spin_ns = waiter_spin_ns(options->spin_ns);
	consumer->liveness = sampler_at_rate(4);
	consumer->ordered = (consumer->channel.config.flags & SLUICE_ORDERED) != 0;
	memset(consumer->refused, 0xff, sizeof consumer->refused); /* no lane has such a slot */
}

static void depart_lanes(struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		consumer_lane_depart(consumer->lanes[i]);
}

static void forget_lanes(struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count + consumer->spare_count; i++) {
		if (consumer->lanes[i]->attached)
			consumer_lane_detach(consumer->lanes[i]);
		free(consumer->lanes[i]->schemas);
		free(consumer->lanes[i]);
	}
	consumer->lane_count = 0;
	consumer->spare_count = 0;
}

int sluice_consumer_open(
	const char *name, const struct sluice_consumer_options *options, struct sluice_consumer **ret_consumer)
{
	static const struct sluice_consumer_options defaults = {.size = sizeof defaults};
	if (options == NULL)
		options = &defaults;
	if (ret_consumer == NULL || check_options(options) != 0)
		return -EINVAL;
	struct sluice_consumer *consumer = handle_new(HANDLE_CONSUMER, sizeof *consumer);
	if (consumer == NULL)
		return -ENOMEM;
	struct message_pool pool = consumer->pool;
	memset(&consumer->handle + 1, 0, sizeof *consumer - sizeof consumer->handle);
	consumer->pool = pool;

	int error = channel_join(&consumer->channel, &consumer->handle, name, options->channel, SLUICE_ROLE_CONSUMER);
	if (error != 0) {
		handle_retire(&consumer->handle);
		return error;
	}
	set_up(consumer, options);
	error = sync_lanes(consumer, (options->flags & SLUICE_START_NEWEST) != 0);
	if (error < 0) {
		depart_lanes(consumer);
		forget_lanes(consumer);
		channel_leave(&consumer->channel, false);
		handle_retire(&consumer->handle);
		return error;
	}
	handle_publish(&consumer->handle);
	*ret_consumer = consumer;
	return 0;
}

/* Gives back what is held, for others to take. */
static void give_back(struct sluice_consumer *consumer)
{
	bool returned = false;
	for (uint32_t i = 0; i < consumer->pool.count; i++) {
		struct sluice_message *message = consumer->pool.messages[i];
		if (message_state(message) != MESSAGE_HELD)
			continue;
		if (!message->of.held.lane->broadcast)
			returned |= claims_return(message->of.held.claim, message->of.held.claimed, true);
		message_set_state(message, MESSAGE_NONE);
	}
	struct layout_control *control = consumer->channel.control;
	if (!returned)
		return;
	atomic_add_full(&control->epochs.redelivery, UINT64_C(1)); /* R1: after K4, pairs with R2 in rescan_returned */
	atomic_fence_after_rmw(); /* D3: R1 before, the look for sleepers after, pairs with D2 in doorbell_arm */
	doorbell_ring_all(control->bells, &control->sleeping_consumers);
}

int sluice_consumer_close(struct sluice_consumer *consumer)
{
	if (consumer == NULL)
		return 0;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	give_back(consumer);
	depart_lanes(consumer);
	forget_lanes(consumer);
	error = channel_leave(&consumer->channel, true);
	handle_retire(&consumer->handle);
	return error;
}

/* ---- the rest ---- */

int sluice_consumer_wait(struct sluice_consumer *consumer, uint32_t producers, int64_t timeout_ns)
{
	if (consumer == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	return peers_wait(&consumer->channel, SLUICE_ROLE_PRODUCER, producers, timeout_ns, consumer->spin_ns);
}

int sluice_consumer_geometry(struct sluice_consumer *consumer, struct sluice_geometry *ret_geometry)
{
	if (consumer == NULL || ret_geometry == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	channel_geometry(&consumer->channel, ret_geometry);
	return 0;
}

int sluice_consumer_fault(struct sluice_consumer *consumer, struct sluice_fault *ret_fault)
{
	if (consumer == NULL || ret_fault == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	if (!consumer->has_fault)
		return -ENOENT;
	*ret_fault = consumer->fault;
	return 0;
}
