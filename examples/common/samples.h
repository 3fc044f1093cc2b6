/* SPDX-License-Identifier: Apache-2.0 */
/* Durations: every one is kept, so that percentiles are exact, and printed in units that a person can read. */
#ifndef EXAMPLES_SAMPLES_H
#define EXAMPLES_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

struct samples {
	uint64_t *values_ns;
	size_t count;
	size_t capacity;
};

#define SAMPLES_TEXT_BYTES 16

/* Adds one duration. Returns 0 or -ENOMEM. */
int samples_add(struct samples *samples, uint64_t value_ns);

/* To be called once, after the last samples_add and before the first samples_percentile. */
void samples_sort(struct samples *samples);

/* The smallest sample that `percent` of all samples do not exceed (nearest rank); 0 if there are none. */
uint64_t samples_percentile(const struct samples *samples, unsigned percent);

void samples_free(struct samples *samples);

/* Writes a duration as "812 ns", "12.3 us", "4.56 ms" or "1.20 s" into `ret_text` and returns it. */
const char *samples_duration(uint64_t value_ns, char ret_text[SAMPLES_TEXT_BYTES]);

#endif
