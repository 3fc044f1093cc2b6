/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the harness that starts and ends processes, as the rest of the harness sees it. */
#ifndef TEST_PROCESS_H
#define TEST_PROCESS_H

#include <stdbool.h>

/* Forgets the processes of the test before. */
void process_reset(void);
/* Kills and reaps what still runs; returns how many that were. */
unsigned process_sweep(void);
/* Whether this is a process that process_start made, and its index there. */
bool process_is_child(void);
unsigned process_index(void);

#endif
