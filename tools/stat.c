/* SPDX-License-Identifier: Apache-2.0 */
/* sluice stat: everything that can be seen of one channel from outside. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <sluice/channel.h>

#include "explain.h"
#include "output.h"
#include "placement.h"
#include "summary.h"
#include "table.h"
#include "tool.h"
#include "units.h"

/* A blank line and the table, or `when_empty` in its place if that is not NULL. */
static void print_section(struct table *table, const char *when_empty)
{
	if (table_rows(table))
		putchar('\n');
	else if (when_empty)
		printf("\n%s\n", when_empty);
	table_print(table, stdout);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void print_channel(const struct request *request, const struct sluice_channel_stat *stat)
{
	const struct sluice_geometry *geometry = &stat->geometry;
	struct summary summary = summary_of(stat);

	printf("channel    %s in %s\n", stat->name, request->shown_directory);
	printf("mode       %s\n", summary.mode.text);
	if (geometry->expected_consumers)
		printf("waits for  %s\n", units_count(geometry->expected_consumers, "consumer").text);
	printf("lanes      %s for up to %" PRIu32 " messages, unless a producer asks for more or less\n",
		units_bytes(geometry->lane_bytes).text, geometry->depth);
	printf("messages   at most %s, payloads on multiples of %s, ", units_bytes(geometry->max_message_bytes).text,
		units_bytes(geometry->alignment).text);
	if (geometry->max_deliveries)
		printf("delivered up to %" PRIu32 " times\n", geometry->max_deliveries);
	else
		puts("delivered without limit");
	printf("memory     %s, owner %s, permissions %04" PRIo32 ", layout %" PRIu32 "\n",
		units_bytes(stat->mapped_bytes).text, units_user(stat->owner_uid).text, stat->permissions,
		stat->layout_version);
	printf("backlog    %" PRIu64 " waiting, %" PRIu64 " held\n", summary.waiting_messages, summary.held_messages);
	printf("producers  %" PRIu32 " live, %" PRIu32 " dead; %" PRIu64 " opened so far, %" PRIu64 " closed cleanly\n",
		summary.producers_alive, summary.producers_dead, stat->producers_opened, stat->producers_closed);
	printf("consumers  %" PRIu32 " live, %" PRIu32 " dead\n", summary.consumers_alive, summary.consumers_dead);
}

static const char *member_state(const struct sluice_member_stat *member)
{
	return !member->alive ? "dead" : member->asleep ? "asleep" : "awake";
}

static void print_members(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("llrllll");
	const char *headings[] = {"MEMBER", "ROLE", "PID", "PROGRAM", "USER", "STATE", "SINCE"};
	uint64_t now = now_ns();

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->member_count; i++) {
		const struct sluice_member_stat *member = &stat->members[i];
		table_add(table, "%s", id_of(member->slot, member->incarnation).text);
		table_add(table, "%s", role_name(member->role));
		table_add(table, "%" PRIu32, member->pid);
		table_add(table, "%s", program_of(member->program).text);
		table_add(table, "%s", units_user(member->uid).text);
		table_add(table, "%s", member_state(member));
		table_add(table, "%s (%s ago)", units_time(member->opened_ns).text,
			units_duration(now > member->opened_ns ? now - member->opened_ns : 0).text);
	}
	print_section(table, "no members: nobody has this channel open");
}

static const char *lane_state(const struct sluice_lane_stat *lane)
{
	return lane->closed ? "closed" : lane->alive ? "open" : "producer died";
}

static void print_lanes(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("lrllrrrrrrrrr");
	const char *headings[] = {"LANE", "PID", "PROGRAM", "STATE", "SIZE", "DEPTH", "WAITING", "HELD", "PUBLISHED",
		"BYTES", "DISCARDED", "STALLS", "WAKE-UPS"};

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->lane_count; i++) {
		const struct sluice_lane_stat *lane = &stat->lanes[i];
		table_add(table, "%s", id_of(lane->slot, lane->incarnation).text);
		table_add(table, "%" PRIu32, lane->pid);
		table_add(table, "%s", program_of(lane->program).text);
		table_add(table, "%s", lane_state(lane));
		table_add(table, "%s", units_bytes(lane->lane_bytes).text);
		table_add(table, "%" PRIu32, lane->depth);
		table_add(table, "%" PRIu64, lane->waiting_messages);
		table_add(table, "%" PRIu64, lane->held_messages);
		table_add(table, "%" PRIu64, lane->published_messages);
		table_add(table, "%s", units_bytes(lane->published_bytes).text);
		table_add(table, "%" PRIu64, lane->discarded_messages);
		table_add(table, "%" PRIu64, lane->stalls);
		table_add(table, "%" PRIu64, lane->wakeups_sent);
	}
	print_section(table, "no lanes: no producer is here or left anything");
	if (stat->unreadable_lanes)
		printf("\n%" PRIu32 " of its lanes cannot be read: something else took away or damaged the files\n",
			stat->unreadable_lanes);
}

