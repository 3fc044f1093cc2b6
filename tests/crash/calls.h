/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that are cut short, each with the scene in which it is made. */
#ifndef CRASH_CALLS_H
#define CRASH_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "stage.h"

enum call_traits {
	LONG = 1,        /* many instructions: sampled unless all are asked for */
	EITHER_KIND = 2, /* inline messages too */
	GATE = 4,        /* it may hold the gate: opening and leaving may have to wait for it */
	ORPHANS = 8,     /* its death may leave files that only sluice_channel_collect removes */
	READS = 16,      /* the subject is a consumer throughout */
	JOINS = 32,      /* the subject becomes a consumer in this call */
	LEAVES = 64,     /* the subject ceases to be a consumer in this call */
	QUEUE_ONLY = 128,
	STOP_ONLY = 256,    /* nothing to be seen when it is killed */
	DROPS = 512,        /* it may remove messages that nobody received */
	TAKE_BACK = 1024,   /* what it holds is taken back while it is stopped */
	DIES_DURING = 2048, /* members die before the call and are found during it */
	ORDERED = 4096,     /* the channel hands out the oldest message of all producers first */
	ON_DEVICE = 16384,  /* with the driver that stands in for CUDA's */
	EXPECTED = 8192     /* a broadcast that keeps everything until two consumers were there; no queue */
};

struct call {
	const char *name;
	const void *function; /* its first instruction is the first point */
	unsigned traits;      /* enum call_traits */
	/* Each may be NULL but `run`. The harness, before the subject starts; the subject; the harness; the subject. */
	void (*before)(struct stage *stage);
	void (*prepare)(struct stage *stage);
	void (*between)(struct stage *stage);
	void (*run)(struct stage *stage);
	void (*finish)(struct stage *stage); /* only where it was stopped: leaves cleanly */
};

extern const struct call calls[];
extern const size_t call_count;
/* Those of releases behind a stream's work. */
extern const struct call cuda_calls[];
extern const size_t cuda_call_count;

/* Names of functions are not constants of the type of data pointers in C; here they are the same. */
#define at(function) (const void *)(function)

/* ---- scenes that calls share ---- */

/* The harness's consumer alone; with producers; with messages in their lanes. */
void witness(struct stage *stage);
void witness_and_peer(struct stage *stage);
void witness_and_four(struct stage *stage);
void fill_own_lane(struct stage *stage);
void open_own_reader(struct stage *stage);
/* So that the witness has gone past what others hold. */
void witness_takes_the_rest(struct stage *stage);
void publish_and_leave(struct stage *stage);
void close_own_reader(struct stage *stage);
/* The calls themselves. */
void run_receive(struct stage *stage);
void run_receive_recovers(struct stage *stage);
void run_reserve(struct stage *stage);
void run_collect(struct stage *stage);

#endif
