/* SPDX-License-Identifier: Apache-2.0 */
#include "series.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct {
	bool json;
	bool first;
} report;

/* ---- times ---- */

uint64_t series_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void series_add(struct series *series, uint64_t began)
{
	if (series->count < SERIES_MOST)
		series->ns[series->count++] = series_now() - began;
}

static int by_size(const void *left, const void *right)
{
	const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

uint64_t series_percentile(struct series *series, unsigned percent)
{
	if (series->count == 0)
		return 0;
	qsort(series->ns, series->count, sizeof series->ns[0], by_size);
	return series->ns[(series->count - 1) * percent / 100];
}

/* ---- report ---- */

static const char *comma(void)
{
	const char *text = report.first ? "" : ",\n";

	report.first = false;
	return text;
}

void report_begin(bool json, const char *device, uint32_t driver_version, bool standin)
{
	report.json = json;
	report.first = true;
	if (json) {
		printf("{\"device\": \"%s\", \"driver\": %u, \"standin\": %s, \"results\": [\n", device, driver_version,
			standin ? "true" : "false");
		return;
	}
	printf("%s, driver of CUDA %u.%u\n", device, driver_version / 1000, driver_version % 1000 / 10);
	if (standin)
		printf("This is the tests' driver: the figures below say that the benchmark runs, and nothing else.\n");
}

void report_title(const char *title)
{
	if (!report.json)
		printf("\n%s\n%-44s %10s %10s %10s\n", title, "", "p50 us", "p99 us", "GB/s");
}

void report_series(struct series *series, bool rate)
{
	const uint64_t p50 = series_percentile(series, 50), p99 = series_percentile(series, 99);

	if (report.json) {
		printf("%s{\"name\": \"%s\", \"bytes\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"count\": %zu}",
			comma(), series->name, (unsigned long long)series->bytes, (unsigned long long)p50,
			(unsigned long long)p99, series->count);
		return;
	}
	printf("  %-42s %10.1f %10.1f", series->name, (double)p50 / 1e3, (double)p99 / 1e3);
	if (rate && p50 != 0)
		printf(" %10.1f", (double)series->bytes / (double)p50);
	putchar('\n');
}

bool report_ratio(const char *what, double ratio, bool at_most, double limit)
{
	const bool met = at_most ? ratio <= limit : ratio >= limit;

	if (report.json)
		printf("%s{\"target\": \"%s\", \"ratio\": %.4f, \"%s\": %.3f, \"met\": %s}", comma(), what, ratio,
			at_most ? "at_most" : "at_least", limit, met ? "true" : "false");
	else
		printf("  %-42s %10.3f   %s %.2f: %s\n", what, ratio, at_most ? "at most" : "at least", limit,
			met ? "met" : "MISSED");
	return met;
}

void report_left_out(const char *what, const char *why)
{
	if (report.json)
		printf("%s{\"left_out\": \"%s\", \"why\": \"%s\"}", comma(), what, why);
	else
		printf("  %s: left out, because %s\n", what, why);
}

void report_end(void)
{
	if (report.json)
		printf("\n]}\n");
}
