/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and rounds. */
#include "schedule.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rival.h"
#include "ticks.h"

#define TRIAL_REPETITIONS 512u /* of the first, unrecorded run, which says how many fill the time */
#define TRIAL_STREAM      8192u
#define TRIAL_ASLEEP      64u
#define TRIAL_BYTES       (16u << 20) /* and no more of large messages */
#define LEAST_REPETITIONS 256u
#define LEAST_LARGE       16u
#define WARM_UP_DIVISOR   10
#define MOST_TIMES        2            /* as long as planned: then a run is cut short */
#define LIMIT_NS          10000000000u /* beside the time that a run should take, ten times over */

/* What all of it knows. */
struct schedule {
	const struct schedule_options *options;
	const struct machine *machine;
	struct pair *pair;
	struct case_figures *cases;
	uint64_t end_ns;
};

/*
 * What sleeps runs equally long wherever it is compared: a CPU that has long been halted again and again takes longer to
 * come back than one that has not.
 */
static bool is_as_long(const struct bench_case *of)
{
	return of->kind == CASE_ROUND_TRIP && of->waiting == CASE_SLEEPS;
}

static double seconds_of(const struct schedule_options *options, const struct bench_case *of)
{
	switch (of->turns) {
	case CASE_ONE_ROUND:
		return options->once_seconds;
	case CASE_SOME_ROUNDS:
		return is_as_long(of) ? options->seconds : options->seconds / 2;
	default:
		return options->seconds;
	}
}

/* A crowd has a CPU each where there are as many; on two CPUs, two of them share one. */
static int sides_of(const struct machine *machine, const struct bench_case *of)
{
	int members = machine->cpu_count - 1;

	if (of->kind != CASE_CROWD || of->alone)
		return 2;
	if (members < 2)
		return 3;
	return members < PAIR_MOST_SIDES ? members + 1 : PAIR_MOST_SIDES;
}

static bool has_threads(const struct bench_case *of)
{
	return of->rival && rival_find(of->rival)->has_threads;
}

static void place(struct pair_plan *plan, const struct machine *machine)
{
	int others = machine->cpu_count - 1;

	plan->sides = sides_of(machine, plan->of);
	plan->cpus[0] = machine->cpus[0];
	for (int i = 1; i < plan->sides; i++)
		plan->cpus[i] = others > 0 ? machine->cpus[1 + (i - 1) % others] : machine->cpus[0];
	for (int i = 0; i < 2; i++)
		plan->helper_cpus[i] = has_threads(plan->of) && machine->cpu_count >= 4 ? machine->cpus[2 + i] : -1;
}

static struct pair_plan plan_for(const struct schedule *schedule, const struct bench_case *of)
{
	double seconds = seconds_of(schedule->options, of);
	uint32_t rate_hz = schedule->options->rate_hz ? schedule->options->rate_hz : of->rate_hz;
	struct pair_plan plan = {
		.of = of,
		.most_ns = (uint64_t)(seconds * 1e9 * MOST_TIMES),
		.idle_ns = (uint64_t)(seconds * 1e9),
		.interval_ns = of->kind == CASE_OPEN ? 1000000000u / rate_hz : 0,
		.limit_ns = LIMIT_NS + (uint64_t)(seconds * 1e10),
	};

	place(&plan, schedule->machine);
	return plan;
}

/* Whole blocks of a stream, whole pairs of groups of round trips. */
static uint64_t round_up(const struct bench_case *of, uint64_t repetitions)
{
	uint64_t step = of->kind == CASE_ROUND_TRIP ? 2 * PAIR_GROUP : of->kind == CASE_STREAM ? CASE_STREAM_BLOCK : 1;

	return (repetitions + step - 1) / step * step;
}

static void set_repetitions(struct pair_plan *plan, uint64_t repetitions)
{
	plan->repetitions = round_up(plan->of, repetitions);
	plan->warm_up = round_up(plan->of, repetitions / WARM_UP_DIVISOR + 1);
}

