/* SPDX-License-Identifier: Apache-2.0 */
/* A growing array of durations, sorted once. */
#include "samples.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int samples_add(struct samples *samples, uint64_t value_ns)
{
	if (samples->count == samples->capacity) {
		size_t capacity = samples->capacity == 0 ? 1024 : samples->capacity * 2;
		uint64_t *grown = realloc(samples->values_ns, capacity * sizeof *grown);

		if (grown == NULL)
			return -ENOMEM;
		samples->values_ns = grown;
		samples->capacity = capacity;
	}
	samples->values_ns[samples->count++] = value_ns;
	return 0;
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left;
	uint64_t b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

void samples_sort(struct samples *samples)
{
	if (samples->count > 0)
		qsort(samples->values_ns, samples->count, sizeof *samples->values_ns, compare);
}

uint64_t samples_percentile(const struct samples *samples, unsigned percent)
{
	size_t rank = (samples->count * percent + 99) / 100;

	if (samples->count == 0)
		return 0;
	return samples->values_ns[rank == 0 ? 0 : rank - 1];
}

void samples_free(struct samples *samples)
{
	free(samples->values_ns);
	*samples = (struct samples){0};
}

/* Three figures that count, whatever the size. */
static int decimals(double value)
{
	if (value < 9.995)
		return 2;
	return value < 99.95 ? 1 : 0;
}

const char *samples_duration(uint64_t value_ns, char ret_text[SAMPLES_TEXT_BYTES])
{
	static const char *const units[] = {"us", "ms", "s"};
	double value = (double)value_ns / 1000;
	int unit = 0;

	if (value_ns < 1000) {
		snprintf(ret_text, SAMPLES_TEXT_BYTES, "%u ns", (unsigned)value_ns);
		return ret_text;
	}
	while (value >= 999.5 && unit < 2) {
		value /= 1000;
		unit++;
	}
	snprintf(ret_text, SAMPLES_TEXT_BYTES, "%.*f %s", decimals(value), value, units[unit]);
	return ret_text;
}
