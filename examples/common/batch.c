/* SPDX-License-Identifier: Apache-2.0 */
/* Token batches: their tensors, their checksums, and looking at one that another process wrote. */
#include "batch.h"

#include <string.h>

#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME  0x00000100000001b3u
#define STRANDS    4

/* In the order of enum batch_tensor; ROWS and SEQ stand for the batch's own dimensions. */
enum { ROWS = -1, SEQ = -2 };
static const struct sluice_tensor_spec pattern[BATCH_TENSORS] = {
	[BATCH_CHECKSUMS] = {"checksums", SLUICE_UINT64, 1, {BATCH_CHECKSUM_COUNT}},
	[BATCH_TOKENIZE_NS] = {"tokenize_ns", SLUICE_INT64, 1, {2}},
	[BATCH_RUN_BATCHES] = {"run_batches", SLUICE_INT64, 1, {1}},
	[BATCH_LENGTHS] = {"lengths", SLUICE_INT32, 1, {ROWS}},
	[BATCH_TEXTS] = {"texts", SLUICE_INT32, 1, {ROWS}},
	[BATCH_SPANS] = {"spans", SLUICE_INT64, 2, {ROWS, 2}},
	[BATCH_INPUT_IDS] = {"input_ids", SLUICE_INT32, 2, {ROWS, SEQ}},
};

static int64_t dimension(int64_t symbol, int64_t rows, int64_t seq)
{
	if (symbol == ROWS)
		return rows;
	return symbol == SEQ ? seq : symbol;
}

void batch_specs(int64_t rows, int64_t seq, struct sluice_tensor_spec ret_specs[BATCH_TENSORS])
{
	memcpy(ret_specs, pattern, sizeof pattern);
	for (int i = 0; i < BATCH_TENSORS; i++) {
		for (uint32_t d = 0; d < ret_specs[i].ndim; d++)
			ret_specs[i].shape[d] = dimension(pattern[i].shape[d], rows, seq);
	}
}

uint64_t batch_bytes(int64_t rows, int64_t seq)
{
	struct sluice_tensor_spec specs[BATCH_TENSORS];
	uint64_t sum = 0;

	batch_specs(rows, seq, specs);
	for (int i = 0; i < BATCH_TENSORS; i++) {
		uint64_t bytes = (specs[i].dtype >> 8 & 0xff) / 8;

		for (uint32_t d = 0; d < specs[i].ndim; d++)
			bytes *= (uint64_t)specs[i].shape[d];
		sum += (bytes + 63) / 64 * 64;
	}
	return sum;
}

static uint64_t step(uint64_t hash, uint64_t word)
{
	return (hash ^ word) * FNV_PRIME;
}

uint64_t batch_checksum(const void *data, uint64_t bytes)
{
	const unsigned char *at = data;
	uint64_t strand[STRANDS] = {FNV_OFFSET, FNV_OFFSET + 1, FNV_OFFSET + 2, FNV_OFFSET + 3};
	uint64_t word[STRANDS];
	uint64_t hash = step(FNV_OFFSET, bytes);

	for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
		memcpy(word, at, sizeof word);
		for (int i = 0; i < STRANDS; i++)
			strand[i] = step(strand[i], word[i]);
	}
	for (; bytes > 0; bytes--, at++)
		hash = step(hash, *at);
	/* A product carries changes upwards only: bring each strand's top bits down before they meet. */
	for (int i = 0; i < STRANDS; i++)
		hash = step(hash, strand[i] ^ strand[i] >> 32);
	return hash ^ hash >> 32;
}

void batch_sign(struct sluice_message *message)
{
	uint64_t *checksums = sluice_data(message, BATCH_CHECKSUMS);

	for (uint32_t i = 0; i < BATCH_CHECKSUM_COUNT; i++) {
		const struct sluice_tensor *tensor = sluice_tensor(message, i + 1);

		checksums[i] = batch_checksum(tensor->data, tensor->bytes);
	}
}

