/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a process to any instruction of one call and holds it there, by ptrace.
 *
 * The subject is a forked child that stops itself right before the call. A first run single-steps the whole call and writes
 * down every instruction of this program that it executes: those are the points. A later run goes to one of them at full
 * speed, by a breakpoint and a count of how often it is passed. Because a fork keeps all addresses, points of one run are
 * those of every other.
 *
 * Code outside this program (the C library, the loader, system calls) is stepped over in one go, by a breakpoint at its
 * return address: what it does to others it does in the kernel, in between two points.
 */
#ifndef CRASH_TRACER_H
#define CRASH_TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image.h"

/* An instruction that is about to be executed for the n-th time since the call began. */
struct point {
	uint64_t address;
	uint32_t passage; /* from 1 */
	bool last;        /* it is not executed again in this call */
	bool weighty;     /* a locked instruction, or one that leads out of this program */
	bool chosen;      /* to be stopped at; all are at first */
	size_t state;     /* the first point in the list where a death leaves the same as here */
};

#define POINTS 65536

/* In memory that forked processes share. */
struct points {
	size_t count;
	struct point list[POINTS];
};

struct subject {
	pid_t pid;
	uint64_t return_address; /* of the call */
	uint64_t stack;          /* at its first instruction */
};

enum subject_state {
	SUBJECT_AT_POINT, /* held at the point asked for */
	SUBJECT_RETURNED, /* the call is over */
	SUBJECT_PAUSED,   /* it stopped itself */
	SUBJECT_ENDED     /* the process is gone; its wait status is in `*ret_status` */
};

/* Why nothing here can work, or NULL. */
const char *tracer_unusable(void);

/* Starts a subject that runs `body` and ends; returns when it has stopped itself. False: it ended before. */
bool subject_start(struct subject *subject, void (*body)(void *), void *context);

/* Lets it go on to the first instruction of `function`. False: it ended or stopped itself before. */
bool subject_enter(struct subject *subject, const void *function);

struct points *points_new(void);

/*
 * Steps through the call to its end and lists the points. A death leaves the same at two points if no byte of `image`
 * changed from the one to the other and nothing led out of this program. Instructions that by their encoding write nothing
 * but registers and the stack need no look at the image; with `thorough` they get one, and must have told the truth.
 */
void subject_trace(struct subject *subject, struct image *image, bool thorough, struct points *ret_points);

/* Goes from the call's first instruction to `point`: SUBJECT_AT_POINT, or SUBJECT_RETURNED if it was not reached. */
enum subject_state subject_run_to(struct subject *subject, struct point point);

/* Lets it go on until it stops itself or ends. */
enum subject_state subject_resume(struct subject *subject, int *ret_status);

void subject_kill(struct subject *subject);

/* Where this program was loaded: addresses less this are what addr2line wants. */
uint64_t tracer_base(void);

#endif
