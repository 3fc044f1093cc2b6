/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "lane_table.h"
#include "options.h"
#include "recover.h"
#include "roster.h"
#include "sys.h"

#define DEFAULT_LANE_BYTES      (UINT64_C(8) << 20)
#define DEFAULT_DEPTH           1024
#define DEFAULT_DELIVERIES      5
#define DEFAULT_PERMISSIONS     0600
#define DEFAULT_OPEN_TIMEOUT_NS ((int64_t)(10 * CLOCK_SECOND_NS))

/* ---- options ---- */

static uint32_t round_up_to_power_of_two(uint32_t number)
{
	uint32_t power = 2;
	while (power < number)
		power *= 2;
	return power;
}

static struct layout_config config_from(const char *name, const struct sluice_channel_options *options)
{
	struct layout_config config = {
		.mode = options->mode != SLUICE_MODE_DEFAULT ? options->mode : SLUICE_QUEUE,
		.flags = options->flags & (SLUICE_ORDERED | SLUICE_PERSISTENT),
		.lane_bytes = layout_round_payload(options->lane_bytes != 0 ? options->lane_bytes : DEFAULT_LANE_BYTES),
		.depth = round_up_to_power_of_two(options->depth != 0 ? options->depth : DEFAULT_DEPTH),
		.expected_consumers = options->expected_consumers,
		.max_deliveries = options->max_deliveries != 0 ? options->max_deliveries : DEFAULT_DELIVERIES,
		.permissions = options->permissions != 0 ? options->permissions : DEFAULT_PERMISSIONS,
		.group = (options->flags & SLUICE_GROUP) != 0 ? options->group : 0,
		.has_group = (options->flags & SLUICE_GROUP) != 0,
		.take_back_ns = (uint64_t)options->take_back_ns,
	};
	if (config.max_deliveries == SLUICE_UNLIMITED)
		config.max_deliveries = 0;
	memcpy(config.name, name, strlen(name));
	return config;
}

/* Whether what exists is what the options that were given ask for. */
static bool satisfies(const struct layout_config *config, const struct sluice_channel_options *options)
{
	struct layout_config wanted = config_from(config->name, options);
	return (options->mode == 0 || wanted.mode == config->mode) && wanted.flags == config->flags &&
	       (options->lane_bytes == 0 || wanted.lane_bytes == config->lane_bytes) &&
	       (options->depth == 0 || wanted.depth == config->depth) &&
	       (options->expected_consumers == 0 || wanted.expected_consumers == config->expected_consumers) &&
	       (options->max_deliveries == 0 || wanted.max_deliveries == config->max_deliveries) &&
	       (options->take_back_ns == 0 || wanted.take_back_ns == config->take_back_ns) &&
	       (options->permissions == 0 || wanted.permissions == config->permissions) &&
	       (!wanted.has_group || (config->has_group && wanted.group == config->group));
}

static void set_trust(struct channel *channel, const struct sluice_channel_options *options)
{
	if (options->allowed_uid_count > 0)
		memcpy(channel->uids, options->allowed_uids, options->allowed_uid_count * sizeof(uint32_t));
	channel->trust = (struct segment_trust){
		.permissions = channel->config.permissions,
		.has_group = channel->config.has_group != 0,
		.group = channel->config.group,
		.uid_count = options->allowed_uid_count,
		.uids = channel->uids,
	};
}

/* ---- whose descriptors these are ---- */

/* Notes which object the channel's is, to know it again. */
static int note_object(struct channel *channel)
{
	struct stat status;
	if (fstat(channel->control_fd, &status) != 0)
		return -errno;
	channel->device = status.st_dev;
	channel->inode = status.st_ino;
	return 0;
}

static bool leads_to_control(const struct channel *channel, int fd)
{
	struct stat status;
	return fstat(fd, &status) == 0 && status.st_dev == channel->device && status.st_ino == channel->inode;
}

bool channel_is_open(const struct channel *channel)
{
	return leads_to_control(channel, channel->control_fd);
}

/* ---- the gate ---- */

