/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roster: who is a member, and whether it lives.
 *
 * A member holds a lock on the byte of its slot, through an open file description of its own that is never mapped. The
 * kernel drops it when the process ends, however it ends, and keeps it while the process is stopped. So the lock is the
 * truth about life, whatever the slot's words say, under reuse of pids and across PID namespaces too.
 */
#ifndef SLUICE_LIB_ROSTER_H
#define SLUICE_LIB_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

/* Who is in a slot, from a private copy. */
struct roster_view {
	uint32_t incarnation;
	enum sluice_role role;
	enum layout_member_state state;
};

struct roster_view roster_look(const struct layout_member *member);

/*
 * Finds a slot that nobody is in, locks its byte through `lock_fd` and leaves it so. The caller holds the gate. A slot
 * whose last holder died without being recovered is not taken. The slot of a dead producer goes to the next producer,
 * whom the end of stream waits for; to a consumer only if there is no other.
 * Returns the slot, -EUSERS (none free), -ENOLCK (see roster_check_lock) or another errno.
 */
int roster_lock_slot(struct layout_member members[LAYOUT_SLOTS], enum sluice_role role, int lock_fd, int other_fd);

/*
 * Puts this process into a slot that it has locked, under an incarnation of its own. Returns the incarnation.
 */
uint32_t roster_enter(struct layout_member *member, enum sluice_role role);

/*
 * Says that the slot's holder leaves cleanly. The caller unlocks the byte afterwards. False, and nothing changed, if
 * others have declared it dead meanwhile and the slot may be somebody else's.
 */
bool roster_leave(struct layout_member *member, uint32_t incarnation, enum sluice_role role);

/* True while the slot's words say that this incarnation is in it. */
bool roster_holds(const struct layout_member *member, uint32_t incarnation, enum sluice_role role);

/*
 * True if a living process is in the slot. `other_fd` is any descriptor of the control object but the one that holds
 * the slot's own lock.
 */
bool roster_is_alive(const struct layout_member *member, uint32_t slot, int other_fd);

/* Living members of that role. `other_fd` as above. */
uint32_t roster_count(const struct layout_member members[LAYOUT_SLOTS], enum sluice_role role, int other_fd);

/* True if the slot's words say that somebody of that role is in it; a dead one may still be counted. */
static inline bool roster_is_present(const struct layout_member *member, enum sluice_role role)
{
	struct roster_view view = roster_look(member);
	return view.state == LAYOUT_MEMBER_ALIVE && view.role == role;
}

#endif
