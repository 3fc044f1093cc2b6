/* SPDX-License-Identifier: Apache-2.0 */
#include "recover.h"

#include <errno.h>
#include <stdlib.h>

#include "acks.h"
#include "atomic.h"
#include "claims.h"
#include "clock.h"
#include "doorbell.h"
#include "lane.h"
#include "roster.h"
#include "sys.h"

/* What recovering a lane came to. */
struct outcome {
	uint32_t returned;  /* messages that others may take now */
	uint32_t set_aside; /* messages given up, their memory free */
};

static void ring_everybody(struct layout_control *control)
{
	atomic_fence_full(); /* D3: R1, E1 or E3 before, the looks for sleepers after, pairs with D2 in doorbell_arm */
	doorbell_ring_all(control->bells, &control->sleeping_consumers);
	doorbell_ring_all(control->bells, &control->sleeping_producers);
}

/* ---- messages ---- */

/* The words of a record before its deliveries and state. */
#define RECORD_WORDS (offsetof(struct layout_aside, deliveries) / sizeof(uint64_t))

bool recover_load_record(const struct layout_aside *shared, struct layout_aside *ret_record)
{
	if (atomic_load_acquire(&shared->state) != 1) /* X4: before the rest is read, pairs with X3 in record_aside */
		return false;
	/* relaxed, here and below: once the ring has wrapped, another may be writing it */
	for (size_t i = 0; i < RECORD_WORDS; i++)
		((any_word *)ret_record)[i] =
			atomic_load_relaxed(&((const any_word *)shared)[i]); /* relaxed: as said */
	ret_record->deliveries = atomic_load_relaxed(&shared->deliveries);   /* relaxed: as said */
	return true;
}

static void store_record(struct layout_aside *shared, const struct layout_aside *record)
{
	/* relaxed: between the two stores of the state (X3) */
	for (size_t i = 0; i < RECORD_WORDS; i++)
		atomic_store_relaxed(&((any_word *)shared)[i], ((const any_word *)record)[i]); /* relaxed: as said */
	atomic_store_relaxed(&shared->deliveries, record->deliveries);                         /* relaxed: as said */
}

static bool is_recorded(const struct layout_control *control, struct lane_key lane, uint64_t sequence)
{
	for (uint32_t i = 0; i < LAYOUT_ASIDE; i++) {
		struct layout_aside record;
		if (recover_load_record(&control->aside[i], &record) && record.lane_slot == lane.slot &&
			record.lane_incarnation == lane.incarnation && record.sequence == sequence)
			return true;
	}
	return false;
}

/*
 * Keeps what is known of a message that is being given up. Before its claim word says so: whoever dies in between
 * leaves the word to the next one, who finds the record and writes no second. Returns the record if this call wrote it.
 */
static struct layout_aside *record_aside(const struct lane_table *table, struct lane_key lane,
	const struct lane_reader *reader, uint64_t sequence, struct layout_claim claim)
{
	struct layout_control *control = table->control;
	if (is_recorded(control, lane, sequence))
		return NULL;
	struct layout_descriptor_head head;
	lane_reader_copy_head(lane_reader_descriptor(reader, sequence), &head);
	/* X5: each record a place of its own, pairs with X5 in record_aside of others */
	uint64_t place = atomic_add_full(&control->aside_count.value, UINT64_C(1));
	struct layout_aside *record = &control->aside[place % LAYOUT_ASIDE];
	/* X3: incomplete, pairs with X4 in recover_load_record; an exchange, so that what follows stays behind it */
	atomic_exchange_full(&record->state, 0);
	store_record(record, &(struct layout_aside){
				     .correlation_id = head.correlation_id,
				     .sequence = sequence,
				     .noticed_ns = clock_realtime_ns(),
				     .lane_slot = lane.slot,
				     .lane_incarnation = lane.incarnation,
				     .killer_slot = claim.slot,
				     .killer_pid = control->members[claim.slot].pid,
				     .deliveries = claim.deliveries,
			     });
	atomic_store_release(&record->state, 1); /* X3: complete, pairs with X4 in recover_load_record */
	return record;
}

/* The sequence number of the message at `index` whose claim says lap `lap`: the one around `tail` that fits. */
static uint64_t sequence_at(const struct lane_reader *reader, uint64_t index, uint32_t lap)
{
	uint64_t tail = lane_reader_tail(reader);
	uint32_t tail_lap = claims_lap(tail, reader->depth_shift);
	int32_t laps = (int32_t)(lap - tail_lap);
	uint64_t base = (tail >> reader->depth_shift) + (uint64_t)(int64_t)laps;
	return (base << reader->depth_shift) + index;
}