int channel_lock_gate(struct channel *channel, int64_t timeout_ns)
{
	/* Another file's gate is always free, and in it nobody lives. */
	if (!channel_is_open(channel) || !leads_to_control(channel, channel->lock_fd))
		return -ESTALE;
	struct deadline deadline = deadline_in(timeout_ns);
	uint64_t pause_ns = 20000;
	for (;;) {
		int error = sys_lock_byte(channel->lock_fd, LAYOUT_GATE_BYTE);
		if (error != -EAGAIN)
			return error;
		if (deadline_left_ns(&deadline, clock_monotonic_ns()) == 0)
			return deadline_error(&deadline);
		/* A holder may be stopped for ever, which a lock that blocks in the kernel would not survive. */
		sys_pause_ns(pause_ns);
		pause_ns = pause_ns < CLOCK_MILLISECOND_NS ? pause_ns * 2 : pause_ns;
	}
}

void channel_unlock_gate(struct channel *channel)
{
	sys_unlock_byte(channel->lock_fd, LAYOUT_GATE_BYTE);
}

/* ---- making and finding the control object ---- */

struct lane_table channel_lane_table(const struct channel *channel)
{
	return (struct lane_table){
		.control = channel->control,
		.directory_fd = channel->directory_fd,
		.name = channel->config.name,
		.channel_id = channel->id,
		.mode = channel->config.mode,
		.trust = &channel->trust,
	};
}

static void describe_channel(struct channel *channel)
{
	channel->control = channel->segment.base;
	channel->id = sys_random();
	channel->control->header = (struct layout_header){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.kind = LAYOUT_CONTROL,
		.bytes = sizeof(struct layout_control),
		.channel_id = channel->id,
		.created_ns = clock_realtime_ns(),
	};
	channel->control->config = channel->config;
}

/*
 * Makes a control object whose gate is held before it has a name, so that nobody ever finds one without a member: until
 * it is linked, whatever fails leaves nothing behind. Locks go through an open() of their own, which no mapping and no
 * child keeps alive.
 */
static int create_control(struct channel *channel, const char *file)
{
	int error = segment_create(channel->directory_fd, sizeof(struct layout_control), &channel->trust,
		&channel->control_fd, &channel->segment);
	if (error != 0)
		return error;
	error = note_object(channel);
	if (error != 0)
		return error;
	describe_channel(channel);
	char path[SEGMENT_PATH_BYTES];
	segment_path(channel->control_fd, path);
	channel->lock_fd = handle_open_lock(channel->handle, AT_FDCWD, path, 0);
	if (channel->lock_fd < 0)
		return channel->lock_fd == -ENOENT ? -ENOTSUP : channel->lock_fd; /* no /proc */
	error = channel_lock_gate(channel, 0);
	return error != 0 ? error : segment_link(channel->directory_fd, channel->control_fd, file);
}

static int open_control(struct channel *channel, const char *file, const char *name)
{
	struct layout_header header;
	int error = segment_open(
		channel->directory_fd, file, LAYOUT_CONTROL, true, &channel->trust, &channel->control_fd, &header);
	if (error != 0)
		return error;
	if (header.bytes != sizeof(struct layout_control))
		return -EBADMSG;
	error = note_object(channel);
	if (error == 0)
		error = segment_map(channel->control_fd, header.bytes, true, &channel->segment);
	if (error != 0)
		return error;
	channel->control = channel->segment.base;
	channel->id = header.channel_id;
	channel->config = *(const volatile struct layout_config *)&channel->control->config;
	return layout_check_config(&channel->config, name) != NULL ? -EBADMSG : 0;
}

/* Lets go of the control object, but not of the directory. */
static void drop_control(struct channel *channel)
{
	handle_close_lock(channel->handle);
	segment_unmap(&channel->segment);
	if (channel->control_fd >= 0)
		close(channel->control_fd);
	channel->lock_fd = -1;
	channel->control_fd = -1;
	channel->control = NULL;
}

/* Takes the gate of an object that was found. -ESTALE: the name leads elsewhere by now, start over. */
static int pass_gate(struct channel *channel, const char *file)
{
	int fd = handle_open_lock(channel->handle, channel->directory_fd, file, O_NOFOLLOW);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	channel->lock_fd = fd;
	int error = channel_lock_gate(channel, channel->open_timeout_ns);
	if (error != 0)
		return error;
	bool same = segment_is_linked(channel->directory_fd, file, channel->control_fd) &&
		    segment_is_linked(channel->directory_fd, file, channel->lock_fd);
	return same ? 0 : -ESTALE;
}

static bool nobody_lives(struct channel *channel)
{
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		if (roster_is_alive(&channel->control->members[slot], slot, channel->control_fd))
			return false;
	return true;
}

