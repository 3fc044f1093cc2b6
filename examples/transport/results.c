/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles of each way, side by side. */
#include "results.h"

static const unsigned percents[] = {50, 95, 99};
#define PERCENTS (sizeof percents / sizeof *percents)

static void print_row(const struct results *results, const char *receiver, enum way way, FILE *output)
{
	char text[SAMPLES_TEXT_BYTES];

	fprintf(output, "  %-8s  %-15s", receiver, way_is_socket(way) ? "Unix socket" : "Sluice");
	for (int span = 0; span < SPANS; span++) {
		fprintf(output, "%s", span == 0 ? "" : "   ");
		for (size_t i = 0; i < PERCENTS; i++)
			fprintf(output, " %8s",
				samples_duration(samples_percentile(&results->samples[way][span], percents[i]), text));
	}
	fputc('\n', output);
}

static void print_ratio(const struct results *results, enum way above, enum way below, FILE *output)
{
	fprintf(output, "  %-8s  %-15s", "", "socket / Sluice");
	for (int span = 0; span < SPANS; span++) {
		fprintf(output, "%s", span == 0 ? "" : "   ");
		for (size_t i = 0; i < PERCENTS; i++) {
			double ratio = (double)samples_percentile(&results->samples[above][span], percents[i]) /
				       (double)samples_percentile(&results->samples[below][span], percents[i]);

			fprintf(output, " %6.*f x", ratio < 9.95 ? 1 : 0, ratio);
		}
	}
	fputc('\n', output);
}

static void print_pair(
	const struct results *results, const char *receiver, enum way above, enum way below, FILE *output)
{
	if (results->samples[above][0].count == 0)
		return;
	print_row(results, receiver, above, output);
	print_row(results, "", below, output);
	print_ratio(results, above, below, output);
}

void results_print(struct results *results, FILE *output)
{
	for (int way = 0; way < WAYS; way++) {
		for (int span = 0; span < SPANS; span++)
			samples_sort(&results->samples[way][span]);
	}
	fprintf(output, "  %-8s  %-15s %26s    %26s\n", "", "", "handed over to usable", "fill to every byte read");
	fprintf(output, "  %-8s  %-15s %8s %8s %8s    %8s %8s %8s\n", "receiver", "way", "p50", "p95", "p99", "p50",
		"p95", "p99");
	print_pair(results, "sleeps", SOCKET_ASLEEP, SLUICE_ASLEEP, output);
	print_pair(results, "spins", SOCKET_SPINNING, SLUICE_SPINNING, output);
}

void results_free(struct results *results)
{
	for (int way = 0; way < WAYS; way++) {
		for (int span = 0; span < SPANS; span++)
			samples_free(&results->samples[way][span]);
	}
}