/* Gives one held message back, or gives it up when it was delivered too often. */
static void give_back(const struct lane_table *table, struct lane_key lane, const struct lane_reader *reader,
	uint64_t *word, uint64_t held, uint64_t index, uint32_t max_deliveries, struct outcome *outcome)
{
	struct layout_claim claim = layout_claim_decode(held);
	if (max_deliveries == 0 || claim.deliveries < max_deliveries) {
		outcome->returned += claims_return(word, held, false);
		return;
	}
	struct layout_aside *record = record_aside(table, lane, reader, sequence_at(reader, index, claim.lap), claim);
	bool done = claims_set_aside(word, held);
	outcome->set_aside += done;
	/* relaxed: a figure for people; by the one whose swap it was, since several may have written records */
	atomic_add_relaxed(&table->control->epochs.set_aside, (uint64_t)done);
	if (!done && record != NULL && atomic_load_relaxed(word) == claims_released(held)) /* relaxed: only a note */
		atomic_store_release(&record->state, 0); /* X3: as in record_aside; its holder lives and was quicker */
}

static void give_back_queue(const struct lane_table *table, struct lane_key lane, const struct lane_objects *objects,
	struct claims_owner dead, uint32_t max_deliveries, struct outcome *outcome)
{
	struct lane_reader reader;
	lane_reader_start(&reader, objects->data.base, &objects->geometry);
	struct layout_claims *claims = objects->claims.base;
	/* What it released behind a GPU's work that was done before it died is released, and not delivered again. */
	acks_collect_from(table->control, dead, lane, claims, reader.depth);
	for (uint64_t i = 0; i < reader.depth; i++) {
		/* C2: as in peek_queue; the dead can claim nothing new */
		uint64_t word = atomic_load_acquire(&claims->u.claims[i]);
		if (claims_is_held_by(word, layout_claim_decode(word).lap, dead))
			give_back(table, lane, &reader, &claims->u.claims[i], word, i, max_deliveries, outcome);
	}
}

/* A dead consumer's cursor holds nobody back; what it had not read stays for whoever else needs it. */
static void give_back_broadcast(const struct lane_objects *objects, struct claims_owner dead)
{
	struct layout_claims *claims = objects->claims.base;
	uint64_t *cursor = &claims->u.cursors[dead.slot].value;
	uint64_t word = atomic_load_acquire(cursor); /* B3: as in lane_table_oldest */
	if (word != 0 && layout_cursor_incarnation(word) == (dead.incarnation & LAYOUT_INCARNATION_MASK))
		atomic_swap_exact(cursor, word, 0); /* B1: as in move_cursor; a successor's stays */
}

static int recover_lane(const struct lane_table *table, struct lane_key lane, struct claims_owner dead,
	uint32_t max_deliveries, struct outcome *outcome)
{
	struct lane_objects objects;
	const char *reason;
	int error = lane_table_map(table, lane, true, &objects, &reason);
	if (error == -ENOENT || error == -EBADMSG || error == -EPROTO || error == -EPROTONOSUPPORT)
		return 0; /* gone, or rubbish that nobody can be holding messages of */
	if (error != 0)
		return error;
	if (table->mode == SLUICE_BROADCAST)
		give_back_broadcast(&objects, dead);
	else
		give_back_queue(table, lane, &objects, dead, max_deliveries, outcome);
	lane_objects_release(&objects);
	return 0;
}

/* ---- members ---- */

static int recover_lanes(const struct lane_table *table, struct claims_owner dead, uint32_t max_deliveries)
{
	struct layout_control *control = table->control;
	struct outcome outcome = {0};
	int result = 0;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++) {
		struct lane_key lane;
		if (!lane_table_entry(control, i, &lane))
			continue;
		int error = recover_lane(table, lane, dead, max_deliveries, &outcome);
		result = error != 0 ? error : result;
	}
	return result;
}

/* Recovers what incarnation `dead` of a slot left, and declares it dead. Returns 1 if this call did, 0, or an errno. */
static int recover_member(
	const struct lane_table *table, struct claims_owner dead, enum sluice_role role, uint32_t max_deliveries)
{
	struct layout_control *control = table->control;
	if (role == SLUICE_ROLE_CONSUMER) {
		int error = recover_lanes(table, dead, max_deliveries);
		if (error != 0)
			return error;
	}
	/* R1: as in consumer_give_back; always, since another may have died between giving back and this */
	atomic_add_full(&control->epochs.redelivery, UINT64_C(1));
	uint64_t alive = layout_member_word(dead.incarnation, role, LAYOUT_MEMBER_ALIVE);
	uint64_t declared = layout_member_word(dead.incarnation, role, LAYOUT_MEMBER_DEAD);
	/* X1: declared, after all of the above, pairs with M2 in roster_look. A producer's lane has ended from here on. */
	bool first = atomic_swap_exact(&control->members[dead.slot].word, alive, declared);
	atomic_add_full(&control->epochs.membership, UINT64_C(1)); /* E3: as in enter */
	/* E1: as in lane_table_link; consumers look whether its lane is drained */
	atomic_add_full(&control->epochs.lanes, UINT64_C(1));
	ring_everybody(control);
	return first;
}

