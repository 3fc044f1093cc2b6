/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds, medians and verdicts. */
#include "schedule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "ticks.h"

#define TRIAL_REPETITIONS 512u /* of the first, unrecorded run, which says how many fill the time */
#define LEAST_REPETITIONS 512u
#define WARM_UP_DIVISOR   10
#define LIMIT_NS          20000000000u /* beside the time that a run should take, ten times over */

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof *values, compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Round against round: both were run within a second or two of each other. */
static void take_ratio(const struct case_figures *cases, struct case_figures *figures)
{
	const struct case_figures *limit = figures->of->limit ? schedule_figures(cases, figures->of->limit) : NULL;
	uint32_t rounds = figures->rounds;
	double ratios[SCHEDULE_MOST_ROUNDS];

	if (!limit || rounds == 0 || rounds != limit->rounds)
		return;
	for (uint32_t i = 0; i < rounds; i++)
		ratios[i] = figures->each[i].typical / limit->each[i].typical;
	figures->ratio.median = median(ratios, rounds); /* sorts */
	figures->ratio.low = ratios[rounds / 10];
	figures->ratio.high = ratios[rounds - 1 - rounds / 10];
}

/* Nanoseconds of a recorded value. */
static double unit_of(const struct bench_case *of)
{
	return ticks_clock.ns_per_tick / (of->kind == CASE_STREAM ? STREAM_FRACTION : 1);
}

static struct figures read_histogram(const struct histogram *histogram, double unit)
{
	return (struct figures){
		.p50 = histogram_quantile(histogram, 0.5) * unit,
		.p99 = histogram_quantile(histogram, 0.99) * unit,
		.p999 = histogram_quantile(histogram, 0.999) * unit,
		.max = (double)histogram->max * unit,
	};
}

static void take_all_rounds(struct case_figures *figures)
{
	double typicals[SCHEDULE_MOST_ROUNDS];

	if (figures->rounds == 0)
		return;
	for (uint32_t i = 0; i < figures->rounds; i++)
		typicals[i] = figures->each[i].typical;
	figures->all = read_histogram(&figures->singles, unit_of(figures->of));
	figures->all.typical = median(typicals, figures->rounds);
}

/* The typical time: the median of groups that were stamped as a whole; where there are none (asleep), the p50. */
static double read_typical(const struct bench_case *of, const struct pair_result *result, double p50)
{
	const struct histogram *groups = &result->histograms[PAIR_GROUPED];

	if (groups->count == 0)
		return p50;
	return histogram_quantile(groups, 0.5) * unit_of(of) / (of->kind == CASE_STREAM ? 1 : PAIR_GROUP);
}

static void read_round(const struct pair_plan *plan, const struct pair_result *result, struct case_figures *figures)
{
	const struct histogram *singles = &result->histograms[PAIR_SINGLE];
	struct figures *round = &figures->each[figures->rounds];

	*round = read_histogram(singles, unit_of(plan->of));
	round->typical = read_typical(plan->of, result, round->p50);
	histogram_merge(&figures->singles, singles);
}

static void read_idle(const struct pair_result *result, struct case_figures *figures)
{
	const struct side_result *sides = result->sides;
	double seconds = (double)sides[0].measured_ns / 1e9;
	/* Each process looked on in a sleep of its own: one switch each that is not Sluice's. */
	uint64_t waits = sides[0].waits + sides[1].waits;

	figures->cpu_share = (double)(sides[0].cpu_ns + sides[1].cpu_ns) / 1e9 / seconds;
	figures->wake_ups = waits > 2 ? (double)(waits - 2) / seconds : 0;
}

static struct pair_plan plan_for(
	const struct schedule_options *options, const struct machine *machine, const struct bench_case *of)
{
	struct pair_plan plan = {
		.of = of,
		.cpus = {machine->pinned[0], machine->pinned[1]},
		.idle_ns = (uint64_t)(options->idle_seconds * 1e9),
		.limit_ns = LIMIT_NS,
	};

	plan.limit_ns += (uint64_t)((of->kind == CASE_IDLE ? options->idle_seconds : options->seconds) * 1e10);
	return plan;
}

/* Whole blocks of a stream and whole groups of round trips. */
static uint64_t round_up(uint64_t repetitions)
{
	const uint64_t step = CASE_STREAM_BLOCK;

	_Static_assert(CASE_STREAM_BLOCK % (2 * PAIR_GROUP) == 0, "a block holds whole pairs of groups");
	return (repetitions + step - 1) / step * step;
}

static void set_repetitions(struct pair_plan *plan, uint64_t repetitions)
{
	plan->repetitions = round_up(repetitions);
	plan->warm_up = round_up(repetitions / WARM_UP_DIVISOR);
}

