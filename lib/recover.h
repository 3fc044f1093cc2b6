/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do when a member is dead: give back what it held, stop it from holding others back, declare it dead.
 *
 * Anybody may do this at any time, several at once, and may be stopped or killed in the middle of it. It takes no lock.
 * Whoever read a slot's incarnation and then found its lock free knows that this incarnation will never act again, and
 * changes only words that say exactly so. Declaring it dead is one compare-and-swap, done last: until then the next one
 * who looks does it all again.
 */
#ifndef SLUICE_LIB_RECOVER_H
#define SLUICE_LIB_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lane_table.h"
#include "layout.h"

/*
 * Looks at the lock of every member but `own_slot` (LAYOUT_SLOTS: of all) and recovers what the dead left. `other_fd`
 * is any descriptor of the control object but the one that holds the caller's lock. Returns how many were declared
 * dead, or a negative errno if one could not be recovered now; the next look tries again.
 */
int recover_dead(const struct lane_table *table, int other_fd, uint32_t own_slot, uint32_t max_deliveries);

/*
 * Gives messages of a queue lane back that are held by somebody who is no member: who was declared dead and lives may go on
 * taking until it learns of it, and nobody recovers it a second time. Returns how many.
 */
int recover_orphans(const struct lane_table *table, struct lane_key key, const struct lane_objects *objects,
	uint32_t max_deliveries);

/* What a watcher knows of a lane's claims: since when each word has been what it is. Private memory; zero to begin with. */
struct recover_watch {
	uint64_t *words;
	uint64_t *since_ns;
};

/*
 * Takes messages of a queue lane back from consumers that have held them for longer than `limit_ns`, alive or not.
 * Returns how many, or -ENOMEM. Call it from time to time with the CLOCK_MONOTONIC time.
 */
int recover_overdue(const struct lane_table *table, struct lane_key key, const struct lane_objects *objects,
	struct recover_watch *watch, uint64_t now_ns, uint64_t limit_ns, uint32_t max_deliveries);

/* Copies a record of a message that was set aside; false if it is empty or being written. */
bool recover_load_record(const struct layout_aside *shared, struct layout_aside *ret_record);

void recover_watch_free(struct recover_watch *watch);

#endif
