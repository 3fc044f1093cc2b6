/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared bytes mean: names, packed words and sizes there and back, and that rubbish is refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "layout.h"

#include "../support/harness.h"
#include "corrupt.h"

#define LETTERS_63 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* ---- names ---- */

static void names_of_letters_digits_dots_and_dashes_are_valid(void **state)
{
	static const char *const names[] = {"a", "0", "-", "_", "a.", "a..b", "tokens", "Run-7_b.eval", LETTERS_63};

	(void)state;
	check_equal(63, strlen(LETTERS_63));
	for (unsigned i = 0; i < COUNT_OF(names); i++)
		check_result(0, layout_check_name(names[i]));
}

static void names_that_could_leave_the_directory_or_mean_two_things_are_refused(void **state)
{
	static const char *const names[] = {NULL, "", ".", "..", ".hidden", "a/b", "/", "/a", "a+b", "+", "a b", "a\n",
		"\x7f", "\xc3\xa4", "a\\b", "a*", LETTERS_63 "x", LETTERS_63 LETTERS_63 LETTERS_63};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(names); i++)
		check_result(-EINVAL, layout_check_name(names[i]));
}

static void of_all_bytes_64_may_start_a_name_and_65_go_on(void **state)
{
	unsigned first = 0, second = 0;

	(void)state;
	for (unsigned byte = 1; byte < 256; byte++) {
		first += layout_check_name((char[]){(char)byte, '\0'}) == 0;
		second += layout_check_name((char[]){'a', (char)byte, '\0'}) == 0;
	}
	check_equal(64, first);
	check_equal(65, second);
}

static void a_file_name_tells_its_channel_and_kind(void **state)
{
	static const char *const names[] = {"a", "0", "-.-", "data", "sluice.a", "a.1.2.claims", LETTERS_63};
	char file[LAYOUT_NAME_BYTES], name[SLUICE_MAX_NAME + 1];

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(names); i++) {
		layout_control_name(names[i], file);
		check_equal(LAYOUT_CONTROL, layout_parse_name(file, name));
		check(strcmp(names[i], name) == 0);
		for (enum layout_kind kind = LAYOUT_DATA; kind <= LAYOUT_CLAIMS; kind++) {
			layout_lane_name(names[i], UINT64_MAX, LAYOUT_SLOTS - 1, UINT32_MAX, kind, file);
			check_equal(LAYOUT_DATA, layout_parse_name(file, name));
			check(strcmp(names[i], name) == 0);
		}
	}
}

static void the_longest_file_name_is_not_cut(void **state)
{
	const char *end = "+ffffffffffffffff.127.4294967295.claims";
	char file[LAYOUT_NAME_BYTES];

	(void)state;
	layout_lane_name(LETTERS_63, UINT64_MAX, LAYOUT_SLOTS - 1, UINT32_MAX, LAYOUT_CLAIMS, file);
	check(strcmp(file, "sluice." LETTERS_63 "+ffffffffffffffff.127.4294967295.claims") == 0);
	check(strlen(file) < LAYOUT_NAME_BYTES - 1 && strcmp(file + strlen(file) - strlen(end), end) == 0);
}

static void a_lanes_file_name_tells_whose_it_is(void **state)
{
	static const uint64_t ids[] = {0, 1, 0x4711, UINT64_C(1) << 63, UINT64_MAX};
	char file[LAYOUT_NAME_BYTES];
	uint64_t id = 4711;
	uint32_t slot = 0, incarnation = 0;

	(void)state;
	layout_control_name("a.1.2", file);
	check(!layout_lane_owner(file, &id, &slot, &incarnation) && id == 4711);
	check(!layout_lane_owner("sluice.a+", &id, &slot, &incarnation) && id == 4711);
	check(!layout_lane_owner("sluice.a+x.1.2.data", &id, &slot, &incarnation) && id == 4711);
	for (unsigned i = 0; i < COUNT_OF(ids); i++) {
		layout_lane_name("a.1.2", ids[i], 3, 4, LAYOUT_CLAIMS, file);
		check(layout_lane_owner(file, &id, &slot, &incarnation));
		check_equal(ids[i], id);
		check_equal(3, slot);
		check_equal(4, incarnation);
	}
}

