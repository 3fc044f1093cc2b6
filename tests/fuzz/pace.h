/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and chance, so that an input does the same each time and nothing really waits. The clocks start afresh with each
 * execution and move by a microsecond whenever they are read; who sleeps finds that the time has passed. Since no other
 * process is there, nobody could have woken it.
 */
#ifndef FUZZ_PACE_H
#define FUZZ_PACE_H

#include <stdint.h>

/* Once a process. From then on an execution that takes too much of the processor's time ends the run, as a hang does.
 * Unlike libFuzzer's own -timeout this does not take a process for hung that was stopped meanwhile. */
void pace_start(void);
/* Around each execution. */
void pace_begin(void);
void pace_end(void);

/* Really waits while *word is `expected`, and wakes who does. For the fuzzer's own threads. */
void pace_wait(const uint32_t *word, uint32_t expected);
void pace_wake(uint32_t *word);

#endif
