/* SPDX-License-Identifier: Apache-2.0 */
#include "consumer_lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"

/* A tail that moves this often while we try to join behind it is not a producer's. */
#define JOIN_TRIES 100000

/* ---- attach and detach ---- */

static uint64_t *own_cursor(struct consumer_lane *lane)
{
	return &lane->claims->u.cursors[lane->owner.slot].value;
}

static void move_cursor_to(struct consumer_lane *lane, uint64_t sequence)
{
	lane->next = sequence;
	lane->cursor_word = layout_cursor_encode(sequence, lane->owner.incarnation);
	/* B1: join, pairs with B3 in lane_table_oldest */
	atomic_exchange_full(own_cursor(lane), lane->cursor_word);
	atomic_fence_after_rmw(); /* J1: B1 before, the second look at the tail (T2) after, pairs with J2 in reclaim_broadcast */
}

/* Joins at the oldest message that the producer cannot be about to overwrite: see reclaim_broadcast. */
static int join_broadcast(struct consumer_lane *lane)
{
	uint64_t tail = lane_reader_tail(&lane->reader);
	for (int i = 0; i < JOIN_TRIES; i++) {
		move_cursor_to(lane, tail);
		uint64_t again = lane_reader_tail(&lane->reader);
		if (again == tail)
			return 0;
		tail = again;
	}
	return -EBADMSG;
}

static void skip_to_newest(struct consumer_lane *lane)
{
	uint64_t head = lane->next;
	while (head - lane->next < lane->reader.depth && lane_reader_look(&lane->reader, head) >= 0)
		head++;
	move_cursor_to(lane, head);
}

static int allocate(struct consumer_lane *lane)
{
	free(lane->released);
	lane->released = lane->broadcast ? calloc(lane->reader.depth, 1) : NULL;
	if (lane->schemas == NULL)
		lane->schemas = calloc(LAYOUT_SCHEMAS, sizeof *lane->schemas);
	return lane->schemas == NULL || (lane->broadcast && lane->released == NULL) ? -ENOMEM : 0;
}

int consumer_lane_attach(struct consumer_lane *lane, const struct channel *channel, struct lane_key key, bool newest,
	struct lane_fault *ret_fault)
{
	struct lane_table table = channel_lane_table(channel);
	int error = lane_table_map(&table, key, true, &lane->objects, &ret_fault->reason);
	if (error != 0)
		return error;
	lane->key = key;
	lane->claims = lane->objects.claims.base;
	lane->owner = (struct claims_owner){channel->slot, channel->incarnation};
	lane->claimed_first = claims_first(lane->owner);
	lane->member = &channel->control->members[key.slot % LAYOUT_SLOTS].word;
	lane->member_there = layout_member_word(key.incarnation, SLUICE_ROLE_PRODUCER, LAYOUT_MEMBER_ALIVE);
	lane->attachment = NULL;
	lane->fed = UINT64_MAX;
	lane->broadcast = channel->config.mode == SLUICE_BROADCAST;
	lane->schemas_loaded = 0;
	lane->shape = 0;
	lane->places = 0;
	lane->given_up = false;
	lane_reader_start(&lane->reader, lane->objects.data.base, &lane->objects.geometry);
	lane->next = lane_reader_tail(&lane->reader);
	error = allocate(lane);
	if (error == 0 && lane->broadcast)
		error = join_broadcast(lane);
	if (error != 0) {
		ret_fault->reason = "a tail that never stands still";
		lane_objects_release(&lane->objects);
		free(lane->released);
		lane->released = NULL;
		return error;
	}
	if (lane->broadcast && newest)
		skip_to_newest(lane);
	lane->attached = true;
	return 0;
}

void consumer_lane_detach(struct consumer_lane *lane)
{
	recover_watch_free(&lane->watch);
	lane_objects_release(&lane->objects);
	free(lane->released);
	lane->released = NULL;
	lane->attached = false;
}

/* ---- finding and taking ---- */

