/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token batch: what the tokenizer writes and the inference process reads. One message holds `rows` texts:
 *
 *     checksums    uint64 [6]          of each tensor below, as they stand in the message
 *     tokenize_ns  int64  [2]          CLOCK_MONOTONIC when tokenizing this batch began and ended
 *     run_batches  int64  [1]          batches that all tokenizers of this run publish together
 *     lengths      int32  [rows]       tokens of each text, 0 to seq
 *     texts        int32  [rows]       index of each text in its file
 *     spans        int64  [rows, 2]    where each text lies in its file: offset and bytes
 *     input_ids    int32  [rows, seq]  tokens, padded with 0
 *
 * The largest tensor stands last, so that a short last batch gives its bytes back when it shrinks. The correlation id is
 * the number of the batch, from 0.
 */
#ifndef EXAMPLES_BATCH_H
#define EXAMPLES_BATCH_H

#include <stdint.h>

#include <sluice/sluice.h>

#ifdef __cplusplus
extern "C" {
#endif

enum batch_tensor {
	BATCH_CHECKSUMS,
	BATCH_TOKENIZE_NS,
	BATCH_RUN_BATCHES,
	BATCH_LENGTHS,
	BATCH_TEXTS,
	BATCH_SPANS,
	BATCH_INPUT_IDS,
	BATCH_TENSORS
};

/* Every tensor has a checksum but the first, which holds them. */
#define BATCH_CHECKSUM_COUNT (BATCH_TENSORS - 1)

#define BATCH_MAX_ROWS 65536
#define BATCH_MAX_SEQ  65536

/* A batch where it lies; the memory is that of the message or buffer it was read from. */
struct batch {
	uint64_t number;
	int64_t rows;
	int64_t seq;
	struct sluice_tensor tensors[BATCH_TENSORS];
	const uint64_t *checksums;
	const int64_t *tokenize_ns;
	const int64_t *run_batches;
	const int32_t *lengths;
	const int32_t *texts;
	const int64_t *spans;
	const int32_t *input_ids;
};

/* Fills in what to reserve for a batch of up to `rows` texts of up to `seq` tokens. */
void batch_specs(int64_t rows, int64_t seq, struct sluice_tensor_spec ret_specs[BATCH_TENSORS]);

/* Bytes of payload that such a batch takes at most. */
uint64_t batch_bytes(int64_t rows, int64_t seq);

/*
 * 64-bit FNV-1a, eight bytes a step instead of one and in four strands, so that it runs at memory speed: any change of the
 * bytes at one place changes it. Not for adversaries.
 */
uint64_t batch_checksum(const void *data, uint64_t bytes);

/* Writes the checksums of a reserved message that has been filled. */
void batch_sign(struct sluice_message *message);

/* Reads a message as a batch. Returns NULL, or what is wrong with it as a part of a sentence. */
const char *batch_read(const struct sluice_message *message, struct batch *ret_batch);

/* Reads tensors that came another way as a batch: its first BATCH_TENSORS are used. Returns as batch_read does. */
const char *batch_read_tensors(
	const struct sluice_tensor *tensors, uint32_t count, uint64_t number, struct batch *ret_batch);

/* Computes each tensor's checksum again. Returns NULL, or the name of the first tensor that does not agree. */
const char *batch_verify(const struct batch *batch);

/*
 * One number for what a batch says (lengths, texts, spans and ids, not its times). Added up over batches it is the same in
 * any order, so both sides of a channel can compare their sums.
 */
uint64_t batch_content_checksum(const struct batch *batch);

#ifdef __cplusplus
}
#endif
#endif
