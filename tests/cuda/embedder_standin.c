/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The example's embedder without a GPU: the stand-in driver has the CPU do it in stream order, out of the same
 * addresses.
 */
#include "../../examples/cuda/embedder.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"

struct work {
	struct embedder *embedder;
	uintptr_t ids;
	uintptr_t lengths;
	int64_t rows;
	int64_t seq;
	float *results;
	bool wrong;
};

struct embedder {
	const struct embedding_table *table;
	stream_handle stream;
	uint32_t slots;
	struct work work[16];
};

bool embedder_make(const struct embedding_table *table, uint32_t slots, int64_t rows, struct embedder **ret_embedder)
{
	struct embedder *embedder = calloc(1, sizeof *embedder);

	check(embedder != NULL && slots <= 16);
	device_use(0);
	embedder->table = table;
	embedder->stream = device_stream();
	embedder->slots = slots;
	for (uint32_t i = 0; i < slots; i++) {
		embedder->work[i].embedder = embedder;
		embedder->work[i].results = calloc((size_t)rows * table->dimensions, sizeof(float));
	}
	*ret_embedder = embedder;
	return true;
}

void embedder_free(struct embedder *embedder)
{
	if (!embedder)
		return;
	device_synchronize(embedder->stream);
	device_end_stream(embedder->stream);
	for (uint32_t i = 0; i < embedder->slots; i++)
		free(embedder->work[i].results);
	free(embedder);
	device_let_go(0);
	device_check_left();
}

struct CUstream_st *embedder_stream(const struct embedder *embedder)
{
	return embedder->stream;
}

/* The stand-in's addresses are the process's own. */
static void embed(void *argument)
{
	struct work *work = argument;
	const struct embedding_table *table = work->embedder->table;
	const int32_t *ids = (const int32_t *)work->ids, *lengths = (const int32_t *)work->lengths;

	for (int64_t row = 0; row < work->rows; row++)
		work->wrong |= lengths[row] < 0 || lengths[row] > work->seq ||
			       embedding_embed(table, ids + row * work->seq, (uint32_t)lengths[row],
				       work->results + (size_t)row * table->dimensions) != 0;
}

bool embedder_embed(
	struct embedder *embedder, uint32_t slot, uintptr_t ids, uintptr_t lengths, int64_t rows, int64_t seq)
{
	struct work *work = &embedder->work[slot];

	work->ids = ids;
	work->lengths = lengths;
	work->rows = rows;
	work->seq = seq;
	work->wrong = false;
	device_call(embedder->stream, embed, work);
	return true;
}

bool embedder_wait(struct embedder *embedder, uint32_t slot)
{
	device_synchronize(embedder->stream);
	return !embedder->work[slot].wrong;
}

const float *embedder_results(const struct embedder *embedder, uint32_t slot)
{
	return embedder->work[slot].results;
}
