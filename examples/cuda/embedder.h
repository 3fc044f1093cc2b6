/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Embedding on a GPU: what embedding.h does with the CPU, for all texts of a batch at once. The kernel reads the tokens
 * where it is told to: in a buffer on the device, or in the producer's memory over the bus.
 *
 * Everything is given to the stream and returns at once. A call that fails prints what the CUDA runtime says and
 * returns false.
 */
#ifndef EXAMPLES_EMBEDDER_H
#define EXAMPLES_EMBEDDER_H

#include <stdbool.h>
#include <stdint.h>

#include "../inference/embedding.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* what a cudaStream_t points to */
struct embedder;

/*
 * Makes device 0 current, copies the table there and makes room for results of `slots` batches of up to `rows` texts.
 */
bool embedder_make(const struct embedding_table *table, uint32_t slots, int64_t rows, struct embedder **ret_embedder);
/* Waits for what is under way. NULL is fine. */
void embedder_free(struct embedder *embedder);

struct CUstream_st *embedder_stream(const struct embedder *embedder);

/*
 * Embeds `rows` texts: `ids` are [rows, seq] and `lengths` [rows], addresses of the device. The results, rows times the
 * table's dimensions, are in `embedder_results(slot)` once `embedder_wait(slot)` has returned true; false: a length or
 * a token is not what it may be, or the device failed.
 */
bool embedder_embed(
	struct embedder *embedder, uint32_t slot, uintptr_t ids, uintptr_t lengths, int64_t rows, int64_t seq);
bool embedder_wait(struct embedder *embedder, uint32_t slot);
const float *embedder_results(const struct embedder *embedder, uint32_t slot);

#ifdef __cplusplus
}
#endif
#endif