static void objects_of_a_channel_have_names_of_their_own(void **state)
{
	char files[6][LAYOUT_NAME_BYTES];

	(void)state;
	layout_control_name("a", files[0]);
	layout_lane_name("a", 1, 2, 3, LAYOUT_DATA, files[1]);
	layout_lane_name("a", 1, 2, 3, LAYOUT_CLAIMS, files[2]);
	layout_lane_name("a", 0x12, 3, 3, LAYOUT_DATA, files[3]);
	layout_lane_name("a", 1, 23, 3, LAYOUT_DATA, files[4]);
	layout_lane_name("a", 1, 2, 33, LAYOUT_DATA, files[5]);
	for (unsigned i = 0; i < COUNT_OF(files); i++)
		for (unsigned k = 0; k < i; k++)
			check(strcmp(files[i], files[k]) != 0);
}

static void other_files_are_not_taken_for_sluices(void **state)
{
	static const char *const files[] = {"", "sluice", "sluice.", "sluice.+", "sluice..a", "sluice.a b",
		"sluice.a/b", "Sluice.a", "xsluice.a", "sluice_a", "sem.a", "sluice.+1.2.3.data",
		"sluice.a b+1.2.3.data", "sluice." LETTERS_63 "x", "sluice." LETTERS_63 "x+1.2.3.data"};
	char name[SLUICE_MAX_NAME + 1] = "untouched";

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(files); i++) {
		check_equal(0, layout_parse_name(files[i], name));
		check(strcmp(name, "untouched") == 0);
	}
}

/* ---- packed words ---- */

static void check_claim(struct layout_claim claim)
{
	struct layout_claim decoded = layout_claim_decode(layout_claim_encode(claim));

	check_equal(claim.lap, decoded.lap);
	check_equal(claim.state, decoded.state);
	check_equal(claim.deliveries, decoded.deliveries);
	check_equal(claim.slot, decoded.slot);
	check_equal(claim.incarnation, decoded.incarnation);
}

static void a_claim_word_gives_back_every_field_at_its_limits(void **state)
{
	static const uint32_t laps[] = {0, 1, INT32_MAX, UINT32_C(1) << 31, UINT32_MAX};
	static const uint32_t deliveries[] = {0, 1, LAYOUT_MAX_DELIVERIES};
	static const uint32_t slots[] = {0, 1, LAYOUT_SLOTS - 1};
	static const uint32_t incarnations[] = {0, 1, LAYOUT_INCARNATION_MASK};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(laps) * 4 * 3 * 3 * 3; i++)
		check_claim((struct layout_claim){
			.lap = laps[i % 5],
			.state = (enum layout_claim_state)(i / 5 % 4),
			.deliveries = deliveries[i / 20 % 3],
			.slot = slots[i / 60 % 3],
			.incarnation = incarnations[i / 180],
		});
}

static void claim_fields_fill_the_word_and_do_not_overlap(void **state)
{
	const uint64_t fields[] = {
		layout_claim_encode((struct layout_claim){.lap = UINT32_MAX}),
		layout_claim_encode((struct layout_claim){.state = LAYOUT_SET_ASIDE}),
		layout_claim_encode((struct layout_claim){.deliveries = LAYOUT_MAX_DELIVERIES}),
		layout_claim_encode((struct layout_claim){.slot = LAYOUT_SLOTS - 1}),
		layout_claim_encode((struct layout_claim){.incarnation = UINT32_MAX}),
	};
	uint64_t together = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(fields); i++) {
		check_equal(0, together & fields[i]);
		together |= fields[i];
	}
	check_equal(UINT64_MAX, together);
}

static void a_fresh_claim_word_is_free_for_the_first_lap(void **state)
{
	struct layout_claim fresh = layout_claim_decode(0);

	(void)state;
	check(fresh.lap == 0 && fresh.state == LAYOUT_RELEASED && fresh.deliveries == 0);
}

static void a_cursor_gives_back_its_sequence_whatever_the_incarnation(void **state)
{
	static const uint64_t sequences[] = {0, 1, UINT32_MAX, (UINT64_C(1) << LAYOUT_CURSOR_BITS) - 1};
	static const uint32_t incarnations[] = {0, 1, LAYOUT_INCARNATION_MASK, UINT32_MAX};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(sequences) * COUNT_OF(incarnations); i++) {
		uint64_t word = layout_cursor_encode(sequences[i % 4], incarnations[i / 4]);

		check_equal(sequences[i % 4], layout_cursor_sequence(word));
		check_equal(incarnations[i / 4] & LAYOUT_INCARNATION_MASK, layout_cursor_incarnation(word));
	}
}

