/* SPDX-License-Identifier: Apache-2.0 */
/* Gather, mean, normalise. */
#include "embedding.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014): any seed will do, and no state to keep beyond one word. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

int embedding_table_make(uint32_t vocabulary, uint32_t dimensions, uint64_t seed, struct embedding_table *ret_table)
{
	size_t count = (size_t)vocabulary * dimensions;
	float *rows = calloc(count, sizeof *rows);

	if (rows == NULL)
		return -ENOMEM;
	/* 24 bits are what a float holds: even steps from -1 to 1. */
	for (size_t i = 0; i < count; i++)
		rows[i] = (float)(next_random(&seed) >> 40) * 0x1p-23f - 1;
	*ret_table = (struct embedding_table){vocabulary, dimensions, rows};
	return 0;
}

void embedding_table_free(struct embedding_table *table)
{
	free(table->rows);
	table->rows = NULL;
}

static void add_row(float *restrict sum, const float *restrict row, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		sum[i] += row[i];
}

static void scale(float *vector, float factor, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		vector[i] *= factor;
}

int embedding_embed(const struct embedding_table *table, const int32_t *ids, uint32_t count, float *ret_vector)
{
	float norm;

	memset(ret_vector, 0, table->dimensions * sizeof *ret_vector);
	for (uint32_t i = 0; i < count; i++) {
		/* Read once: the writer could change it between the test and the use. */
		int32_t id = *(const volatile int32_t *)&ids[i];

		if (id < 0 || (uint32_t)id >= table->vocabulary)
			return -ERANGE;
		add_row(ret_vector, table->rows + (size_t)id * table->dimensions, table->dimensions);
	}
	if (count > 0)
		scale(ret_vector, 1.0f / (float)count, table->dimensions);
	norm = sqrtf(embedding_cosine(table, ret_vector, ret_vector));
	if (norm > 0)
		scale(ret_vector, 1 / norm, table->dimensions);
	return 0;
}

float embedding_cosine(const struct embedding_table *table, const float *left, const float *right)
{
	/* Eight sums side by side: the compiler may not reorder additions of floats by itself. */
	float sums[8] = {0};
	float sum = 0;
	uint32_t i = 0;

	for (; i + 8 <= table->dimensions; i += 8) {
		for (uint32_t j = 0; j < 8; j++)
			sums[j] += left[i + j] * right[i + j];
	}
	for (; i < table->dimensions; i++)
		sum += left[i] * right[i];
	for (uint32_t j = 0; j < 8; j++)
		sum += sums[j];
	return sum;
}