static void print_consumers(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("lrlrrrr");
	const char *headings[] = {"CONSUMER", "PID", "PROGRAM", "RECEIVED", "BYTES", "SLEEPS", "WAKE-UPS"};

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->member_count; i++) {
		const struct sluice_member_stat *member = &stat->members[i];
		if (member->role != SLUICE_ROLE_CONSUMER)
			continue;
		table_add(table, "%s", id_of(member->slot, member->incarnation).text);
		table_add(table, "%" PRIu32, member->pid);
		table_add(table, "%s", program_of(member->program).text);
		table_add(table, "%" PRIu64, member->received_messages);
		table_add(table, "%s", units_bytes(member->received_bytes).text);
		table_add(table, "%" PRIu64, member->sleeps);
		table_add(table, "%" PRIu64, member->wakeups_sent);
	}
	print_section(table, NULL);
}

static void add_times(struct table *table, const char *what, const char *of, struct text id,
	const struct sluice_distribution *distribution)
{
	if (!distribution->count)
		return;
	table_add(table, "%s", what);
	table_add(table, "%s %s", of, id.text);
	table_add(table, "%" PRIu64, distribution->count);
	table_add(table, "%s", units_duration(distribution->p50_ns).text);
	table_add(table, "%s", units_duration(distribution->p95_ns).text);
	table_add(table, "%s", units_duration(distribution->p99_ns).text);
	table_add(table, "%s", units_duration(distribution->max_ns).text);
}

static void print_times(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("llrrrrr");
	const char *headings[] = {"TIME", "OF", "STAMPED", "P50", "P95", "P99", "MAX"};

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->lane_count; i++) {
		const struct sluice_lane_stat *lane = &stat->lanes[i];
		add_times(table, "fill", "lane", id_of(lane->slot, lane->incarnation), &lane->fill_time);
	}
	for (uint32_t i = 0; i < stat->member_count; i++) {
		const struct sluice_member_stat *member = &stat->members[i];
		struct text id = id_of(member->slot, member->incarnation);
		if (member->role != SLUICE_ROLE_CONSUMER)
			continue;
		add_times(table, "queue wait", "consumer", id, &member->queue_wait);
		add_times(table, "hold", "consumer", id, &member->hold_time);
	}
	print_section(table, "no times yet: no message has been stamped");
}

static void print_aside(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("rlrrll");
	const char *headings[] = {"CORRELATION", "LANE", "MESSAGE", "DELIVERIES", "LAST DIED", "SET ASIDE"};

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->aside_count; i++) {
		const struct sluice_aside_stat *aside = &stat->aside[i];
		table_add(table, "%" PRIu64, aside->correlation_id);
		table_add(table, "%s", id_of(aside->lane_slot, aside->lane_incarnation).text);
		table_add(table, "%" PRIu64, aside->sequence);
		table_add(table, "%" PRIu32, aside->deliveries);
		table_add(table, "pid %" PRIu32, aside->killer_pid);
		table_add(table, "%s", units_time(aside->noticed_ns).text);
	}
	print_section(table, NULL);
}

static struct json_object *aside_json(const struct sluice_aside_stat *aside)
{
	struct json_object *object = json_object_need();

	json_put_uint(object, "correlation_id", aside->correlation_id);
	json_put_uint(object, "sequence", aside->sequence);
	json_put_uint(object, "lane_slot", aside->lane_slot);
	json_put_uint(object, "lane_incarnation", aside->lane_incarnation);
	json_put_uint(object, "deliveries", aside->deliveries);
	json_put_uint(object, "killer_slot", aside->killer_slot);
	json_put_uint(object, "killer_pid", aside->killer_pid);
	json_put_uint(object, "set_aside_unix_ns", aside->noticed_ns);
	return object;
}

static struct json_object *geometry_json(const struct sluice_geometry *geometry)
{
	struct json_object *object = json_object_need();

	json_put_text(object, "mode", mode_name(geometry->mode));
	json_put_bool(object, "ordered", geometry->flags & SLUICE_ORDERED);
	json_put_bool(object, "persistent", geometry->flags & SLUICE_PERSISTENT);
	json_put_uint(object, "depth_messages", geometry->depth);
	json_put_uint(object, "lane_bytes", geometry->lane_bytes);
	json_put_uint(object, "max_message_bytes", geometry->max_message_bytes);
	json_put_uint(object, "alignment_bytes", geometry->alignment);
	json_put_uint(object, "expected_consumers", geometry->expected_consumers);
	json_put_uint(object, "max_deliveries", geometry->max_deliveries);
	return object;
}

static struct json_object *distribution_json(const struct sluice_distribution *distribution)
{
	struct json_object *object = json_object_need();

	json_put_uint(object, "count", distribution->count);
	json_put_uint(object, "p50_ns", distribution->p50_ns);
	json_put_uint(object, "p95_ns", distribution->p95_ns);
	json_put_uint(object, "p99_ns", distribution->p99_ns);
	json_put_uint(object, "p999_ns", distribution->p999_ns);
	json_put_uint(object, "max_ns", distribution->max_ns);
	return object;
}