int recover_dead(const struct lane_table *table, int other_fd, uint32_t own_slot, uint32_t max_deliveries)
{
	int count = 0;
	int result = 0;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		/* The incarnation first, the lock second: what was found unlocked is that incarnation or an older one. */
		struct roster_view view = roster_look(&table->control->members[slot]);
		if (view.state != LAYOUT_MEMBER_ALIVE || slot == own_slot)
			continue;
		if (sys_byte_is_locked(other_fd, LAYOUT_SLOT_BYTE(slot)) != 0)
			continue; /* alive; or the kernel could not say, and nobody is declared dead on that */
		struct claims_owner dead = {slot, view.incarnation};
		int declared = recover_member(table, dead, view.role, max_deliveries);
		if (declared < 0)
			result = declared;
		else
			count += declared;
	}
	return result < 0 ? result : count;
}

/* ---- messages held by those who are no members, or for too long ---- */

/* Says what came of giving back. */
static int tell(struct layout_control *control, const struct outcome *outcome)
{
	if (outcome->returned > 0)
		/* R1: as in consumer_give_back */
		atomic_add_full(&control->epochs.redelivery, UINT64_C(1));
	if (outcome->returned + outcome->set_aside > 0)
		ring_everybody(control);
	return (int)(outcome->returned + outcome->set_aside);
}

/* True if `word` says that somebody has the message who is in no slot. The word was loaded with acquire. */
static bool is_orphaned(const struct layout_control *control, uint64_t word)
{
	struct layout_claim claim = layout_claim_decode(word);
	if (claim.state != LAYOUT_CLAIMED)
		return false;
	/* After the word: whoever could claim was in the roster before, and is never seen there again once it is not. */
	struct roster_view view = roster_look(&control->members[claim.slot]);
	return view.state != LAYOUT_MEMBER_ALIVE || view.role != SLUICE_ROLE_CONSUMER ||
	       (view.incarnation & LAYOUT_INCARNATION_MASK) != claim.incarnation;
}

int recover_orphans(const struct lane_table *table, struct lane_key key, const struct lane_objects *objects,
	uint32_t max_deliveries)
{
	struct lane_reader reader;
	struct outcome outcome = {0};
	lane_reader_start(&reader, objects->data.base, &objects->geometry);
	struct layout_claims *claims = objects->claims.base;
	for (uint64_t i = 0; i < reader.depth; i++) {
		uint64_t word = atomic_load_acquire(&claims->u.claims[i]); /* C2: as in peek_queue */
		if (is_orphaned(table->control, word))
			give_back(table, key, &reader, &claims->u.claims[i], word, i, max_deliveries, &outcome);
	}
	return tell(table->control, &outcome);
}

static bool start_watch(struct recover_watch *watch, uint32_t depth)
{
	if (watch->words == NULL)
		watch->words = calloc(depth, sizeof *watch->words);
	if (watch->since_ns == NULL)
		watch->since_ns = calloc(depth, sizeof *watch->since_ns);
	return watch->words != NULL && watch->since_ns != NULL;
}

int recover_overdue(const struct lane_table *table, struct lane_key key, const struct lane_objects *objects,
	struct recover_watch *watch, uint64_t now_ns, uint64_t limit_ns, uint32_t max_deliveries)
{
	struct lane_reader reader;
	struct outcome outcome = {0};
	lane_reader_start(&reader, objects->data.base, &objects->geometry);
	if (!start_watch(watch, reader.depth))
		return -ENOMEM;
	struct layout_claims *claims = objects->claims.base;
	for (uint64_t i = 0; i < reader.depth; i++) {
		uint64_t word = atomic_load_acquire(&claims->u.claims[i]); /* C2: as in peek_queue */
		if (watch->words[i] != word) {
			watch->words[i] = word;
			watch->since_ns[i] = now_ns;
		} else if (layout_claim_decode(word).state == LAYOUT_CLAIMED &&
			   now_ns - watch->since_ns[i] > limit_ns) {
			give_back(table, key, &reader, &claims->u.claims[i], word, i, max_deliveries, &outcome);
		}
	}
	return tell(table->control, &outcome);
}

void recover_watch_free(struct recover_watch *watch)
{
	free(watch->words);
	free(watch->since_ns);
	*watch = (struct recover_watch){0};
}
