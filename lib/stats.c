/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <sluice/producer.h>

#include "clock.h"

#define DEFAULT_RATE_HZ 1000

/* At ten million messages a second still some 2400 samples; at one a second a sample within the hour. */
#define LONGEST_SKIP 4095

/* Below 2^7: 8 buckets 16 wide. Octave k from 7 on: 8 buckets 2^(k-3) wide. */
#define FIRST_OCTAVE 7
#define STEPS        8

static uint32_t bucket_of(uint64_t value)
{
	if (value < 1U << FIRST_OCTAVE)
		return (uint32_t)(value / ((1U << FIRST_OCTAVE) / STEPS));
	uint32_t octave = 63 - (uint32_t)__builtin_clzll(value);
	uint32_t bucket = STEPS * (octave - FIRST_OCTAVE + 1) + (uint32_t)(value >> (octave - 3) & (STEPS - 1));
	return bucket < LAYOUT_BUCKETS ? bucket : LAYOUT_BUCKETS - 1;
}

static uint64_t bucket_end(uint32_t bucket)
{
	if (bucket < STEPS)
		return (uint64_t)(bucket + 1) * ((1U << FIRST_OCTAVE) / STEPS);
	uint32_t octave = bucket / STEPS - 1 + FIRST_OCTAVE;
	return (UINT64_C(1) << octave) + ((uint64_t)(bucket % STEPS + 1) << (octave - 3));
}

void stats_record(struct layout_histogram *histogram, uint64_t duration_ns)
{
	atomic_add_relaxed(&histogram->buckets[bucket_of(duration_ns)], UINT64_C(1)); /* relaxed: a figure for people */
}

/* The end of the bucket in which the `permille`-th part of `count` values is reached. */
static uint64_t quantile(const uint64_t counts[LAYOUT_BUCKETS], uint64_t count, uint64_t permille)
{
	uint64_t wanted = (uint64_t)(((unsigned __int128)count * permille + 999) / 1000);
	uint64_t seen = 0;
	for (uint32_t i = 0; i < LAYOUT_BUCKETS; i++) {
		seen += counts[i];
		if (seen >= wanted && seen > 0)
			return bucket_end(i);
	}
	return 0;
}

void stats_distribution(const struct layout_histogram *histogram, struct sluice_distribution *ret_distribution)
{
	uint64_t counts[LAYOUT_BUCKETS];
	uint64_t count = 0;
	for (uint32_t i = 0; i < LAYOUT_BUCKETS; i++) {
		counts[i] = atomic_load_relaxed(&histogram->buckets[i]); /* relaxed: a figure for people */
		count += counts[i];
	}
	*ret_distribution = (struct sluice_distribution){
		.count = count,
		.p50_ns = quantile(counts, count, 500),
		.p95_ns = quantile(counts, count, 950),
		.p99_ns = quantile(counts, count, 990),
		.p999_ns = quantile(counts, count, 999),
		.max_ns = quantile(counts, count, 1000),
	};
}

struct sampler sampler_at_rate(uint32_t rate_hz)
{
	if (rate_hz == SLUICE_STAMP_NONE)
		return (struct sampler){.interval_ns = UINT64_MAX};
	if (rate_hz == SLUICE_STAMP_ALL)
		return (struct sampler){.interval_ns = 0};
	return (struct sampler){.interval_ns = CLOCK_SECOND_NS / (rate_hz != 0 ? rate_hz : DEFAULT_RATE_HZ)};
}

void sampler_stamped(struct sampler *sampler, uint64_t now_ns)
{
	uint64_t gap_ns = now_ns - sampler->last_ns;
	sampler->last_ns = now_ns;
	if (gap_ns < sampler->interval_ns)
		sampler->skip = sampler->skip * 2 + 1 < LONGEST_SKIP ? sampler->skip * 2 + 1 : LONGEST_SKIP;
	else if (gap_ns / 2 > sampler->interval_ns) /* at once as few as would have been right */
		sampler->skip = (uint32_t)(sampler->skip * sampler->interval_ns / gap_ns);
	sampler->countdown = sampler->skip;
}
