/* SPDX-License-Identifier: Apache-2.0 */
/* Embeddings by text, and nearest neighbours by brute force. */
#include "shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_TOKENS     32      /* shorter texts are headings: not worth showing */
#define SAME_FROM_COSINE 0.9999f /* the same tokens, up to rounding */

static int grow(struct shelf *shelf, size_t needed)
{
	size_t capacity = shelf->capacity == 0 ? 1024 : shelf->capacity;
	struct shelf_text *texts;
	float *embeddings;

	while (capacity < needed)
		capacity *= 2;
	texts = realloc(shelf->texts, capacity * sizeof *texts);
	if (texts == NULL)
		return -ENOMEM;
	shelf->texts = texts;
	embeddings = realloc(shelf->embeddings, capacity * shelf->table->dimensions * sizeof *embeddings);
	if (embeddings == NULL)
		return -ENOMEM;
	shelf->embeddings = embeddings;
	memset(texts + shelf->capacity, 0, (capacity - shelf->capacity) * sizeof *texts);
	shelf->capacity = capacity;
	return 0;
}

static float *embedding_of(const struct shelf *shelf, size_t index)
{
	return shelf->embeddings + index * shelf->table->dimensions;
}

int shelf_put(struct shelf *shelf, int32_t index, const struct shelf_text *text, float **ret_embedding)
{
	size_t place = (size_t)index;

	if (index < 0)
		return -EINVAL;
	if (place >= shelf->capacity && grow(shelf, place + 1) < 0)
		return -ENOMEM;
	if (place >= shelf->count)
		shelf->count = place + 1;
	shelf->texts[place] = *text;
	*ret_embedding = embedding_of(shelf, place);
	return 0;
}

struct neighbour {
	size_t text;
	float cosine;
	unsigned copies; /* texts of the very same tokens, not counted as neighbours */
};

static struct neighbour nearest(const struct shelf *shelf, size_t text)
{
	struct neighbour best = {text, -2, 0};

	for (size_t i = 0; i < shelf->count; i++) {
		float cosine;

		if (i == text || shelf->texts[i].tokens == 0)
			continue;
		cosine = embedding_cosine(shelf->table, embedding_of(shelf, text), embedding_of(shelf, i));
		if (cosine >= SAME_FROM_COSINE) {
			best.copies++;
		} else if (cosine > best.cosine) {
			best.text = i;
			best.cosine = cosine;
		}
	}
	return best;
}

static void print_text(const struct shelf *shelf, size_t text, const struct excerpt_file *file, FILE *output)
{
	excerpt_print(file, shelf->texts[text].offset, shelf->texts[text].bytes, output);
}

static void print_with_neighbour(const struct shelf *shelf, size_t text, const struct excerpt_file *file, FILE *output)
{
	struct neighbour neighbour = nearest(shelf, text);

	fprintf(output, "  text   ");
	print_text(shelf, text, file, output);
	if (neighbour.copies > 0)
		fprintf(output, "  1.000  the same tokens stand in %u other text%s\n", neighbour.copies,
			neighbour.copies == 1 ? "" : "s");
	if (neighbour.text == text)
		return;
	fprintf(output, "  %5.3f  ", (double)neighbour.cosine);
	print_text(shelf, neighbour.text, file, output);
}

/* The first text from `from` on that is worth showing, or the shelf's count. */
static size_t next_readable(const struct shelf *shelf, size_t from, int32_t least_tokens)
{
	while (from < shelf->count && shelf->texts[from].tokens < least_tokens)
		from++;
	return from;
}

void shelf_print_neighbours(const struct shelf *shelf, const struct excerpt_file *file, unsigned count, FILE *output)
{
	size_t last = SIZE_MAX;

	for (unsigned i = 0; i < count; i++) {
		size_t even = shelf->count * (2 * (size_t)i + 1) / (2 * (size_t)count);
		size_t text = next_readable(shelf, even, LEAST_TOKENS);

		if (text == shelf->count)
			text = next_readable(shelf, even, 1);
		if (text != shelf->count && text != last)
			print_with_neighbour(shelf, text, file, output);
		last = text;
	}
}

void shelf_free(struct shelf *shelf)
{
	free(shelf->texts);
	free(shelf->embeddings);
	*shelf = (struct shelf){.table = shelf->table};
}
