/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at channels from outside without joining them, and removing them. */
#include <sluice/channel.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "lane.h"
#include "lane_table.h"
#include "layout.h"
#include "place.h"
#include "recover.h"
#include "roster.h"
#include "segment.h"
#include "stats.h"

/* A control object opened for looking. */
struct view {
	int directory_fd;
	int control_fd;
	struct segment segment;
	struct layout_header header;
	struct layout_config config;
	struct segment_trust trust;
};

static void view_close(struct view *view)
{
	segment_unmap(&view->segment);
	if (view->control_fd >= 0)
		close(view->control_fd);
	if (view->directory_fd >= 0)
		close(view->directory_fd);
}

static int view_map(struct view *view, const char *name)
{
	if (view->header.bytes != sizeof(struct layout_control))
		return -EBADMSG;
	int error = segment_map(view->control_fd, view->header.bytes, false, &view->segment);
	if (error != 0)
		return error;
	const struct layout_control *control = view->segment.base;
	view->config = *(const volatile struct layout_config *)&control->config;
	view->trust.has_group = view->config.has_group != 0;
	view->trust.group = view->config.group;
	return layout_check_config(&view->config, name) != NULL ? -EBADMSG : 0;
}

/* Leaves the header filled as far as it could be read; `*ret_view` needs view_close only on success. */
static int view_open(const char *name, const char *directory, struct view *ret_view)
{
	struct view view = {.control_fd = -1, .trust = {.any_owner = geteuid() == 0}};
	if (layout_check_name(name) != 0)
		return -EINVAL;
	view.directory_fd = segment_open_directory(directory);
	if (view.directory_fd < 0)
		return view.directory_fd;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(name, file);
	int error = segment_open(
		view.directory_fd, file, LAYOUT_CONTROL, false, &view.trust, &view.control_fd, &view.header);
	if (error == 0)
		error = view_map(&view, name);
	if (error != 0) {
		view_close(&view);
		return error;
	}
	*ret_view = view;
	return 0;
}

/* ---- list ---- */

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct sluice_channel_entry *)a)->name, ((const struct sluice_channel_entry *)b)->name);
}

/* The layout version that a file claims, whatever else is wrong with it; 0 if it is not Sluice's or not readable. */
static uint32_t claimed_version(int directory_fd, const char *file)
{
	struct layout_header header;
	int fd = openat(directory_fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	bool read_whole = pread(fd, &header, sizeof header, 0) == sizeof header;
	close(fd);
	return read_whole && header.magic == LAYOUT_MAGIC ? header.version : 0;
}

static void describe(const char *directory, int directory_fd, struct sluice_channel_entry *entry)
{
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(entry->name, file);
	entry->layout_version = claimed_version(directory_fd, file);
	struct view view;
	entry->error = view_open(entry->name, directory, &view);
	if (entry->error == 0)
		view_close(&view);
}

static int add_entry(struct sluice_channel_entry **entries, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp((*entries)[i].name, name) == 0)
			return count;
	struct sluice_channel_entry *grown = realloc(*entries, ((size_t)count + 1) * sizeof *grown);
	if (grown == NULL)
		return -ENOMEM;
	*entries = grown;
	grown[count] = (struct sluice_channel_entry){0};
	snprintf(grown[count].name, sizeof grown[count].name, "%s", name);
	return count + 1;
}

/* Names of channels, also of such as have lost their control object but not their lanes. */
static int read_names(DIR *stream, struct sluice_channel_entry **ret_entries)
{
	int count = 0;
	for (struct dirent *entry = readdir(stream); entry != NULL && count >= 0; entry = readdir(stream)) {
		char name[SLUICE_MAX_NAME + 1];
		if (layout_parse_name(entry->d_name, name) != 0)
			count = add_entry(ret_entries, count, name);
	}
	return count;
}

int sluice_channel_list(const char *directory, struct sluice_channel_entry **ret_entries)
{
	if (ret_entries == NULL)
		return -EINVAL;
	int directory_fd = segment_open_directory(directory);
	if (directory_fd < 0)
		return directory_fd;
	int stream_fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0);
	DIR *stream = stream_fd >= 0 ? fdopendir(stream_fd) : NULL;
	if (stream == NULL) {
		int error = -errno;
		if (stream_fd >= 0)
			close(stream_fd);
		close(directory_fd);
		return error;
	}
	struct sluice_channel_entry *entries = NULL;
	int count = read_names(stream, &entries);
	closedir(stream);
	if (count < 0) {
		free(entries);
	} else {
		if (count > 0)
			qsort(entries, (size_t)count, sizeof *entries, compare_entries);
		for (int i = 0; i < count; i++)
			describe(directory, directory_fd, &entries[i]);
		*ret_entries = entries;
	}
	close(directory_fd);
	return count;
}

