/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running cases in rounds: every round runs every case once, for a short time, so that a machine that gets slower or busier,
 * or whose host moves its virtual CPUs to other cores, does so for all of them. A typical time is the median of its rounds;
 * a ratio is taken within each round, then its median; percentiles are of all rounds together.
 */
#ifndef BENCH_SCHEDULE_H
#define BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "case.h"
#include "machine.h"
#include "pair.h"

#define SCHEDULE_MOST_ROUNDS 64

struct schedule_options {
	uint32_t rounds;     /* 1 to SCHEDULE_MOST_ROUNDS */
	double seconds;      /* of each case in each round */
	double idle_seconds; /* of the idle case, which runs once */
	double most_seconds; /* in all: no further round starts after that */
	bool progress;       /* say on standard error which round it is */
};

/* Times of a case in nanoseconds, of one round or of all. */
struct figures {
	double typical; /* see read_typical */
	double p50;
	double p99;
	double p999;
	double max;
};

/* A case's ratio to its limit: median, first and last decile of its rounds. All 0 if there is none. */
struct ratio {
	double median;
	double low;
	double high;
};

/* All rounds of a case. */
struct case_figures {
	const struct bench_case *of;
	bool wanted;
	bool skipped; /* with `reason`; no error */
	int error;    /* with `reason` */
	char reason[PAIR_REASON_BYTES];
	uint32_t rounds; /* that were run */
	struct figures each[SCHEDULE_MOST_ROUNDS];
	struct figures all;       /* `typical` is the median of rounds */
	struct histogram singles; /* of all rounds, ticks */
	struct ratio ratio;
	uint64_t repetitions; /* of one round */
	uint64_t waits;       /* in all rounds, of both processes: how often one slept */
	uint64_t preemptions; /* in all rounds, of both processes: somebody else had the CPU */
	double cpu_share;     /* idle */
	double wake_ups;      /* idle: a second */
};

/* A target's outcome. */
struct verdict {
	bool known; /* what it needs was run */
	bool met;
	double value; /* nanoseconds, share or number a second */
	double limit; /* nanoseconds; 0 where there is none */
	double ratio; /* 0 where there is no limit */
};

/*
 * Runs all wanted cases. `cases` has bench_case_count members, in the table's order; a case that fails has its reason
 * noted and is not run again. Returns 0 or what made going on senseless: no memory, interrupted.
 */
int schedule_run(const struct schedule_options *options, const struct machine *machine, struct case_figures *cases);

/* How many rounds were run. */
uint32_t schedule_rounds(const struct case_figures *cases);

/* The figures of the case of that name, or NULL if there are none. */
const struct case_figures *schedule_figures(const struct case_figures *cases, const char *name);

struct verdict schedule_verdict(const struct bench_target *target, const struct case_figures *cases);

#endif
