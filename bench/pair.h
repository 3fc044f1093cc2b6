/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two pinned processes that run one case together, or in a crowd one and several: forked, started by a barrier,
 * watched, ended.
 *
 * Each of them is a side. A side's function opens what it needs, calls side_start, runs its loop, calls side_finish and
 * closes. Results come back through a shared anonymous mapping. The parent only waits: for all to exit, for one to die,
 * or for the time limit, after which it kills all.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define PAIR_MOST_SIDES    16
#define PAIR_CHANNEL_BYTES 48
#define PAIR_REASON_BYTES  160
#define PAIR_SCRATCH_BYTES (1u << 20)
#define PAIR_LINE          128 /* distance of words with different writers: adjacent lines are fetched together */

#define PAIR_GROUP 32 /* repetitions are a multiple of it */

/* What a side records, in ticks; an open loop in nanoseconds. */
enum pair_histogram {
	PAIR_SINGLE,  /* one repetition a value, or one block of messages */
	PAIR_GROUPED, /* PAIR_GROUP repetitions or blocks a value */
	PAIR_HISTOGRAMS
};

struct bench_case;
struct pair_shared;

/* One of the processes, as it sees the run. */
struct side {
	const struct bench_case *of;
	struct pair_shared *shared;
	int index;         /* from 0 */
	int sides;         /* how many there are */
	uint64_t *warm_up; /* shared, as is the next: see side_warm_up and side_total */
	uint64_t *total;
	uint64_t most_ns;     /* of the warm-up and of the measured part, each: then it is cut short */
	uint64_t end_ns;      /* when that is */
	uint64_t idle_ns;     /* how long an idle case looks on */
	uint64_t interval_ns; /* open: from one message to the next */
	const char *channel;  /* name of this run's channels, to which a case adds what it needs */
	void *scratch;        /* PAIR_SCRATCH_BYTES of zeroed shared memory, page-aligned, for cases without Sluice */
	int signals[2]; /* each side's event descriptor, by index: both sides have both, for cases without Sluice */
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
	uint64_t messages;    /* crowd: this member's share of the measured ones */
};

/* What to run. */
struct pair_plan {
	const struct bench_case *of;
	int sides;
	int cpus[PAIR_MOST_SIDES];
	int helper_cpus[2]; /* of the first two sides, for threads of a rival's library; -1 for none */
	uint64_t warm_up;
	uint64_t repetitions; /* measured, at most */
	uint64_t most_ns;     /* of the measured part: what was planned at a quiet moment may take long at another */
	uint64_t idle_ns;
	uint64_t interval_ns;
	uint64_t limit_ns; /* of everything: then the sides are killed */
};

/* One run's results; `histograms` are the pair's and are overwritten by the next run. */
struct pair_result {
	const struct histogram *histograms;
	uint64_t warm_up;
	uint64_t repetitions; /* measured */
	struct side_result sides[PAIR_MOST_SIDES];
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

/* For sides: waits until all have come here as often. Called by side_start and side_finish. */
void side_meet(struct side *side);

/* For sides: time and CPU count from here on, or until here. The first may be called again later. */
void side_start_clock(struct side *side);
void side_stop_clock(struct side *side);

/* For sides: all are open and ready, and the clock starts; or the clock stops, and all are through. */
void side_start(struct side *side);
void side_finish(struct side *side);

/* For sides: the same moment for all, a little later than now, CLOCK_MONOTONIC. Meets. */
uint64_t side_agree(struct side *side);

/*
 * For sides: repetitions before the measured ones, and all of them. Both may go down, but not below what was begun.
 * Loads may be relaxed: whoever cuts them then sends a message, which orders them.
 */
static inline uint64_t side_warm_up(const struct side *side)
{
	return __atomic_load_n(side->warm_up, __ATOMIC_RELAXED);
}

static inline uint64_t side_total(const struct side *side)
{
	return __atomic_load_n(side->total, __ATOMIC_RELAXED);
}

/*
 * For the side that goes ahead: asked now and then, before it begins repetition `done`, cuts repetitions short when
 * time is up. `step` more are then run: as many as lie between two such questions.
 */
void side_check_time(struct side *side, uint64_t done, uint64_t step);

/* Repetitions of a stream between two such questions: a reading of the clock should not be seen in them. */
static inline uint64_t side_step(size_t bytes)
{
	return bytes < 4096 ? 1024 : 16;
}

/* For sides of a crowd: the measured part is over, for whoever goes on until then. */
void side_stop(struct side *side);
bool side_stopped(const struct side *side);

/* For sides of a crowd: notes how many messages were that side's. */
void side_share(struct side *side, int index, uint64_t messages);

/* For sides: notes which call failed and returns `error`. */
int side_fail(struct side *side, int error, const char *call);

#endif
