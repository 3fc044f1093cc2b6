/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stress for all shapes of a channel: producers that send messages of known content, consumers that check every one.
 * A queue hands each message to exactly one consumer, and what a consumer gets of one producer comes in that producer's
 * order; a broadcast hands each message to every consumer, in order and without holes.
 */
#ifndef TEST_TRAFFIC_H
#define TEST_TRAFFIC_H

#include <stdint.h>

#include <sluice/sluice.h>

enum traffic_sizes {
	TRAFFIC_SMALL, /* a few words, in the descriptor */
	TRAFFIC_MIXED, /* from nothing to some KiB, in the descriptor and beside it */
	TRAFFIC_ANY    /* as mixed, and every so often up to the largest that fits */
};

struct traffic_plan {
	uint32_t mode;  /* enum sluice_mode; 0: queue */
	uint32_t flags; /* of the channel */
	uint32_t producers;
	uint32_t consumers;
	uint64_t messages; /* of each producer; not scaled further */
	uint64_t lane_bytes;
	uint32_t depth;
	enum traffic_sizes sizes;
	uint32_t batch; /* messages asked for in one call; 0: one call a message */
	uint32_t held;  /* messages that a consumer keeps, releasing them in random order; 0: in order, at once */
	uint32_t release_threads; /* threads that release what the consumer received; 0: it releases itself */
	int64_t spin_ns;          /* of all members */
};

/* Runs the plan on channel `name`, checks everything that is promised, and prints how many messages went how fast. */
void traffic_run(const char *name, const struct traffic_plan *plan);

#endif
