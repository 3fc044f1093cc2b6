/* SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tensor.h"

/* ---- schemas ---- */

static void derive(struct lane_schema *schema)
{
	schema->dim_count = 0;
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		schema->dim_count += schema->ranks[i];
		schema->element_bytes[i] = tensor_element_bytes(schema->dtypes[i]);
	}
}

const char *lane_schema_load(const struct layout_schema *shared, struct lane_schema *ret_schema)
{
	struct layout_schema copy = *(const volatile struct layout_schema *)shared;
	const char *reason = layout_check_schema(&copy);
	if (reason != NULL)
		return reason;
	*ret_schema = (struct lane_schema){.tensor_count = copy.tensor_count};
	for (uint32_t i = 0; i < copy.tensor_count; i++) {
		ret_schema->ranks[i] = copy.tensors[i].ndim;
		ret_schema->dtypes[i] = copy.tensors[i].dtype;
		memcpy(ret_schema->names[i], copy.tensors[i].name, sizeof copy.tensors[i].name);
	}
	derive(ret_schema);
	return NULL;
}

static bool schema_equal(const struct lane_schema *a, const struct lane_schema *b)
{
	if (a->tensor_count != b->tensor_count)
		return false;
	for (uint32_t i = 0; i < a->tensor_count; i++)
		if (a->ranks[i] != b->ranks[i] || a->dtypes[i] != b->dtypes[i] || strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return true;
}

static void schema_store(struct layout_schema *shared, const struct lane_schema *schema)
{
	shared->tensor_count = schema->tensor_count;
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		shared->tensors[i].ndim = schema->ranks[i];
		shared->tensors[i].dtype = schema->dtypes[i];
		memcpy(shared->tensors[i].name, schema->names[i], sizeof shared->tensors[i].name);
	}
}

int lane_writer_schema(struct lane_writer *writer, const struct lane_schema *schema)
{
	for (uint32_t i = writer->schema_count; i > 0; i--)
		if (schema_equal(&writer->schemas[i - 1], schema))
			return (int)(i - 1);
	if (writer->schema_count == LAYOUT_SCHEMAS)
		return -ENOBUFS;
	uint32_t number = writer->schema_count++;
	writer->schemas[number] = *schema;
	derive(&writer->schemas[number]);
	schema_store(&writer->data->schemas[number], schema);
	/* S1: schema, pairs with S2 in schema_of */
	atomic_store_release(&writer->data->state.schema_count, (uint64_t)writer->schema_count);
	return (int)number;
}

/* ---- writer ---- */

int lane_writer_start(
	struct lane_writer *writer, struct layout_data *data, uint64_t capacity, uint32_t depth, uint32_t alignment)
{
	uint64_t payload_offset;
	layout_data_bytes(depth, capacity, &payload_offset);
	data->geometry.depth = depth;
	data->geometry.alignment = alignment;
	data->geometry.payload_offset = payload_offset;
	data->geometry.payload_bytes = capacity;
	*writer = (struct lane_writer){
		.data = data,
		.payload = (uint8_t *)data + payload_offset,
		.capacity = capacity,
		.depth = depth,
		.depth_shift = (uint32_t)__builtin_ctz(depth),
		.alignment = alignment,
		.extents = calloc(depth, sizeof *writer->extents),
		.schemas = calloc(LAYOUT_SCHEMAS, sizeof *writer->schemas),
	};
	if (writer->extents != NULL && writer->schemas != NULL)
		return 0;
	lane_writer_stop(writer);
	return -ENOMEM;
}

void lane_writer_stop(struct lane_writer *writer)
{
	free(writer->extents);
	free(writer->schemas);
	*writer = (struct lane_writer){0};
}

uint64_t lane_writer_largest(const struct lane_writer *writer)
{
	return writer->capacity / 2 & ~((uint64_t)writer->alignment - 1);
}

void lane_writer_free_to(struct lane_writer *writer, uint64_t tail)
{
	for (uint64_t sequence = writer->tail; sequence != tail; sequence++)
		writer->used -= (uint64_t)writer->extents[sequence & (writer->depth - 1)] * LAYOUT_UNIT;
	writer->tail = tail;
}

/* A sleeper that looks at more than this before it sleeps would rather not sleep. */
#define ENOUGH_MOST 1024

uint64_t lane_writer_enough(const struct lane_writer *writer, uint64_t bytes)
{
	struct lane_writer later = *writer;
	struct lane_room room;
	uint64_t quarter = (writer->head - writer->tail) / 4;
	uint64_t least = writer->tail + (quarter < ENOUGH_MOST ? quarter : ENOUGH_MOST);
	while (later.tail != writer->head && (later.tail < least || !lane_writer_find_room(&later, bytes, &room)))
		lane_writer_free_to(&later, later.tail + 1);
	return later.tail;
}

