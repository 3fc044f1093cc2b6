/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane's data object: a ring of descriptors and a ring of payload bytes, written by one producer, read by many.
 *
 * The writer's side keeps its positions in private memory and believes nothing it could read back. The reader's side is
 * a view of read-only memory of which nothing is believed either. Which messages are done with is for others to know
 * (claims); the writer is told.
 */
#ifndef SLUICE_LIB_LANE_H
#define SLUICE_LIB_LANE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "atomic.h"
#include "layout.h"

/* A schema in private memory, checked. */
struct lane_schema {
	uint32_t tensor_count;
	uint32_t dim_count; /* of all tensors together */
	uint32_t ranks[SLUICE_MAX_TENSORS];
	uint32_t dtypes[SLUICE_MAX_TENSORS];
	uint32_t element_bytes[SLUICE_MAX_TENSORS];
	char names[SLUICE_MAX_TENSORS][SLUICE_MAX_TENSOR_NAME + 1];
};

/* Takes a schema over from shared memory. Returns NULL, or the reason why it is rubbish. */
const char *lane_schema_load(const struct layout_schema *shared, struct lane_schema *ret_schema);

/* Any 8 bytes of a head. */
typedef uint64_t __attribute__((may_alias)) any_word;

/* The last five words of a head: what a message looks like, and where it is. */
struct lane_words {
	uint64_t payload_bytes;
	uint64_t place; /* payload_unit, schema, flags: 32, 16, 16 bits */
	uint64_t dims[LAYOUT_DIMS / 2];
};

#define LANE_PLACE(unit, schema, flags) ((uint64_t)(flags) << 48 | (uint64_t)(schema) << 32 | (unit))
#define LANE_PLACE_FLAGS(place)         ((uint32_t)((place) >> 48))
/* Where the payload lies and what is read beside it when asked for: no part of the shape. */
#define LANE_PLACE_FREE ((uint64_t)(LAYOUT_TRACED | LAYOUT_DEADLINE) << 48 | UINT32_MAX)

static inline struct lane_words lane_words_of(const struct layout_descriptor_head *head)
{
	struct lane_words words = {
		.payload_bytes = head->payload_bytes,
		.place = LANE_PLACE(head->payload_unit, head->schema, head->flags),
	};
	memcpy(words.dims, head->dims, sizeof words.dims);
	return words;
}

/* ---- writer ---- */

struct lane_writer {
	struct layout_data *data;
	uint8_t *payload;
	uint64_t capacity; /* payload bytes */
	uint32_t depth;
	uint32_t depth_shift;
	uint32_t alignment;
	uint32_t schema_count;
	uint64_t head;     /* sequence number of the next message */
	uint64_t tail;     /* oldest message whose memory is not free */
	uint64_t offset;   /* where the next payload would begin */
	uint64_t used;     /* payload bytes between tail and head, skipped ones included */
	uint32_t *extents; /* for each descriptor, bytes / 64 its message took, skipped ones included */
	struct lane_schema *schemas;
};

/* A place for a message; nothing is taken until lane_writer_publish. */
struct lane_room {
	uint64_t offset;  /* of the payload */
	uint64_t skipped; /* bytes left unused at the lane's end */
};

/* Fills a fresh data object and starts writing it. Returns 0 or -ENOMEM. */
int lane_writer_start(
	struct lane_writer *writer, struct layout_data *data, uint64_t capacity, uint32_t depth, uint32_t alignment);
/* Frees private memory; the object stays as it is. */
void lane_writer_stop(struct lane_writer *writer);

/* Largest message that always fits once the lane is empty, bytes. */
uint64_t lane_writer_largest(const struct lane_writer *writer);

static inline struct layout_descriptor *lane_writer_descriptor(const struct lane_writer *writer)
{
	return &writer->data->descriptors[writer->head & (writer->depth - 1)];
}

/* Looks for a free descriptor and `bytes` contiguous bytes; `bytes` is a multiple of the alignment, 0 for inline ones. */
static inline bool lane_writer_find_room(const struct lane_writer *writer, uint64_t bytes, struct lane_room *ret_room)
{
	uint64_t left = writer->capacity - writer->offset;
	bool fits = bytes <= left;
	uint64_t skipped = fits ? 0 : left;
	/*
	 * An empty ring has room for anything up to half of it: what is skipped is shorter than the message, since
	 * offsets and sizes are multiples of the alignment.
	 */
	if (writer->head - writer->tail == writer->depth || skipped + bytes > writer->capacity - writer->used)
		return false;
	ret_room->offset = fits ? writer->offset : 0;
	ret_room->skipped = skipped;
	return true;
}

