/* SPDX-License-Identifier: Apache-2.0 */
/* Which lanes a consumer reads, in step with the channel's table; what is wrong with one. */
#include "consumer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"
#include "course.h"
#include "lane_table.h"
#include "place.h"
#include "roster.h"

/* ---- faults ---- */

int consumer_note_fault(struct sluice_consumer *consumer, const struct consumer_lane *lane, struct lane_fault fault)
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

void consumer_wake_producer(struct sluice_consumer *consumer, uint32_t slot)
{
	struct layout_control *control = consumer->channel.control;
	if (LIKELY(!doorbell_slot_is_armed(&control->sleeping_producers, slot)))
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
		enum message_state state = message_state(message);
		if ((state == MESSAGE_HELD || state == MESSAGE_LEAVING) && message->held.lane == lane)
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
			if (consumer->attachment != NULL)
				consumer->attachment->unmapping(consumer->attachment, lane);
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
	consumer->pending_error = consumer_note_fault(consumer, &nowhere, fault);
}

/* What cannot be done now is done page by page when it is needed. */
static void prefault(const struct lane_objects *objects)
{
	(void)place_prefault(objects->data.base, objects->data.mapped_bytes, false);
	(void)place_prefault(objects->claims.base, objects->claims.mapped_bytes, true);
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
	if (consumer->lane_count == 2)
		consumer_begin_turn(consumer); /* the first one's turn is no longer that of a lone lane */
	if ((consumer->flags & SLUICE_PREFAULT) != 0)
		prefault(&lane->objects);
	if (consumer->attachment != NULL)
		consumer->attachment->mapped(consumer->attachment, lane);
	if (lane->broadcast) /* its producer waited for us to look; the cursor's move ended with a full fence, D3 */
		consumer_wake_producer(consumer, key.slot);
	return 1;
}

/* Brings the attached lanes in step with the table. Returns how many are new, or a negative errno. */
int consumer_sync_lanes(struct sluice_consumer *consumer, bool newest)
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

void consumer_rescan(struct sluice_consumer *consumer)
{
	consumer->lanes_changed++; /* what was found before is no longer where the lanes look */
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		consumer_lane_rescan(consumer->lanes[i]);
}

/* Looks from the start of each lane for what others gave back. True if there was a reason to. */
static bool rescan_returned(struct sluice_consumer *consumer)
{
	/* R2: before C2, pairs with R1 in consumer_give_back: whoever sees the epoch sees the claim words that were returned */
	uint64_t epoch = atomic_load_acquire(&consumer->channel.control->epochs.redelivery);
	if (epoch == consumer->redelivery_epoch)
		return false;
	consumer->redelivery_epoch = epoch;
	consumer_rescan(consumer);
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
 * What is done between turns and before sleeping: new lanes, returned messages, drained lanes. Returns 1 if there may
 * be something new to receive, 0, or a negative errno.
 */
int consumer_between_turns(struct sluice_consumer *consumer)
{
	int attached = consumer_sync_lanes(consumer, false);
	if (attached < 0)
		return attached;
	bool returned = consumer->channel.config.mode == SLUICE_QUEUE && rescan_returned(consumer);
	retire_drained(consumer);
	return attached > 0 || returned || consumer->pending_error != 0;
}

void consumer_depart_lanes(struct sluice_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		consumer_lane_depart(consumer->lanes[i]);
}

void consumer_forget_lanes(struct sluice_consumer *consumer)
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
