/* SPDX-License-Identifier: Apache-2.0 */
/* A lane's two rings: where messages find room, that live ones never overlap, and what readers see of them. */
#include "lane_case.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define UNIT 64

static void publish_head(
	struct lane_writer *writer, const struct layout_descriptor_head *head, struct lane_room room, uint64_t bytes)
{
	const struct lane_words words = lane_words_of(head);

	lane_writer_publish(writer, &words, head->correlation_id, head->ticket, room, bytes, false);
}

/* Publishes `bytes` bytes, for which there must be room; returns where they are. */
static struct lane_room publish(struct lane_case *lane, uint64_t bytes)
{
	const struct layout_descriptor_head head = {.correlation_id = lane->writer.head, .payload_bytes = bytes};
	struct lane_room room;

	check(lane_writer_find_room(&lane->writer, bytes, &room));
	publish_head(&lane->writer, &head, room, bytes);
	return room;
}

static void publish_at(struct lane_case *lane, uint64_t bytes, uint64_t offset, uint64_t skipped)
{
	const struct lane_room room = publish(lane, bytes);

	check_equal(offset, room.offset);
	check_equal(skipped, room.skipped);
}

static void check_full(const struct lane_case *lane, uint64_t bytes)
{
	struct lane_room room = {.offset = 4711, .skipped = 4712};

	check(!lane_writer_find_room(&lane->writer, bytes, &room));
	check(room.offset == 4711 && room.skipped == 4712);
}

/* ---- room ---- */

static void messages_follow_each_other_and_wrap_where_the_next_does_not_fit(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 4096, 8, 64);
	publish_at(&lane, 1536, 0, 0);
	publish_at(&lane, 1536, 1536, 0);
	check_full(&lane, 1088);
	lane_writer_free_to(&lane.writer, 1);
	publish_at(&lane, 1088, 0, 1024);
	publish_at(&lane, 448, 1088, 0);
	check_full(&lane, 64);
	lane_case_close(&lane);
}

static void a_message_that_ends_with_the_lane_skips_nothing(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 4096, 8, 64);
	publish_at(&lane, 2048, 0, 0);
	publish_at(&lane, 2048, 2048, 0);
	check_full(&lane, 64);
	lane_writer_free_to(&lane.writer, 1);
	publish_at(&lane, 1024, 0, 0);
	publish_at(&lane, 1024, 1024, 0);
	check_full(&lane, 64);
	lane_case_close(&lane);
}

static void what_was_skipped_is_taken_until_its_message_is_freed(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 4096, 8, 64);
	publish_at(&lane, 2048, 0, 0);
	publish_at(&lane, 1024, 2048, 0);
	lane_writer_free_to(&lane.writer, 2);
	check_equal(0, lane.writer.used);
	publish_at(&lane, 2048, 0, 1024);
	check_equal(3072, lane.writer.used);
	publish_at(&lane, 1024, 2048, 0);
	check_full(&lane, 64);
	lane_writer_free_to(&lane.writer, 3);
	check_equal(1024, lane.writer.used);
	publish_at(&lane, 1024, 3072, 0);
	publish_at(&lane, 2048, 0, 0);
	check_full(&lane, 64);
	lane_case_close(&lane);
}

static void a_lane_takes_as_many_messages_as_its_depth(void **state)
{
	struct lane_case lane;

	(void)state;
	for (uint32_t depth = 2; depth <= 1024; depth *= 2) {
		lane_case_open(&lane, UINT64_C(64) * 2048, depth, 64);
		for (uint32_t i = 0; i < depth; i++)
			publish(&lane, i % 2 ? 64 : 0);
		check_full(&lane, 0);
		check_full(&lane, 64);
		lane_writer_free_to(&lane.writer, 1);
		publish(&lane, 64);
		check_full(&lane, 0);
		lane_writer_free_to(&lane.writer, lane.writer.head);
		check_equal(0, lane.writer.used);
		lane_case_close(&lane);
	}
}

static void messages_without_payload_take_a_descriptor_only(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 4096, 8, 64);
	publish_at(&lane, 2048, 0, 0);
	publish_at(&lane, 2048, 2048, 0);
	publish(&lane, 0);
	publish(&lane, 0);
	check_equal(4096, lane.writer.used);
	lane_writer_free_to(&lane.writer, 1);
	publish_at(&lane, 2048, 0, 0);
	lane_case_close(&lane);
}

