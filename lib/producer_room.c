/* SPDX-License-Identifier: Apache-2.0 */
/* A producer's room: taking back what consumers are done with, and waiting for it; and who is woken by what it published. */
#include "producer.h"

#include <errno.h>

#include "acks.h"
#include "atomic.h"
#include "claims.h"
#include "clock.h"
#include "course.h"
#include "doorbell.h"
#include "lane_table.h"
#include "peers.h"
#include "plant.h"
#include "recover.h"
#include "stats.h"
#include "tensor.h"
#include "waiter.h"

/* ---- waking consumers ---- */

COLD int producer_wake_consumers(struct sluice_producer *producer, uint64_t messages)
{
	struct layout_control *control = producer->channel.control;
	uint32_t woken = 0;
	if (producer->broadcast)
		woken = doorbell_ring_all(control->bells, &control->sleeping_consumers);
	else /* one for each message, as if each had been looked for by itself */
		while (woken < messages && woken < LAYOUT_SLOTS &&
			doorbell_ring_one(
				control->bells, &control->sleeping_consumers, (uint32_t)producer->writer.head + woken))
			woken++;
	stats_add(&producer->stats->wakeups_sent, woken);
	return 0;
}

void producer_settle(struct sluice_producer *producer)
{
	uint64_t owed = producer->owed;
	if (LIKELY(owed == 0))
		return;
	producer->owed = 0;
	atomic_fence_full(); /* D3: P1 before, the look for sleepers after, pairs with D2 in doorbell_arm */
	if (doorbell_is_armed(&producer->channel.control->sleeping_consumers))
		producer_wake_consumers(producer, owed);
}

/* ---- taking back ---- */

/*
 * The oldest message that some consumer still needs. All of them while nobody is there, except what departed consumers
 * had released; one that is in the channel but has not yet looked at this lane needs everything.
 */
static uint64_t broadcast_oldest(const struct sluice_producer *producer)
{
	const struct lane_writer *writer = &producer->writer;
	uint64_t oldest = lane_table_oldest(producer->channel.control, producer->claims, writer->tail);
	if (oldest == LANE_TABLE_NOBODY)
		/* B4: after J3, pairs with B2 in consumer_lane_depart */
		oldest = atomic_load_acquire(&producer->claims->departed.value);
	/* Whatever consumers wrote, it stays between what is free already and what was published. */
	if (oldest < writer->tail)
		return writer->tail;
	return oldest < writer->head ? oldest : writer->head;
}

static bool is_assembled(const struct sluice_producer *producer)
{
	/* A2: before J3, pairs with A1 in note_assembly: whoever sees it sees the bits of all who made it true */
	return producer->channel.config.expected_consumers == 0 ||
	       atomic_load_acquire(&producer->channel.control->epochs.assembled) != 0;
}

static bool reclaim_broadcast(struct sluice_producer *producer)
{
	struct lane_writer *writer = &producer->writer;
	if (!is_assembled(producer))
		return false;
	uint64_t oldest = broadcast_oldest(producer);
	if (oldest == writer->tail)
		return false;
	/*
	 * A consumer that joins now reads the tail, writes its cursor there, and reads the tail again after a full
	 * fence (J1). With a full fence between our tail and our second look (J2), either it sees the new tail or we
	 * see its cursor.
	 */
	lane_writer_announce_tail(writer, oldest);
	atomic_fence_full(); /* J2: T1 before, the second look (J3, B3) after, pairs with J1 in move_cursor_to */
	uint64_t again = broadcast_oldest(producer);
	uint64_t tail = again < oldest ? again : oldest;
	if (tail != oldest)
		lane_writer_announce_tail(writer, tail); /* not confirmed: take it back */
	bool found = tail != writer->tail;
	lane_writer_free_to(writer, tail);
	return found;
}

