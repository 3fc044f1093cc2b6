/* SPDX-License-Identifier: Apache-2.0 */
/* Times of one thing, measured again and again; and the report of all of them. */
#ifndef BENCH_GPU_SERIES_H
#define BENCH_GPU_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIES_MOST 2048

struct series {
	const char *name;
	uint64_t bytes;
	size_t count;
	uint64_t ns[SERIES_MOST];
};

/* CLOCK_MONOTONIC. */
uint64_t series_now(void);
/* Adds the time since `began`. One too many is dropped. */
void series_add(struct series *series, uint64_t began);
/* The value that `percent` of all do not exceed; 0 if there is none. Sorts. */
uint64_t series_percentile(struct series *series, unsigned percent);

/* The report, as a table for people or as one JSON object. */
void report_begin(bool json, const char *device, uint32_t driver_version, bool standin);
void report_title(const char *title);
/* Times, and in GB/s if `rate`. */
void report_series(struct series *series, bool rate);
/* A ratio and what it must be: at most `limit`, or at least. Returns whether it is met. */
bool report_ratio(const char *what, double ratio, bool at_most, double limit);
void report_left_out(const char *what, const char *why);
void report_end(void);

#endif
