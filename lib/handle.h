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

enum handle_kind { HANDLE_PRODUCER = 1, HANDLE_CONSUMER = 2, HANDLE_POLLER = 3 };

/* What whoever watches a handle is told. */
enum handle_news {
	HANDLE_CLOSES, /* it is being closed; nothing of it may be used after the notice. It is watched no more */
	HANDLE_SLEEPS  /* it is about to sleep in a call of its own, and disarms its bell afterwards */
};

/* Somebody who sleeps in a handle's place. The notice runs in the handle's thread and opens and closes no handles. */
struct handle_watch {
	const void *owner;
	void (*notice)(struct handle_watch *watch, enum handle_news news);
};

struct handle {
	const uint32_t *guard; /* a page of its own that fork wipes: 1 in the process that opened it, 0 in a child */
	uint32_t kind;         /* enum handle_kind */
	uint32_t open;         /* 1 between open and close */
	int lock_fd;           /* carries the member's locks; closed in a child; -1 if none */
	struct handle_watch *watch; /* who sleeps in its place, or NULL */
	struct handle *next;        /* of all handles of the process */
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

/* Has calls on a handle refused from here on, though all of it is still there. */
static inline void handle_shut(struct handle *handle)
{
	atomic_store_release(&handle->open, 0); /* H3: closed, pairs with H2 in handle_check */
}

/* Gives a handle back, shut and its lock closed by then. Safe from any thread. */
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

/* Watches a handle from now on. Returns 0, -EEXIST (its owner does so already), -EBUSY (another does). Any thread. */
int handle_begin_watch(struct handle *handle, struct handle_watch *watch);

/* Ends that, if it is `watch` who does: no notice runs or will run then. Any thread. */
void handle_end_watch(struct handle *handle, struct handle_watch *watch);

/* Tells whoever watches. */
void handle_tell(struct handle *handle, enum handle_news news);

static inline void handle_tell_if_watched(struct handle *handle, enum handle_news news)
{
	/* relaxed: who watches is looked up under a mutex; a watch that begins right now watches from the next time on */
	if (__builtin_expect(atomic_load_relaxed(&handle->watch) != NULL, 0))
		handle_tell(handle, news);
}

/* 0, -EBADF (closed) or -ECHILD (inherited through fork). */
static inline int handle_check(const struct handle *handle)
{
	/* H2: pairs with H1 in handle_publish and H3 in handle_shut */
	if (UNLIKELY(atomic_load_acquire(&handle->open) == 0))
		return -EBADF;
	if (UNLIKELY(*handle->guard == 0))
		return -ECHILD;
	return 0;
}

#endif
