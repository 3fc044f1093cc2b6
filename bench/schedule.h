/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running cases in rounds: every round runs every case for a short time, so that a machine that gets slower or busier,
 * or whose host moves its virtual CPUs to other cores, does so for all of them. Some cases take part in one of several
 * rounds only, and then all of these do in the same round.
 */
#ifndef BENCH_SCHEDULE_H
#define BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "figures.h"
#include "machine.h"

struct schedule_options {
	uint32_t rounds;      /* 1 to FIGURES_MOST_ROUNDS */
	uint32_t some_rounds; /* CASE_SOME_ROUNDS: one of as many */
	double seconds;       /* of each case in each round */
	double once_seconds;  /* of a case that runs in one round only */
	double most_seconds;  /* in all: no further round starts that would not end by then */
	uint32_t rate_hz;     /* of open loops; 0: each case's own */
	bool progress;        /* say on standard error which round it is */
};

/*
 * Runs all wanted cases. `cases` has bench_case_count members, in the table's order; a case that fails has its reason
 * noted and is not run again. Returns 0 or what made going on senseless: no memory, interrupted.
 */
int schedule_run(const struct schedule_options *options, const struct machine *machine, struct case_figures *cases);

#endif
