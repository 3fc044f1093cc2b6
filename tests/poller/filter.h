/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of system calls, as containers have them. For a process of its own: a filter stays for good. */
#ifndef TEST_FILTER_H
#define TEST_FILTER_H

/* From now on this system call fails with that errno. */
void refuse_call(long number, int error);

/* From now on a FUTEX_WAKE on shared memory kills the process with SIGSYS. */
void die_of_waking(void);

#endif
