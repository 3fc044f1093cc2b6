/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member's place in a channel: making or finding the control object, the gate, entering and leaving the roster, and
 * taking the channel away after the last one out.
 *
 * The gate is a lock on one byte of the control object, held only by those who open, leave, or remove: never on the way
 * of a message. Who has it and still finds the name leading to this object knows that the object is not being removed.
 */
#ifndef SLUICE_LIB_CHANNEL_H
#define SLUICE_LIB_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/channel.h>

#include "doorbell.h"
#include "handle.h"
#include "lane_table.h"
#include "layout.h"
#include "segment.h"

struct channel {
	struct handle *handle;
	struct layout_control *control;
	struct layout_config config; /* private copy, checked */
	uint64_t id;
	struct segment segment;
	struct segment_trust trust;
	int directory_fd;
	int control_fd; /* the mapping's; also the "other" descriptor that sees this member's own locks */
	int lock_fd;    /* holds the slot's byte and, at times, the gate; never mapped */
	uint32_t slot;
	uint32_t incarnation;
	enum sluice_role role;
	struct doorbell bell; /* this member's own */
	int64_t open_timeout_ns;
	uint64_t device; /* of the control object, to know it again */
	uint64_t inode;
	uint64_t liveness_due_ns;       /* when to look again whether the others live */
	uint64_t peers_opened;          /* members of the other role that had come before this one */
	bool had_peers;                 /* one of them was there, then or since */
	uint32_t uids[SLUICE_MAX_UIDS]; /* owners whose objects are trusted */
};

/*
 * Joins channel `name`, creating it if need be. On success the channel is held until channel_leave. On failure nothing
 * is left. Returns as documented for sluice_producer_open.
 */
int channel_join(struct channel *channel, struct handle *handle, const char *name,
	const struct sluice_channel_options *options, enum sluice_role role);

/*
 * Leaves the channel and takes it away if this was the last one, all lanes are drained and it is not persistent.
 * `clean`: counts as a producer's end of stream. Returns 0, -ETIMEDOUT (the gate) or -ESTALE (this member was declared dead,
 * or its descriptors are others by now); one has left all the same.
 */
int channel_leave(struct channel *channel, bool clean);

/*
 * False if the control object's descriptor was closed behind our back, as programs that become daemons do with those that
 * they do not know: it may be another file by now, in which every lock looks free.
 */
bool channel_is_open(const struct channel *channel);

/*
 * Takes the gate, waiting up to `timeout_ns`. Returns 0, -ETIMEDOUT, -EAGAIN with a time-out of 0, or -ESTALE: what it would
 * be taken through, or looked through, is not the control object that was opened.
 */
int channel_lock_gate(struct channel *channel, int64_t timeout_ns);
void channel_unlock_gate(struct channel *channel);

/* The channel's lanes; valid as long as the channel is. */
struct lane_table channel_lane_table(const struct channel *channel);

/* Tells all sleepers that something other than a message changed. The caller has a read-modify-write before. */
void channel_ring_everybody(struct channel *channel);

/* The modes and default sizes, for callers. */
void channel_geometry(const struct channel *channel, struct sluice_geometry *ret_geometry);

#endif
