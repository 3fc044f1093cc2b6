/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing a stream at its receiving end: one stamp for each block of messages, since a message takes less than a stamp. A
 * receiver that waits and then catches up has short and long blocks, so that the typical time is taken from groups of
 * blocks, which are several times as long as the ring.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "case.h"
#include "pair.h"
#include "ticks.h"

#define STREAM_FRACTION 16 /* a recorded value is in sixteenths of a tick for one message */

struct stream_meter {
	struct side *side;
	uint64_t seen;           /* messages so far */
	uint64_t block_messages; /* since block_begin */
	uint64_t block_begin;
	uint64_t group_messages; /* since group_begin */
	uint64_t group_begin;
};

/* To be called before each receive: the measured part starts when the warm-up is all received. */
static inline void stream_tick(struct stream_meter *meter)
{
	if (meter->seen != side_warm_up(meter->side))
		return;
	side_start(meter->side);
	meter->block_messages = meter->group_messages = 0;
	meter->block_begin = meter->group_begin = ticks_now();
}

static inline void stream_record(
	struct stream_meter *meter, enum pair_histogram which, uint64_t *messages, uint64_t *begin, uint64_t now)
{
	if (meter->seen > side_warm_up(meter->side))
		histogram_add(&meter->side->histograms[which], (now - *begin) * STREAM_FRACTION / *messages);
	*begin = now;
	*messages = 0;
}

/* Counts received messages; a full block and a full group of blocks make a value each. */
static inline void stream_count(struct stream_meter *meter, uint64_t messages)
{
	meter->seen += messages;
	meter->block_messages += messages;
	meter->group_messages += messages;
	if (meter->block_messages < CASE_STREAM_BLOCK)
		return;
	uint64_t now = ticks_now();
	stream_record(meter, PAIR_SINGLE, &meter->block_messages, &meter->block_begin, now);
	if (meter->group_messages >= (uint64_t)PAIR_GROUP * CASE_STREAM_BLOCK)
		stream_record(meter, PAIR_GROUPED, &meter->group_messages, &meter->group_begin, now);
}

#endif
