/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done for every message, kept apart from what is done for few.
 *
 * A call that has nothing but its common course, and calls what remains as the last thing it does, needs neither stack nor
 * saved registers. COLD keeps the compiler from putting the rest back in.
 */
#ifndef SLUICE_LIB_COURSE_H
#define SLUICE_LIB_COURSE_H

#define COLD        __attribute__((noinline, cold))
#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
