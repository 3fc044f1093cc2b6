/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: which figure of which case, against what, has to be how good; and whether it is. */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include "machine.h"
#include "schedule.h"

enum target_figure {
	TARGET_RATIO,    /* typical time of the case divided by that of the other, at most */
	TARGET_SPEEDUP,  /* typical time of the other divided by that of the case, at least */
	TARGET_FAIRNESS, /* fastest by slowest member of a crowd, at most */
	TARGET_CPU,      /* share of one core, at most */
	TARGET_WAKE_UPS  /* a second, at most */
};

struct bench_target {
	int id; /* number of the target; several lines may share one */
	const char *what;
	enum target_figure figure;
	const char *of;      /* name of a case */
	const char *against; /* name of another, for a ratio or a speed-up */
	double bound;
	int least_cpus; /* it is not judged with fewer */
};

extern const struct bench_target bench_targets[];
extern const size_t bench_target_count;

/* A target's outcome. */
struct verdict {
	bool known;  /* what it needs was run */
	bool judged; /* on a machine for which the target is meant */
	bool met;
	double value; /* nanoseconds, share, number a second or fastest by slowest */
	double limit; /* nanoseconds of the other case; 0 where there is none */
	double ratio; /* 0 where there is no limit */
};

struct verdict target_verdict(
	const struct bench_target *target, const struct machine *machine, const struct case_figures *cases);

static inline bool target_is_lower_bound(const struct bench_target *target)
{
	return target->figure == TARGET_SPEEDUP;
}

#endif
