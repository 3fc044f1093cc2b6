/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A case: what two processes do together, with which sizes. And a target: which figure of which case against which limit.
 * The tables of both are in cases.c; a new case is a pair of functions and a line there.
 */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct side;

enum case_kind {
	CASE_ROUND_TRIP, /* a repetition is there and back */
	CASE_STREAM,     /* a repetition is one message; a sample is the mean of CASE_STREAM_BLOCK of them */
	CASE_IDLE        /* nothing is sent; CPU time and wake-ups count */
};

#define CASE_STREAM_BLOCK 256 /* too short a time to stamp each message */

struct bench_case {
	const char *name;
	const char *what;
	const char *limit; /* name of the case that bounds this one; NULL if none does */
	enum case_kind kind;
	bool sleeps;       /* both sides sleep at once, else both spin and never sleep */
	uint64_t pause_ns; /* of the first side before it sends: time for the other to fall asleep */
	size_t bytes;
	uint32_t depth; /* messages that can be under way in one direction */
	uint64_t lane_bytes;
	uint32_t batch;    /* messages of one receive */
	bool untouched;    /* the payload is neither written nor read */
	bool release_late; /* the second side answers first and then releases */
	int (*run[2])(struct side *side);
	void (*clean_up)(const char *channel); /* after a run that failed; may be NULL */
};

/* What a target compares. */
enum target_figure {
	TARGET_RATIO,   /* the case's typical time divided by its limit's */
	TARGET_CPU,     /* share of one core */
	TARGET_WAKE_UPS /* a second */
};

struct bench_target {
	int id; /* number of the target; several lines may share one */
	const char *what;
	enum target_figure figure;
	const char *of; /* name of a case */
	double most;    /* of the figure */
};

extern const struct bench_case bench_cases[];
extern const size_t bench_case_count;
extern const struct bench_target bench_targets[];
extern const size_t bench_target_count;

/* The case of that name, or NULL. */
const struct bench_case *case_find(const char *name);

/* Limits: no library, memory shared by fork. */
int limit_line_first(struct side *side);
int limit_line_second(struct side *side);
int limit_buffer_first(struct side *side);
int limit_buffer_second(struct side *side);
int limit_futex_first(struct side *side);
int limit_futex_second(struct side *side);
int limit_ring_first(struct side *side);
int limit_ring_second(struct side *side);

/* Sluice. */
int exchange_first(struct side *side);
int exchange_second(struct side *side);
int stream_first(struct side *side);
int stream_second(struct side *side);
int idle_first(struct side *side);
int idle_second(struct side *side);
void link_clean_up(const char *channel);
void idle_clean_up(const char *channel);

#endif