static void check_largest_everywhere(uint64_t capacity, uint32_t alignment)
{
	struct lane_case lane;
	uint64_t largest;

	lane_case_open(&lane, capacity, 2, alignment);
	largest = lane_writer_largest(&lane.writer);
	check(largest % alignment == 0 && largest <= capacity / 2 && largest + alignment > capacity / 2);
	for (uint64_t offset = 0; offset <= capacity; offset += alignment) {
		struct lane_room room;

		lane.writer.offset = offset;
		check(lane_writer_find_room(&lane.writer, largest, &room));
		check(room.offset + largest <= capacity && room.offset % alignment == 0);
		check_equal(room.offset == offset ? 0 : capacity - offset, room.skipped);
		publish_head(&lane.writer, &(struct layout_descriptor_head){0}, room, largest);
		check(lane.writer.used <= capacity);
		lane_writer_free_to(&lane.writer, lane.writer.head);
		check_equal(0, lane.writer.used);
	}
	lane_case_close(&lane);
}

static void the_largest_message_fits_an_empty_lane_wherever_it_stands(void **state)
{
	(void)state;
	for (uint32_t alignment = 64; alignment <= 4096; alignment *= 2) {
		for (uint64_t pages = 2; pages <= 18; pages++)
			check_largest_everywhere(pages * PAGE, alignment);
		check_largest_everywhere(UINT64_C(1) << 20, alignment);
	}
}

static void a_lane_of_odd_size_still_takes_its_largest_message(void **state)
{
	(void)state;
	for (uint32_t alignment = 64; alignment <= 4096; alignment *= 2)
		for (uint64_t capacity = 8192 - 448; capacity <= 8192 + 448; capacity += 64)
			check_largest_everywhere(capacity, alignment);
}

/* ---- against a map of units ---- */

#define MOST_UNITS 1024
#define MOST_DEPTH 64

/* Who has which 64 bytes, and what was published: slow and obvious. */
struct reference {
	bool taken[MOST_UNITS];
	struct {
		uint64_t offset, bytes, skipped, skipped_at;
	} messages[MOST_DEPTH];
	uint64_t units, depth, position, oldest, next;
};

static bool units_free(const struct reference *reference, uint64_t start, uint64_t bytes)
{
	for (uint64_t unit = start / UNIT; unit < (start + bytes) / UNIT; unit++)
		if (reference->taken[unit])
			return false;
	return true;
}

static void units_mark(struct reference *reference, uint64_t start, uint64_t bytes, bool taken)
{
	for (uint64_t unit = start / UNIT; unit < (start + bytes) / UNIT; unit++) {
		check(reference->taken[unit] != taken);
		reference->taken[unit] = taken;
	}
}

static bool reference_find(const struct reference *reference, uint64_t bytes, struct lane_room *ret_room)
{
	const uint64_t rest = reference->units * UNIT - reference->position;

	if (reference->next - reference->oldest == reference->depth)
		return false;
	*ret_room = (struct lane_room){.offset = reference->position};
	if (bytes > rest)
		*ret_room = (struct lane_room){.offset = 0, .skipped = rest};
	return units_free(reference, reference->position, ret_room->skipped) &&
	       units_free(reference, ret_room->offset, bytes);
}

static void reference_publish(struct reference *reference, struct lane_room room, uint64_t bytes)
{
	const uint64_t index = reference->next++ % reference->depth;

	units_mark(reference, reference->position, room.skipped, true);
	units_mark(reference, room.offset, bytes, true);
	reference->messages[index].skipped_at = reference->position;
	reference->messages[index].skipped = room.skipped;
	reference->messages[index].offset = room.offset;
	reference->messages[index].bytes = bytes;
	if (bytes > 0)
		reference->position = room.offset + bytes;
}

static void reference_free_oldest(struct reference *reference)
{
	const uint64_t index = reference->oldest++ % reference->depth;

	units_mark(reference, reference->messages[index].offset, reference->messages[index].bytes, false);
	units_mark(reference, reference->messages[index].skipped_at, reference->messages[index].skipped, false);
}

/* The byte that fills the payload of a message. */
static uint8_t filling(uint64_t sequence)
{
	return (uint8_t)(sequence * 7 + 1);
}

static void publish_filled(struct lane_case *lane, struct lane_room room, uint64_t bytes)
{
	const uint64_t sequence = lane->writer.head;
	const struct layout_descriptor_head head = {
		.sequence = 4711, /* not the caller's to say */
		.correlation_id = ~sequence,
		.payload_bytes = bytes,
		.payload_unit = (uint32_t)(room.offset / UNIT),
	};

	memset(lane->writer.payload + room.offset, filling(sequence), bytes);
	check(lane_reader_look(&lane->reader, sequence) < 0);
	publish_head(&lane->writer, &head, room, bytes);
}

