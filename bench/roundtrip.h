/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The round trip's two loops, once for bare limits and for Sluice: whoever includes this passes its own send and receive,
 * which the compiler puts in place, so that all are timed by the same code without a call through a pointer.
 *
 * `send` puts message number `number` on its way, `receive` takes that number and checks that it is the one.
 */
#ifndef BENCH_ROUNDTRIP_H
#define BENCH_ROUNDTRIP_H

#include "pair.h"
#include "ticks.h"

/*
 * Repetitions go in groups. In every other group each round trip is stamped: that gives the tails. The others are stamped as
 * a whole: that gives the typical time free of the clock, whose readings cost as much as a tenth of the shortest round trip
 * and on some machines step by 10 ns.
 */
#define ROUNDTRIP_GROUP PAIR_GROUP

typedef int roundtrip_step(void *link, uint32_t number);

static inline __attribute__((always_inline)) int roundtrip_stamped(
	struct side *side, void *link, uint32_t number, roundtrip_step *send, roundtrip_step *receive, bool recorded)
{
	uint64_t begin = ticks_now();
	int error = send(link, number);

	if (error == 0)
		error = receive(link, number);
	uint64_t end = ticks_now();
	if (recorded)
		histogram_add(&side->histograms[PAIR_SINGLE], end - begin);
	return error;
}

static inline __attribute__((always_inline)) int roundtrip_group(
	struct side *side, void *link, uint32_t number, roundtrip_step *send, roundtrip_step *receive, bool recorded)
{
	uint64_t begin = ticks_now();
	int error = 0;

	for (uint32_t i = 0; i < ROUNDTRIP_GROUP && error == 0; i++) {
		error = send(link, number + i);
		if (error == 0)
			error = receive(link, number + i);
	}
	uint64_t end = ticks_now();
	if (recorded)
		histogram_add(&side->histograms[PAIR_GROUPED], end - begin);
	return error;
}

/* Lets the other side fall asleep before it is sent something. */
static inline void roundtrip_pause(uint64_t ns)
{
	uint64_t end = ticks_monotonic_ns() + ns;

	while (ns != 0 && ticks_monotonic_ns() < end)
		;
}

static inline __attribute__((always_inline)) int roundtrip_first(
	struct side *side, void *link, roundtrip_step *send, roundtrip_step *receive)
{
	const uint64_t step = UINT64_C(2) * ROUNDTRIP_GROUP; /* a group of either sort */
	bool paced = side->of->pause_ns != 0;
	int error = 0;

	for (uint64_t i = 0; i < side_total(side) && error == 0; i += ROUNDTRIP_GROUP) {
		bool recorded = i >= side_warm_up(side);

		if (i == side_warm_up(side))
			side_start(side);
		if (i % step == 0)
			side_check_time(side, i, step);
		if (!paced && i / ROUNDTRIP_GROUP % 2 == 0) {
			error = roundtrip_group(side, link, (uint32_t)i + 1, send, receive, recorded);
			continue;
		}
		for (uint32_t k = 0; k < ROUNDTRIP_GROUP && error == 0; k++) {
			roundtrip_pause(side->of->pause_ns);
			error = roundtrip_stamped(side, link, (uint32_t)i + k + 1, send, receive, recorded);
		}
	}
	if (error == 0)
		side_finish(side);
	return error;
}

/* `after` is what the second side does once it has answered; NULL if nothing. */
static inline __attribute__((always_inline)) int roundtrip_second(
	struct side *side, void *link, roundtrip_step *send, roundtrip_step *receive, roundtrip_step *after)
{
	int error = 0;

	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side))
			side_start(side);
		error = receive(link, (uint32_t)i + 1);
		if (error == 0)
			error = send(link, (uint32_t)i + 1);
		if (error == 0 && after)
			error = after(link, (uint32_t)i + 1);
	}
	if (error == 0)
		side_finish(side);
	return error;
}

#endif
