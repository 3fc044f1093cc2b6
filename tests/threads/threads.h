/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock-free parts with threads as their parties, on one mapping: written for ThreadSanitizer, which knows memory by
 * address and would see nothing where each party maps the objects for itself. So most of it works with the rooms below
 * producers and consumers. Payloads and descriptors are read and written plainly: if a word's memory order were too weak to
 * carry them, that is a report.
 *
 * Threads wait for each other by looking again, not with locks, where a lock would order more than the protocol does. The
 * sanitizer does not know fences: what hangs on one is for the models.
 */
#ifndef TESTS_THREADS_H
#define TESTS_THREADS_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../support/harness.h"
#include "atomic.h"

#define READERS 3
#define HELPERS 2

/* What a thread finds wrong is counted, and judged by the test's own thread. */
static uint32_t wrong;

static inline void expect(bool condition)
{
	if (!condition)
		atomic_add_relaxed(&wrong, 1);
}

typedef void *(*thread_body)(void *);

static inline pthread_t start_thread(thread_body body, void *argument)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
	return thread;
}

static inline void join_thread(pthread_t thread)
{
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static inline void *zeroed(size_t bytes)
{
	size_t whole = (bytes + 4095) / 4096 * 4096;
	void *memory = aligned_alloc(4096, whole);
	assert_non_null(memory);
	memset(memory, 0, whole);
	return memory;
}

#endif