static void look_at_description(struct consumer_lane *lane)
{
	const struct layout_descriptor_head *head = &lane_reader_descriptor(&lane->reader, lane->next)->head;
	/* relaxed: after C1; it is only a hint until the claim succeeds, which proves that it was not overwritten since */
	lane->ticket = atomic_load_relaxed(&head->ticket);
	lane->bytes = atomic_load_relaxed(&head->payload_bytes);
}

/* The descriptor holds a message `ahead` places later: all that lie a lap or more before that one are done with. */
static void catch_up(struct consumer_lane *lane, int64_t ahead)
{
	int64_t behind = ahead - (int64_t)lane->reader.depth;
	lane->next += behind > 0 ? (uint64_t)behind + 1 : 1;
}

static enum consumer_lane_found peek_queue(struct consumer_lane *lane, struct lane_fault *ret_fault)
{
	/* More than two laps in one look is no producer's doing: let others have their turn. */
	for (uint64_t i = 0; i < 2 * (uint64_t)lane->reader.depth; i++) {
		int64_t ahead = lane_reader_look(&lane->reader, lane->next);
		if (ahead < 0)
			return LANE_EMPTY;
		if (ahead > 0) {
			catch_up(lane, ahead);
			continue;
		}
		/* The rest of a small message travels while it is being claimed. */
		__builtin_prefetch(lane_reader_descriptor(&lane->reader, lane->next)->payload);
		/* C2: after C1, pairs with K4 in claims_return */
		uint64_t word = atomic_load_acquire(consumer_lane_claim(lane, lane->next));
		switch (claims_look(word, claims_lap(lane->next, lane->reader.depth_shift))) {
		case CLAIMS_OPEN:
			lane->seen = word;
			lane->repeated = layout_claim_decode(word).state == LAYOUT_RETURNED &&
					 layout_claim_decode(word).deliveries > 0;
			look_at_description(lane);
			return LANE_FOUND;
		case CLAIMS_BROKEN:
			*ret_fault =
				(struct lane_fault){"a claim word that no sequence of events leads to", lane->next++};
			return LANE_BROKEN;
		case CLAIMS_TAKEN:
		case CLAIMS_AHEAD:
			lane->next++;
			break;
		}
	}
	return LANE_EMPTY;
}

static enum consumer_lane_found peek_broadcast(struct consumer_lane *lane, struct lane_fault *ret_fault)
{
	int64_t ahead = lane->given_up ? -1 : lane_reader_look(&lane->reader, lane->next);
	if (ahead < 0)
		return LANE_EMPTY;
	if (ahead > 0) {
		*ret_fault = (struct lane_fault){"messages overwritten while they were needed", lane->next};
		return LANE_OVERTAKEN;
	}
	look_at_description(lane);
	return LANE_FOUND;
}

enum consumer_lane_found consumer_lane_peek(struct consumer_lane *lane, struct lane_fault *ret_fault)
{
	return lane->broadcast ? peek_broadcast(lane, ret_fault) : peek_queue(lane, ret_fault);
}

static const char *schema_of(struct consumer_lane *lane, uint32_t number, const struct lane_schema **ret_schema)
{
	if (number >= LAYOUT_SCHEMAS)
		return "unknown schema";
	if ((lane->schemas_loaded >> number & 1) == 0) {
		/* S2: pairs with S1 in lane_writer_schema: the schema's own words are read after it */
		if (number >= atomic_load_acquire(&lane->reader.data->state.schema_count))
			return "schema that was never written";
		const char *reason = lane_schema_load(&lane->reader.data->schemas[number], &lane->schemas[number]);
		if (reason != NULL)
			return reason;
		lane->schemas_loaded |= UINT64_C(1) << number;
	}
	*ret_schema = &lane->schemas[number];
	return NULL;
}

/* Numbers shapes in this process, so that a handle that served another lane or consumer is never mistaken. */
static uint64_t next_shape(void)
{
	static uint64_t last;
	return atomic_add_relaxed(&last, UINT64_C(1)) + 1; /* relaxed: private memory, and only uniqueness matters */
}