/* A live message must be at its reader as it was published. */
static void check_readable(const struct lane_case *lane, uint64_t sequence)
{
	const struct layout_descriptor *descriptor = lane_reader_descriptor(&lane->reader, sequence);
	struct layout_descriptor_head head;
	const uint8_t *base;

	check_equal(0, lane_reader_look(&lane->reader, sequence));
	lane_reader_copy_head(descriptor, &head);
	check_equal(~sequence, head.correlation_id);
	check(lane_reader_payload(&lane->reader, descriptor, &head, &base) == NULL);
	for (uint64_t i = 0; i < head.payload_bytes; i++)
		if (base[i] != filling(sequence))
			check_equal(filling(sequence), base[i]);
}

static void free_some(struct lane_case *lane, struct reference *reference, uint64_t count)
{
	for (; count > 0 && reference->oldest < reference->next; count--) {
		check_readable(lane, reference->oldest);
		reference_free_oldest(reference);
	}
	lane_writer_free_to(&lane->writer, reference->oldest);
}

static uint64_t random_size(const struct lane_case *lane, uint64_t *seed)
{
	const uint64_t most = lane_writer_largest(&lane->writer) / lane->writer.alignment;
	const uint64_t steps =
		random_below(seed, 4) > 0 ? random_below(seed, most / 4 + 1) : random_below(seed, most + 1);

	return steps * lane->writer.alignment;
}

static void run_against_reference(uint64_t capacity, uint32_t depth, uint32_t alignment, uint64_t messages)
{
	uint64_t seed = capacity * depth + alignment;
	struct reference reference = {.units = capacity / UNIT, .depth = depth};
	struct lane_case lane;
	struct lane_room room, wanted;

	lane_case_open(&lane, capacity, depth, alignment);
	while (reference.next < messages) {
		const uint64_t bytes = random_size(&lane, &seed);
		const bool fits = reference_find(&reference, bytes, &wanted);

		check(fits == lane_writer_find_room(&lane.writer, bytes, &room));
		if (fits) {
			check(room.offset == wanted.offset && room.skipped == wanted.skipped);
			check(room.offset + bytes <= capacity && (bytes == 0 || room.offset % alignment == 0));
			publish_filled(&lane, room, bytes);
			reference_publish(&reference, room, bytes);
		}
		if (!fits || random_below(&seed, 3) == 0)
			free_some(&lane, &reference, 1 + random_below(&seed, fits ? 2 : depth));
	}
	free_some(&lane, &reference, depth);
	check_equal(0, lane.writer.used);
	lane_case_close(&lane);
}

static void live_messages_never_overlap_and_stay_as_published(void **state)
{
	(void)state;
	for (uint32_t alignment = 64; alignment <= 4096; alignment *= 4)
		for (uint32_t depth = 2; depth <= MOST_DEPTH; depth *= 2) {
			run_against_reference(8192, depth, alignment, scaled(20000));
			run_against_reference(20480, depth, alignment, scaled(20000));
			run_against_reference(MOST_UNITS * UNIT, depth, alignment, scaled(5000));
		}
}

/* ---- readers ---- */

static void a_reader_tells_what_is_to_come_what_is_there_and_what_was_overwritten(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	for (uint64_t sequence = 0; sequence < 20; sequence++) {
		check(lane_reader_look(&lane.reader, sequence) < 0);
		publish(&lane, 64);
		check_equal(0, lane_reader_look(&lane.reader, sequence));
		lane_writer_free_to(&lane.writer, lane.writer.head);
		if (sequence >= 4)
			check_equal(4, lane_reader_look(&lane.reader, sequence - 4));
		if (sequence >= 8)
			check_equal(8, lane_reader_look(&lane.reader, sequence - 8));
	}
	lane_case_close(&lane);
}

static void a_reader_learns_the_tail_and_the_end(void **state)
{
	uint64_t final = 4711;
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	check(!lane_reader_final(&lane.reader, &final));
	check(final == 4711 && lane_reader_tail(&lane.reader) == 0);
	publish(&lane, 64);
	publish(&lane, 0);
	lane_writer_announce_tail(&lane.writer, 1);
	check_equal(1, lane_reader_tail(&lane.reader));
	lane_writer_end(&lane.writer);
	check(lane_reader_final(&lane.reader, &final));
	check_equal(2, final);
	lane_case_close(&lane);
}

static void the_end_of_a_lane_without_messages_is_an_end_too(void **state)
{
	uint64_t final = 4711;
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	lane_writer_end(&lane.writer);
	check(lane_reader_final(&lane.reader, &final));
	check_equal(0, final);
	lane_case_close(&lane);
}

