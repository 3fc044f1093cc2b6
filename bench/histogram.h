/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log-linear histogram: 256 buckets an octave, so a bucket is at most 0.4 % wide. Values are whatever the caller counts
 * in. It is flat memory without pointers, so that it can lie in a shared mapping; all zeros is an empty one.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 8
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline uint32_t histogram_bucket(uint64_t value)
{
	if (value < 1u << HISTOGRAM_SUB_BITS)
		return (uint32_t)value;
	uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	uint32_t within = (uint32_t)(value >> shift) & ((1u << HISTOGRAM_SUB_BITS) - 1);
	return ((shift + 1) << HISTOGRAM_SUB_BITS) + within;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->count++;
	histogram->buckets[histogram_bucket(value)]++;
	if (value > histogram->max)
		histogram->max = value;
}

/* Adds all values of `from`. */
void histogram_merge(struct histogram *histogram, const struct histogram *from);

/* The value below which `share` (0 to 1) of all values lie, interpolated within its bucket; 0 if there are none. */
double histogram_quantile(const struct histogram *histogram, double share);

/* Where a bucket ends: every value in it lies below. */
double histogram_bound(uint32_t bucket);

#endif