/* Works out what a message like `head` carries and where. */
static const char *learn_shape(
	struct consumer_lane *lane, const struct layout_descriptor_head *head, const uint8_t *base)
{
	const struct lane_schema *schema;
	struct lane_tensor found[SLUICE_MAX_TENSORS];
	const char *reason = schema_of(lane, head->schema, &schema);
	if (reason == NULL)
		reason = lane_reader_resolve(head, schema, base, found);
	if (reason != NULL)
		return reason;
	bool wide = (head->flags & LAYOUT_DIMS_IN_PAYLOAD) != 0;
	bool inside = (head->flags & LAYOUT_PAYLOAD_INLINE) != 0;
	lane->last_head = *head;
	lane->last_words = lane_words_of(head);
	lane->last_words.place &= ~LANE_PLACE(UINT32_MAX, 0, LAYOUT_STAMPED);
	lane->places = wide ? 0 : inside ? 1 : (lane->reader.capacity - head->payload_bytes) / LAYOUT_UNIT + 1;
	lane->shape = next_shape();
	lane->tensor_count = schema->tensor_count;
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		lane->offsets[i] = found[i].offset;
		lane->tensors[i] = (struct sluice_tensor){
			.name = schema->names[i],
			.bytes = found[i].bytes,
			.dtype = schema->dtypes[i],
			.ndim = schema->ranks[i],
		};
		memcpy(lane->tensors[i].shape, found[i].shape, schema->ranks[i] * sizeof found[i].shape[0]);
	}
	return NULL;
}

void consumer_lane_describe(struct consumer_lane *lane, struct sluice_message *message)
{
	message->held.shape = lane->shape;
	message->held.lane = lane;
	message->held.member = lane->member;
	message->held.member_there = lane->member_there;
	message->origin = (uint64_t)lane->key.incarnation << 32 | lane->key.slot;
	message->tensor_count = lane->tensor_count;
	memcpy(message->tensors, lane->tensors, lane->tensor_count * sizeof lane->tensors[0]);
}

void consumer_lane_read_stamps(const struct layout_descriptor *descriptor, struct sluice_message *message)
{
	message->stamps = (struct sluice_stamps){
		.reserve_ns = atomic_load_relaxed(&descriptor->annex.reserve_ns), /* relaxed: after C1 */
		.publish_ns = atomic_load_relaxed(&descriptor->annex.publish_ns), /* relaxed: after C1 */
	};
}

/* Reads a message that is this consumer's by now. Returns NULL or the reason why it cannot be read. */
static const char *read_message(struct consumer_lane *lane, uint64_t sequence, struct sluice_message *message)
{
	const struct layout_descriptor *descriptor = lane_reader_descriptor(&lane->reader, sequence);
	struct layout_descriptor_head head;
	lane_reader_copy_head(descriptor, &head);
	if (head.sequence != sequence + 1)
		return "a descriptor that changed while it was claimed"; /* all of the copy may be another message's */
	const uint8_t *base;
	const char *reason = lane_reader_payload(&lane->reader, descriptor, &head, &base);
	if (reason != NULL)
		return reason;
	if (lane->shape == 0 || !lane_same_shapes(&head, &lane->last_head))
		reason = learn_shape(lane, &head, base);
	if (reason != NULL)
		return reason;
	/* A handle that had that shape before needs only addresses. */
	if (message->held.shape != lane->shape)
		consumer_lane_describe(lane, message);
	for (uint32_t i = 0; i < message->tensor_count; i++)
		message->tensors[i].data = base + lane->offsets[i];

	message->descriptor = descriptor;
	message->sequence = sequence;
	message->correlation_id = head.correlation_id;
	message->flags = head.flags;
	if ((head.flags & LAYOUT_STAMPED) != 0)
		consumer_lane_read_stamps(descriptor, message);
	return NULL;
}

