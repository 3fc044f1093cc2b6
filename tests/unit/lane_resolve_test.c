/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that cannot be believed: whatever a head says, no tensor leaves its payload and no payload the lane. */
#include "lane_case.h"

#include <string.h>

#define CAPACITY UINT64_C(16384)
#define UNITS    (CAPACITY / 64)

/* A message as its producer would write it, the lane it lies in, and what a reader makes of it. */
struct message_case {
	struct lane_case lane;
	struct layout_descriptor *descriptor;
	struct layout_descriptor_head head; /* the reader's private copy */
	struct lane_schema schema;
	const uint8_t *base;
	struct lane_tensor tensors[SLUICE_MAX_TENSORS];
};

static const char *resolve(struct message_case *message)
{
	const char *reason =
		lane_reader_payload(&message->lane.reader, message->descriptor, &message->head, &message->base);

	if (reason != NULL)
		return reason;
	return lane_reader_resolve(&message->head, &message->schema, message->base, message->tensors);
}

static void load_schema(struct message_case *message, const struct lane_schema *schema)
{
	const int number = lane_writer_schema(&message->lane.writer, schema);

	check(number >= 0);
	check(lane_schema_load(&message->lane.data->schemas[number], &message->schema) == NULL);
}

/* float32[4][8] at 0 and int64[3] at 128, in the last three units of the lane. */
static void open_narrow(struct message_case *message)
{
	const struct lane_schema schema = {
		.tensor_count = 2,
		.ranks = {2, 1},
		.dtypes = {SLUICE_FLOAT32, SLUICE_INT64},
		.names = {"a", "b"},
	};

	lane_case_open(&message->lane, CAPACITY, 4, 64);
	load_schema(message, &schema);
	message->descriptor = &message->lane.data->descriptors[0];
	message->head = (struct layout_descriptor_head){
		.payload_bytes = 192,
		.payload_unit = UNITS - 3,
		.dims = {4, 8, 3, 2},
	};
}

/* The same with its dimensions in the payload: four dimension words, units 1 and 3, in the last four units. */
static void open_wide(struct message_case *message)
{
	static const uint64_t words[] = {4, 8, 3, 1, 3};

	open_narrow(message);
	message->head.payload_bytes = 256;
	message->head.payload_unit = UNITS - 4;
	message->head.flags = LAYOUT_DIMS_IN_PAYLOAD;
	memcpy(message->lane.writer.payload + CAPACITY - 256, words, sizeof words);
}

static uint64_t *wide_words(struct message_case *message)
{
	return (uint64_t *)(void *)(message->lane.writer.payload + CAPACITY - 256);
}

static void check_tensor(const struct lane_tensor *tensor, uint64_t offset, uint64_t bytes, int64_t first)
{
	check_equal(offset, tensor->offset);
	check_equal(bytes, tensor->bytes);
	check_equal(first, tensor->shape[0]);
}

/* ---- what is good ---- */

static void dimensions_in_the_head_are_found(void **state)
{
	struct message_case message;

	(void)state;
	open_narrow(&message);
	check(resolve(&message) == NULL);
	check(message.base == message.lane.reader.payload + CAPACITY - 192);
	check_tensor(&message.tensors[0], 0, 128, 4);
	check_equal(8, message.tensors[0].shape[1]);
	check_tensor(&message.tensors[1], 128, 24, 3);
	lane_case_close(&message.lane);
}

static void dimensions_in_the_payload_are_found(void **state)
{
	struct message_case message;

	(void)state;
	open_wide(&message);
	check(resolve(&message) == NULL);
	check(message.base == message.lane.reader.payload + CAPACITY - 256);
	check_tensor(&message.tensors[0], 64, 128, 4);
	check_tensor(&message.tensors[1], 192, 24, 3);
	lane_case_close(&message.lane);
}

static void an_inline_payload_lies_in_its_descriptor(void **state)
{
	struct message_case message;

	(void)state;
	open_narrow(&message);
	message.head.flags = LAYOUT_PAYLOAD_INLINE;
	message.head.payload_bytes = LAYOUT_INLINE_BYTES;
	message.head.payload_unit = 0;
	memcpy(message.head.dims, (const uint32_t[LAYOUT_DIMS]){4, 4, 8, 1}, sizeof message.head.dims);
	check(resolve(&message) == NULL);
	check(message.base == message.descriptor->payload);
	check_tensor(&message.tensors[0], 0, 64, 4);
	check_tensor(&message.tensors[1], 64, 64, 8);
	lane_case_close(&message.lane);
}

