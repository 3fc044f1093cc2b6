/* SPDX-License-Identifier: Apache-2.0 */
/* A channel in a line: what several verbs say about it. */
#include <inttypes.h>
#include <stdio.h>

#include "output.h"
#include "summary.h"

struct text program_of(const char program[SLUICE_PROGRAM_BYTES])
{
	struct text text = {""};

	if (!*clean_text(text.text, sizeof text.text, program, SLUICE_PROGRAM_BYTES))
		snprintf(text.text, sizeof text.text, "?");
	return text;
}

struct text id_of(uint32_t slot, uint32_t incarnation)
{
	struct text text;

	snprintf(text.text, sizeof text.text, "%" PRIu32 ".%" PRIu32, slot, incarnation);
	return text;
}

const char *role_name(uint32_t role)
{
	return role == SLUICE_ROLE_PRODUCER ? "producer" : role == SLUICE_ROLE_CONSUMER ? "consumer" : "unknown";
}

const char *mode_name(uint32_t mode)
{
	return mode == SLUICE_QUEUE ? "queue" : mode == SLUICE_BROADCAST ? "broadcast" : "unknown";
}

struct summary summary_of(const struct sluice_channel_stat *stat)
{
	struct summary summary = {0};

	snprintf(summary.mode.text, sizeof summary.mode.text, "%s%s%s", mode_name(stat->geometry.mode),
		stat->geometry.flags & SLUICE_ORDERED ? ", ordered" : "",
		stat->geometry.flags & SLUICE_PERSISTENT ? ", persistent" : "");
	for (uint32_t i = 0; i < stat->member_count; i++) {
		bool alive = stat->members[i].alive;
		bool producer = stat->members[i].role == SLUICE_ROLE_PRODUCER;
		bool consumer = stat->members[i].role == SLUICE_ROLE_CONSUMER;
		summary.producers_alive += producer && alive;
		summary.producers_dead += producer && !alive;
		summary.consumers_alive += consumer && alive;
		summary.consumers_dead += consumer && !alive;
	}
	for (uint32_t i = 0; i < stat->lane_count; i++) {
		summary.waiting_messages += stat->lanes[i].waiting_messages;
		summary.held_messages += stat->lanes[i].held_messages;
	}
	return summary;
}

void summary_json(struct json_object *object, const struct sluice_channel_stat *stat)
{
	struct summary summary = summary_of(stat);

	json_put_text(object, "mode", mode_name(stat->geometry.mode));
	json_put_bool(object, "ordered", stat->geometry.flags & SLUICE_ORDERED);
	json_put_bool(object, "persistent", stat->geometry.flags & SLUICE_PERSISTENT);
	json_put_uint(object, "producers_alive", summary.producers_alive);
	json_put_uint(object, "producers_dead", summary.producers_dead);
	json_put_uint(object, "consumers_alive", summary.consumers_alive);
	json_put_uint(object, "consumers_dead", summary.consumers_dead);
	json_put_uint(object, "lane_count", stat->lane_count);
	json_put_uint(object, "unreadable_lanes", stat->unreadable_lanes);
	json_put_uint(object, "waiting_messages", summary.waiting_messages);
	json_put_uint(object, "held_messages", summary.held_messages);
	json_put_uint(object, "mapped_bytes", stat->mapped_bytes);
}

bool summary_has_life(const struct sluice_channel_stat *stat)
{
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].alive)
			return true;
	return false;
}
