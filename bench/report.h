/* SPDX-License-Identifier: Apache-2.0 */
/* What a run says: a table for people, JSON for programs. Both show the same figures. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdio.h>

#include "instructions.h"
#include "machine.h"
#include "schedule.h"

struct report {
	const struct machine *machine;
	const struct schedule_options *options;
	const struct case_figures *cases;        /* bench_case_count of them */
	const struct instructions *instructions; /* NULL: not asked for */
};

void report_table(const struct report *report, FILE *out);

/* The table's part about instruction counts, alone. */
void report_instructions(const struct instructions *instructions, FILE *out);

/* Returns 0 or -ENOMEM. */
int report_json(const struct report *report, FILE *out);

static inline const char *report_waiting(const struct bench_case *of)
{
	static const char *const words[] = {[CASE_SPINS] = "spin", [CASE_SLEEPS] = "sleep", [CASE_BLOCKS] = "block"};

	return words[of->waiting];
}

static inline const char *report_poller(const struct bench_case *of)
{
	return of->poller == SLUICE_POLLER_IO_URING ? "io_uring" : "thread";
}

#endif