static bool reclaim_queue(struct sluice_producer *producer)
{
	struct lane_writer *writer = &producer->writer;
	uint64_t tail = writer->tail;
	while (tail != writer->head && claims_is_done(&producer->claims->u.claims[tail & (writer->depth - 1)],
					       claims_lap(tail, writer->depth_shift)))
		tail++;
	if (tail == writer->tail)
		return false;
	PLANT_EARLY_TAIL(writer);
	lane_writer_announce_tail(writer, tail);
	lane_writer_free_to(writer, tail);
	return true;
}

bool producer_reclaim(struct sluice_producer *producer)
{
	return producer->broadcast ? reclaim_broadcast(producer) : reclaim_queue(producer);
}

static struct lane_key own_key(const struct sluice_producer *producer)
{
	return (struct lane_key){producer->channel.slot, producer->channel.incarnation};
}

/* Releases what GPUs are done with, and takes it back; true if that was anything. */
static COLD bool reclaim_acknowledged(struct sluice_producer *producer)
{
	struct layout_control *control = producer->channel.control;
	uint32_t released = acks_collect(control, own_key(producer), producer->claims, producer->writer.depth);
	return released != 0 && producer_reclaim(producer);
}

bool producer_find_room(struct sluice_producer *producer, uint64_t bytes, struct lane_room *ret_room)
{
	if (LIKELY(lane_writer_find_room(&producer->writer, bytes, ret_room)))
		return true;
	if (producer_reclaim(producer) && lane_writer_find_room(&producer->writer, bytes, ret_room))
		return true;
	return UNLIKELY(acks_exist(producer->channel.control)) && reclaim_acknowledged(producer) &&
	       lane_writer_find_room(&producer->writer, bytes, ret_room);
}

uint64_t producer_nap_ns(const struct sluice_producer *producer)
{
	return acks_wait_for(producer->channel.control, own_key(producer)) ? ACKS_LOOK_NS : 0;
}

void producer_look_after(struct sluice_producer *producer, uint64_t now_ns)
{
	struct channel *channel = &producer->channel;
	bool due = now_ns >= channel->liveness_due_ns;
	peers_look_after(channel, now_ns);
	if (!due || producer->broadcast || channel->config.take_back_ns == 0)
		return;
	struct lane_table table = channel_lane_table(channel);
	struct lane_key key = {channel->slot, channel->incarnation};
	(void)recover_overdue(&table, key, &producer->objects, &producer->watch, now_ns, channel->config.take_back_ns,
		channel->config.max_deliveries); /* out of memory: consumers look too */
}

/* One that only ever asks whether there is room looks after the others all the same, by a clock that it seldom reads. */
static void look_after_if_due(struct sluice_producer *producer)
{
	if (!sampler_is_due(&producer->liveness))
		return;
	uint64_t now_ns = clock_monotonic_ns();
	sampler_stamped(&producer->liveness, now_ns);
	producer_look_after(producer, now_ns);
}

/* What it says before it arms its bell: not each byte that becomes free is worth a wake-up. */
static void say_enough(struct sluice_producer *producer, uint64_t bytes)
{
	lane_writer_say_enough(&producer->writer, lane_writer_enough(&producer->writer, bytes));
}

void producer_before_sleep(struct sluice_producer *producer)
{
	struct layout_control *control = producer->channel.control;
	stats_add(&producer->stats->stalls, 1);
	/*
	 * Consumers that linger over a batch must not wait for more from a producer that waits for them. The event is
	 * the armed bell, and its fence (D2) is this look's D3.
	 */
	doorbell_ring_all(control->bells, &control->sleeping_consumers);
}

/* True if consumers are done with all messages before `sequence`, as far as the last of them tells. */
static bool is_free_to(const struct sluice_producer *producer, uint64_t sequence)
{
	const struct lane_writer *writer = &producer->writer;
	uint64_t last = sequence - 1;
	if (producer->broadcast)
		return broadcast_oldest(producer) >= sequence;
	return claims_is_done(
		&producer->claims->u.claims[last & (writer->depth - 1)], claims_lap(last, writer->depth_shift));
}

