/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many instructions the calls take, counted by callgrind: the same on every run of the same build, on any machine
 * that the compiler made it for, and under any load. A file of the source tree keeps what they were, by compiler, so
 * that a step up is seen when it is made.
 */
#ifndef BENCH_INSTRUCTIONS_H
#define BENCH_INSTRUCTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define INSTRUCTIONS_MESSAGES 1024
#define INSTRUCTIONS_COUNTS   6
#define INSTRUCTIONS_STEP     0.03 /* a difference that is worth a word */

struct instruction_count {
	const char *call;     /* "publish": sluice_reserve and sluice_publish; "receive": sluice_receive and _release */
	const char *kind;     /* mode and payload */
	const char *function; /* of sluice-count */
	double each;          /* instructions of one message */
	double expected;      /* 0 if nothing is known for this compiler */
};

struct instructions {
	bool known;
	char reason[160];  /* why not */
	char compiler[64]; /* and architecture, as the file of expected counts names them */
	struct instruction_count counts[INSTRUCTIONS_COUNTS];
};

/*
 * Runs sluice-count, which lies beside this program, under callgrind, and compares with `expected_path` (NULL: nothing
 * to compare with). What goes wrong is told in `reason`.
 */
void instructions_count(const char *expected_path, struct instructions *ret_instructions);

/* Writes the counts into the file of expected ones, in place of those of the same compiler. Returns 0 or -errno. */
int instructions_record(const struct instructions *instructions, const char *expected_path);

/* By which share a count differs from what was expected; 0 if it does so by less than INSTRUCTIONS_STEP. */
double instructions_step(const struct instruction_count *count);

#endif