void sluice_channel_list_free(struct sluice_channel_entry *entries)
{
	free(entries);
}

/* ---- stat ---- */

static uint64_t count_of(const uint64_t *counter)
{
	return atomic_load_relaxed(counter); /* relaxed: a figure for people */
}

static bool is_asleep(const struct layout_control *control, uint32_t slot)
{
	return atomic_load_relaxed(&control->bells[slot].word) == 1; /* relaxed: a figure for people */
}

static void stat_member(const struct view *view, uint32_t slot, struct sluice_member_stat *stat)
{
	const struct layout_control *control = view->segment.base;
	const struct layout_member *member = &control->members[slot];
	struct roster_view roster = roster_look(member);
	*stat = (struct sluice_member_stat){
		.slot = slot,
		.incarnation = roster.incarnation,
		.role = roster.role,
		.alive = roster_is_alive(member, slot, view->control_fd),
		.pid = member->pid,
		.uid = member->uid,
		.opened_ns = member->opened_ns,
	};
	memcpy(stat->program, member->program, sizeof stat->program);
	stat->program[sizeof stat->program - 1] = '\0';
	stat->asleep = stat->alive && is_asleep(control, slot);
	if (roster.role != SLUICE_ROLE_CONSUMER)
		return;
	const struct layout_consumer_page *page = &control->consumers[slot];
	stat->received_messages = count_of(&page->received_messages);
	stat->received_bytes = count_of(&page->received_bytes);
	stat->sleeps = count_of(&page->sleeps);
	stat->wakeups_sent = count_of(&page->wakeups_sent);
	stats_distribution(&page->queue_wait, &stat->queue_wait);
	stats_distribution(&page->hold_time, &stat->hold_time);
}

static void stat_lane(
	const struct view *view, struct lane_key key, const struct lane_objects *objects, struct sluice_lane_stat *stat)
{
	const struct layout_control *control = view->segment.base;
	const struct layout_data *data = objects->data.base;
	struct lane_progress progress = lane_table_progress(control, view->config.mode, key, objects);
	struct roster_view producer = roster_look(&control->members[key.slot]);
	*stat = (struct sluice_lane_stat){
		.slot = key.slot,
		.incarnation = key.incarnation,
		.depth = objects->geometry.depth,
		.alignment = objects->geometry.alignment,
		.lane_bytes = objects->geometry.payload_bytes,
		.mapped_bytes = objects->data.mapped_bytes + objects->claims.mapped_bytes,
		.alive = producer.incarnation == key.incarnation &&
			 roster_is_alive(&control->members[key.slot], key.slot, view->control_fd),
		.closed = atomic_load_relaxed(&data->state.final) != 0, /* relaxed: a figure for people */
		.pid = objects->geometry.pid,
		.uid = objects->geometry.uid,
		.published_messages = count_of(&data->stats.published_messages),
		.published_bytes = count_of(&data->stats.published_bytes),
		.discarded_messages = count_of(&data->stats.discarded_messages),
		.waiting_messages = progress.waiting,
		.held_messages = progress.held,
		.stalls = count_of(&data->stats.stalls),
		.wakeups_sent = count_of(&data->stats.wakeups_sent),
	};
	memcpy(stat->program, objects->geometry.program, sizeof stat->program);
	stats_distribution(&data->stats.fill_time, &stat->fill_time);
	place_report(&data->placement, objects->data.mapped_bytes, &stat->placement);
}

static struct lane_table table_of(const struct view *view)
{
	return (struct lane_table){
		.control = view->segment.base,
		.directory_fd = view->directory_fd,
		.name = view->config.name,
		.channel_id = view->header.channel_id,
		.mode = view->config.mode,
		.trust = &view->trust,
	};
}

/* True if `error` is about the caller and says nothing of a lane. */
static bool is_own_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static int stat_lanes(const struct view *view, struct sluice_channel_stat *stat)
{
	struct lane_table table = table_of(view);
	for (uint32_t i = 0; i < LAYOUT_LANES; i++) {
		struct lane_key key;
		struct lane_key again;
		struct lane_objects objects;
		const char *reason;
		if (!lane_table_entry(table.control, i, &key) || key.slot >= LAYOUT_SLOTS)
			continue;
		int error = lane_table_map(&table, key, false, &objects, &reason);
		if (is_own_shortage(error))
			return error;
		if (error != 0) {
			/* Unless it went meanwhile, somebody else than Sluice did that. */
			stat->unreadable_lanes +=
				lane_table_entry(table.control, i, &again) && again.incarnation == key.incarnation;
			continue;
		}
		stat_lane(view, key, &objects, &stat->lanes[stat->lane_count]);
		stat->mapped_bytes += stat->lanes[stat->lane_count].mapped_bytes;
		stat->lane_count++;
		lane_objects_release(&objects);
	}
	return 0;
}

