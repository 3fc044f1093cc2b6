/* SPDX-License-Identifier: Apache-2.0 */
/* The course of one wait: spin for a bounded time, then sleep, until it is over. Knows time, not what is waited for. */
#ifndef SLUICE_LIB_WAITER_H
#define SLUICE_LIB_WAITER_H

#include <stdint.h>

#include "atomic.h"
#include "clock.h"

/* Sleepers wake by themselves this often, so that a wake-up that died with its waker is only a short delay. */
#define WAITER_LONGEST_SLEEP_NS CLOCK_SECOND_NS

struct waiter {
	struct deadline deadline;
	int64_t spin_ns;   /* longest spin before a sleep; negative none, INT64_MAX never sleep */
	uint64_t spin_end; /* CLOCK_MONOTONIC; 0 before the first look */
	uint64_t
		began_ns; /* CLOCK_MONOTONIC when a step or sleep first read it, soon after the wait began; 0 until then */
	uint64_t nap_ns; /* longest sleep, for who looks for something that wakes nobody; 0: WAITER_LONGEST_SLEEP_NS */
	uint32_t steps;
	uint32_t sleeps;
	uint64_t now_ns; /* CLOCK_MONOTONIC if the last step or sleep read it, else 0 */
};

enum waiter_next {
	WAITER_SPIN,  /* look again at once */
	WAITER_SLEEP, /* arm, look again, sleep up to waiter_sleep_ns */
	WAITER_OVER   /* give up with deadline_error */
};

static inline struct waiter waiter_for(int64_t timeout_ns, int64_t spin_ns)
{
	return (struct waiter){.deadline = deadline_in(timeout_ns), .spin_ns = spin_ns};
}

/* Looks that a spin takes between two steps. */
#define WAITER_LOOKS 64

/* Steps of a spin without a pause: what comes within a microsecond or two is not to be met in the middle of one. */
#define WAITER_BUSY_STEPS 16

/* Between two looks of a spin: tells the core, except at first, because a pause may take as long as all the rest of a call. */
static inline void waiter_pause(const struct waiter *waiter)
{
	if (waiter->steps > WAITER_BUSY_STEPS)
		atomic_pause();
}

/* The same for those whose looks take cache lines away from whom they wait for. */
static inline void waiter_rest(void)
{
	for (int i = 0; i < 8; i++)
		atomic_pause();
}

/* What to do after a look that found nothing, or after a spin's looks. */
enum waiter_next waiter_step(struct waiter *waiter);

/*
 * How long to sleep now, which it counts; 0 if the wait is over. Starts the spin after that sleep anew, unless it is a nap.
 */
uint64_t waiter_sleep_ns(struct waiter *waiter);

#endif
