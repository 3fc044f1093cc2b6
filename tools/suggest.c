/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what somebody probably meant to type. */
#include <stdint.h>
#include <string.h>

#include "suggest.h"
#include "tool.h"

#define LONGEST 64

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;
	return ab < c ? ab : c;
}

/* Levenshtein's distance, one row at a time. */
size_t suggest_distance(const char *a, const char *b)
{
	size_t row[LONGEST + 1], a_length = strlen(a), b_length = strlen(b);

	if (a_length > LONGEST || b_length > LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			row[j] = least(replaced, row[j] + 1, row[j - 1] + 1);
		}
	}
	return row[b_length];
}

int suggest_is_near(const char *word, const char *candidate)
{
	size_t length = strlen(word);

	if (length >= 2 && !strncmp(word, candidate, length))
		return 1;
	return suggest_distance(word, candidate) <= (length < 4 ? 1 : 2);
}

static int is_synonym(const char *word, const char *synonyms)
{
	size_t length = strlen(word);

	for (const char *at = synonyms; *at;) {
		size_t next = strcspn(at, " ");
		if (next == length && !strncmp(at, word, length))
			return 1;
		at += next + (at[next] == ' ');
	}
	return 0;
}

const struct verb *suggest_verb(const char *word)
{
	const struct verb *best = NULL;

	for (const struct verb *verb = verbs; verb->name; verb++) {
		if (is_synonym(word, verb->synonyms))
			return verb;
		if (!suggest_is_near(word, verb->name))
			continue;
		if (!best || suggest_distance(word, verb->name) < suggest_distance(word, best->name))
			best = verb;
	}
	return best;
}
