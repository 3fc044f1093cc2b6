/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open loop's two loops, once for a bare futex, Sluice and rivals. Message n is due n intervals after an agreed
 * moment, whatever became of those before it. Its latency counts from when it was due until the receiver has read it,
 * so a sender that was held up, or a full ring, counts too: nothing is omitted.
 *
 * CLOCK_MONOTONIC is the same on all CPUs, to well under the times measured here.
 */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include <errno.h>
#include <time.h>

#include "case.h"
#include "pair.h"
#include "ticks.h"

typedef int pace_step(void *link, uint32_t number);

#define PACE_AWAKE_NS UINT64_C(150000) /* before a message is due: more than it takes to wake up */

/* The sender is never late because it slept: it wakes early and spins until the time has come. */
static inline void pace_until(const struct side *side, uint64_t due_ns)
{
	uint64_t now = ticks_monotonic_ns();

	if (side->of->waiting != CASE_SPINS && due_ns > now + 2 * PACE_AWAKE_NS) {
		uint64_t wake_ns = due_ns - PACE_AWAKE_NS;
		struct timespec wake = {
			.tv_sec = (time_t)(wake_ns / 1000000000u), .tv_nsec = (long)(wake_ns % 1000000000u)};

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR)
			;
	}
	while (ticks_monotonic_ns() < due_ns)
		;
}

static inline __attribute__((always_inline)) int pace_first(struct side *side, void *link, pace_step *send)
{
	int error = 0;

	uint64_t begin_ns = side_agree(side);
	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side))
			side_start_clock(side);
		side_check_time(side, i, 1); /* as when the rate is more than the receiver can take */
		pace_until(side, begin_ns + i * side->interval_ns);
		error = send(link, (uint32_t)i + 1);
	}
	if (error == 0)
		side_finish(side);
	return error;
}

static inline __attribute__((always_inline)) int pace_second(struct side *side, void *link, pace_step *receive)
{
	int error = 0;

	uint64_t begin_ns = side_agree(side);
	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side))
			side_start_clock(side);
		error = receive(link, (uint32_t)i + 1);
		uint64_t due_ns = begin_ns + i * side->interval_ns;
		uint64_t now = ticks_monotonic_ns();
		if (i >= side_warm_up(side))
			histogram_add(&side->histograms[PAIR_SINGLE], now > due_ns ? now - due_ns : 0);
	}
	if (error == 0)
		side_finish(side);
	return error;
}

#endif
