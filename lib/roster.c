/* SPDX-License-Identifier: Apache-2.0 */
#include "roster.h"

#include <errno.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "sys.h"

struct roster_view roster_look(const struct layout_member *member)
{
	/* M2: pairs with M1 in roster_enter, M1 in roster_leave and X1 in recover_member */
	uint64_t word = atomic_load_acquire(&member->word);
	return (struct roster_view){
		.incarnation = layout_member_incarnation(word),
		.role = layout_member_role(word),
		.state = layout_member_state(word),
	};
}

/* Some sandboxes say yes to every lock: see whether another description is kept out. */
static int check_lock(int other_fd, uint32_t slot)
{
	int locked = sys_byte_is_locked(other_fd, LAYOUT_SLOT_BYTE(slot));
	if (locked < 0)
		return locked;
	return locked ? 0 : -ENOLCK;
}

static bool is_dead_producers(struct roster_view view)
{
	return view.state == LAYOUT_MEMBER_DEAD && view.role == SLUICE_ROLE_PRODUCER;
}

/* Locks one of the slots that nobody is in: those that dead producers left, or the others. */
static int lock_one(struct layout_member members[LAYOUT_SLOTS], bool dead_producers, int lock_fd, int other_fd)
{
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		struct roster_view view = roster_look(&members[slot]);
		if (view.state == LAYOUT_MEMBER_ALIVE || is_dead_producers(view) != dead_producers)
			continue;
		int error = sys_lock_byte(lock_fd, LAYOUT_SLOT_BYTE(slot));
		if (error == -EAGAIN)
			continue; /* it is just leaving */
		if (error == 0)
			error = check_lock(other_fd, slot);
		return error != 0 ? error : (int)slot;
	}
	return -EUSERS;
}

int roster_lock_slot(struct layout_member members[LAYOUT_SLOTS], enum sluice_role role, int lock_fd, int other_fd)
{
	bool replace = role == SLUICE_ROLE_PRODUCER;
	int slot = lock_one(members, replace, lock_fd, other_fd);
	return slot != -EUSERS ? slot : lock_one(members, !replace, lock_fd, other_fd);
}

uint32_t roster_enter(struct layout_member *member, enum sluice_role role)
{
	uint32_t incarnation = roster_look(member).incarnation + 1;
	/* Broadcast cursors carry the low bits, and must not be 0 at message 0. */
	if ((incarnation & LAYOUT_INCARNATION_MASK) == 0)
		incarnation++;
	member->pid = (uint32_t)getpid();
	member->uid = geteuid();
	member->opened_ns = clock_realtime_ns();
	sys_program_name(member->program, sizeof member->program);
	/* M1: enter, pairs with M2 in roster_look: whoever sees the state sees who it is */
	atomic_store_release(&member->word, layout_member_word(incarnation, role, LAYOUT_MEMBER_ALIVE));
	return incarnation;
}

bool roster_leave(struct layout_member *member, uint32_t incarnation, enum sluice_role role)
{
	uint64_t alive = layout_member_word(incarnation, role, LAYOUT_MEMBER_ALIVE);
	uint64_t left = layout_member_word(incarnation, role, LAYOUT_MEMBER_LEFT);
	return atomic_swap_exact(&member->word, alive, left); /* M1: as in roster_enter, of a member that leaves */
}

bool roster_holds(const struct layout_member *member, uint32_t incarnation, enum sluice_role role)
{
	struct roster_view view = roster_look(member);
	return view.state == LAYOUT_MEMBER_ALIVE && view.incarnation == incarnation && view.role == role;
}

bool roster_is_alive(const struct layout_member *member, uint32_t slot, int other_fd)
{
	return roster_look(member).state == LAYOUT_MEMBER_ALIVE &&
	       sys_byte_is_locked(other_fd, LAYOUT_SLOT_BYTE(slot)) == 1;
}

uint32_t roster_count(const struct layout_member members[LAYOUT_SLOTS], enum sluice_role role, int other_fd)
{
	uint32_t count = 0;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		if (roster_is_present(&members[slot], role) && roster_is_alive(&members[slot], slot, other_fd))
			count++;
	return count;
}
