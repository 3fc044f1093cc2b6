/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the memory of an object is to be: on which node, on pages of which size, in the page tables, never swapped out. Each
 * wish is tried and what came of it written down, from what the kernel says and not from what was asked of it.
 */
#ifndef SLUICE_LIB_PLACE_H
#define SLUICE_LIB_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

struct place {
	uint32_t asked; /* as in struct layout_placement */
	int node;       /* negative: errno why none is known */
};

/*
 * From a producer's options: bits of enum sluice_memory_flags in `flags`, others are ignored. Returns 0, -EINVAL (both
 * node and device, or no PCI address), -ENODEV (no such node or device).
 */
int place_choose(uint32_t flags, uint32_t node, const char *device, struct place *ret_place);

/*
 * Before and after memory is allocated to an object that is mapped at `base`; `hugetlb_page` is 0 unless it lies on a
 * hugetlbfs. `placement` starts zeroed and gathers what came of it, also of several objects; pages are those of the first.
 */
void place_begin(const struct place *place, void *base, uint64_t bytes, uint64_t hugetlb_page,
	struct layout_placement *placement);
void place_finish(const struct place *place, void *base, uint64_t bytes, uint64_t hugetlb_page,
	struct layout_placement *placement);

/* Fills the page tables for a mapping. Returns 0, -EINVAL (Linux before 5.14), -ENOMEM, -EFAULT (its file was cut). */
int place_prefault(void *base, uint64_t bytes, bool writable);

/* What to tell callers of a record in shared memory, of an object of `mapped_bytes`; nothing if it is rubbish. */
void place_report(const struct layout_placement *shared, uint64_t mapped_bytes, struct sluice_placement *ret_placement);

#endif