/* Takes away what is drained, and the channel if nobody is left. The gate is held; this member is not in the roster. */
static void remove_if_last(struct channel *channel)
{
	struct lane_table table = channel_lane_table(channel);
	/* The dead that nobody noticed so far keep their lanes from going, and nobody may come who does. */
	(void)recover_dead(&table, channel->control_fd, LAYOUT_SLOTS, channel->config.max_deliveries);
	if (!lane_table_retire_all(&table) || (channel->config.flags & SLUICE_PERSISTENT) != 0 ||
		!nobody_lives(channel))
		return;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(channel->config.name, file);
	if (!segment_is_linked(channel->directory_fd, file, channel->control_fd))
		return;
	segment_unlink(channel->directory_fd, file);
	lane_table_sweep(&table);
}

/* ---- entering and leaving ---- */

static struct layout_slot_map *sleep_map(struct channel *channel, enum sluice_role role)
{
	return role == SLUICE_ROLE_PRODUCER ? &channel->control->sleeping_producers
					    : &channel->control->sleeping_consumers;
}

static void set_active(struct channel *channel, bool active)
{
	uint64_t *word = &channel->control->active_consumers.words[channel->slot / 64];
	uint64_t bit = UINT64_C(1) << (channel->slot % 64);
	if (active)
		atomic_or_full(word, bit); /* J0: active, before any cursor (B1), pairs with J3 in lane_table_oldest */
	else
		atomic_and_full(word, ~bit); /* J0: gone, after B2, pairs with J3 in lane_table_oldest */
}

static void note_assembly(struct channel *channel)
{
	uint32_t consumers = roster_count(channel->control->members, SLUICE_ROLE_CONSUMER, channel->control_fd);
	/* A1: assembled, after J0 of all who are counted, pairs with A2 in is_assembled */
	if (consumers >= channel->config.expected_consumers)
		atomic_store_release(&channel->control->epochs.assembled, UINT64_C(1));
}

/* The gate is held. */
static int enter(struct channel *channel)
{
	int slot = roster_lock_slot(channel->control->members, channel->role, channel->lock_fd, channel->control_fd);
	if (slot < 0)
		return slot;
	channel->slot = (uint32_t)slot;
	channel->bell = doorbell_of(channel->control->bells, sleep_map(channel, channel->role), channel->slot);
	/* Whatever the slot's last holder left, in either role. */
	doorbell_disarm(doorbell_of(channel->control->bells, sleep_map(channel, SLUICE_ROLE_PRODUCER), channel->slot));
	doorbell_disarm(doorbell_of(channel->control->bells, sleep_map(channel, SLUICE_ROLE_CONSUMER), channel->slot));
	/* Q2: as in acks_withdraw, of all entries of whoever had the slot */
	atomic_and_full(&channel->control->acknowledging.words[slot / 64], ~(UINT64_C(1) << (slot % 64)));
	if (channel->role == SLUICE_ROLE_CONSUMER)
		memset(&channel->control->consumers[slot], 0, sizeof channel->control->consumers[slot]);
	channel->incarnation = roster_enter(&channel->control->members[slot], channel->role);
	if (channel->role == SLUICE_ROLE_CONSUMER) {
		/* E5: after M1, pairs with E6 in opened_by_others: who sees the count sees that this one was there */
		atomic_add_full(&channel->control->epochs.consumers_opened, UINT64_C(1));
		set_active(channel, true);
		note_assembly(channel);
	} else {
		/* E5: as above, pairs with E6 in opened_by_others */
		atomic_add_full(&channel->control->epochs.producers_opened, UINT64_C(1));
	}
	/* E3: after M1, and before D3 in who calls this, pairs with E4 in count_members */
	atomic_add_full(&channel->control->epochs.membership, UINT64_C(1));
	return 0;
}

/* Members that died since anybody looked, all of them after a restart: their slots and what they held. The gate is held. */
static void recover_before(struct channel *channel)
{
	struct lane_table table = channel_lane_table(channel);
	/* One that cannot be recovered from here, for want of rights to a lane say, keeps its slot and nobody out. */
	(void)recover_dead(&table, channel->control_fd, LAYOUT_SLOTS, channel->config.max_deliveries);
}