static void payload_and_tensors_may_end_where_the_lane_ends(void **state)
{
	struct message_case message;

	(void)state;
	open_narrow(&message);
	message.head.dims[2] = 8; /* fills its unit */
	check(resolve(&message) == NULL);
	message.head.dims[2] = 0; /* nothing, at the very end */
	message.head.dims[3] = 3;
	check(resolve(&message) == NULL);
	check_tensor(&message.tensors[1], 192, 0, 0);
	message.head.payload_bytes = 0;
	message.head.payload_unit = UNITS;
	memset(message.head.dims, 0, sizeof message.head.dims);
	check(resolve(&message) == NULL);
	check(message.base == message.lane.reader.payload + CAPACITY);
	lane_case_close(&message.lane);
}

/* ---- what is not ---- */

#define HEAD(member, new_value, text) CORRUPT(struct layout_descriptor_head, member, new_value, .reason = (text))

static void each_corrupted_head_is_refused_with_its_reason(void **state)
{
	static const struct corruption table[] = {
		HEAD(flags, LAYOUT_KNOWN_FLAGS + 1, "unknown descriptor flags"),
		HEAD(flags, 0x8000, "unknown descriptor flags"),
		HEAD(flags, 0xffff, "unknown descriptor flags"),
		HEAD(flags, LAYOUT_PAYLOAD_INLINE, "inline payload too long"),
		HEAD(payload_unit, UNITS - 2, "payload outside the lane"),
		HEAD(payload_unit, UNITS + 1, "payload outside the lane"),
		HEAD(payload_unit, UINT32_MAX, "payload outside the lane"),
		HEAD(payload_bytes, 193, "payload outside the lane"),
		HEAD(payload_bytes, CAPACITY, "payload outside the lane"),
		HEAD(payload_bytes, UINT64_C(0) - (UNITS - 3) * 64, "payload outside the lane"),
		HEAD(payload_bytes, UINT64_MAX, "payload outside the lane"),
		HEAD(payload_bytes, 0, "tensor outside its payload"),
		HEAD(payload_bytes, 151, "tensor outside its payload"),
		HEAD(dims[0], 7, "tensor outside its payload"),
		HEAD(dims[0], UINT32_MAX, "tensor outside its payload"),
		HEAD(dims[1], UINT32_MAX, "tensor outside its payload"),
		HEAD(dims[2], 9, "tensor outside its payload"),
		HEAD(dims[2], UINT32_MAX, "tensor outside its payload"),
		HEAD(dims[3], 3, "tensor outside its payload"),
		HEAD(dims[3], 4, "tensor outside its payload"),
		HEAD(dims[3], UINT32_MAX, "tensor outside its payload"),
	};
	struct message_case message;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		open_narrow(&message);
		corrupt(&message.head, &table[i]);
		check_reason(&table[i], resolve(&message));
		lane_case_close(&message.lane);
	}
}

static void narrow_dimensions_whose_product_wraps_are_refused(void **state)
{
	struct message_case message;

	(void)state;
	open_narrow(&message);
	message.head.dims[0] = UINT32_MAX;
	message.head.dims[1] = UINT32_MAX;
	check(strcmp(resolve(&message), "shape that overflows") == 0);
	message.head.dims[0] = UINT32_C(1) << 31; /* 2^64 bytes: would come out as nothing */
	message.head.dims[1] = UINT32_C(1) << 31;
	check(strcmp(resolve(&message), "shape that overflows") == 0);
	lane_case_close(&message.lane);
}

static void each_corrupted_wide_word_is_refused_with_its_reason(void **state)
{
	static const struct {
		unsigned index;
		uint64_t value;
		const char *reason;
	} table[] = {
		{0, 7, "tensor outside its payload"},
		{0, UINT64_C(1) << 32, "tensor outside its payload"},
		{0, UINT64_C(1) << 59, "shape that overflows"},
		{0, INT64_MAX, "shape that overflows"},
		{0, UINT64_C(1) << 63, "shape that overflows"},
		{1, UINT64_MAX, "shape that overflows"},
		{2, 9, "tensor outside its payload"},
		{2, UINT64_C(1) << 61, "shape that overflows"},
		{3, 3, "tensor outside its payload"},
		{3, UINT64_C(1) << 58, "tensor outside its payload"},
		{3, UINT64_MAX, "tensor outside its payload"},
		{4, 4, "tensor outside its payload"},
		{4, UINT64_MAX, "tensor outside its payload"},
	};
	struct message_case message;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		open_wide(&message);
		wide_words(&message)[table[i].index] = table[i].value;
		check_reason(&(struct corruption){.field = "wide word", .reason = table[i].reason}, resolve(&message));
		lane_case_close(&message.lane);
	}
}

