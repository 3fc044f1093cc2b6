/* SPDX-License-Identifier: Apache-2.0 */
#include "handle.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What two threads have in handles of their own must not share a cache line, nor the pair of lines fetched together. */
#define HANDLE_ALIGNMENT 128

/* How many closed handles wait before the oldest serves again. */
#define HANDLES_RESTING 16

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int fork_handlers_error;
static struct handle *handles;

/* Closed handles of each kind, the oldest first. */
static struct {
	struct handle *first;
	struct handle *last;
	size_t count;
} resting[HANDLE_POLLER + 1];

static void before_fork(void)
{
	pthread_mutex_lock(&mutex);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&mutex);
}

/*
 * A lock lives as long as any descriptor made from its open(): a child that kept one would keep its dead parent looking
 * alive. Closing is enough, since the description is never mapped; unlocking here would release the parent's lock.
 */
static void after_fork_in_child(void)
{
	for (struct handle *handle = handles; handle != NULL; handle = handle->next) {
		if (handle->lock_fd >= 0)
			close(handle->lock_fd);
		handle->lock_fd = -1;
	}
	pthread_mutex_unlock(&mutex);
}

static void install_fork_handlers(void)
{
	fork_handlers_error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static uint32_t *new_guard(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *guard = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guard == MAP_FAILED)
		return NULL;
	if (madvise(guard, page, MADV_WIPEONFORK) != 0) {
		munmap(guard, page);
		return NULL;
	}
	return guard;
}

/* The oldest closed handle of that kind, if enough are resting. The caller holds the mutex. */
static struct handle *take_rested(enum handle_kind kind)
{
	if (resting[kind].count <= HANDLES_RESTING)
		return NULL;
	struct handle *handle = resting[kind].first;
	resting[kind].first = handle->next_closed;
	resting[kind].count--;
	return handle;
}

static struct handle *allocate(enum handle_kind kind, size_t bytes)
{
	size_t rounded = (bytes + HANDLE_ALIGNMENT - 1) / HANDLE_ALIGNMENT * HANDLE_ALIGNMENT;
	struct handle *handle = aligned_alloc(HANDLE_ALIGNMENT, rounded);
	if (handle == NULL)
		return NULL;
	memset(handle, 0, rounded);
	handle->guard = new_guard();
	if (handle->guard == NULL) {
		free(handle);
		return NULL;
	}
	handle->kind = kind;
	handle->lock_fd = -1;
	handle->next = handles;
	handles = handle;
	return handle;
}

void *handle_new(enum handle_kind kind, size_t bytes)
{
	if (pthread_once(&once, install_fork_handlers) != 0 || fork_handlers_error != 0)
		return NULL;
	pthread_mutex_lock(&mutex);
	struct handle *handle = take_rested(kind);
	if (handle == NULL)
		handle = allocate(kind, bytes);
	if (handle != NULL)
		*(uint32_t *)(uintptr_t)handle->guard = 1; /* a rested one may have come through a fork */
	pthread_mutex_unlock(&mutex);
	return handle;
}

void handle_retire(struct handle *handle)
{
	pthread_mutex_lock(&mutex);
	handle_shut(handle);
	handle->next_closed = NULL;
	if (resting[handle->kind].count++ == 0)
		resting[handle->kind].first = handle;
	else
		resting[handle->kind].last->next_closed = handle;
	resting[handle->kind].last = handle;
	pthread_mutex_unlock(&mutex);
}

int handle_open_lock(struct handle *handle, int directory_fd, const char *name, int flags)
{
	pthread_mutex_lock(&mutex);
	int fd = openat(directory_fd, name, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
	int result = fd >= 0 ? fd : -errno;
	handle->lock_fd = fd;
	pthread_mutex_unlock(&mutex);
	return result;
}

void handle_close_lock(struct handle *handle)
{
	pthread_mutex_lock(&mutex);
	if (handle->lock_fd >= 0)
		close(handle->lock_fd);
	handle->lock_fd = -1;
	pthread_mutex_unlock(&mutex);
}

int handle_begin_watch(struct handle *handle, struct handle_watch *watch)
{
	int error = 0;
	pthread_mutex_lock(&mutex);
	if (handle->watch != NULL)
		error = handle->watch->owner == watch->owner ? -EEXIST : -EBUSY;
	else
		atomic_store_relaxed(&handle->watch, watch); /* relaxed: see handle_tell_if_watched */
	pthread_mutex_unlock(&mutex);
	return error;
}

void handle_end_watch(struct handle *handle, struct handle_watch *watch)
{
	pthread_mutex_lock(&mutex);
	if (handle->watch == watch)
		atomic_store_relaxed(&handle->watch, NULL); /* relaxed: see handle_tell_if_watched */
	pthread_mutex_unlock(&mutex);
}

void handle_tell(struct handle *handle, enum handle_news news)
{
	pthread_mutex_lock(&mutex);
	struct handle_watch *watch = handle->watch;
	if (news == HANDLE_CLOSES)
		atomic_store_relaxed(&handle->watch, NULL); /* relaxed: see handle_tell_if_watched */
	if (watch != NULL)
		watch->notice(watch, news);
	pthread_mutex_unlock(&mutex);
}