static enum consumer_lane_found take_queue(
	struct consumer_lane *lane, struct sluice_message *message, struct lane_fault *ret_fault)
{
	uint64_t sequence = lane->next;
	uint64_t *claim = consumer_lane_claim(lane, sequence);
	uint64_t held;
	if (!claims_take(claim, lane->seen, claims_lap(sequence, lane->reader.depth_shift), lane->owner, &held))
		return LANE_EMPTY;
	lane->next++;
	const char *reason = read_message(lane, sequence, message);
	if (reason != NULL) {
		if (!claims_release(claim, held)) /* nobody else could read it either */
			return LANE_EMPTY;        /* but what was taken back meanwhile may be overwritten by now */
		*ret_fault = (struct lane_fault){reason, sequence};
		return LANE_BROKEN;
	}
	message->held.claim = claim;
	message->held.claimed = held;
	message->deliveries = layout_claim_decode(held).deliveries;
	return LANE_FOUND;
}

/* How many of the next messages are there, look like the last one and have a handle. They are described in those. */
static uint32_t see_run(const struct consumer_lane *lane, struct sluice_message *const *messages, uint32_t most)
{
	for (uint32_t i = 0; i < most; i++) {
		struct consumer_lane_sight sight;
		if (!consumer_lane_sees(lane, lane->next + i, messages[i], &sight))
			return i;
		consumer_lane_fill(lane, lane->next + i, &sight, messages[i]);
	}
	return most;
}

/* Claims message `sequence`, and the one behind it too if `both` and the words allow it. Returns how many. */
static uint32_t claim_next(
	struct consumer_lane *lane, uint64_t sequence, struct sluice_message *const *messages, bool both)
{
	uint32_t lap = claims_lap(sequence, lane->reader.depth_shift);
	uint64_t held = lane->claimed_first | lap;
	uint64_t *claim = consumer_lane_claim(lane, sequence);
	uint64_t seen = atomic_load_acquire(claim); /* C2: as in peek_queue */
	if (!claims_is_fresh(seen, lap))
		return 0;
	messages[0]->held.claim = claim;
	messages[0]->held.claimed = held;
	if (both && claims_begins_pair(claim)) {                  /* depths are even, so both are of one lap */
		uint64_t second = atomic_load_acquire(&claim[1]); /* C2: as in peek_queue */
		messages[1]->held.claim = &claim[1];
		messages[1]->held.claimed = held;
		if (claims_is_fresh(second, lap) && claims_take_fresh_pair(claim, seen, second, held, held))
			return 2;
	}
	return claims_take_fresh(claim, seen, held) ? 1 : 0;
}

uint32_t consumer_lane_take_run(struct consumer_lane *lane, struct sluice_message *const *messages, uint32_t most)
{
	for (uint32_t i = 32; i < 64; i += 8) /* those before that were asked for by the runs before */
		atomic_prefetch_write(consumer_lane_claim(lane, lane->next + i));
	uint32_t there = see_run(lane, messages, most);
	uint32_t taken = 0;
	while (taken < there) {
		uint32_t more = claim_next(lane, lane->next + taken, &messages[taken], there - taken > 1);
		if (more == 0)
			break; /* somebody else has it, or had it before */
		taken += more;
	}
	lane->next += taken;
	lane->bytes = lane->last_words.payload_bytes;
	return taken;
}

static bool advance(struct consumer_lane *lane, uint64_t released, uint64_t *ret_oldest);

static enum consumer_lane_found take_broadcast(
	struct consumer_lane *lane, struct sluice_message *message, struct lane_fault *ret_fault)
{
	uint64_t sequence = lane->next++;
	const char *reason = read_message(lane, sequence, message);
	if (reason != NULL) {
		uint64_t oldest;
		advance(lane, sequence, &oldest);
		*ret_fault = (struct lane_fault){reason, sequence};
		return LANE_BROKEN;
	}
	message->deliveries = 1;
	return LANE_FOUND;
}

