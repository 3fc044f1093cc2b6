/* SPDX-License-Identifier: Apache-2.0 */
/* A channel in a line: what several verbs say about it. */
#ifndef SLUICE_TOOL_SUMMARY_H
#define SLUICE_TOOL_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/channel.h>

#include "units.h"

struct json_object;

struct summary {
	struct text mode; /* "queue, ordered, persistent" */
	uint32_t producers_alive;
	uint32_t producers_dead;
	uint32_t consumers_alive;
	uint32_t consumers_dead;
	uint64_t waiting_messages; /* in all lanes */
	uint64_t held_messages;
};

struct summary summary_of(const struct sluice_channel_stat *stat);

/* Adds the summary's figures to `object`, with the sizes that belong to it. */
void summary_json(struct json_object *object, const struct sluice_channel_stat *stat);

/* Whether any member lives. */
bool summary_has_life(const struct sluice_channel_stat *stat);

/* A member's program, fit for a terminal; "?" if it has none. */
struct text program_of(const char program[SLUICE_PROGRAM_BYTES]);

/* A member or its lane in one word: roster slot and incarnation, "3.1". */
struct text id_of(uint32_t slot, uint32_t incarnation);

const char *role_name(uint32_t role);
const char *mode_name(uint32_t mode);

#endif
