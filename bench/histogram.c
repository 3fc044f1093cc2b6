/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a histogram; adding to one is in the header because it stands in measured loops. */
#include "histogram.h"

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
	histogram->count += from->count;
	if (from->max > histogram->max)
		histogram->max = from->max;
	for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
		histogram->buckets[bucket] += from->buckets[bucket];
}

static double bucket_start(uint32_t bucket)
{
	uint32_t octave = bucket >> HISTOGRAM_SUB_BITS;
	uint32_t within = bucket & ((1u << HISTOGRAM_SUB_BITS) - 1);

	if (octave == 0)
		return within;
	return (double)((uint64_t)((1u << HISTOGRAM_SUB_BITS) + within) << (octave - 1));
}

static double bucket_width(uint32_t bucket)
{
	uint32_t octave = bucket >> HISTOGRAM_SUB_BITS;

	return octave == 0 ? 1.0 : (double)((uint64_t)1 << (octave - 1));
}

double histogram_bound(uint32_t bucket)
{
	return bucket_start(bucket) + bucket_width(bucket);
}

double histogram_quantile(const struct histogram *histogram, double share)
{
	double rank = share * (double)histogram->count;
	double below = 0;

	for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
		double here = (double)histogram->buckets[bucket];

		if (here > 0 && below + here >= rank) {
			double value = bucket_start(bucket) + bucket_width(bucket) * (rank - below) / here;
			return value < (double)histogram->max ? value : (double)histogram->max;
		}
		below += here;
	}
	return 0;
}