/* How many repetitions fill the time: from a short run that also brings code and memory in. */
static int try_case(struct pair *pair, const struct schedule_options *options, const struct machine *machine,
	struct case_figures *figures)
{
	struct pair_plan plan = plan_for(options, machine, figures->of);
	struct pair_result result;

	set_repetitions(&plan, TRIAL_REPETITIONS);
	int error = pair_run(pair, &plan, &result, figures->reason);
	if (error)
		return error;
	double each_ns = (double)result.sides[1].measured_ns / (double)plan.repetitions;
	double wanted = options->seconds * 1e9 / (each_ns > 1 ? each_ns : 1);
	figures->repetitions = wanted > LEAST_REPETITIONS ? (uint64_t)wanted : LEAST_REPETITIONS;
	return 0;
}

static int run_case(struct pair *pair, const struct schedule_options *options, const struct machine *machine,
	struct case_figures *figures)
{
	struct pair_plan plan = plan_for(options, machine, figures->of);
	struct pair_result result;

	set_repetitions(&plan, figures->repetitions);
	int error = pair_run(pair, &plan, &result, figures->reason);
	if (error)
		return error;
	figures->waits += result.sides[0].waits + result.sides[1].waits;
	figures->preemptions += result.sides[0].preemptions + result.sides[1].preemptions;
	if (figures->of->kind == CASE_IDLE)
		read_idle(&result, figures);
	else
		read_round(&plan, &result, figures);
	figures->rounds++;
	return 0;
}

/* Runs one round of a case; round 0 is the trial. Returns nonzero only for what ends the whole benchmark. */
static int step(struct pair *pair, const struct schedule_options *options, const struct machine *machine,
	struct case_figures *figures, uint32_t round)
{
	bool idle = figures->of->kind == CASE_IDLE;

	if (!figures->wanted || figures->skipped || figures->error || (idle && round != 1))
		return 0;
	figures->error =
		round == 0 ? try_case(pair, options, machine, figures) : run_case(pair, options, machine, figures);
	return figures->error == -EINTR ? -EINTR : 0;
}

static void skip_senseless(const struct machine *machine, struct case_figures *figures)
{
	if (machine->pinned[0] != machine->pinned[1] || figures->of->sleeps)
		return;
	figures->skipped = true;
	snprintf(figures->reason, sizeof figures->reason, "spins, so it needs two CPUs");
}

int schedule_run(const struct schedule_options *options, const struct machine *machine, struct case_figures *cases)
{
	struct pair *pair;
	int error = pair_new(&pair);

	if (error)
		return error;
	for (size_t i = 0; i < bench_case_count; i++)
		skip_senseless(machine, &cases[i]);
	uint64_t end_ns = ticks_monotonic_ns() + (uint64_t)(options->most_seconds * 1e9);
	for (uint32_t round = 0; round <= options->rounds && error == 0; round++) {
		if (round > 1 && ticks_monotonic_ns() >= end_ns)
			break;
		if (options->progress)
			fprintf(stderr, "\rround %u of %u ", round, options->rounds);
		for (size_t i = 0; i < bench_case_count && error == 0; i++)
			error = step(pair, options, machine, &cases[i], round);
	}
	if (options->progress)
		fprintf(stderr, "\r                  \r");
	for (size_t i = 0; i < bench_case_count; i++)
		take_all_rounds(&cases[i]);
	for (size_t i = 0; i < bench_case_count; i++)
		take_ratio(cases, &cases[i]);
	pair_free(pair);
	return error;
}

uint32_t schedule_rounds(const struct case_figures *cases)
{
	uint32_t rounds = 0;

	for (size_t i = 0; i < bench_case_count; i++)
		rounds = cases[i].rounds > rounds ? cases[i].rounds : rounds;
	return rounds;
}

const struct case_figures *schedule_figures(const struct case_figures *cases, const char *name)
{
	const struct case_figures *figures = &cases[case_find(name) - bench_cases];

	return figures->rounds > 0 && figures->error == 0 ? figures : NULL;
}

struct verdict schedule_verdict(const struct bench_target *target, const struct case_figures *cases)
{
	const struct case_figures *of = schedule_figures(cases, target->of);
	struct verdict verdict = {0};

	if (!of || (target->figure == TARGET_RATIO && of->ratio.median == 0))
		return verdict;
	verdict.known = true;
	switch (target->figure) {
	case TARGET_RATIO:
		verdict.value = of->all.typical;
		verdict.limit = schedule_figures(cases, of->of->limit)->all.typical;
		verdict.ratio = of->ratio.median;
		break;
	case TARGET_CPU:
		verdict.value = of->cpu_share;
		break;
	case TARGET_WAKE_UPS:
		verdict.value = of->wake_ups;
		break;
	}
	verdict.met = (target->figure == TARGET_RATIO ? verdict.ratio : verdict.value) <= target->most;
	return verdict;
}