static uint64_t trial_repetitions(const struct bench_case *of)
{
	uint64_t most = of->bytes > 0 ? TRIAL_BYTES / of->bytes : UINT64_MAX;
	uint64_t wanted = TRIAL_STREAM;

	if (of->kind == CASE_ROUND_TRIP)
		wanted = of->waiting == CASE_SLEEPS ? TRIAL_ASLEEP : TRIAL_REPETITIONS;
	if (of->kind == CASE_ROUND_TRIP || wanted < most)
		return wanted;
	return most;
}

/*
 * How many repetitions fill the time, going by the fastest run so far: at a busy moment they take longer, and should
 * not be fewer from then on. Of a stream the receiver's time counts, of a crowd that of the one.
 */
static void plan_repetitions(
	const struct schedule *schedule, const struct pair_result *result, struct case_figures *figures)
{
	const struct bench_case *of = figures->of;
	double least = of->kind == CASE_SIZE ? LEAST_LARGE : LEAST_REPETITIONS;
	uint64_t measured_ns = result->sides[of->kind == CASE_CROWD ? 0 : 1].measured_ns;
	double each_ns = (double)measured_ns / (double)result->repetitions;
	double wanted = seconds_of(schedule->options, of) * 1e9 / (each_ns > 1 ? each_ns : 1);

	wanted = wanted > least ? wanted : least;
	if ((double)figures->repetitions < wanted)
		figures->repetitions = (uint64_t)wanted;
}

/* A short run that also brings code and memory in. */
static int try_case(const struct schedule *schedule, struct case_figures *figures)
{
	const struct bench_case *of = figures->of;
	struct pair_plan plan = plan_for(schedule, of);
	struct pair_result result;

	set_repetitions(&plan, trial_repetitions(of));
	int error = pair_run(schedule->pair, &plan, &result, figures->reason);
	if (error)
		return error;
	plan_repetitions(schedule, &result, figures);
	return 0;
}

static int run_case(const struct schedule *schedule, struct case_figures *figures, uint32_t round)
{
	struct pair_plan plan = plan_for(schedule, figures->of);
	struct pair_result result;

	set_repetitions(&plan, figures->repetitions);
	int error = pair_run(schedule->pair, &plan, &result, figures->reason);
	if (error)
		return error;
	if (plan.of->kind != CASE_OPEN && plan.of->kind != CASE_IDLE)
		plan_repetitions(schedule, &result, figures);
	error = figures_take(figures, round, &plan, &result);
	if (error)
		snprintf(figures->reason, sizeof figures->reason, "messages were lost, or came twice");
	return error;
}

/* Only what cannot be known beforehand has to be tried. */
static int prepare(const struct schedule *schedule, struct case_figures *figures)
{
	const struct bench_case *of = figures->of;

	figures->members = sides_of(schedule->machine, of) - 1;
	if (of->kind == CASE_IDLE)
		return 0;
	if (of->kind != CASE_OPEN)
		return try_case(schedule, figures);
	figures->rate_hz = schedule->options->rate_hz ? schedule->options->rate_hz : of->rate_hz;
	figures->repetitions = (uint64_t)(seconds_of(schedule->options, of) * figures->rate_hz) + 1;
	return 0;
}

/* Whether what takes that long would end too late. */
static bool is_late(const struct schedule *schedule, uint64_t takes_ns)
{
	return ticks_monotonic_ns() + takes_ns > schedule->end_ns;
}

/* Prepares every case, and runs those that run once. */
static int prepare_case(const struct schedule *schedule, struct case_figures *figures)
{
	int error = prepare(schedule, figures);

	if (error == 0 && figures->of->turns == CASE_ONE_ROUND)
		error = run_case(schedule, figures, 1);
	return error;
}

/*
 * Runs a round, a full one or only what every round has; round 0 is before the first. The first is run whole, others as
 * long as there is time. Returns 0 or -EINTR.
 */