static void a_sequence_too_long_for_a_cursor_leaves_the_incarnation_alone(void **state)
{
	(void)state;
	check_equal(layout_cursor_encode(5, 77), layout_cursor_encode((UINT64_C(1) << LAYOUT_CURSOR_BITS) + 5, 77));
}

static void a_member_word_gives_back_every_field(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3 * 3 * 4; i++) {
		uint32_t incarnation = (const uint32_t[]){0, 1, UINT32_MAX}[i % 3];
		enum sluice_role role = (enum sluice_role)(i / 3 % 3);
		enum layout_member_state member = (enum layout_member_state)(i / 9);
		uint64_t word = layout_member_word(incarnation, role, member);

		check_equal(incarnation, layout_member_incarnation(word));
		check_equal(role, layout_member_role(word));
		check_equal(member, layout_member_state(word));
	}
}

/* ---- sizes ---- */

static void descriptors_and_payload_lie_behind_each_other_in_whole_pages(void **state)
{
	(void)state;
	for (uint32_t depth = 2; depth <= LAYOUT_MAX_DEPTH; depth *= 2)
		for (uint64_t payload = LAYOUT_MIN_PAYLOAD; payload <= LAYOUT_MAX_PAYLOAD; payload = payload * 3 + 64) {
			uint64_t offset;
			uint64_t bytes = layout_data_bytes(depth, payload, &offset);
			uint64_t end = sizeof(struct layout_data) + (uint64_t)depth * sizeof(struct layout_descriptor);

			check(offset >= end && offset - end < 4096 && offset % 4096 == 0);
			check(bytes >= offset + payload && bytes - offset - payload < 4096 && bytes % 4096 == 0);
			check_equal(bytes, layout_data_bytes(depth, payload, NULL));
		}
}

static void half_a_rounded_payload_is_a_multiple_of_every_alignment(void **state)
{
	(void)state;
	for (uint64_t bytes = 1; bytes <= LAYOUT_MAX_PAYLOAD; bytes = bytes * 2 + bytes % 3) {
		const uint64_t rounded = layout_round_payload(bytes);

		check(rounded >= bytes && rounded - bytes < 8192 && rounded % 8192 == 0);
	}
	check_equal(8192, layout_round_payload(8192));
	check_equal(LAYOUT_MAX_PAYLOAD, layout_round_payload(LAYOUT_MAX_PAYLOAD));
}

static void a_claims_object_holds_a_word_for_each_descriptor_or_a_line_for_each_member(void **state)
{
	(void)state;
	for (uint32_t depth = 2; depth <= LAYOUT_MAX_DEPTH; depth *= 2) {
		uint64_t words = 4096 + (uint64_t)depth * 8;

		check_equal((words + 4095) / 4096 * 4096, layout_claims_bytes(SLUICE_QUEUE, depth));
		check_equal(4096 + LAYOUT_SLOTS * LAYOUT_LINE, layout_claims_bytes(SLUICE_BROADCAST, depth));
	}
}

/* ---- header ---- */

#define FILE_BYTES UINT64_C(8192)

static struct layout_header good_header(void)
{
	return (struct layout_header){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.kind = LAYOUT_DATA,
		.bytes = FILE_BYTES,
		.channel_id = 4711,
		.slot = LAYOUT_SLOTS - 1,
		.incarnation = UINT32_MAX,
		.created_ns = 1,
	};
}

static void the_magic_is_not_text_and_shows_line_end_damage(void **state)
{
	const uint64_t magic = LAYOUT_MAGIC;

	(void)state;
	check(memcmp(&magic, "\x89SLUICE\n", 8) == 0);
}

static void each_corrupted_header_field_is_refused_by_its_code(void **state)
{
	static const struct corruption table[] = {
		CORRUPT(struct layout_header, magic, 0, .error = -EPROTO),
		CORRUPT(struct layout_header, magic, LAYOUT_MAGIC ^ 1, .error = -EPROTO),
		CORRUPT(struct layout_header, magic, UINT64_C(0x0a0d454349554c53), .error = -EPROTO),
		CORRUPT(struct layout_header, version, 0, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, version, LAYOUT_VERSION + 1, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, features, 1, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, features, UINT64_C(1) << 63, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, kind, 0, .error = -EPROTO),
		CORRUPT(struct layout_header, kind, LAYOUT_CONTROL, .error = -EPROTO),
		CORRUPT(struct layout_header, kind, LAYOUT_CLAIMS, .error = -EPROTO),
		CORRUPT(struct layout_header, bytes, 0, .error = -EBADMSG),
		CORRUPT(struct layout_header, bytes, FILE_BYTES - 1, .error = -EBADMSG),
		CORRUPT(struct layout_header, bytes, FILE_BYTES + 4096, .error = -EBADMSG),
		CORRUPT(struct layout_header, bytes, UINT64_MAX, .error = -EBADMSG),
		CORRUPT(struct layout_header, slot, LAYOUT_SLOTS, .error = -EBADMSG),
		CORRUPT(struct layout_header, slot, UINT32_MAX, .error = -EBADMSG),
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		struct layout_header header = good_header();

		check_result(0, layout_check_header(&header, LAYOUT_DATA, FILE_BYTES));
		corrupt(&header, &table[i]);
		check_result(table[i].error, layout_check_header(&header, LAYOUT_DATA, FILE_BYTES));
	}
}