static struct json_object *member_json(const struct sluice_member_stat *member)
{
	struct json_object *object = json_object_need();

	json_put_uint(object, "slot", member->slot);
	json_put_uint(object, "incarnation", member->incarnation);
	json_put_text(object, "role", role_name(member->role));
	json_put_bool(object, "alive", member->alive);
	json_put_bool(object, "asleep", member->asleep);
	json_put_uint(object, "pid", member->pid);
	json_put_uint(object, "uid", member->uid);
	json_put_text(object, "program", program_of(member->program).text);
	json_put_uint(object, "opened_unix_ns", member->opened_ns);
	if (member->role != SLUICE_ROLE_CONSUMER)
		return object;
	json_put_uint(object, "received_messages", member->received_messages);
	json_put_uint(object, "received_bytes", member->received_bytes);
	json_put_uint(object, "sleeps", member->sleeps);
	json_put_uint(object, "wakeups_sent", member->wakeups_sent);
	json_put(object, "queue_wait", distribution_json(&member->queue_wait));
	json_put(object, "hold_time", distribution_json(&member->hold_time));
	return object;
}

static struct json_object *lane_json(const struct sluice_lane_stat *lane)
{
	struct json_object *object = json_object_need();

	json_put_uint(object, "slot", lane->slot);
	json_put_uint(object, "incarnation", lane->incarnation);
	json_put_bool(object, "alive", lane->alive);
	json_put_bool(object, "closed", lane->closed);
	json_put_uint(object, "pid", lane->pid);
	json_put_uint(object, "uid", lane->uid);
	json_put_text(object, "program", program_of(lane->program).text);
	json_put_uint(object, "depth_messages", lane->depth);
	json_put_uint(object, "alignment_bytes", lane->alignment);
	json_put_uint(object, "lane_bytes", lane->lane_bytes);
	json_put_uint(object, "mapped_bytes", lane->mapped_bytes);
	json_put_uint(object, "published_messages", lane->published_messages);
	json_put_uint(object, "published_bytes", lane->published_bytes);
	json_put_uint(object, "discarded_messages", lane->discarded_messages);
	json_put_uint(object, "waiting_messages", lane->waiting_messages);
	json_put_uint(object, "held_messages", lane->held_messages);
	json_put_uint(object, "stalls", lane->stalls);
	json_put_uint(object, "wakeups_sent", lane->wakeups_sent);
	json_put(object, "fill_time", distribution_json(&lane->fill_time));
	json_put(object, "placement", placement_json(&lane->placement));
	return object;
}

static void print_json(const struct request *request, const struct sluice_channel_stat *stat)
{
	struct json_object *document = json_object_need();
	struct json_object *members = json_array_need(), *lanes = json_array_need(), *aside = json_array_need();
	char permissions[16];

	json_put_text(document, "name", stat->name);
	json_put_text(document, "directory", request->shown_directory);
	json_put_uint(document, "layout_version", stat->layout_version);
	json_put_uint(document, "owner_uid", stat->owner_uid);
	snprintf(permissions, sizeof permissions, "%04" PRIo32, stat->permissions);
	json_put_text(document, "permissions", permissions);
	summary_json(document, stat);
	json_put_uint(document, "producers_opened", stat->producers_opened);
	json_put_uint(document, "producers_closed", stat->producers_closed);
	json_put(document, "geometry", geometry_json(&stat->geometry));
	for (uint32_t i = 0; i < stat->member_count; i++)
		json_append(members, member_json(&stat->members[i]));
	json_put(document, "members", members);
	for (uint32_t i = 0; i < stat->lane_count; i++)
		json_append(lanes, lane_json(&stat->lanes[i]));
	json_put(document, "lanes", lanes);
	json_put_uint(document, "set_aside_messages", stat->set_aside_messages);
	for (uint32_t i = 0; i < stat->aside_count; i++)
		json_append(aside, aside_json(&stat->aside[i]));
	json_put(document, "set_aside", aside);
	json_print(document);
}

static void print_text(const struct request *request, const struct sluice_channel_stat *stat)
{
	print_channel(request, stat);
	print_members(stat);
	print_lanes(stat);
	print_placements(stat);
	print_consumers(stat);
	print_times(stat);
	print_aside(stat);
}

int run_stat(const struct request *request)
{
	struct sluice_channel_stat *stat;
	int code = sluice_channel_stat(request->names[0], request->directory, &stat);

	if (code) {
		char reason[COMPLAINT_BYTES];
		explain_channel(reason, sizeof reason, request, request->names[0], code);
		int result = fail(request, code, reason);
		return code == -EINVAL ? EXIT_USAGE : result;
	}
	(request->json ? print_json : print_text)(request, stat);
	sluice_channel_stat_free(stat);
	return EXIT_OK;
}