static void dimensions_behind_their_payload_are_not_read(void **state)
{
	struct message_case message;

	(void)state;
	open_wide(&message);
	message.head.payload_unit = UNITS; /* the words would lie on the page that faults */
	message.head.payload_bytes = 0;
	check(strcmp(resolve(&message), "dimensions outside the payload") == 0);
	message.head.payload_unit = UNITS - 4;
	message.head.payload_bytes = 39; /* one byte less than five words */
	check(strcmp(resolve(&message), "dimensions outside the payload") == 0);
	lane_case_close(&message.lane);
}

static void an_inline_message_has_no_dimensions_in_its_payload(void **state)
{
	struct message_case message;

	(void)state;
	open_narrow(&message);
	message.head.flags = LAYOUT_PAYLOAD_INLINE | LAYOUT_DIMS_IN_PAYLOAD;
	message.head.payload_bytes = 64;
	check(strcmp(resolve(&message), "inline payload with dimensions") == 0);
	lane_case_close(&message.lane);
}

static void a_schema_with_more_dimensions_than_a_head_holds_is_refused(void **state)
{
	const struct lane_schema just = {.tensor_count = 1, .ranks = {6}, .dtypes = {SLUICE_INT8}, .names = {"a"}};
	const struct lane_schema more = {.tensor_count = 1, .ranks = {7}, .dtypes = {SLUICE_INT8}, .names = {"a"}};
	struct message_case message;

	(void)state;
	open_narrow(&message);
	load_schema(&message, &just);
	check(resolve(&message) == NULL);
	load_schema(&message, &more);
	check(strcmp(resolve(&message), "more dimensions than a descriptor holds") == 0);
	lane_case_close(&message.lane);
}

/* ---- anything ---- */

/* Numbers at which something could break, more often than any others. */
static uint64_t tricky_number(uint64_t *seed)
{
	const uint64_t near[] = {0, 1, 4, 8, 64, 128, UNITS - 1, UNITS, CAPACITY, UINT32_MAX, UINT64_C(1) << 32,
		UINT64_C(1) << 58, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};
	const uint64_t number = near[random_below(seed, COUNT_OF(near))];

	switch (random_below(seed, 5)) {
	case 0:
		return number;
	case 1:
		return number + random_below(seed, 5) - 2;
	case 2:
		return random_number(seed) >> random_below(seed, 64);
	default:
		return random_below(seed, 6);
	}
}

static struct layout_descriptor_head random_head(uint64_t *seed)
{
	struct layout_descriptor_head head = {
		.payload_bytes = tricky_number(seed),
		.payload_unit = (uint32_t)tricky_number(seed),
		.flags = (uint16_t)(random_below(seed, 10) ? random_below(seed, 4) : tricky_number(seed)),
	};

	if (random_below(seed, 2))
		head.payload_bytes = random_below(seed, CAPACITY + 1);
	if (random_below(seed, 2))
		head.payload_unit = (uint32_t)random_below(seed, UNITS + 1);
	for (unsigned i = 0; i < LAYOUT_DIMS; i++)
		head.dims[i] = (uint32_t)tricky_number(seed);
	return head;
}

static struct lane_schema random_schema(uint64_t *seed)
{
	static const uint32_t dtypes[] = {SLUICE_INT8, SLUICE_BFLOAT16, SLUICE_FLOAT32, SLUICE_INT64};
	struct lane_schema schema = {
		.tensor_count = 1 + (uint32_t)random_below(seed, random_below(seed, 4) ? 3 : SLUICE_MAX_TENSORS),
	};

	for (uint32_t i = 0; i < schema.tensor_count; i++) {
		schema.ranks[i] = (uint32_t)random_below(seed, random_below(seed, 4) ? 3 : SLUICE_MAX_DIMENSIONS + 1);
		schema.dtypes[i] = dtypes[random_below(seed, COUNT_OF(dtypes))];
	}
	return schema;
}

static void scribble(struct message_case *message, uint64_t *seed)
{
	uint64_t *words = (uint64_t *)(void *)message->lane.writer.payload;

	for (unsigned i = 0; i < CAPACITY / sizeof *words; i++)
		words[i] = tricky_number(seed);
}

/* What was accepted must lie in the payload, the payload in the lane; reading its ends must not fault. */
static void check_inside(const struct message_case *message)
{
	const bool inside = (message->head.flags & LAYOUT_PAYLOAD_INLINE) != 0;
	const uint8_t *begin = inside ? message->descriptor->payload : message->lane.reader.payload;
	const uint64_t size = inside ? LAYOUT_INLINE_BYTES : CAPACITY;
	const uint64_t start = (uint64_t)(message->base - begin);

	check(message->base >= begin && start <= size && message->head.payload_bytes <= size - start);
	for (uint32_t i = 0; i < message->schema.tensor_count; i++) {
		const struct lane_tensor *tensor = &message->tensors[i];
		const volatile uint8_t *data = message->base + tensor->offset;

		check(tensor->offset <= message->head.payload_bytes && tensor->offset % 64 == 0);
		check(tensor->bytes <= message->head.payload_bytes - tensor->offset);
		if (tensor->bytes > 0)
			(void)(data[0] + data[tensor->bytes - 1]);
	}
}

