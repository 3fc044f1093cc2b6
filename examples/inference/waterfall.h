/* SPDX-License-Identifier: Apache-2.0 */
/* The waterfall: how long batches spent in each stage on their way from text to embedding. */
#ifndef EXAMPLES_WATERFALL_H
#define EXAMPLES_WATERFALL_H

#include <stdint.h>
#include <stdio.h>

#include "../common/samples.h"

enum waterfall_stage {
	WATERFALL_TOKENIZE,  /* text to ids, in the tokenizer's own memory */
	WATERFALL_FILL,      /* ids into the lane, padding, checksums: reserve to publish */
	WATERFALL_QUEUE,     /* publish to receive */
	WATERFALL_INFERENCE, /* receive to finished embeddings */
	WATERFALL_TOTAL,     /* first to last, with the wait for room */
	WATERFALL_ROOM,      /* ids ready to reserve; a line of its own below the table */
	WATERFALL_STAGES
};

struct waterfall {
	struct samples stages[WATERFALL_STAGES];
};

/* When things happened to one batch, CLOCK_MONOTONIC. */
struct waterfall_times {
	uint64_t tokenize_begin_ns;
	uint64_t tokenize_end_ns;
	uint64_t reserve_ns;
	uint64_t publish_ns;
	uint64_t receive_ns;
	uint64_t done_ns;
};

/* Returns 0, -ENOMEM, or -EINVAL if the times run backwards. */
int waterfall_add(struct waterfall *waterfall, const struct waterfall_times *times);

/* Sorts the samples and prints the table. To be called once. */
void waterfall_print(struct waterfall *waterfall, FILE *output);

void waterfall_free(struct waterfall *waterfall);

#endif