/* Looks at what was released, between two looks at everything. */
#define ENOUGH_LOOKS 16

/*
 * Spins for a while, or until as much is free as a sleeper would want to be woken for: whoever looks at the claim words of a
 * full lane takes their lines away from the consumer that releases there, so it is one word that is looked at, and far
 * from where the consumer is.
 */
static void spin_for_enough(const struct sluice_producer *producer, uint64_t bytes)
{
	uint64_t enough = lane_writer_enough(&producer->writer, bytes);
	for (int i = 0; i < ENOUGH_LOOKS; i++) {
		waiter_rest();
		if (enough == producer->writer.tail || is_free_to(producer, enough))
			return;
	}
}

int producer_wait_for_room(
	struct sluice_producer *producer, uint64_t bytes, int64_t timeout_ns, struct lane_room *ret_room)
{
	struct waiter waiter = waiter_for(timeout_ns, spin_budget(&producer->spin));
	producer_settle(producer);
	look_after_if_due(producer);
	for (;;) {
		if (!peers_count_me(&producer->channel))
			return -ESTALE; /* nobody frees anything any more */
		enum waiter_next next = waiter_step(&waiter);
		if (waiter.now_ns != 0)
			producer_look_after(producer, waiter.now_ns);
		if (next == WAITER_SLEEP) {
			say_enough(producer, bytes);
			peers_arm(&producer->channel, producer->channel.bell);
		}
		/* Before the look (M2), which so sees all that those who are gone released (M1, X1). */
		bool gone = producer->report_gone && peers_are_gone(&producer->channel);
		/* Also when the time is over: there may be room that was not worth a wake-up. */
		bool found = producer_find_room(producer, bytes, ret_room);
		if (next == WAITER_OVER && !found && !gone)
			return deadline_error(&waiter.deadline);
		if (found || gone) {
			spin_learn_from(&producer->spin, &waiter);
			if (next == WAITER_SLEEP)
				(void)peers_disarm(&producer->channel, producer->channel.bell);
			return found ? 0 : -EPIPE;
		}
		if (next == WAITER_SPIN) {
			spin_for_enough(producer, bytes);
			continue;
		}
		producer_before_sleep(producer);
		waiter.nap_ns = producer_nap_ns(producer);
		int error = peers_sleep(&producer->channel, producer->channel.bell, &waiter);
		if (error != 0)
			return error == -ETIMEDOUT && producer_find_room(producer, bytes, ret_room) ? 0 : error;
		producer_look_after(producer, waiter.now_ns);
	}
}

/* ---- for a poller, which sleeps in a producer's place ---- */

struct handle *producer_handle(struct sluice_producer *producer)
{
	return &producer->handle;
}

struct channel *producer_channel(struct sluice_producer *producer)
{
	return &producer->channel;
}

bool producer_reports_gone(const struct sluice_producer *producer)
{
	return producer->report_gone;
}

bool producer_can_hold(const struct sluice_producer *producer, uint64_t bytes)
{
	return bytes <= lane_writer_largest(&producer->writer);
}

/* Bytes of the payload ring that a poller asks for: see producer_has_room. */
static uint64_t room_bytes(const struct sluice_producer *producer, uint64_t bytes)
{
	uint64_t last = producer->has_plan ? producer->plan.bytes : 0;
	return bytes != 0 ? align_up(bytes, producer->writer.alignment) : last;
}

bool producer_has_room(struct sluice_producer *producer, uint64_t bytes)
{
	struct lane_room room;
	if (producer_find_room(producer, room_bytes(producer, bytes), &room))
		return true;
	producer_settle(producer); /* who is told so waits for consumers, however it does that */
	return false;
}

void producer_before_arming(struct sluice_producer *producer, uint64_t bytes)
{
	say_enough(producer, room_bytes(producer, bytes));
}
