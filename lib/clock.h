/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and deadlines, in nanoseconds. A read costs 25 to 40 ns on a virtual machine: keep it off the fast path. */
#ifndef SLUICE_LIB_CLOCK_H
#define SLUICE_LIB_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_SECOND_NS      UINT64_C(1000000000)
#define CLOCK_MILLISECOND_NS UINT64_C(1000000)

uint64_t clock_monotonic_ns(void);
uint64_t clock_realtime_ns(void);

/*
 * When a wait must end. It reads the clock only once it is asked to wait, so a call that succeeds at once, or was told
 * not to wait, never reads it.
 */
struct deadline {
	int64_t timeout_ns; /* as the caller said: 0 do not wait, negative already past, INT64_MAX for ever */
	uint64_t end_ns;    /* CLOCK_MONOTONIC; 0 until the first look */
};

static inline struct deadline deadline_in(int64_t timeout_ns)
{
	return (struct deadline){.timeout_ns = timeout_ns};
}

/* Nanoseconds left at `now_ns`; 0 when over, UINT64_MAX for ever. */
uint64_t deadline_left_ns(struct deadline *deadline, uint64_t now_ns);

/* What a wait that got nothing returns: -EAGAIN for one that was not to wait, else -ETIMEDOUT. */
int deadline_error(const struct deadline *deadline);

#endif