/* The sender is another program: nothing it says is taken for granted. */
static const char *check_tensor(const struct sluice_tensor *tensor, int index, const struct batch *batch)
{
	const struct sluice_tensor_spec *expected = &pattern[index];

	if (strcmp(tensor->name, expected->name) != 0)
		return "tensors of other names than a token batch has";
	if (tensor->dtype != expected->dtype || tensor->ndim != expected->ndim)
		return "a tensor of another type or rank than a token batch has";
	for (uint32_t d = 0; d < tensor->ndim; d++) {
		if (tensor->shape[d] != dimension(expected->shape[d], batch->rows, batch->seq))
			return "tensors whose shapes do not fit together";
	}
	return NULL;
}

static const char *check(const struct batch *batch)
{
	const char *wrong = NULL;

	if (batch->rows < 1 || batch->rows > BATCH_MAX_ROWS || batch->seq < 1 || batch->seq > BATCH_MAX_SEQ)
		return "a batch of impossible size";
	for (int i = 0; i < BATCH_TENSORS && wrong == NULL; i++)
		wrong = check_tensor(&batch->tensors[i], i, batch);
	if (wrong != NULL)
		return wrong;
	for (int64_t row = 0; row < batch->rows; row++) {
		int32_t length = ((const int32_t *)batch->tensors[BATCH_LENGTHS].data)[row];

		if (length < 0 || length > batch->seq)
			return "a length beyond the row it describes";
	}
	return NULL;
}

static void name_tensors(struct batch *batch)
{
	batch->checksums = batch->tensors[BATCH_CHECKSUMS].data;
	batch->tokenize_ns = batch->tensors[BATCH_TOKENIZE_NS].data;
	batch->run_batches = batch->tensors[BATCH_RUN_BATCHES].data;
	batch->lengths = batch->tensors[BATCH_LENGTHS].data;
	batch->texts = batch->tensors[BATCH_TEXTS].data;
	batch->spans = batch->tensors[BATCH_SPANS].data;
	batch->input_ids = batch->tensors[BATCH_INPUT_IDS].data;
}

const char *batch_read_tensors(
	const struct sluice_tensor *tensors, uint32_t count, uint64_t number, struct batch *ret_batch)
{
	const struct sluice_tensor *ids = &tensors[BATCH_INPUT_IDS];
	const char *wrong;

	if (count < BATCH_TENSORS)
		return "fewer tensors than a token batch has";
	memcpy(ret_batch->tensors, tensors, sizeof ret_batch->tensors);
	ret_batch->number = number;
	ret_batch->rows = ids->ndim == 2 ? ids->shape[0] : 0;
	ret_batch->seq = ids->ndim == 2 ? ids->shape[1] : 0;
	wrong = check(ret_batch);
	if (wrong == NULL)
		name_tensors(ret_batch);
	return wrong;
}

const char *batch_read(const struct sluice_message *message, struct batch *ret_batch)
{
	struct sluice_tensor tensors[BATCH_TENSORS];

	if (sluice_tensor_count(message) < BATCH_TENSORS)
		return "fewer tensors than a token batch has";
	for (uint32_t i = 0; i < BATCH_TENSORS; i++)
		tensors[i] = *sluice_tensor(message, i);
	return batch_read_tensors(tensors, BATCH_TENSORS, sluice_correlation_id(message), ret_batch);
}

const char *batch_verify(const struct batch *batch)
{
	for (int i = 0; i < BATCH_CHECKSUM_COUNT; i++) {
		const struct sluice_tensor *tensor = &batch->tensors[i + 1];

		if (batch_checksum(tensor->data, tensor->bytes) != batch->checksums[i])
			return tensor->name;
	}
	return NULL;
}

uint64_t batch_content_checksum(const struct batch *batch)
{
	const uint64_t *content = &batch->checksums[BATCH_LENGTHS - 1];

	return batch_checksum(content, (BATCH_TENSORS - BATCH_LENGTHS) * sizeof *content);
}