/* Bytes whose every bit counts: all up to `channel_id`, and `slot` but for its own seven bits. */
static bool bit_counts(unsigned bit)
{
	const unsigned slot = offsetof(struct layout_header, slot) * 8;

	return bit < offsetof(struct layout_header, channel_id) * 8 || (bit >= slot + 7 && bit < slot + 32);
}

static void every_flipped_header_bit_that_counts_is_noticed(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < sizeof(struct layout_header) * 8; bit++) {
		struct layout_header header = good_header();

		((uint8_t *)&header)[bit / 8] ^= (uint8_t)(1U << bit % 8);
		check(bit_counts(bit) == (layout_check_header(&header, LAYOUT_DATA, FILE_BYTES) != 0));
	}
}

/* ---- config ---- */

static struct layout_config good_config(void)
{
	return (struct layout_config){
		.mode = SLUICE_QUEUE,
		.flags = SLUICE_ORDERED | SLUICE_PERSISTENT,
		.lane_bytes = LAYOUT_MIN_PAYLOAD,
		.depth = 2,
		.permissions = 0777,
		.name = LETTERS_63,
	};
}

static void each_corrupted_config_field_is_refused_with_its_reason(void **state)
{
	static const struct corruption table[] = {
		CORRUPT(struct layout_config, mode, SLUICE_MODE_DEFAULT, .reason = "unknown mode"),
		CORRUPT(struct layout_config, mode, SLUICE_BROADCAST + 1, .reason = "unknown mode"),
		CORRUPT(struct layout_config, mode, UINT32_MAX, .reason = "unknown mode"),
		CORRUPT(struct layout_config, flags, SLUICE_ATTACH_ONLY, .reason = "unknown flags"),
		CORRUPT(struct layout_config, flags, SLUICE_INSIST, .reason = "unknown flags"),
		CORRUPT(struct layout_config, flags, SLUICE_GROUP, .reason = "unknown flags"),
		CORRUPT(struct layout_config, flags, UINT32_MAX, .reason = "unknown flags"),
		CORRUPT(struct layout_config, depth, 0, .reason = "depth"),
		CORRUPT(struct layout_config, depth, 1, .reason = "depth"),
		CORRUPT(struct layout_config, depth, 3, .reason = "depth"),
		CORRUPT(struct layout_config, depth, LAYOUT_MAX_DEPTH * 2, .reason = "depth"),
		CORRUPT(struct layout_config, depth, UINT32_C(1) << 31, .reason = "depth"),
		CORRUPT(struct layout_config, lane_bytes, 0, .reason = "lane bytes"),
		CORRUPT(struct layout_config, lane_bytes, LAYOUT_MIN_PAYLOAD - 1, .reason = "lane bytes"),
		CORRUPT(struct layout_config, lane_bytes, LAYOUT_MAX_PAYLOAD + 1, .reason = "lane bytes"),
		CORRUPT(struct layout_config, lane_bytes, UINT64_MAX, .reason = "lane bytes"),
		CORRUPT(struct layout_config, permissions, 01000, .reason = "permissions"),
		CORRUPT(struct layout_config, permissions, 04755, .reason = "permissions"),
		CORRUPT(struct layout_config, permissions, UINT32_MAX, .reason = "permissions"),
		CORRUPT(struct layout_config, name[0], 'b', .reason = "name of another channel"),
		CORRUPT(struct layout_config, name[0], '\0', .reason = "name of another channel"),
		CORRUPT(struct layout_config, name[SLUICE_MAX_NAME - 1], '\0', .reason = "name of another channel"),
		CORRUPT(struct layout_config, name[SLUICE_MAX_NAME], 'x', .reason = "name of another channel"),
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		struct layout_config config = good_config();

		check(layout_check_config(&config, LETTERS_63) == NULL);
		corrupt(&config, &table[i]);
		check_reason(&table[i], layout_check_config(&config, LETTERS_63));
	}
}