/* One try at joining. -ESTALE: the object went away meanwhile, try again. */
static int try_join(struct channel *channel, const char *name, const struct sluice_channel_options *options)
{
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(name, file);
	channel->config = config_from(name, options);
	set_trust(channel, options);

	int error = open_control(channel, file, name);
	bool created = error == -ENOENT && (options->flags & SLUICE_ATTACH_ONLY) == 0;
	if (created)
		error = create_control(channel, file);
	else if (error == 0)
		error = pass_gate(channel, file);
	if (error == -EEXIST)
		error = -ESTALE; /* somebody else was quicker: attach to theirs */
	if (error != 0)
		return error;

	if (!created && (options->flags & SLUICE_INSIST) != 0 && !satisfies(&channel->config, options))
		error = -EEXIST;
	set_trust(channel, options);
	if (error == 0) {
		recover_before(channel);
		error = enter(channel);
	}
	if (error != 0)
		remove_if_last(channel);
	channel_unlock_gate(channel);
	return error;
}

int channel_join(struct channel *channel, struct handle *handle, const char *name,
	const struct sluice_channel_options *options, enum sluice_role role)
{
	static const struct sluice_channel_options defaults = {.size = sizeof defaults};
	if (options == NULL)
		options = &defaults;
	if (options_object_to_channel(options) != NULL || options_object_to_name(name) != NULL)
		return -EINVAL;
	int error;
	*channel = (struct channel){.handle = handle, .control_fd = -1, .lock_fd = -1, .role = role};
	channel->open_timeout_ns = options->open_timeout_ns != 0 ? options->open_timeout_ns : DEFAULT_OPEN_TIMEOUT_NS;
	channel->directory_fd = segment_open_directory(options->directory);
	if (channel->directory_fd < 0)
		return channel->directory_fd;

	struct deadline deadline = deadline_in(channel->open_timeout_ns);
	while ((error = try_join(channel, name, options)) != 0) {
		drop_control(channel);
		if (error == -ESTALE && deadline_left_ns(&deadline, clock_monotonic_ns()) == 0)
			error = -ETIMEDOUT;
		if (error != -ESTALE) {
			close(channel->directory_fd);
			return error;
		}
	}
	channel_ring_everybody(channel);
	return 0;
}

/* Gives the slot up. -ESTALE: it is another's by now, this member having been declared dead; nothing in it is ours. */
static int give_up_slot(struct channel *channel, bool clean)
{
	struct layout_control *control = channel->control;
	struct layout_member *member = &control->members[channel->slot];
	if (!roster_holds(member, channel->incarnation, channel->role))
		return -ESTALE;
	doorbell_disarm(channel->bell);
	/* N1: closed, after F1 and before M1, pairs with N2 in producers_are_gone: dying in between is dying, not leaving */
	if (channel->role == SLUICE_ROLE_PRODUCER && clean)
		atomic_add_full(&control->epochs.producers_closed, UINT64_C(1));
	if (!roster_leave(member, channel->incarnation, channel->role))
		return -ESTALE;
	if (channel->role == SLUICE_ROLE_CONSUMER)
		set_active(channel, false);
	atomic_add_full(&control->epochs.membership, UINT64_C(1)); /* E3: as in enter */
	return 0;
}

int channel_leave(struct channel *channel, bool clean)
{
	int error = channel_lock_gate(channel, channel->open_timeout_ns);
	int gone = give_up_slot(channel, clean);
	if (error == 0 && gone == 0)
		remove_if_last(channel);
	channel_ring_everybody(channel);
	drop_control(channel); /* lets go of gate and slot */
	close(channel->directory_fd);
	return error != 0 ? error : gone;
}

void channel_ring_everybody(struct channel *channel)
{
	atomic_fence_after_rmw(); /* D3: E1 or E3 before, the look for sleepers after, pairs with D2 in doorbell_arm */
	doorbell_ring_all(channel->control->bells, &channel->control->sleeping_consumers);
	doorbell_ring_all(channel->control->bells, &channel->control->sleeping_producers);
}

void channel_geometry(const struct channel *channel, struct sluice_geometry *ret_geometry)
{
	*ret_geometry = (struct sluice_geometry){
		.mode = channel->config.mode,
		.flags = channel->config.flags,
		.depth = channel->config.depth,
		.expected_consumers = channel->config.expected_consumers,
		.lane_bytes = channel->config.lane_bytes,
		.max_message_bytes = channel->config.lane_bytes / 2,
		.alignment = 64,
		.max_deliveries = channel->config.max_deliveries,
	};
}