static void a_stopped_writer_may_be_stopped_again(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	lane_writer_stop(&lane.writer);
	lane_case_close(&lane);
}

/* ---- schemas ---- */

static struct lane_schema numbered_schema(unsigned number)
{
	struct lane_schema schema = {
		.tensor_count = 2,
		.ranks = {number % 9, 8},
		.dtypes = {SLUICE_FLOAT32, SLUICE_INT64},
	};

	snprintf(schema.names[0], sizeof schema.names[0], "tensor %u", number);
	snprintf(schema.names[1], sizeof schema.names[1], "a name with thirty-one letters!");
	return schema;
}

static void a_lane_has_64_schemas_and_finds_each_again(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	for (unsigned i = 0; i < LAYOUT_SCHEMAS; i++) {
		const struct lane_schema schema = numbered_schema(i);

		check_result((int)i, lane_writer_schema(&lane.writer, &schema));
		check_equal(i + 1, lane.data->state.schema_count);
	}
	for (unsigned i = 0; i < 2 * LAYOUT_SCHEMAS; i++) {
		const struct lane_schema schema = numbered_schema(i);

		check_result(i < LAYOUT_SCHEMAS ? (int)i : -ENOBUFS, lane_writer_schema(&lane.writer, &schema));
	}
	check_equal(LAYOUT_SCHEMAS, lane.data->state.schema_count);
	lane_case_close(&lane);
}

static void schemas_differ_by_count_names_types_and_ranks(void **state)
{
	struct lane_schema schemas[5];
	struct lane_case lane;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(schemas); i++)
		schemas[i] = numbered_schema(0);
	schemas[1].tensor_count = 1;
	schemas[2].names[1][30] = '?';
	schemas[3].dtypes[1] = SLUICE_UINT64;
	schemas[4].ranks[0] = 1;
	lane_case_open(&lane, 8192, 4, 64);
	for (unsigned i = 0; i < 2 * COUNT_OF(schemas); i++)
		check_result((int)(i % 5), lane_writer_schema(&lane.writer, &schemas[i % 5]));
	lane_case_close(&lane);
}

static void a_reader_loads_what_the_writer_stored(void **state)
{
	struct lane_case lane;

	(void)state;
	lane_case_open(&lane, 8192, 4, 64);
	for (unsigned i = 0; i < LAYOUT_SCHEMAS; i++) {
		const struct lane_schema stored = numbered_schema(i);
		struct lane_schema loaded;

		check_result((int)i, lane_writer_schema(&lane.writer, &stored));
		check(lane_schema_load(&lane.data->schemas[i], &loaded) == NULL);
		check_equal(2, loaded.tensor_count);
		check_equal(i % 9 + 8, loaded.dim_count);
		check(memcmp(stored.names, loaded.names, sizeof stored.names) == 0);
		check(memcmp(stored.ranks, loaded.ranks, sizeof stored.ranks) == 0);
		check(memcmp(stored.dtypes, loaded.dtypes, sizeof stored.dtypes) == 0);
		check(loaded.element_bytes[0] == 4 && loaded.element_bytes[1] == 8);
	}
	lane_case_close(&lane);
}

static void a_rubbish_schema_is_refused_and_nothing_stored(void **state)
{
	struct layout_schema shared = {.tensor_count = SLUICE_MAX_TENSORS + 1};
	struct lane_schema schema = {.tensor_count = 4711};

	(void)state;
	check(lane_schema_load(&shared, &schema) != NULL);
	check_equal(4711, schema.tensor_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(messages_follow_each_other_and_wrap_where_the_next_does_not_fit),
		promise(a_message_that_ends_with_the_lane_skips_nothing),
		promise(what_was_skipped_is_taken_until_its_message_is_freed),
		promise(a_lane_takes_as_many_messages_as_its_depth),
		promise(messages_without_payload_take_a_descriptor_only),
		promise(the_largest_message_fits_an_empty_lane_wherever_it_stands),
		promise(a_lane_of_odd_size_still_takes_its_largest_message),
		promise(live_messages_never_overlap_and_stay_as_published),
		promise(a_reader_tells_what_is_to_come_what_is_there_and_what_was_overwritten),
		promise(a_reader_learns_the_tail_and_the_end),
		promise(the_end_of_a_lane_without_messages_is_an_end_too),
		promise(a_stopped_writer_may_be_stopped_again),
		promise(a_lane_has_64_schemas_and_finds_each_again),
		promise(schemas_differ_by_count_names_types_and_ranks),
		promise(a_reader_loads_what_the_writer_stored),
		promise(a_rubbish_schema_is_refused_and_nothing_stored),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
