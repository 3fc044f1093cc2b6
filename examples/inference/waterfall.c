/* SPDX-License-Identifier: Apache-2.0 */
/* Durations from a batch's times, and the table of them. */
#include "waterfall.h"

#include <errno.h>

int waterfall_add(struct waterfall *waterfall, const struct waterfall_times *times)
{
	const uint64_t from[WATERFALL_STAGES] = {times->tokenize_begin_ns, times->reserve_ns, times->publish_ns,
		times->receive_ns, times->tokenize_begin_ns, times->tokenize_end_ns};
	const uint64_t to[WATERFALL_STAGES] = {times->tokenize_end_ns, times->publish_ns, times->receive_ns,
		times->done_ns, times->done_ns, times->reserve_ns};

	for (int i = 0; i < WATERFALL_STAGES; i++) {
		if (from[i] == 0 || to[i] < from[i])
			return -EINVAL;
	}
	for (int i = 0; i < WATERFALL_STAGES; i++) {
		if (samples_add(&waterfall->stages[i], to[i] - from[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void print_stage(const struct waterfall *waterfall, enum waterfall_stage stage, const char *name, FILE *output)
{
	const struct samples *samples = &waterfall->stages[stage];
	uint64_t whole = samples_percentile(&waterfall->stages[WATERFALL_TOTAL], 99);
	uint64_t p99 = samples_percentile(samples, 99);
	char text[3][SAMPLES_TEXT_BYTES];

	fprintf(output, "  %-12s %10s %10s %10s %9.1f %%\n", name,
		samples_duration(samples_percentile(samples, 50), text[0]),
		samples_duration(samples_percentile(samples, 95), text[1]), samples_duration(p99, text[2]),
		whole == 0 ? 0 : 100.0 * (double)p99 / (double)whole);
}

void waterfall_print(struct waterfall *waterfall, FILE *output)
{
	static const char *const names[] = {"tokenize", "fill", "queue wait", "inference", "total"};
	const struct samples *room = &waterfall->stages[WATERFALL_ROOM];
	char text[2][SAMPLES_TEXT_BYTES];

	for (int i = 0; i < WATERFALL_STAGES; i++)
		samples_sort(&waterfall->stages[i]);
	fprintf(output, "  %-12s %10s %10s %10s %11s\n", "stage", "p50", "p95", "p99", "share of p99");
	for (int i = WATERFALL_TOKENIZE; i <= WATERFALL_TOTAL; i++)
		print_stage(waterfall, i, names[i], output);
	fprintf(output,
		"  All %zu batches, every one stamped. Fill: ids into the lane, padding, checksums (reserve to "
		"publish).\n"
		"  Inference: checksums again, gather, mean, normalise. Shares are of the total's p99; each stage has "
		"its\n"
		"  own slowest batches, so they need not add up. The total also holds the wait for room: p50 %s, p99 "
		"%s.\n",
		room->count, samples_duration(samples_percentile(room, 50), text[0]),
		samples_duration(samples_percentile(room, 99), text[1]));
}

void waterfall_free(struct waterfall *waterfall)
{
	for (int i = 0; i < WATERFALL_STAGES; i++)
		samples_free(&waterfall->stages[i]);
}