static void the_largest_config_is_accepted(void **state)
{
	struct layout_config config = good_config();

	(void)state;
	config.mode = SLUICE_BROADCAST;
	config.depth = LAYOUT_MAX_DEPTH;
	config.lane_bytes = LAYOUT_MAX_PAYLOAD;
	check(layout_check_config(&config, LETTERS_63) == NULL);
}

/* ---- geometry ---- */

static struct layout_lane_geometry good_geometry(uint64_t *ret_file_bytes)
{
	struct layout_lane_geometry geometry = {
		.depth = 16,
		.alignment = 64,
		.payload_bytes = 8192,
		.program = "a program of thirty-one letters",
	};

	*ret_file_bytes = layout_data_bytes(geometry.depth, geometry.payload_bytes, &geometry.payload_offset);
	return geometry;
}

static void each_corrupted_geometry_field_is_refused_with_its_reason(void **state)
{
	static const struct corruption table[] = {
		CORRUPT(struct layout_lane_geometry, depth, 0, .reason = "depth"),
		CORRUPT(struct layout_lane_geometry, depth, 1, .reason = "depth"),
		CORRUPT(struct layout_lane_geometry, depth, 15, .reason = "depth"),
		CORRUPT(struct layout_lane_geometry, depth, LAYOUT_MAX_DEPTH * 2, .reason = "depth"),
		CORRUPT(struct layout_lane_geometry, depth, UINT32_C(1) << 31, .reason = "depth"),
		CORRUPT(struct layout_lane_geometry, depth, 32, .reason = "sizes that do not add up"),
		CORRUPT(struct layout_lane_geometry, alignment, 0, .reason = "alignment"),
		CORRUPT(struct layout_lane_geometry, alignment, 32, .reason = "alignment"),
		CORRUPT(struct layout_lane_geometry, alignment, 65, .reason = "alignment"),
		CORRUPT(struct layout_lane_geometry, alignment, 8192, .reason = "alignment"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, 0, .reason = "payload bytes"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, LAYOUT_MIN_PAYLOAD - 1, .reason = "payload bytes"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, LAYOUT_MAX_PAYLOAD + 1, .reason = "payload bytes"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, UINT64_MAX, .reason = "payload bytes"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, 4096, .reason = "sizes that do not add up"),
		CORRUPT(struct layout_lane_geometry, payload_bytes, 8193, .reason = "sizes that do not add up"),
		CORRUPT(struct layout_lane_geometry, payload_offset, 0, .reason = "payload offset"),
		CORRUPT(struct layout_lane_geometry, payload_offset, 4096, .reason = "payload offset"),
		CORRUPT(struct layout_lane_geometry, payload_offset, UINT64_MAX, .reason = "payload offset"),
		CORRUPT(struct layout_lane_geometry, program[SLUICE_PROGRAM_BYTES - 1], 'x',
			.reason = "program without end"),
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		uint64_t file_bytes;
		struct layout_lane_geometry geometry = good_geometry(&file_bytes);

		check(layout_check_geometry(&geometry, file_bytes) == NULL);
		corrupt(&geometry, &table[i]);
		check_reason(&table[i], layout_check_geometry(&geometry, file_bytes));
	}
}

static void a_file_of_another_size_does_not_fit_the_geometry(void **state)
{
	uint64_t good;
	struct layout_lane_geometry geometry = good_geometry(&good);
	const uint64_t sizes[] = {0, 4096, good - 4096, good - 1, good + 1, good + 4096, UINT64_MAX};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(sizes); i++)
		check(layout_check_geometry(&geometry, sizes[i]) != NULL);
}

static void no_flipped_geometry_bit_leads_outside_the_file(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < sizeof(struct layout_lane_geometry) * 8; bit++) {
		uint64_t bytes;
		struct layout_lane_geometry geometry = good_geometry(&bytes);

		((uint8_t *)&geometry)[bit / 8] ^= (uint8_t)(1U << bit % 8);
		if (layout_check_geometry(&geometry, bytes) != NULL)
			continue;
		check(sizeof(struct layout_data) + geometry.depth * sizeof(struct layout_descriptor) <=
			geometry.payload_offset);
		check(geometry.payload_offset + geometry.payload_bytes <= bytes);
	}
}

