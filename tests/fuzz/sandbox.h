/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both fuzzers stand on: reading choices from the input, a private directory of shared memory, and an account of what
 * the library has open, so that a leak or an access out of bounds ends the run with the input that caused it.
 *
 * The linker sends every mmap and munmap of the program through here (--wrap). Each mapping of a file gets inaccessible
 * pages on both sides, so that what leaves it by a little is a fault rather than a read of its neighbour.
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

/* Makes the directory, once a process. Files are limited to some MiB, so that no input can fill the machine. */
void sandbox_start(void);
const char *sandbox_directory(void);
int sandbox_directory_fd(void);
/* Takes all names away. If `none_expected`, an object of Sluice's that is still there is a leak. */
void sandbox_clear(bool none_expected);

/* Descriptors and mappings must be what they were at `sandbox_mark` again. */
void sandbox_mark(void);
void sandbox_check(void);

/* Both ends lie in one mapping of a file. */
bool sandbox_is_mapped(const void *data, uint64_t bytes);

/* A mapping for writing, of this program's own, that is not counted; NULL if there is none to be had. */
void *sandbox_map(int fd, uint64_t bytes);
void sandbox_unmap(void *base, uint64_t bytes);

/* Opens and closes handles until they serve again, so that an input that uses one allocates nothing that stays. */
void sandbox_warm_up(void);

#endif
