/* SPDX-License-Identifier: Apache-2.0 */
/* sluice rm: removes channels, and says who still uses those that it does not remove. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <sluice/channel.h>

#include "explain.h"
#include "output.h"
#include "summary.h"
#include "tool.h"
#include "units.h"

/* A channel to remove; `stat` is how it looked before, NULL if it could not be read. */
struct target {
	const char *name;
	struct sluice_channel_stat *stat;
	int code;
};

static uint32_t count_live(const struct sluice_channel_stat *stat)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < stat->member_count; i++)
		live += stat->members[i].alive != 0;
	return live;
}

/* Looks first at all of them: with one impossible name nothing is removed. */
static int look_at_all(const struct request *request, struct target *targets)
{
	char reason[COMPLAINT_BYTES];

	for (int i = 0; i < request->name_count; i++) {
		targets[i].name = request->names[i];
		if (sluice_channel_stat(request->names[i], request->directory, &targets[i].stat) != -EINVAL)
			continue;
		fail(request, -EINVAL, explain_channel(reason, sizeof reason, request, request->names[i], -EINVAL));
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static void remove_target(const struct request *request, struct target *target)
{
	target->code =
		sluice_channel_remove(target->name, request->directory, request->force ? SLUICE_REMOVE_FORCE : 0);
	if (target->code != -EBUSY)
		return;
	/* Who lives now, not who lived before. */
	struct sluice_channel_stat *stat;
	if (sluice_channel_stat(target->name, request->directory, &stat) == 0) {
		sluice_channel_stat_free(target->stat);
		target->stat = stat;
	}
}

static void explain_busy(const struct target *target)
{
	uint32_t live = target->stat ? count_live(target->stat) : 0;

	if (!live) {
		complain("sluice rm: channel '%s' is in use and stays; stop who uses it and try again, or pass --force",
			target->name);
		return;
	}
	complain("sluice rm: channel '%s' stays, it has %s:", target->name, units_count(live, "live member").text);
	for (uint32_t i = 0; i < target->stat->member_count; i++) {
		const struct sluice_member_stat *member = &target->stat->members[i];
		if (member->alive)
			complain("  %s %s, pid %" PRIu32 ", user %s, since %s", role_name(member->role),
				program_of(member->program).text, member->pid, units_user(member->uid).text,
				units_time(member->opened_ns).text);
	}
	complain("Stop them and try again, or pass --force: they go on among themselves then, newcomers get\n"
		 "a new channel, and the memory comes back when the last of them has left.");
}

static const char *failure(char *buffer, size_t size, const struct request *request, const struct target *target)
{
	if (target->code == -EBUSY)
		snprintf(buffer, size, "it has live members; stop them, or pass --force");
	else
		explain_channel(buffer, size, request, target->name, target->code);
	return buffer;
}

static void report_text(const struct request *request, const struct target *target)
{
	char reason[COMPLAINT_BYTES];

	if (target->code == -EBUSY) {
		explain_busy(target);
	} else if (target->code) {
		complain("sluice rm: %s", failure(reason, sizeof reason, request, target));
	} else if (!target->stat) {
		printf("removed %s\n", target->name);
	} else {
		struct summary summary = summary_of(target->stat);
		uint64_t backlog = summary.waiting_messages + summary.held_messages;
		uint32_t live = count_live(target->stat);
		printf("removed %s: %s", target->name, units_bytes(target->stat->mapped_bytes).text);
		if (backlog)
			printf(", %s with it", units_count(backlog, "message").text);
		if (live)
			printf("; %s without a name from now on", units_count(live, "live member").text);
		putchar('\n');
	}
}

static struct json_object *live_members_json(const struct sluice_channel_stat *stat)
{
	struct json_object *array = json_array_need();

	for (uint32_t i = 0; stat && i < stat->member_count; i++) {
		const struct sluice_member_stat *member = &stat->members[i];
		if (!member->alive)
			continue;
		struct json_object *object = json_object_need();
		json_put_text(object, "role", role_name(member->role));
		json_put_text(object, "program", program_of(member->program).text);
		json_put_uint(object, "pid", member->pid);
		json_put_uint(object, "uid", member->uid);
		json_put_uint(object, "opened_unix_ns", member->opened_ns);
		json_append(array, object);
	}
	return array;
}

static struct json_object *target_json(const struct request *request, const struct target *target)
{
	struct json_object *object = json_object_need();
	char reason[COMPLAINT_BYTES];

	json_put_text(object, "name", target->name);
	json_put_bool(object, "removed", target->code == 0);
	json_put(object, "error",
		target->code ? json_error(target->code, failure(reason, sizeof reason, request, target)) : NULL);
	if (target->stat) {
		struct summary summary = summary_of(target->stat);
		json_put_uint(object, "waiting_messages", summary.waiting_messages);
		json_put_uint(object, "held_messages", summary.held_messages);
		json_put_uint(object, "mapped_bytes", target->stat->mapped_bytes);
	}
	json_put(object, "live_members", live_members_json(target->stat));
	return object;
}

static void report_json(const struct request *request, const struct target *targets)
{
	struct json_object *document = json_object_need(), *channels = json_array_need();

	json_put_text(document, "directory", request->shown_directory);
	for (int i = 0; i < request->name_count; i++)
		json_append(channels, target_json(request, &targets[i]));
	json_put(document, "channels", channels);
	json_print(document);
}

int run_rm(const struct request *request)
{
	struct target *targets = need_memory(calloc((size_t)request->name_count, sizeof *targets));
	int result = look_at_all(request, targets);

	if (result == EXIT_OK) {
		for (int i = 0; i < request->name_count; i++) {
			remove_target(request, &targets[i]);
			if (targets[i].code)
				result = EXIT_FAILED;
			if (targets[i].code || !request->json)
				report_text(request, &targets[i]);
		}
		if (request->json)
			report_json(request, targets);
	}
	for (int i = 0; i < request->name_count; i++)
		sluice_channel_stat_free(targets[i].stat);
	free(targets);
	return result;
}
