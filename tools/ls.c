/* SPDX-License-Identifier: Apache-2.0 */
/* sluice ls: the channels of a directory, a line each. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <sluice/channel.h>

#include "explain.h"
#include "output.h"
#include "summary.h"
#include "table.h"
#include "tool.h"
#include "units.h"

/* A channel of the listing: either `stat`, or `error` says why not. */
struct item {
	const struct sluice_channel_entry *entry;
	struct sluice_channel_stat *stat;
	int error;
};

/* Looks at every channel; those that went away meanwhile are left out. Returns how many are in `*ret_items`. */
static int look_at_all(
	const struct request *request, const struct sluice_channel_entry *entries, int count, struct item **ret_items)
{
	struct item *items = need_memory(calloc((size_t)count + 1, sizeof *items));
	int used = 0;

	for (int i = 0; i < count; i++) {
		struct item item = {.entry = &entries[i], .error = entries[i].error};
		if (!item.error)
			item.error = sluice_channel_stat(entries[i].name, request->directory, &item.stat);
		/* Gone meanwhile; one whose lanes alone are left has that error from the start. */
		if (item.error == -ENOENT && !entries[i].error)
			continue;
		items[used++] = item;
	}
	*ret_items = items;
	return used;
}

static void print_live_and_dead(struct table *table, uint32_t alive, uint32_t dead)
{
	if (dead)
		table_add(table, "%" PRIu32 " (%" PRIu32 " dead)", alive, dead);
	else
		table_add(table, "%" PRIu32, alive);
}

static void print_channels(const struct request *request, const struct item *items, int count)
{
	struct table *table = table_new("llrrrrrr");
	const char *headings[] = {"CHANNEL", "MODE", "PRODUCERS", "CONSUMERS", "LANES", "WAITING", "HELD", "MEMORY"};
	uint64_t bytes = 0, readable = 0;

	table_headings(table, headings);
	for (int i = 0; i < count; i++) {
		if (items[i].error)
			continue;
		struct summary summary = summary_of(items[i].stat);
		table_add(table, "%s", items[i].stat->name);
		table_add(table, "%s", summary.mode.text);
		print_live_and_dead(table, summary.producers_alive, summary.producers_dead);
		print_live_and_dead(table, summary.consumers_alive, summary.consumers_dead);
		table_add(table, "%" PRIu32, items[i].stat->lane_count);
		table_add(table, "%" PRIu64, summary.waiting_messages);
		table_add(table, "%" PRIu64, summary.held_messages);
		table_add(table, "%s", units_bytes(items[i].stat->mapped_bytes).text);
		bytes += items[i].stat->mapped_bytes;
		readable++;
	}
	table_print(table, stdout);
	printf("\n%s in %s, %s of shared memory\n", units_count(readable, "channel").text, request->shown_directory,
		units_bytes(bytes).text);
}

static void print_unreadable(const struct request *request, const struct item *items, int count)
{
	char reason[COMPLAINT_BYTES];
	int shown = 0;

	for (int i = 0; i < count; i++) {
		if (!items[i].error)
			continue;
		const struct sluice_channel_entry *entry = items[i].entry;
		if (!shown++)
			printf("cannot be read in %s:\n", request->shown_directory);
		explain_entry(reason, sizeof reason, request, entry->name, entry->layout_version, items[i].error);
		printf("  %s: %s\n", entry->name, reason);
	}
}

static void print_text(const struct request *request, const struct item *items, int count)
{
	int unreadable = 0;

	for (int i = 0; i < count; i++)
		unreadable += items[i].error != 0;
	if (!count)
		printf("No channels in %s. A channel appears when its first producer or consumer opens it; if your "
		       "programs "
		       "use\nanother directory, name it with --dir or SLUICE_DIR.\n",
			request->shown_directory);
	if (count > unreadable)
		print_channels(request, items, count);
	if (count > unreadable && unreadable)
		putchar('\n');
	print_unreadable(request, items, count);
}

static struct json_object *item_json(const struct request *request, const struct item *item)
{
	struct json_object *object = json_object_need();

	json_put_text(object, "name", item->entry->name);
	json_put_uint(object, "layout_version", item->entry->layout_version);
	if (item->error) {
		char reason[COMPLAINT_BYTES];
		explain_entry(
			reason, sizeof reason, request, item->entry->name, item->entry->layout_version, item->error);
		json_put(object, "error", json_error(item->error, reason));
		return object;
	}
	json_put(object, "error", NULL);
	summary_json(object, item->stat);
	return object;
}

static void print_json(const struct request *request, const struct item *items, int count)
{
	struct json_object *document = json_object_need();
	struct json_object *channels = json_array_need();

	json_put_text(document, "directory", request->shown_directory);
	for (int i = 0; i < count; i++)
		json_append(channels, item_json(request, &items[i]));
	json_put(document, "channels", channels);
	json_print(document);
}

int run_ls(const struct request *request)
{
	struct sluice_channel_entry *entries;
	struct item *items;
	int count = sluice_channel_list(request->directory, &entries);

	if (count < 0) {
		char reason[COMPLAINT_BYTES];
		return fail(request, count, explain_directory(reason, sizeof reason, request, count));
	}
	count = look_at_all(request, entries, count, &items);
	(request->json ? print_json : print_text)(request, items, count);
	for (int i = 0; i < count; i++)
		sluice_channel_stat_free(items[i].stat);
	free(items);
	sluice_channel_list_free(entries);
	return EXIT_OK;
}
