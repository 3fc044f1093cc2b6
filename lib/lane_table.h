/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel's table of lanes: linking a new one, finding those there are, taking away those that ended and are
 * drained.
 *
 * The table is changed under the gate only. A lane's objects are linked before its entry appears, and its entry goes
 * before its objects do, so that whoever reads the table without the gate finds the objects or learns that the lane
 * went.
 */
#ifndef SLUICE_LIB_LANE_TABLE_H
#define SLUICE_LIB_LANE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "lane.h"
#include "layout.h"
#include "segment.h"

/* Which channel a table belongs to, as far as names and trust go. */
struct lane_table {
	struct layout_control *control;
	int directory_fd;
	const char *name;
	uint64_t channel_id;
	uint32_t mode;
	const struct segment_trust *trust;
};

struct lane_key {
	uint32_t slot;
	uint32_t incarnation;
};

/* Both objects of a lane. */
struct lane_objects {
	struct segment data;
	struct segment claims;
	struct layout_lane_geometry geometry; /* private copy, checked */
	int data_fd;                          /* -1 once mapped and not needed */
	int claims_fd;
};

/*
 * Makes both objects of a new lane, without names, with headers and placement filled. `*ret_objects` is the caller's.
 * Returns 0, -ENOSPC, -ENOMEM ...
 */
int lane_table_make(const struct lane_table *table, struct lane_key key, uint32_t depth, uint64_t payload_bytes,
	const struct place *place, struct lane_objects *ret_objects);

/* Gives the objects their names and the lane its entry. The caller holds the gate. Returns 0, -EUSERS, -EEXIST ... */
int lane_table_link(const struct lane_table *table, struct lane_key key, struct lane_objects *objects);

/*
 * Opens and maps a lane: data read-only, claims for writing or not. `*ret_objects` is the caller's, descriptors closed.
 * Returns 0, -ENOENT (it has gone), -EBADMSG (`*ret_reason` says why), -ENOMEM, -EMFILE, -EACCES, -EPERM ...
 */
int lane_table_map(const struct lane_table *table, struct lane_key key, bool claims_writable,
	struct lane_objects *ret_objects, const char **ret_reason);

void lane_objects_release(struct lane_objects *objects);

/* Entry `index`; false if it is empty. */
bool lane_table_entry(const struct layout_control *control, uint32_t index, struct lane_key *ret_key);

/* True if the table has that lane. */
bool lane_table_has(const struct layout_control *control, struct lane_key key);

/* Number of lanes in the table. */
uint32_t lane_table_count(const struct layout_control *control);

/* True if the lane's producer has left the roster, alive or dead: nobody else ever writes to its lane. */
bool lane_table_is_abandoned(const struct layout_control *control, struct lane_key key);

/*
 * True if nothing will be published in the lane any more: its producer ended it, or is no longer in the roster.
 * `*ret_final` is then the number of messages ever published.
 */
bool lane_table_final(const struct layout_control *control, struct lane_key key, const struct lane_reader *reader,
	uint64_t *ret_final);

/*
 * Broadcast: the oldest message of a lane that some consumer still needs, where one that is in the channel but has not
 * looked at this lane yet needs all from `tail` on. LANE_TABLE_NOBODY if no consumer is there.
 */
#define LANE_TABLE_NOBODY UINT64_MAX
uint64_t lane_table_oldest(const struct layout_control *control, const struct layout_claims *claims, uint64_t tail);

/* How far a lane's messages have got. */
struct lane_progress {
	uint64_t published; /* messages ever */
	uint64_t waiting;   /* not handed out; broadcast: not released by the slowest */
	uint64_t held;      /* handed out and not released; queue only */
	bool ended;         /* its producer closed it, or died and was declared dead */
	bool drained;       /* ended, and every message is done with */
};

/* Counts by looking at every claim. Exact for a lane that has ended; else of no one instant. */
struct lane_progress lane_table_progress(
	const struct layout_control *control, uint32_t mode, struct lane_key key, const struct lane_objects *objects);

/* Takes the lane away if it is drained; true if it did. The caller holds the gate. */
bool lane_table_retire(const struct lane_table *table, uint32_t index);

/*
 * Calls `visit` with the file name of each lane object of channel `name`, whatever its channel id, until it returns
 * other than 0. Returns that, or 0, or a negative errno.
 */
int lane_table_each_file(int directory_fd, const char *name,
	int (*visit)(int directory_fd, const char *file, void *context), void *context);

/*
 * Removes objects of this channel that are in no entry: of lanes that were being linked or taken away when somebody
 * died. The caller holds the gate. Returns how many, or a negative errno.
 */
int lane_table_sweep(const struct lane_table *table);

/* Takes away every lane that is drained; true if none is left. The caller holds the gate. */
bool lane_table_retire_all(const struct lane_table *table);

#endif
