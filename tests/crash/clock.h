/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of this program runs as the harness says: what the library does "four times a second" or "after ten seconds" need
 * not be waited for. Each process has its own; a forked one starts with its parent's.
 */
#ifndef CRASH_CLOCK_H
#define CRASH_CLOCK_H

#include <stdint.h>

/* Puts the clock forward. */
void clock_advance(uint64_t duration_ns);
/* From now on each look at the clock puts it forward by so much; 0: no longer. */
void clock_rush(uint64_t step_ns);
/* From now on it stands still but for so much at each look, so that stepping takes a call no other way; 0: it goes on. */
void clock_hold(uint64_t step_ns);

#endif
