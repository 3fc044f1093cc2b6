/* SPDX-License-Identifier: Apache-2.0 */
/* The table of targets, and verdicts. */
#include "target.h"

#define MANY_CPUS 16 /* target 7: a CPU for each of 15 producers and their consumer */

const struct bench_target bench_targets[] = {
	{1, "round trip 64 B, spinning, against a cache line", TARGET_RATIO, "roundtrip-64", "line", 1.5, 2},
	{2, "round trip 8 KiB, spinning, against buffer and flag", TARGET_RATIO, "roundtrip-8k", "buffer-8k", 1.1, 2},
	{3, "4 MiB untouched against 4 KiB untouched", TARGET_RATIO, "untouched-4m", "untouched-4k", 1.05, 2},
	{4, "round trip 64 B, sleeping, against a futex", TARGET_RATIO, "sleep-64", "futex", 1.1, 2},
	{5, "CPU of 8 idle channels, share of one core", TARGET_CPU, "idle", NULL, 0.001, 1},
	{5, "wake-ups of 8 idle channels a second", TARGET_WAKE_UPS, "idle", NULL, 10, 1},
	{6, "one-way 64 B one by one, against a bare ring", TARGET_RATIO, "stream-64", "ring", 2.5, 2},
	{6, "one-way 64 B in batches, against a bare ring", TARGET_RATIO, "stream-64-batch", "ring", 1.5, 2},
	{6, "one-way 64 B, times as fast as ZeroMQ ipc", TARGET_SPEEDUP, "stream-64-block", "zeromq-stream", 10, 2},
	{7, "many producers, a message's time against one's", TARGET_RATIO, "gather", "gather-one", 1, MANY_CPUS},
	{7, "many producers, fastest by slowest", TARGET_FAIRNESS, "gather", NULL, 1.2, MANY_CPUS},
	{12, "sampled stamps, round trip 8 KiB, against none", TARGET_RATIO, "roundtrip-8k", "unstamped-8k", 1.03, 2},
	{12, "sampled stamps, one-way 64 B, against none", TARGET_RATIO, "stream-64", "stream-unstamped", 1.1, 2},
};

const size_t bench_target_count = sizeof bench_targets / sizeof *bench_targets;

static double figure_of(const struct bench_target *target, const struct case_figures *of)
{
	switch (target->figure) {
	case TARGET_CPU:
		return of->cpu_share;
	case TARGET_WAKE_UPS:
		return of->wake_ups;
	case TARGET_FAIRNESS:
		return of->all.unfairness;
	default:
		return of->all.typical;
	}
}

struct verdict target_verdict(
	const struct bench_target *target, const struct machine *machine, const struct case_figures *cases)
{
	const struct case_figures *of = figures_find(cases, target->of);
	const struct case_figures *other = target->against ? figures_find(cases, target->against) : NULL;
	struct verdict verdict = {0};
	struct ratio ratio = {0};

	if (!of || (target->against && !other))
		return verdict;
	if (other)
		ratio = target->figure == TARGET_SPEEDUP ? figures_ratio(other, of) : figures_ratio(of, other);
	if (other && ratio.median == 0)
		return verdict;
	verdict.known = true;
	verdict.judged = machine->cpu_count >= target->least_cpus;
	verdict.value = figure_of(target, of);
	verdict.limit = other ? other->all.typical : 0;
	verdict.ratio = ratio.median;
	double judged = other ? verdict.ratio : verdict.value;
	verdict.met = target_is_lower_bound(target) ? judged >= target->bound : judged <= target->bound;
	return verdict;
}