/* ---- schema ---- */

static struct layout_schema good_schema(void)
{
	struct layout_schema schema = {.tensor_count = SLUICE_MAX_TENSORS};

	for (unsigned i = 0; i < SLUICE_MAX_TENSORS; i++) {
		memcpy(schema.tensors[i].name, "a name with thirty-one letters!", SLUICE_MAX_TENSOR_NAME + 1);
		schema.tensors[i].dtype = SLUICE_FLOAT32;
		schema.tensors[i].ndim = SLUICE_MAX_DIMENSIONS;
	}
	return schema;
}

static void each_corrupted_schema_field_is_refused_with_its_reason(void **state)
{
	static const struct corruption table[] = {
		CORRUPT(struct layout_schema, tensor_count, 0, .reason = "tensor count"),
		CORRUPT(struct layout_schema, tensor_count, SLUICE_MAX_TENSORS + 1, .reason = "tensor count"),
		CORRUPT(struct layout_schema, tensor_count, UINT32_MAX, .reason = "tensor count"),
		CORRUPT(struct layout_schema, tensors[0].name[SLUICE_MAX_TENSOR_NAME], 'x',
			.reason = "tensor name without end"),
		CORRUPT(struct layout_schema, tensors[15].name[SLUICE_MAX_TENSOR_NAME], 'x',
			.reason = "tensor name without end"),
		CORRUPT(struct layout_schema, tensors[0].dtype, 0, .reason = "dtype"),
		CORRUPT(struct layout_schema, tensors[15].dtype, UINT32_MAX, .reason = "dtype"),
		CORRUPT(struct layout_schema, tensors[15].dtype, SLUICE_FLOAT32 + (1 << 16), .reason = "dtype"),
		CORRUPT(struct layout_schema, tensors[0].ndim, SLUICE_MAX_DIMENSIONS + 1, .reason = "rank"),
		CORRUPT(struct layout_schema, tensors[15].ndim, UINT32_MAX, .reason = "rank"),
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		struct layout_schema schema = good_schema();

		check(layout_check_schema(&schema) == NULL);
		corrupt(&schema, &table[i]);
		check_reason(&table[i], layout_check_schema(&schema));
	}
}

static void tensors_behind_the_count_are_not_looked_at(void **state)
{
	struct layout_schema schema = good_schema();

	(void)state;
	schema.tensor_count = 3;
	memset(&schema.tensors[3], 0xff, sizeof schema.tensors - 3 * sizeof schema.tensors[0]);
	check(layout_check_schema(&schema) == NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(names_of_letters_digits_dots_and_dashes_are_valid),
		promise(names_that_could_leave_the_directory_or_mean_two_things_are_refused),
		promise(of_all_bytes_64_may_start_a_name_and_65_go_on),
		promise(a_file_name_tells_its_channel_and_kind),
		promise(the_longest_file_name_is_not_cut),
		promise(a_lanes_file_name_tells_whose_it_is),
		promise(objects_of_a_channel_have_names_of_their_own),
		promise(other_files_are_not_taken_for_sluices),
		promise(a_claim_word_gives_back_every_field_at_its_limits),
		promise(claim_fields_fill_the_word_and_do_not_overlap),
		promise(a_fresh_claim_word_is_free_for_the_first_lap),
		promise(a_cursor_gives_back_its_sequence_whatever_the_incarnation),
		promise(a_sequence_too_long_for_a_cursor_leaves_the_incarnation_alone),
		promise(a_member_word_gives_back_every_field),
		promise(descriptors_and_payload_lie_behind_each_other_in_whole_pages),
		promise(half_a_rounded_payload_is_a_multiple_of_every_alignment),
		promise(a_claims_object_holds_a_word_for_each_descriptor_or_a_line_for_each_member),
		promise(the_magic_is_not_text_and_shows_line_end_damage),
		promise(each_corrupted_header_field_is_refused_by_its_code),
		promise(every_flipped_header_bit_that_counts_is_noticed),
		promise(each_corrupted_config_field_is_refused_with_its_reason),
		promise(the_largest_config_is_accepted),
		promise(each_corrupted_geometry_field_is_refused_with_its_reason),
		promise(a_file_of_another_size_does_not_fit_the_geometry),
		promise(no_flipped_geometry_bit_leads_outside_the_file),
		promise(each_corrupted_schema_field_is_refused_with_its_reason),
		promise(tensors_behind_the_count_are_not_looked_at),
	};

	return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
