/* SPDX-License-Identifier: Apache-2.0 */
/* Removing channels: by name, or what is left of them that nobody needs. */
#include <sluice/channel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "lane_table.h"
#include "layout.h"
#include "recover.h"
#include "roster.h"
#include "segment.h"
#include "sys.h"

#define GATE_TIMEOUT_NS (10 * CLOCK_SECOND_NS)

/* Waits for the gate; whoever has it and finds members that live does not remove. */
static int lock_gate(int fd)
{
	uint64_t end_ns = clock_monotonic_ns() + GATE_TIMEOUT_NS;
	for (;;) {
		int error = sys_lock_byte(fd, LAYOUT_GATE_BYTE);
		if (error != -EAGAIN)
			return error;
		if (clock_monotonic_ns() >= end_ns)
			return -ETIMEDOUT;
		sys_pause_ns(CLOCK_MILLISECOND_NS);
	}
}

/* 0, or -EBUSY while a slot of the control object behind `fd` is locked: true of every layout so far. */
static int check_unused(int fd)
{
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		int locked = sys_byte_is_locked(fd, LAYOUT_SLOT_BYTE(slot));
		if (locked != 0)
			return locked < 0 ? locked : -EBUSY;
	}
	return 0;
}

/* What removing files came to. */
struct removal {
	const char *control; /* file name of the channel's control object */
	uint64_t own_id;     /* of the channel that is being removed; 0: none */
	uint64_t kept_id;    /* of the channel that stays, if that is known; 0: look */
	uint32_t files;
};

/* The id of the channel that has the name now; 0 if there is none. Returns 0, or why that cannot be said. */
static int current_id(int directory_fd, const char *control, uint64_t *ret_id)
{
	struct layout_header header;
	*ret_id = 0;
	int fd = openat(directory_fd, control, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	ssize_t got = pread(fd, &header, sizeof header, 0);
	close(fd);
	if (got != sizeof header || header.magic != LAYOUT_MAGIC)
		return -EPROTO;
	*ret_id = header.channel_id;
	return 0;
}

/*
 * Removes a lane's object if it is of the channel that is being removed, or if its channel has gone. A channel has its
 * name before its lanes have theirs, so a lane whose channel is not there now has lost it.
 */
static int remove_lane_file(int directory_fd, const char *file, void *context)
{
	struct removal *removal = context;
	uint64_t id = 0;
	uint64_t current = removal->kept_id;
	uint32_t slot;
	uint32_t incarnation;
	bool named = layout_lane_owner(file, &id, &slot, &incarnation);
	bool own = named && id == removal->own_id;
	int error = own || current != 0 ? 0 : current_id(directory_fd, removal->control, &current);
	if (error != 0)
		return error;
	if (!own && named && id == current)
		return 0;
	if (unlinkat(directory_fd, file, 0) != 0)
		return errno == ENOENT ? 0 : -errno;
	removal->files++;
	return 0;
}

static int check_is_ours(int fd, uint64_t *ret_id)
{
	struct stat status;
	struct layout_header header;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || pread(fd, &header, sizeof header, 0) != sizeof header ||
		header.magic != LAYOUT_MAGIC)
		return -EPROTO;
	*ret_id = header.channel_id;
	return geteuid() == 0 || status.st_uid == geteuid() ? 0 : -EPERM;
}