/*
 * Publishes the message whose descriptor's payload and annex are filled: writes the rest of its head, then its sequence
 * number. `bytes` is what the message takes of the payload ring, a multiple of the alignment. Ends with a full fence
 * unless `more` says that the caller does not look for sleepers now.
 */
static inline void lane_writer_publish(struct lane_writer *writer, const struct lane_words *words,
	uint64_t correlation_id, uint64_t ticket, struct lane_room room, uint64_t bytes, bool more)
{
	struct layout_descriptor *descriptor = lane_writer_descriptor(writer);
	uint64_t taken = bytes > 0 ? room.skipped + bytes : 0;
	writer->extents[writer->head & (writer->depth - 1)] = (uint32_t)(taken / LAYOUT_UNIT);
	writer->used += taken;
	writer->offset = bytes > 0 ? room.offset + bytes : writer->offset;

	any_word *head = (any_word *)&descriptor->head;
	/* relaxed: before P1; atomic at all, because consumers look at some of them before they have claimed the message */
	atomic_store_relaxed(&head[1], correlation_id);
	atomic_store_relaxed(&head[2], ticket);
	atomic_store_relaxed(&head[3], words->payload_bytes);
	atomic_store_relaxed(&head[4], words->place);
	atomic_store_relaxed(&head[5], words->dims[0]);
	atomic_store_relaxed(&head[6], words->dims[1]);
	atomic_store_relaxed(&head[7], words->dims[2]);
	writer->head++;
	if (more) {
		atomic_store_release(&descriptor->head.sequence, writer->head); /* P1: as below, but for the fence */
		return;
	}
	/*
	 * P1: publish, pairs with C1 in lane_reader_look. An exchange, because with it the full fence below costs
	 * nothing more on x86, which is less than a store and a fence.
	 */
	atomic_exchange_full(&descriptor->head.sequence, writer->head);
	/* D3: P1 before, the look for sleepers in producer_wake_consumers after, pairs with D2 in doorbell_arm */
	atomic_fence_after_rmw();
}

/*
 * How far messages must be done with before it is worth to wake the writer, who waits for room of `bytes` bytes: so that
 * there is this room, and a quarter of what is in the lane is free. Returns the sequence number behind the last of them.
 */
uint64_t lane_writer_enough(const struct lane_writer *writer, uint64_t bytes);

/* Tells those who release; before the writer announces that it sleeps. */
void lane_writer_say_enough(struct lane_writer *writer, uint64_t enough);

/* Tells readers that messages before `tail` may be overwritten from now on. */
void lane_writer_announce_tail(struct lane_writer *writer, uint64_t tail);

/* Takes back the memory of all messages before `tail`, which are done with. */
void lane_writer_free_to(struct lane_writer *writer, uint64_t tail);

/* The number of a schema equal to `schema`, appended if new. Returns it or -ENOBUFS. */
int lane_writer_schema(struct lane_writer *writer, const struct lane_schema *schema);

/* Marks the stream as ended after what is published. */
void lane_writer_end(struct lane_writer *writer);

/* ---- reader ---- */

struct lane_reader {
	const struct layout_data *data;
	const uint8_t *payload;
	uint64_t capacity;
	uint32_t depth;
	uint32_t depth_shift;
	uint32_t alignment;
};

/* `geometry` is a private copy that layout_check_geometry found good. */
void lane_reader_start(
	struct lane_reader *reader, const struct layout_data *data, const struct layout_lane_geometry *geometry);

static inline const struct layout_descriptor *lane_reader_descriptor(
	const struct lane_reader *reader, uint64_t sequence)
{
	return &reader->data->descriptors[sequence & (reader->depth - 1)];
}

/*
 * How far the descriptor of `sequence` is: 0 that message is there, negative not yet, positive it has been overwritten
 * by the message so many places later.
 */
static inline int64_t lane_reader_look(const struct lane_reader *reader, uint64_t sequence)
{
	const struct layout_descriptor *descriptor = lane_reader_descriptor(reader, sequence);
	/* C1: poll, pairs with P1 in lane_writer_publish: whoever sees the number sees the descriptor and the payload */
	uint64_t found = atomic_load_acquire(&descriptor->head.sequence);
	return (int64_t)(found - (sequence + 1));
}