/* The size that a shape names, in wider numbers. */
static void check_sizes(const struct message_case *message)
{
	for (uint32_t i = 0; i < message->schema.tensor_count; i++) {
		unsigned __int128 bytes = message->schema.element_bytes[i];

		for (uint32_t k = 0; k < message->schema.ranks[i]; k++) {
			check(message->tensors[i].shape[k] >= 0);
			if (bytes <= CAPACITY || message->tensors[i].shape[k] == 0)
				bytes *= (uint64_t)message->tensors[i].shape[k];
		}
		check_equal(message->tensors[i].bytes, bytes);
	}
}

static void no_head_of_300000_gives_a_tensor_outside_its_payload(void **state)
{
	uint64_t seed = 1, accepted = 0;
	const uint64_t count = scaled(300000);
	struct message_case message;

	(void)state;
	open_narrow(&message);
	for (uint64_t i = 0; i < count; i++) {
		if (i % 100 == 0) {
			struct layout_schema shared = {0};
			const struct lane_schema schema = random_schema(&seed);

			shared.tensor_count = schema.tensor_count;
			for (uint32_t k = 0; k < schema.tensor_count; k++) {
				shared.tensors[k].dtype = schema.dtypes[k];
				shared.tensors[k].ndim = schema.ranks[k];
			}
			check(lane_schema_load(&shared, &message.schema) == NULL);
			scribble(&message, &seed);
		}
		message.descriptor = &message.lane.data->descriptors[random_below(&seed, 4)];
		message.head = random_head(&seed);
		if (resolve(&message) != NULL)
			continue;
		accepted++;
		check_inside(&message);
		check_sizes(&message);
	}
	check(accepted > count / 100); /* or the numbers are too wild to show anything */
	lane_case_close(&message.lane);
}

/* ---- the same shapes as the last ---- */

static void a_head_that_differs_in_what_shapes_depend_on_has_other_shapes(void **state)
{
	static const struct corruption table[] = {
		HEAD(schema, 1, NULL),
		HEAD(payload_bytes, 191, NULL),
		HEAD(flags, LAYOUT_PAYLOAD_INLINE, NULL),
		HEAD(flags, LAYOUT_DIMS_IN_PAYLOAD, NULL),
		HEAD(dims[0], 5, NULL),
		HEAD(dims[LAYOUT_DIMS - 1], 1, NULL),
	};
	struct message_case message;

	(void)state;
	open_narrow(&message);
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		struct layout_descriptor_head head = message.head;

		check(lane_same_shapes(&head, &message.head));
		corrupt(&head, &table[i]);
		check(!lane_same_shapes(&head, &message.head));
		check(!lane_same_shapes(&message.head, &head));
	}
	message.head.flags = LAYOUT_DIMS_IN_PAYLOAD;
	check(!lane_same_shapes(&message.head, &message.head));
	lane_case_close(&message.lane);
}

static void heads_of_the_same_shapes_may_differ_in_all_else(void **state)
{
	struct layout_descriptor_head one = {.payload_bytes = 64, .dims = {1}};
	struct layout_descriptor_head other = {
		.sequence = 1,
		.correlation_id = 2,
		.ticket = 3,
		.payload_bytes = 64,
		.payload_unit = 4,
		.flags = LAYOUT_STAMPED | LAYOUT_TRACED | LAYOUT_DEADLINE,
		.dims = {1},
	};

	(void)state;
	check(lane_same_shapes(&one, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(dimensions_in_the_head_are_found),
		promise(dimensions_in_the_payload_are_found),
		promise(an_inline_payload_lies_in_its_descriptor),
		promise(payload_and_tensors_may_end_where_the_lane_ends),
		promise(each_corrupted_head_is_refused_with_its_reason),
		promise(narrow_dimensions_whose_product_wraps_are_refused),
		promise(each_corrupted_wide_word_is_refused_with_its_reason),
		promise(dimensions_behind_their_payload_are_not_read),
		promise(an_inline_message_has_no_dimensions_in_its_payload),
		promise(a_schema_with_more_dimensions_than_a_head_holds_is_refused),
		promise(no_head_of_300000_gives_a_tensor_outside_its_payload),
		promise(a_head_that_differs_in_what_shapes_depend_on_has_other_shapes),
		promise(heads_of_the_same_shapes_may_differ_in_all_else),
	};

	return cmocka_run_group_tests_name("lane resolve", tests, NULL, NULL);
}
