/* SPDX-License-Identifier: Apache-2.0 */
/* The embeddings of all texts of a file, and which texts are alike. */
#ifndef EXAMPLES_SHELF_H
#define EXAMPLES_SHELF_H

#include <stdint.h>
#include <stdio.h>

#include "embedding.h"
#include "excerpt.h"

/* What is known of one text besides its embedding. */
struct shelf_text {
	int64_t offset; /* in the file */
	int64_t bytes;
	int32_t tokens; /* 0: not seen, or nothing in it */
};

struct shelf {
	const struct embedding_table *table;
	size_t count; /* one more than the largest index put */
	size_t capacity;
	struct shelf_text *texts;
	float *embeddings;
};

/*
 * Makes place for text `index` and gives its embedding's memory, valid until the next call, for the caller to fill.
 * Returns 0, -ENOMEM, or -EINVAL for a negative index.
 */
int shelf_put(struct shelf *shelf, int32_t index, const struct shelf_text *text, float **ret_embedding);

/* Prints `count` texts, evenly spread over the file, each with the text most like it: cosine, line, beginning. */
void shelf_print_neighbours(const struct shelf *shelf, const struct excerpt_file *file, unsigned count, FILE *output);

void shelf_free(struct shelf *shelf);

#endif