/* Removes the control object that is found now. -ESTALE: it was another's by the time the gate was open, try again. */
static int remove_found(int directory_fd, const char *file, uint32_t flags, uint64_t *ret_id)
{
	int fd = openat(directory_fd, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == EISDIR || errno == ENXIO ? -EPROTO : -errno;
	int error = check_is_ours(fd, ret_id);
	if (error == 0)
		error = lock_gate(fd);
	if (error == 0 && !segment_is_linked(directory_fd, file, fd))
		error = -ESTALE;
	if (error == 0 && (flags & SLUICE_REMOVE_FORCE) == 0)
		error = check_unused(fd);
	if (error == 0 && unlinkat(directory_fd, file, 0) != 0)
		error = -errno;
	close(fd);
	return error;
}

static int remove_control(int directory_fd, const char *file, uint32_t flags, uint64_t *ret_id)
{
	int error;
	do
		error = remove_found(directory_fd, file, flags, ret_id);
	while (error == -ESTALE);
	return error;
}

int sluice_channel_remove(const char *name, const char *directory, uint32_t flags)
{
	if (layout_check_name(name) != 0 || (flags & ~(uint32_t)SLUICE_REMOVE_FORCE) != 0)
		return -EINVAL;
	int directory_fd = segment_open_directory(directory);
	if (directory_fd < 0)
		return directory_fd;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(name, file);
	/* Control first: nobody can join what is half removed. */
	struct removal removal = {.control = file};
	int error = remove_control(directory_fd, file, flags, &removal.own_id);
	if (error == 0 || error == -ENOENT) {
		int lanes = lane_table_each_file(directory_fd, name, remove_lane_file, &removal);
		error = lanes != 0 || removal.files > 0 ? lanes : error;
	}
	close(directory_fd);
	return error;
}

/* ---- collecting ---- */

/* A control object opened for writing, the gate held. */
struct hold {
	int directory_fd;
	int control_fd;
	int gate_fd;
	struct segment segment;
	struct layout_config config;
	struct segment_trust trust;
	struct layout_header header;
};

static void hold_release(struct hold *hold)
{
	segment_unmap(&hold->segment);
	if (hold->gate_fd >= 0)
		close(hold->gate_fd);
	if (hold->control_fd >= 0)
		close(hold->control_fd);
}

static int hold_map(struct hold *hold, const char *file, const char *name)
{
	if (hold->header.bytes != sizeof(struct layout_control))
		return -EBADMSG;
	hold->gate_fd = openat(hold->directory_fd, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (hold->gate_fd < 0)
		return -errno;
	int error = lock_gate(hold->gate_fd);
	if (error != 0)
		return error;
	if (!segment_is_linked(hold->directory_fd, file, hold->control_fd) ||
		!segment_is_linked(hold->directory_fd, file, hold->gate_fd))
		return -ENOENT; /* it went while we waited; if there is another by now, it is in use */
	error = segment_map(hold->control_fd, hold->header.bytes, true, &hold->segment);
	if (error != 0)
		return error;
	const struct layout_control *control = hold->segment.base;
	hold->config = *(const volatile struct layout_config *)&control->config;
	hold->trust.has_group = hold->config.has_group != 0;
	hold->trust.group = hold->config.group;
	return layout_check_config(&hold->config, name) != NULL ? -EBADMSG : 0;
}

static int hold_take(struct hold *hold, const char *file, const char *name)
{
	int error = segment_open(
		hold->directory_fd, file, LAYOUT_CONTROL, true, &hold->trust, &hold->control_fd, &hold->header);
	return error != 0 ? error : hold_map(hold, file, name);
}

static uint64_t backlog_of(const struct lane_table *table)
{
	uint64_t messages = 0;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++) {
		struct lane_key key;
		struct lane_objects objects;
		const char *reason;
		if (!lane_table_entry(table->control, i, &key) ||
			lane_table_map(table, key, false, &objects, &reason) != 0)
			continue;
		struct lane_progress progress = lane_table_progress(table->control, table->mode, key, &objects);
		messages += progress.waiting + progress.held;
		lane_objects_release(&objects);
	}
	return messages;
}

static int collect_channel(struct hold *hold, const char *file, uint32_t flags, struct sluice_collected *collected)
{
	struct lane_table table = {
		.control = hold->segment.base,
		.directory_fd = hold->directory_fd,
		.name = hold->config.name,
		.channel_id = hold->header.channel_id,
		.mode = hold->config.mode,
		.trust = &hold->trust,
	};
	int dead = recover_dead(&table, hold->control_fd, LAYOUT_SLOTS, hold->config.max_deliveries);
	if (dead < 0)
		return dead;
	collected->dead_members = (uint32_t)dead;
	uint32_t lanes = lane_table_count(table.control);
	bool drained = lane_table_retire_all(&table);
	collected->lanes = lanes - lane_table_count(table.control);
	int swept = lane_table_sweep(&table);
	if (swept < 0)
		return swept;
	collected->files = 2 * collected->lanes + (uint32_t)swept;
	if (check_unused(hold->control_fd) != 0)
		return 0; /* in use */
	bool drop = (flags & SLUICE_COLLECT_DROP) != 0;
	if (!drop && (!drained || (hold->config.flags & SLUICE_PERSISTENT) != 0))
		return 0;
	collected->dropped_messages = backlog_of(&table);
	collected->lanes += lane_table_count(table.control);
	collected->channel = 1;
	return unlinkat(hold->directory_fd, file, 0) == 0 ? 0 : -errno;
}

/* A control object that only another version of Sluice understands: it goes if nobody has any of its locks. */
static int collect_other_layout(
	int directory_fd, const char *file, struct sluice_collected *collected, uint64_t *ret_id)
{
	int error = remove_control(directory_fd, file, 0, ret_id);
	collected->channel = error == 0;
	return error == -EBUSY ? 0 : error;
}

int sluice_channel_collect(
	const char *name, const char *directory, uint32_t flags, struct sluice_collected *ret_collected)
{
	if (layout_check_name(name) != 0 || ret_collected == NULL || (flags & ~(uint32_t)SLUICE_COLLECT_DROP) != 0)
		return -EINVAL;
	struct sluice_collected collected = {0};
	struct hold hold = {.control_fd = -1, .gate_fd = -1, .trust = {.any_owner = geteuid() == 0}};
	hold.directory_fd = segment_open_directory(directory);
	if (hold.directory_fd < 0)
		return hold.directory_fd;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(name, file);
	struct removal removal = {.control = file};
	int error = hold_take(&hold, file, name);
	if (error == 0) {
		error = collect_channel(&hold, file, flags, &collected);
		*(collected.channel ? &removal.own_id : &removal.kept_id) = hold.header.channel_id;
	} else if (error == -EPROTONOSUPPORT) {
		error = collect_other_layout(hold.directory_fd, file, &collected, &removal.own_id);
		removal.own_id = collected.channel ? removal.own_id : 0;
	}
	bool missing = error == -ENOENT;
	if (error == 0 || missing) {
		error = lane_table_each_file(hold.directory_fd, name, remove_lane_file, &removal);
		collected.files += removal.files + collected.channel;
		if (error == 0 && missing && removal.files == 0)
			error = -ENOENT;
	}
	hold_release(&hold);
	close(hold.directory_fd);
	if (error == 0)
		*ret_collected = collected;
	return error;
}
