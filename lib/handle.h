/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every handle given to a caller starts with: is it open, is this still the process that opened it.
 *
 * Handles are never given back to the allocator. A closed one waits in a list and serves a later open only after
 * several more have been closed, so that a call on a handle that was closed a moment ago reads valid memory and answers
 * -EBADF. The memory in use is bounded by the handles open at one time. The list is also what the child of a fork walks
 * to close the descriptors that carry locks: it is the library's only global state.
 */
#ifndef SLUICE_LIB_HANDLE_H
#define SLUICE_LIB_HANDLE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "atomic.h"
#include "course.h"

enum handle_kind { HANDLE_PRODUCER = 1, HANDLE_CONSUMER = 2 };

struct handle {
	const uint32_t *guard; /* a page of its own that fork wipes: 1 in the process that opened it, 0 in a child */
	uint32_t kind;         /* enum handle_kind */
	uint32_t open;         /* 1 between open and close */
	int lock_fd;           /* carries the member's locks; closed in a child; -1 if none */
	struct handle *next;   /* of all handles of the process */
	struct handle *next_closed;
};

/*
 * A handle of `bytes` bytes whose first member is a struct handle, not yet open. What follows that member is zero, or
 * what the handle's last user left there. NULL when out of memory. Safe from any thread.
 */
void *handle_new(enum handle_kind kind, size_t bytes);

/* Marks a handle open: from here on calls on it are answered. */
static inline void handle_publish(struct handle *handle)
{
	atomic_store_release(&handle->open, 1); /* H1: open, after all of it is set up, pairs with H2 in handle_check */
}

/* Gives a handle back, its lock closed by then. Safe from any thread. */
void handle_retire(struct handle *handle);

/*
 * Opens `name` for the locks of a member and keeps the descriptor for the child of a fork to close. Opening and closing
 * exclude fork, so that no child ever inherits a descriptor that it does not know of. `flags` are added to those of
 * open().
 * Returns the descriptor or a negative errno.
 */
int handle_open_lock(struct handle *handle, int directory_fd, const char *name, int flags);

/* Closes that descriptor, if there is one: the locks go with it. */
void handle_close_lock(struct handle *handle);

/* 0, -EBADF (closed) or -ECHILD (inherited through fork). */
static inline int handle_check(const struct handle *handle)
{
	/* H2: pairs with H1 in handle_publish and H3 in handle_retire */
	if (UNLIKELY(atomic_load_acquire(&handle->open) == 0))
		return -EBADF;
	if (UNLIKELY(*handle->guard == 0))
		return -ECHILD;
	return 0;
}

#endif