enum consumer_lane_found consumer_lane_take(
	struct consumer_lane *lane, struct sluice_message *message, struct lane_fault *ret_fault)
{
	return lane->broadcast ? take_broadcast(lane, message, ret_fault) : take_queue(lane, message, ret_fault);
}

/* ---- releasing ---- */

/* Moves the cursor past everything released in a row; the caller is the only one to do so. False: it is not ours. */
static bool move_cursor(struct consumer_lane *lane)
{
	uint64_t oldest = layout_cursor_sequence(lane->cursor_word);
	uint64_t moved = oldest;
	uint8_t *released = lane->released;
	/* V2: pairs with V1 in advance: reads of the payload in the thread that released come before B1 */
	while (atomic_load_acquire(&released[moved & (lane->reader.depth - 1)]) != 0) {
		/* relaxed: ours alone until B1, after which the next message may come here */
		atomic_store_relaxed(&released[moved & (lane->reader.depth - 1)], 0);
		moved++;
	}
	if (moved == oldest)
		return true;
	uint64_t word = layout_cursor_encode(moved, lane->owner.incarnation);
	/* B1: cursor, pairs with B3 in lane_table_oldest: this consumer's reads of the payload come before the reuse */
	if (!atomic_swap_exact(own_cursor(lane), lane->cursor_word, word))
		return false;
	lane->cursor_word = word;
	return true;
}

/*
 * Marks a message as released and moves the cursor if it can. Whoever finds another thread moving it leaves the rest to
 * that one, which looks once more after it let go. False: the cursor was no longer ours. `*ret_oldest` is where it
 * stands.
 */
static bool advance(struct consumer_lane *lane, uint64_t released, uint64_t *ret_oldest)
{
	bool ours = true;
	uint8_t *marks = lane->released;
	uint64_t mask = lane->reader.depth - 1;
	atomic_store_release(&marks[released & mask], 1); /* V1: pairs with V2 in move_cursor */
	for (;;) {
		/* V3: after V1, pairs with V4 in advance: the other thread sees our mark once it let go */
		if (atomic_exchange_full(&lane->advancing, 1) != 0)
			break;
		ours = move_cursor(lane);
		uint64_t oldest = layout_cursor_sequence(lane->cursor_word);
		*ret_oldest = oldest;
		/* V4: let go, before the look below, pairs with V3 in advance */
		atomic_exchange_full(&lane->advancing, 0);
		if (!ours || atomic_load_acquire(&marks[oldest & mask]) == 0) /* V2: as in move_cursor */
			break;
	}
	return ours;
}

struct lane_release consumer_lane_release_broadcast(struct sluice_message *message)
{
	uint64_t oldest = 0;
	if (!advance(message->held.lane, message->sequence, &oldest))
		return (struct lane_release){.error = -ESTALE};
	return (struct lane_release){.moved = oldest != 0};
}

/* ---- the rest ---- */

bool consumer_lane_has_returned(const struct consumer_lane *lane)
{
	uint64_t tail = lane_reader_tail(&lane->reader);
	if (lane->next - tail > lane->reader.depth)
		return false; /* behind the tail, or so far ahead that the tail cannot be: the next look sorts that out */
	for (uint64_t sequence = tail; sequence != lane->next; sequence++) {
		/* relaxed: only a reason to look again, which then reads it properly (C2) */
		uint64_t word = atomic_load_relaxed(consumer_lane_claim(lane, sequence));
		if (layout_claim_decode(word).state == LAYOUT_RETURNED)
			return true;
	}
	return false;
}

/* True if nobody needs message `sequence` any more, of a lane that holds `tail` and what comes after. */
static bool is_done_with(
	const struct consumer_lane *lane, const struct layout_control *control, uint64_t tail, uint64_t sequence)
{
	if (lane->broadcast)
		return lane_table_oldest(control, lane->claims, tail) > sequence;
	return claims_is_done(consumer_lane_claim(lane, sequence), claims_lap(sequence, lane->reader.depth_shift));
}

bool consumer_lane_frees_some(const struct consumer_lane *lane, const struct layout_control *control)
{
	uint64_t tail = lane_reader_tail(&lane->reader);
	return is_done_with(lane, control, tail, tail);
}