static int run_round(const struct schedule *schedule, uint32_t round, bool full)
{
	for (size_t i = 0; i < bench_case_count; i++) {
		struct case_figures *figures = &schedule->cases[i];
		enum case_turns turns = figures->of->turns;

		if (!figures->wanted || figures->skipped || figures->error)
			continue;
		if (round > 1 && is_late(schedule, 0))
			return 0;
		if (round == 0)
			figures->error = prepare_case(schedule, figures);
		else if (turns == CASE_EVERY_ROUND || (turns == CASE_SOME_ROUNDS && full))
			figures->error = run_case(schedule, figures, round);
		if (figures->error == -EINTR)
			return -EINTR;
	}
	return 0;
}

/*
 * Rounds until there are enough, or until the next one would take too long, going by the last of its sort. Where a full
 * one would, there may be time for one that is not.
 */
static int run_rounds(const struct schedule *schedule)
{
	const struct schedule_options *options = schedule->options;
	uint64_t took_ns[2] = {0};
	int error = run_round(schedule, 0, true);

	for (uint32_t round = 1; round <= options->rounds && error == 0; round++) {
		uint64_t begin_ns = ticks_monotonic_ns();
		bool full = (round - 1) % options->some_rounds == 0;

		if (full && is_late(schedule, took_ns[full]))
			full = false;
		if (round > 1 && is_late(schedule, took_ns[full]))
			break;
		if (options->progress)
			fprintf(stderr, "\rround %u of %u ", round, options->rounds);
		error = run_round(schedule, round, full || round == 1);
		took_ns[full] = ticks_monotonic_ns() - begin_ns;
	}
	if (options->progress)
		fprintf(stderr, "\r                  \r");
	return error;
}

static void skip(struct case_figures *figures, const char *reason, const char *detail)
{
	figures->skipped = true;
	snprintf(figures->reason, sizeof figures->reason, "%s%s", reason, detail);
}

/* A backend of the poller may not be there: an old kernel, a container's filter. */
static bool skip_poller(struct case_figures *figures)
{
	struct sluice_poller_options options = {.size = sizeof options, .backend = figures->of->poller};
	bool uring = options.backend == SLUICE_POLLER_IO_URING;
	struct sluice_poller *poller = NULL;

	if (sluice_poller_create(&options, &poller) != -ENOTSUP) {
		sluice_poller_destroy(poller);
		return false;
	}
	if (uring && !BENCH_HAVE_LIBURING)
		skip(figures, "not there when this was built: ", "liburing-dev");
	else
		skip(figures, "the system has or allows no ", uring ? "io_uring with futexes" : "futex_waitv");
	return true;
}

static void skip_senseless(const struct machine *machine, struct case_figures *figures)
{
	const struct bench_case *of = figures->of;
	const struct rival *rival = of->rival ? rival_find(of->rival) : NULL;

	if (of->poller && skip_poller(figures))
		return;
	if (rival && !rival->version)
		skip(figures, "not there when this was built: ", rival->package);
	else if (of->waiting == CASE_SPINS && machine->cpu_count < 2)
		skip(figures, "spins, so it needs two CPUs", "");
	else if (of->waiting == CASE_SPINS && rival && rival->has_threads && machine->cpu_count < 4)
		skip(figures, "would spin in the way of its own threads: needs four CPUs", "");
}

int schedule_run(const struct schedule_options *options, const struct machine *machine, struct case_figures *cases)
{
	uint64_t end_ns = ticks_monotonic_ns() + (uint64_t)(options->most_seconds * 1e9);
	struct schedule schedule = {options, machine, NULL, cases, end_ns};
	int error = pair_new(&schedule.pair);

	if (error)
		return error;
	for (size_t i = 0; i < bench_case_count; i++)
		skip_senseless(machine, &cases[i]);
	error = run_rounds(&schedule);
	figures_sum_up(cases);
	pair_free(schedule.pair);
	return error;
}
