/* SPDX-License-Identifier: Apache-2.0 */
/* From histograms and counters to figures: quantiles, medians of rounds, ratios. */
#include "figures.h"

#include <errno.h>
#include <stdlib.h>

#include "stream.h"
#include "ticks.h"

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

double figures_unit_ns(const struct bench_case *of)
{
	if (of->kind == CASE_OPEN)
		return 1;
	return ticks_clock.ns_per_tick / (of->kind == CASE_STREAM ? STREAM_FRACTION : 1);
}

/* Nothing where not one value lies above. */
static double read_quantile(const struct histogram *histogram, double share, double unit)
{
	return (double)histogram->count * (1 - share) < 1 ? 0 : histogram_quantile(histogram, share) * unit;
}

static struct figures read_histogram(const struct histogram *histogram, double unit)
{
	return (struct figures){
		.p50 = histogram_quantile(histogram, 0.5) * unit,
		.p99 = read_quantile(histogram, 0.99, unit),
		.p999 = read_quantile(histogram, 0.999, unit),
		.max = (double)histogram->max * unit,
	};
}

/*
 * The typical time: the median of groups that were stamped as a whole; where there are none (asleep, open), the p50; of
 * what was timed as a whole only, that.
 */
static double read_typical(const struct pair_plan *plan, const struct pair_result *result, double p50)
{
	const struct bench_case *of = plan->of;
	const struct histogram *groups = &result->histograms[PAIR_GROUPED];

	if (of->kind == CASE_SIZE || of->kind == CASE_CROWD)
		return (double)result->sides[of->kind == CASE_SIZE].measured_ns / (double)result->repetitions;
	if (groups->count == 0)
		return p50;
	return histogram_quantile(groups, 0.5) * figures_unit_ns(of) / (of->kind == CASE_STREAM ? 1 : PAIR_GROUP);
}

/* Fastest by slowest; 0 for one member, and for a broadcast, whose members all get everything. */
static double read_unfairness(const struct pair_plan *plan, const struct pair_result *result)
{
	uint64_t least = UINT64_MAX;
	uint64_t most = 0;

	if (plan->of->kind != CASE_CROWD || plan->of->mode == SLUICE_BROADCAST || plan->sides < 3)
		return 0;
	for (int i = 1; i < plan->sides; i++) {
		uint64_t messages = result->sides[i].messages;

		least = messages < least ? messages : least;
		most = messages > most ? messages : most;
	}
	return (double)most / (double)(least > 0 ? least : 1);
}

/* Producers' shares are of the measured messages, consumers' of all that were sent. */
static int check_shares(const struct pair_plan *plan, const struct pair_result *result)
{
	const struct bench_case *of = plan->of;
	uint64_t sum = 0;

	if (of->kind != CASE_CROWD || of->mode == SLUICE_BROADCAST)
		return 0;
	for (int i = 1; i < plan->sides; i++)
		sum += result->sides[i].messages;
	return sum == result->repetitions + (of->run[0] == spread_producer ? result->warm_up : 0) ? 0 : -EBADMSG;
}

static void take_idle(const struct pair_result *result, struct case_figures *figures)
{
	const struct side_result *sides = result->sides;
	double seconds = (double)sides[0].measured_ns / 1e9;
	/* Each process looked on in a sleep of its own: one switch each that is not Sluice's. */
	uint64_t waits = sides[0].waits + sides[1].waits;

	figures->cpu_share = (double)(sides[0].cpu_ns + sides[1].cpu_ns) / 1e9 / seconds;
	figures->wake_ups = waits > 2 ? (double)(waits - 2) / seconds : 0;
}

int figures_take(
	struct case_figures *figures, uint32_t round, const struct pair_plan *plan, const struct pair_result *result)
{
	const struct histogram *singles = &result->histograms[PAIR_SINGLE];
	struct figures *here = &figures->each[round - 1];

	if (check_shares(plan, result) != 0)
		return -EBADMSG;
	figures->rounds++;
	for (int i = 0; i < plan->sides; i++) {
		figures->waits += result->sides[i].waits;
		figures->preemptions += result->sides[i].preemptions;
	}
	if (plan->of->kind == CASE_IDLE) {
		take_idle(result, figures);
		return 0;
	}
	*here = read_histogram(singles, figures_unit_ns(plan->of));
	here->typical = read_typical(plan, result, here->p50);
	here->unfairness = read_unfairness(plan, result);
	histogram_merge(&figures->singles, singles);
	return 0;
}

static void sum_up_rounds(struct case_figures *figures)
{
	double typicals[FIGURES_MOST_ROUNDS];
	double unfair[FIGURES_MOST_ROUNDS];
	uint32_t count = 0;

	for (uint32_t i = 0; i < FIGURES_MOST_ROUNDS; i++) {
		if (figures->each[i].typical == 0)
			continue;
		unfair[count] = figures->each[i].unfairness;
		typicals[count++] = figures->each[i].typical;
	}
	if (count == 0)
		return;
	figures->all = read_histogram(&figures->singles, figures_unit_ns(figures->of));
	figures->all.typical = median(typicals, count);
	figures->all.unfairness = median(unfair, count);
}

/* Round against round: both were run within seconds of each other. */
struct ratio figures_ratio(const struct case_figures *of, const struct case_figures *against)
{
	double ratios[FIGURES_MOST_ROUNDS];
	struct ratio ratio = {0};
	uint32_t count = 0;

	for (uint32_t i = 0; i < FIGURES_MOST_ROUNDS; i++)
		if (of->each[i].typical > 0 && against->each[i].typical > 0)
			ratios[count++] = of->each[i].typical / against->each[i].typical;
	if (count == 0)
		return ratio;
	ratio.median = median(ratios, count); /* sorts */
	ratio.low = ratios[count / 10];
	ratio.high = ratios[count - 1 - count / 10];
	return ratio;
}

static struct ratio ratio_to(const struct case_figures *cases, const struct case_figures *of, const char *name)
{
	const struct case_figures *against = name ? figures_find(cases, name) : NULL;

	return against ? figures_ratio(of, against) : (struct ratio){0};
}

void figures_sum_up(struct case_figures *cases)
{
	for (size_t i = 0; i < bench_case_count; i++)
		sum_up_rounds(&cases[i]);
	for (size_t i = 0; i < bench_case_count; i++) {
		cases[i].ratio = ratio_to(cases, &cases[i], cases[i].of->against);
		cases[i].beside = ratio_to(cases, &cases[i], cases[i].of->beside);
	}
}

const struct case_figures *figures_find(const struct case_figures *cases, const char *name)
{
	const struct case_figures *figures = &cases[case_find(name) - bench_cases];

	return figures->rounds > 0 && figures->error == 0 ? figures : NULL;
}

uint32_t figures_rounds(const struct case_figures *cases)
{
	uint32_t rounds = 0;

	for (size_t i = 0; i < bench_case_count; i++)
		rounds = cases[i].rounds > rounds ? cases[i].rounds : rounds;
	return rounds;
}
