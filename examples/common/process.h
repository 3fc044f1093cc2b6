/* SPDX-License-Identifier: Apache-2.0 */
/* What each example needs around its work: a clock, sentences on stderr, and leaving in good order on Ctrl-C. */
#ifndef EXAMPLES_PROCESS_H
#define EXAMPLES_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How long one call waits at most before the program looks whether it was told to stop. */
#define PROCESS_PATIENCE_NS 200000000

/* CLOCK_MONOTONIC, the clock of Sluice's stamps: times of different processes on one machine may be subtracted. */
uint64_t process_now_ns(void);

/* Prints "program: sentence." on stderr. */
void process_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From here on SIGINT, SIGTERM and SIGHUP only set what process_stopped tells. */
void process_catch_signals(void);

/* The signal that told this process to stop, or 0. */
int process_stopped(void);

/* Reads a count from `text` into `*ret_value`; false if it is not a number from `least` to `most`. */
bool process_parse_count(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value);

/*
 * Keeps this process on the processor of that number, from 0, among those it may use. False, and nothing done, if there are
 * fewer than two or not so many.
 */
bool process_pin(int number);

#ifdef __cplusplus
}
#endif
#endif
