/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms, what is read out of them, and the decision which messages get time stamps. */
#ifndef SLUICE_LIB_STATS_H
#define SLUICE_LIB_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "layout.h"

/* Counts `duration_ns`. Any thread of any process that may write the histogram. */
void stats_record(struct layout_histogram *histogram, uint64_t duration_ns);

/* Reads percentiles; each is the upper bound of the bucket that holds it. */
void stats_distribution(const struct layout_histogram *histogram, struct sluice_distribution *ret_distribution);

/* A counter that only one thread writes and others read. */
static inline void stats_add(uint64_t *counter, uint64_t amount)
{
	atomic_store_relaxed(counter, atomic_load_relaxed(counter) + amount); /* relaxed: a figure for people */
}

/*
 * Samples by rate without reading the clock for what it skips: it lets 0, 1, 3, 7 ... messages pass between two
 * samples, and learns that number from how far apart the last two were.
 */
struct sampler {
	uint64_t interval_ns; /* least time between samples; 0: sample all; UINT64_MAX: none */
	uint64_t last_ns;
	uint32_t skip;
	uint32_t countdown;
};

struct sampler sampler_at_rate(uint32_t rate_hz);

/* True if the next message is to be stamped. */
static inline bool sampler_is_due(struct sampler *sampler)
{
	if (sampler->countdown > 0) {
		sampler->countdown--;
		return false;
	}
	return sampler->interval_ns != UINT64_MAX;
}

/* The same, from the other side: true, and the message is counted, if it is not to be stamped. */
static inline bool sampler_passes(struct sampler *sampler)
{
	if (sampler->countdown == 0)
		return sampler->interval_ns == UINT64_MAX;
	sampler->countdown--;
	return true;
}

/* Counts messages that were not asked about. */
static inline void sampler_pass(struct sampler *sampler, uint64_t messages)
{
	sampler->countdown = messages < sampler->countdown ? sampler->countdown - (uint32_t)messages : 0;
}

/* Tells the sampler when the message that was due got its stamp. */
void sampler_stamped(struct sampler *sampler, uint64_t now_ns);

#endif