/* Those who are there, and those who died until another takes their slot. */
static bool is_shown(enum layout_member_state state)
{
	return state == LAYOUT_MEMBER_ALIVE || state == LAYOUT_MEMBER_DEAD;
}

static void stat_members(const struct view *view, struct sluice_channel_stat *stat)
{
	const struct layout_control *control = view->segment.base;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		if (is_shown(roster_look(&control->members[slot]).state))
			stat_member(view, slot, &stat->members[stat->member_count++]);
}

/* Two who set a message aside at once may both have written a record of it. */
static bool is_listed(const struct sluice_channel_stat *stat, const struct layout_aside *record)
{
	for (uint32_t i = 0; i < stat->aside_count; i++)
		if (stat->aside[i].sequence == record->sequence && stat->aside[i].lane_slot == record->lane_slot &&
			stat->aside[i].lane_incarnation == record->lane_incarnation)
			return true;
	return false;
}

static void stat_aside(const struct view *view, struct sluice_channel_stat *stat)
{
	const struct layout_control *control = view->segment.base;
	for (uint32_t i = 0; i < LAYOUT_ASIDE; i++) {
		struct layout_aside record;
		if (!recover_load_record(&control->aside[i], &record) || is_listed(stat, &record))
			continue;
		stat->aside[stat->aside_count++] = (struct sluice_aside_stat){
			.correlation_id = record.correlation_id,
			.sequence = record.sequence,
			.noticed_ns = record.noticed_ns,
			.lane_slot = record.lane_slot,
			.lane_incarnation = record.lane_incarnation,
			.killer_slot = record.killer_slot,
			.killer_pid = record.killer_pid,
			.deliveries = record.deliveries,
		};
	}
	stat->set_aside_messages = count_of(&control->epochs.set_aside);
}

static void stat_channel(const struct view *view, const char *name, struct sluice_channel_stat *stat)
{
	const struct layout_control *control = view->segment.base;
	struct stat status;
	snprintf(stat->name, sizeof stat->name, "%s", name);
	stat->geometry = (struct sluice_geometry){
		.mode = view->config.mode,
		.flags = view->config.flags,
		.depth = view->config.depth,
		.expected_consumers = view->config.expected_consumers,
		.lane_bytes = view->config.lane_bytes,
		.max_message_bytes = view->config.lane_bytes / 2,
		.alignment = 64,
		.max_deliveries = view->config.max_deliveries,
	};
	stat->layout_version = view->header.version;
	stat->permissions = view->config.permissions;
	stat->owner_uid = fstat(view->control_fd, &status) == 0 ? status.st_uid : UINT32_MAX;
	stat->mapped_bytes = view->segment.mapped_bytes;
	stat->producers_opened = count_of(&control->epochs.producers_opened);
	stat->producers_closed = count_of(&control->epochs.producers_closed);
}

int sluice_channel_stat(const char *name, const char *directory, struct sluice_channel_stat **ret_stat)
{
	if (name == NULL || ret_stat == NULL)
		return -EINVAL;
	struct view view;
	int error = view_open(name, directory, &view);
	if (error != 0)
		return error;
	struct {
		struct sluice_channel_stat stat;
		struct sluice_member_stat members[LAYOUT_SLOTS];
		struct sluice_lane_stat lanes[LAYOUT_LANES];
		struct sluice_aside_stat aside[LAYOUT_ASIDE];
	} *all = calloc(1, sizeof *all);
	error = all == NULL ? -ENOMEM : 0;
	if (error == 0) {
		all->stat.members = all->members;
		all->stat.lanes = all->lanes;
		all->stat.aside = all->aside;
		stat_channel(&view, name, &all->stat);
		stat_members(&view, &all->stat);
		error = stat_lanes(&view, &all->stat);
	}
	if (error == 0) {
		stat_aside(&view, &all->stat);
		*ret_stat = &all->stat;
	} else {
		free(all);
	}
	view_close(&view);
	return error;
}

void sluice_channel_stat_free(struct sluice_channel_stat *stat)
{
	free(stat);
}
