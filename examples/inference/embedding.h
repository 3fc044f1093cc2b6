/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Embedding of a text: each token's row of a random table, averaged over the text and scaled to length one.
 *
 * Nothing is trained. Random rows are almost at right angles to one another ("random indexing", a random projection of the
 * bag of tokens), so the cosine of two embeddings says how many tokens two texts share, up to noise of about one over the
 * square root of the dimensions. The arithmetic and the memory it touches are those of a real embedding layer.
 */
#ifndef EXAMPLES_EMBEDDING_H
#define EXAMPLES_EMBEDDING_H

#include <stdint.h>

struct embedding_table {
	uint32_t vocabulary;
	uint32_t dimensions;
	float *rows;
};

/* Fills a table from `seed`: the same numbers on every machine. Returns 0 or -ENOMEM. */
int embedding_table_make(uint32_t vocabulary, uint32_t dimensions, uint64_t seed, struct embedding_table *ret_table);
void embedding_table_free(struct embedding_table *table);

/*
 * Embeds `count` tokens into `ret_vector` (dimensions floats); no tokens make a zero vector.
 * Returns 0, or -ERANGE if a token is not in the table.
 */
int embedding_embed(const struct embedding_table *table, const int32_t *ids, uint32_t count, float *ret_vector);

/* Cosine of two embeddings, which have length one. */
float embedding_cosine(const struct embedding_table *table, const float *left, const float *right);

#endif
