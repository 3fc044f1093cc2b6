/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mmap and munmap are for files of files.h. A mapping is one of several views of a file that exist all the time, each
 * between inaccessible pages; AddressSanitizer lets nobody touch more of it than is mapped, nor any of it otherwise, and a
 * view for reading only is one to the processor, too.
 */
#ifndef FUZZ_MAPPINGS_H
#define FUZZ_MAPPINGS_H

#include <stdbool.h>
#include <stdint.h>

/* Once a process. */
void mappings_reserve(void);

/* Mappings that there are. */
unsigned mappings_count(void);

/* Both ends lie in one mapping. */
bool mappings_hold(const void *data, uint64_t bytes);

/* Whether an address is among those of mappings, of which there may be one there or not. Fast. */
extern uint8_t *mappings_start;
#define MAPPINGS_ROOM (UINT64_C(1) << 30)

/* Where files.c keeps the byte that is mapped at an address for which mappings_might_hold is true. */
const uint8_t *mappings_origin(const void *address);

static inline bool mappings_might_hold(const void *address)
{
	return (uintptr_t)address - (uintptr_t)mappings_start < MAPPINGS_ROOM;
}

#endif
