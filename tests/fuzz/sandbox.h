/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both fuzzers stand on: reading choices from the input, and an account of what the library has open, so that a leak
 * ends the run with the input that caused it. The files are those of files.h, the time is that of pace.h.
 */
#ifndef FUZZ_SANDBOX_H
#define FUZZ_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/sluice.h>

/* Bytes still to be read. Past the end everything is zero. */
struct input {
	const uint8_t *bytes;
	size_t left;
};

uint64_t input_number(struct input *input, size_t bytes);

/* Ends the run as a crash would, with the reason on standard error. */
void fail(const char *reason) __attribute__((noreturn));

/* Once a process. Opens and closes handles until they serve again, so that an input that uses one leaves nothing allocated. */
void sandbox_start(void);

/*
 * Around the library's part in an execution: descriptors and mappings must be at the end what they were at the beginning.
 * Then the files go; if `none_expected`, an object of Sluice's that is still there is a leak.
 */
void sandbox_begin(void);
void sandbox_end(bool none_expected);

#endif
