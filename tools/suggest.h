/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what somebody probably meant to type. */
#ifndef SLUICE_TOOL_SUGGEST_H
#define SLUICE_TOOL_SUGGEST_H

#include <stddef.h>

struct verb;

/* Keystrokes between two words: letters to insert, delete or replace. Words longer than 64 bytes are far from all others. */
size_t suggest_distance(const char *a, const char *b);

/* Whether `word` is near enough to `candidate` to be a slip of the fingers, or its beginning. */
int suggest_is_near(const char *word, const char *candidate);

/* The verb nearest to `word`, or NULL if none is near. */
const struct verb *suggest_verb(const char *word);

#endif