/* Copies a descriptor's head into private memory, each word read once. */
static inline void lane_reader_copy_head(
	const struct layout_descriptor *descriptor, struct layout_descriptor_head *ret_head)
{
	/* Whole words into their final place: a second copy would read back in one piece what was stored in several. */
	const any_word *from = (const any_word *)&descriptor->head;
	any_word *to = (any_word *)ret_head;
	for (unsigned i = 0; i < sizeof *ret_head / sizeof *to; i++)
		to[i] = atomic_load_relaxed(&from[i]); /* relaxed: after C1, and checked as untrusted */
}

/*
 * True if the message in `descriptor` looks like the one that `last` was taken from, and has no stamps; then
 * `*ret_place` is its place word. Reads each shared word once and hands out no other, since those are equal to what is
 * known. One by one: compared all together they would be put through memory for the sake of wider instructions.
 */
static inline bool lane_reader_repeats(
	const struct layout_descriptor *descriptor, const struct lane_words *last, uint64_t *ret_place)
{
	const struct layout_descriptor_head *head = &descriptor->head;
	const any_word *dims = (const any_word *)head->dims;
	/* relaxed: after C1, and compared with what was found good, here and below */
	uint64_t place = atomic_load_relaxed((const any_word *)&head->payload_unit);
	if (((place ^ last->place) & ~LANE_PLACE_FREE) != 0)
		return false;
	if (atomic_load_relaxed(&head->payload_bytes) != last->payload_bytes) /* relaxed: see above */
		return false;
#pragma GCC unroll 3
	for (unsigned i = 0; i < LAYOUT_DIMS / 2; i++)
		if (atomic_load_relaxed(&dims[i]) != last->dims[i]) /* relaxed: see above */
			return false;
	*ret_place = place;
	return true;
}

/* Messages published by a producer that ended cleanly; false while it goes on. */
static inline bool lane_reader_final(const struct lane_reader *reader, uint64_t *ret_final)
{
	uint64_t final = atomic_load_acquire(&reader->data->state.final); /* F2: pairs with F1 in lane_writer_end */
	if (final == 0)
		return false;
	*ret_final = final - 1;
	return true;
}

/* How far messages must be done with before the sleeping writer wants to be woken: see lane_writer_enough. */
static inline uint64_t lane_reader_enough(const struct lane_reader *reader)
{
	atomic_fence_full(); /* W2: after the sleeper's bit, pairs with W1 in lane_writer_say_enough */
	return atomic_load_relaxed(&reader->data->state.enough); /* relaxed: after W2; a hint, whatever it says */
}

/* Oldest message that may still be there. */
static inline uint64_t lane_reader_tail(const struct lane_reader *reader)
{
	return atomic_load_acquire(&reader->data->tail.value); /* T2: pairs with T1 in lane_writer_announce_tail */
}

/* Where a tensor lies in a message: from the payload's start, bytes. */
struct lane_tensor {
	uint64_t offset;
	uint64_t bytes;
	int64_t shape[SLUICE_MAX_DIMENSIONS];
};

/*
 * Finds where a message's payload starts. Returns NULL, or the reason why the descriptor is rubbish; `*ret_base` and as
 * many bytes behind it as the head says lie inside the mapping.
 */
const char *lane_reader_payload(const struct lane_reader *reader, const struct layout_descriptor *descriptor,
	const struct layout_descriptor_head *head, const uint8_t **ret_base);

/*
 * Finds a message's tensors from a private copy of its head, which the caller has claimed, and from its payload.
 * Everything returned lies inside the payload. Returns NULL, or the reason why the descriptor is rubbish.
 */
const char *lane_reader_resolve(const struct layout_descriptor_head *head, const struct lane_schema *schema,
	const uint8_t *base, struct lane_tensor ret_tensors[SLUICE_MAX_TENSORS]);

/*
 * True if two heads describe tensors of the same shapes at the same places behind their payloads' starts. Dimensions
 * that lie in the payload are never the same.
 */
static inline bool lane_same_shapes(const struct layout_descriptor_head *a, const struct layout_descriptor_head *b)
{
	const uint32_t layout_flags = LAYOUT_PAYLOAD_INLINE | LAYOUT_DIMS_IN_PAYLOAD;
	return a->schema == b->schema && a->payload_bytes == b->payload_bytes &&
	       ((uint32_t)(a->flags ^ b->flags) & layout_flags) == 0 && (a->flags & LAYOUT_DIMS_IN_PAYLOAD) == 0 &&
	       memcmp(a->dims, b->dims, sizeof a->dims) == 0;
}

#endif
