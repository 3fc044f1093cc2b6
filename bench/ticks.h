/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of measured loops: the time stamp counter where it is invariant, else CLOCK_MONOTONIC. Stamps are compared
 * only with stamps of the same CPU. Set up once, before any process is forked.
 */
#ifndef BENCH_TICKS_H
#define BENCH_TICKS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct ticks_clock {
	bool counter;       /* the time stamp counter, not CLOCK_MONOTONIC */
	double ns_per_tick; /* 1 for CLOCK_MONOTONIC */
	double read_ns;     /* what one reading costs */
};

extern struct ticks_clock ticks_clock;

void ticks_set_up(void);

static inline uint64_t ticks_monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* rdtscp waits until what stands before it is done, loads included: the stamp behind a receive is not taken early. */
static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
	if (__builtin_expect(ticks_clock.counter, 1)) {
		uint32_t processor;
		return __builtin_ia32_rdtscp(&processor);
	}
#endif
	return ticks_monotonic_ns();
}

#endif