bool consumer_lane_feeds(struct consumer_lane *lane, const struct layout_control *control)
{
	uint64_t tail = lane_reader_tail(&lane->reader);
	/* M2: as in roster_look: its bell is its own only while it is there */
	if (tail == lane->fed || atomic_load_acquire(lane->member) != lane->member_there ||
		!is_done_with(lane, control, tail, tail))
		return false;
	lane->fed = tail;
	return true;
}

bool consumer_lane_frees_enough(const struct consumer_lane *lane, const struct layout_control *control)
{
	uint64_t enough = lane_reader_enough(&lane->reader);
	uint64_t tail = lane_reader_tail(&lane->reader);
	if (!is_done_with(lane, control, tail, tail))
		return false;
	/* Said before an earlier sleep, or rubbish: then any room is enough. */
	if (enough - tail - 1 >= lane->reader.depth)
		return true;
	return is_done_with(lane, control, tail, enough - 1);
}

void consumer_lane_rescan(struct consumer_lane *lane)
{
	lane->next = lane_reader_tail(&lane->reader);
}

/* True if every message of an ended queue lane is done with, or held by `owner` unless that is NULL. */
static bool claims_are_done(const struct consumer_lane *lane, uint64_t final, const struct claims_owner *owner)
{
	uint64_t tail = lane_reader_tail(&lane->reader);
	if (final - tail > lane->reader.depth)
		return false; /* a tail that cannot be */
	for (uint64_t sequence = tail; sequence != final; sequence++) {
		uint32_t lap = claims_lap(sequence, lane->reader.depth_shift);
		const uint64_t *claim = consumer_lane_claim(lane, sequence);
		if (claims_is_done(claim, lap))
			continue;
		/* relaxed: only this consumer writes a word that says so */
		if (owner == NULL || !claims_is_held_by(atomic_load_relaxed(claim), lap, *owner))
			return false;
	}
	return true;
}

bool consumer_lane_is_finished(const struct consumer_lane *lane, const struct layout_control *control)
{
	uint64_t final;
	if (lane->given_up)
		return true;
	if (!lane_table_final(control, lane->key, &lane->reader, &final) || lane->next < final)
		return false;
	return lane->broadcast || claims_are_done(lane, final, &lane->owner);
}

bool consumer_lane_is_drained(const struct consumer_lane *lane, const struct layout_control *control)
{
	uint64_t final;
	if (!lane_table_final(control, lane->key, &lane->reader, &final) || lane->next < final)
		return false;
	if (lane->broadcast)
		return lane_table_progress(control, SLUICE_BROADCAST, lane->key, &lane->objects).drained;
	return claims_are_done(lane, final, NULL);
}

void consumer_lane_give_up(struct consumer_lane *lane)
{
	lane->given_up = true;
	uint64_t nothing = layout_cursor_encode(UINT64_MAX, lane->owner.incarnation);
	/* B1: as in move_cursor; releases of what is still held find another word, and say -ESTALE */
	atomic_swap_exact(own_cursor(lane), lane->cursor_word, nothing);
}

void consumer_lane_depart(struct consumer_lane *lane)
{
	if (!lane->broadcast)
		return;
	uint64_t *departed = &lane->claims->departed.value;
	uint64_t oldest = layout_cursor_sequence(lane->cursor_word);
	/* As many can leave at one time, each of whom raises it once; more tries than that are against somebody hostile. */
	for (uint32_t i = 0; i < LAYOUT_SLOTS; i++) {
		uint64_t seen = atomic_load_relaxed(departed); /* relaxed: B2 compares with it */
		/* B2: before J0, pairs with B4 in broadcast_oldest */
		if (seen >= oldest || atomic_swap_exact(departed, seen, oldest))
			break;
	}
	atomic_swap_exact(own_cursor(lane), lane->cursor_word, 0); /* B1: gone, pairs with B3 in lane_table_oldest */
}
