/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rounds of a case come to. A typical time is the median of its rounds; a ratio of two cases is taken within
 * each round that both took part in, then its median; percentiles are of all rounds together.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "case.h"
#include "pair.h"

#define FIGURES_MOST_ROUNDS 64

/* Times of a case in nanoseconds, of one round or of all. 0: not known, as a p99.9 of few values is not. */
struct figures {
	double typical;
	double p50;
	double p99;
	double p999;
	double max;
	double unfairness; /* crowd: fastest by slowest member; 0 where there is nothing to compare */
};

/* A ratio of two cases: median, first and last decile of rounds. All 0 if there is none. */
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
	uint32_t rounds;                          /* that were run */
	struct figures each[FIGURES_MOST_ROUNDS]; /* `typical` is 0 for a round in which it did not run */
	struct figures all;                       /* `typical` is the median of rounds */
	struct histogram singles;                 /* of all rounds; see figures_unit_ns */
	struct ratio ratio;                       /* to what the case is compared with */
	struct ratio beside;                      /* and to the other, where there is one */
	uint64_t repetitions;                     /* of one round */
	uint32_t rate_hz;                         /* open: messages a second */
	int members;                              /* crowd: on the side of the many */
	uint64_t waits;                           /* in all rounds, of all processes: how often one slept */
	uint64_t preemptions;                     /* in all rounds, of all processes: somebody else had the CPU */
	double cpu_share;                         /* idle */
	double wake_ups;                          /* idle: a second */
};

/* Nanoseconds of a recorded value. */
double figures_unit_ns(const struct bench_case *of);

/* Takes a run's result as round number `round`, from 1. Returns 0 or -EBADMSG: messages are missing in a crowd. */
int figures_take(
	struct case_figures *figures, uint32_t round, const struct pair_plan *plan, const struct pair_result *result);

/* Fills in what concerns all rounds, when there are no more. `cases` has bench_case_count members. */
void figures_sum_up(struct case_figures *cases);

struct ratio figures_ratio(const struct case_figures *of, const struct case_figures *against);

/* The figures of the case of that name, or NULL if there are none. */
const struct case_figures *figures_find(const struct case_figures *cases, const char *name);

/* The most rounds that any case took part in. */
uint32_t figures_rounds(const struct case_figures *cases);

#endif
