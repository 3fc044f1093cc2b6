/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two pinned processes that run one case together: forked, started by a barrier, watched, ended.
 *
 * Each of the two is a side. A side's function opens what it needs, calls side_start, runs its loop, calls side_finish and
 * closes. Results come back through a shared anonymous mapping. The parent only waits: for both to exit, for one to die,
 * or for the time limit, after which it kills both.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define PAIR_CHANNEL_BYTES 48
#define PAIR_REASON_BYTES  160
#define PAIR_SCRATCH_BYTES (1u << 20)
#define PAIR_LINE          128 /* distance of words with different writers: adjacent lines are fetched together */

#define PAIR_GROUP 32 /* repetitions are a multiple of it */

/* What a side records, in ticks. */
enum pair_histogram {
	PAIR_SINGLE,  /* one repetition a value, or one block of messages */
	PAIR_GROUPED, /* PAIR_GROUP repetitions or blocks a value */
	PAIR_HISTOGRAMS
};

struct bench_case;
struct pair_shared;

/* One of the two processes, as it sees the run. */
struct side {
	const struct bench_case *of;
	struct pair_shared *shared;
	int cpu;
	int index;            /* 0 or 1 */
	uint64_t warm_up;     /* repetitions before the measured ones */
	uint64_t repetitions; /* measured */
	uint64_t idle_ns;     /* how long an idle case looks on */
	const char *channel;  /* name of this run's channels, to which a case adds what it needs */
	void *scratch;        /* PAIR_SCRATCH_BYTES of zeroed shared memory, page-aligned, for cases without Sluice */
	struct histogram *histograms; /* PAIR_HISTOGRAMS of them, written by one side only */
};

/* What one side leaves behind. */
struct side_result {
	int error;
	char reason[PAIR_REASON_BYTES];
	uint64_t measured_ns; /* from start to finish */
	uint64_t cpu_ns;      /* of that, on a CPU */
	uint64_t waits;       /* voluntary context switches in that time: sleeps, so wake-ups */
	uint64_t preemptions; /* involuntary ones: somebody else had the CPU */
};

/* What to run. */
struct pair_plan {
	const struct bench_case *of;
	int cpus[2];
	uint64_t warm_up;
	uint64_t repetitions;
	uint64_t idle_ns;
	uint64_t limit_ns;
};

/* One run's results; `histograms` are the pair's and are overwritten by the next run. */
struct pair_result {
	const struct histogram *histograms;
	struct side_result sides[2];
};

struct pair;

/* Makes a pair for any number of runs, one after another. `*ret_pair` is the caller's: pair_free. Returns 0 or -errno. */
int pair_new(struct pair **ret_pair);
void pair_free(struct pair *pair);

/*
 * Runs one case. `reason` (PAIR_REASON_BYTES) says what went wrong if something did. Returns 0, a side's error,
 * -ETIMEDOUT (killed at the limit), -ECHILD (a side died), -EINTR (interrupted from the keyboard), or what fork gave.
 */
int pair_run(struct pair *pair, const struct pair_plan *plan, struct pair_result *ret_result, char *reason);

/* For sides: waits until both have come here as often. Called by side_start and side_finish. */
void side_meet(struct side *side);

/* For sides: both are open and ready; from here on time and CPU count, until side_finish. Safe to call again later. */
void side_start(struct side *side);
void side_finish(struct side *side);

/* For sides: notes which call failed and returns `error`. */
int side_fail(struct side *side, int error, const char *call);

#endif