void lane_writer_say_enough(struct lane_writer *writer, uint64_t enough)
{
	/* W1: before the sleeper's bit (D1), pairs with W2 in lane_reader_enough */
	atomic_store_release(&writer->data->state.enough, enough);
}

void lane_writer_announce_tail(struct lane_writer *writer, uint64_t tail)
{
	atomic_store_release(&writer->data->tail.value, tail); /* T1: tail, pairs with T2 in lane_reader_tail */
}

void lane_writer_end(struct lane_writer *writer)
{
	/* F1: end, pairs with F2 in lane_reader_final: who sees it sees the last message */
	atomic_store_release(&writer->data->state.final, writer->head + 1);
}

/* ---- reader ---- */

void lane_reader_start(
	struct lane_reader *reader, const struct layout_data *data, const struct layout_lane_geometry *geometry)
{
	*reader = (struct lane_reader){
		.data = data,
		.payload = (const uint8_t *)data + geometry->payload_offset,
		.capacity = geometry->payload_bytes,
		.depth = geometry->depth,
		.depth_shift = (uint32_t)__builtin_ctz(geometry->depth),
		.alignment = geometry->alignment,
	};
}

/* Dimensions of all tensors, then where each starts, in units; from the head or from the payload. */
struct words {
	const uint32_t *narrow;
	const uint64_t *wide; /* instead, if not NULL; in shared memory: each word is read once */
};

static uint64_t word_at(const struct words *words, uint32_t index)
{
	/* relaxed: ordered by C1, and checked as untrusted */
	return words->wide != NULL ? atomic_load_relaxed(&words->wide[index]) : words->narrow[index];
}

const char *lane_reader_payload(const struct lane_reader *reader, const struct layout_descriptor *descriptor,
	const struct layout_descriptor_head *head, const uint8_t **ret_base)
{
	if ((head->flags & ~(uint32_t)LAYOUT_KNOWN_FLAGS) != 0)
		return "unknown descriptor flags"; /* might change what the rest means */
	if ((head->flags & LAYOUT_PAYLOAD_INLINE) != 0) {
		if (head->payload_bytes > LAYOUT_INLINE_BYTES)
			return "inline payload too long"; /* would run into the annex */
		if ((head->flags & LAYOUT_DIMS_IN_PAYLOAD) != 0)
			return "inline payload with dimensions"; /* never written so */
		*ret_base = descriptor->payload;
		return NULL;
	}
	uint64_t start = (uint64_t)head->payload_unit * LAYOUT_UNIT;
	if (start > reader->capacity || head->payload_bytes > reader->capacity - start)
		return "payload outside the lane"; /* the end of the mapping */
	*ret_base = reader->payload + start;
	return NULL;
}

static const char *find_words(const struct layout_descriptor_head *head, const struct lane_schema *schema,
	const uint8_t *base, struct words *ret_words)
{
	if ((head->flags & LAYOUT_DIMS_IN_PAYLOAD) == 0) {
		if (schema->dim_count + schema->tensor_count - 1 > LAYOUT_DIMS)
			return "more dimensions than a descriptor holds"; /* beyond the end of the private copy */
		*ret_words = (struct words){.narrow = head->dims};
		return NULL;
	}
	if ((uint64_t)(schema->dim_count + schema->tensor_count) * sizeof(uint64_t) > head->payload_bytes)
		return "dimensions outside the payload";
	*ret_words = (struct words){.narrow = head->dims, .wide = (const uint64_t *)(const void *)base};
	return NULL;
}

const char *lane_reader_resolve(const struct layout_descriptor_head *head, const struct lane_schema *schema,
	const uint8_t *base, struct lane_tensor ret_tensors[SLUICE_MAX_TENSORS])
{
	struct words words;
	const char *reason = find_words(head, schema, base, &words);
	if (reason != NULL)
		return reason;
	uint32_t dim = 0;
	uint32_t start = schema->dim_count;
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		struct lane_tensor *tensor = &ret_tensors[i];
		for (uint32_t k = 0; k < schema->ranks[i]; k++)
			tensor->shape[k] = (int64_t)word_at(&words, dim++);
		if (tensor_bytes(tensor->shape, schema->ranks[i], schema->element_bytes[i], &tensor->bytes) != 0)
			return "shape that overflows"; /* its size could come out small */
		/* A narrow first tensor starts where the payload does. */
		uint64_t unit = i == 0 && words.wide == NULL ? 0 : word_at(&words, start++);
		if (unit > head->payload_bytes / LAYOUT_UNIT ||
			tensor->bytes > head->payload_bytes - unit * LAYOUT_UNIT)
			return "tensor outside its payload";
		tensor->offset = unit * LAYOUT_UNIT;
	}
	return NULL;
}
