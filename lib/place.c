/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include <errno.h>
#include <sys/mman.h>

#include <sluice/producer.h>

#include "node.h"
#include "sys.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define TRIES        4  /* for pages that somebody else has in hand for a moment */
#define NODE_SAMPLES 64 /* pages looked at, and made if need be, to see where memory lies */

int place_choose(uint32_t flags, uint32_t node, const char *device, struct place *ret_place)
{
	struct place place = {.asked = flags & (SLUICE_HUGE_PAGES | SLUICE_PREFAULT | SLUICE_LOCK_MEMORY)};
	if (device != NULL) {
		place.node = node == 0 ? node_of_device(device) : -EINVAL;
		if (place.node == -EINVAL || place.node == -ENODEV)
			return place.node;
	} else if (node == SLUICE_NODE_OF_CPU) {
		place.node = node_of_cpu();
	} else if (node != 0) {
		if (node > LAYOUT_MAX_NODES || !node_exists(node - 1))
			return -ENODEV;
		place.node = (int)node - 1;
	}
	if (device != NULL || node != 0)
		place.asked |= SLUICE_ON_NODE;
	*ret_place = place;
	return 0;
}

static bool wants(const struct place *place, uint32_t wish)
{
	return (place->asked & wish) != 0;
}

/* Keeps the first error of several objects. `error` is 0 or a negative errno. */
static void note(uint32_t *kept, int error)
{
	if (*kept == 0)
		*kept = (uint32_t)-error;
}

static int advise(void *base, uint64_t bytes, int advice)
{
	int tries = TRIES;
	while (madvise(base, bytes, advice) != 0)
		if ((errno != EAGAIN && errno != EINTR) || --tries == 0)
			return -errno;
	return 0;
}

/* ---- nodes ---- */

void place_begin(const struct place *place, void *base, uint64_t bytes, uint64_t hugetlb_page,
	struct layout_placement *placement)
{
	placement->asked |= place->asked;
	if (!wants(place, SLUICE_ON_NODE))
		return;
	if (place->node < 0) {
		note(&placement->node_error, place->node);
		return;
	}
	placement->asked_node = (uint32_t)place->node + 1;
	note(&placement->node_error, node_prefer(base, bytes, (uint32_t)place->node));
	/* There a policy belongs to the mapping, not to the object, so the mapping must make the pages. */
	if (hugetlb_page != 0)
		(void)place_prefault(base, bytes, true); /* pages that are short are missed when allocating */
}

/* Source: get_mempolicy(2), page by page. */
static void look_where(const struct place *place, uint8_t *base, uint64_t bytes, struct layout_placement *placement)
{
	const uint64_t last = bytes - 1;
	for (uint64_t i = 0; i < NODE_SAMPLES; i++) {
		int node = node_at(base + last / (NODE_SAMPLES - 1) * i);
		if (node < 0) {
			note(&placement->node_error, node);
			return;
		}
		uint32_t found = (uint32_t)node + 1;
		if (placement->node == 0)
			placement->node = found;
		else if (placement->node != found)
			placement->node = LAYOUT_NODES_SEVERAL;
	}
	if (place->node >= 0 && placement->node != placement->asked_node)
		note(&placement->node_error, -EXDEV);
}

/* ---- huge pages ---- */

/*
 * Puts small pages together to huge ones, all that are whole. Source: madvise(2), which says yes only to what is a huge
 * page and mapped as one.
 */
static int collapse_all(uint8_t *base, uint64_t bytes, struct layout_placement *placement)
{
	int64_t page;
	if (sys_read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &page) != 0 || page <= 0)
		return -EOPNOTSUPP;
	uint64_t page_bytes = (uint64_t)page;
	if (bytes < page_bytes)
		return -ERANGE;
	int error = 0;
	uint64_t done = 0;
	while (error == 0 && bytes - done >= page_bytes) {
		error = advise(base + done, page_bytes, MADV_COLLAPSE);
		if (error == 0)
			done += page_bytes;
	}
	if (done > 0) {
		placement->pages = LAYOUT_PAGES_TRANSPARENT;
		placement->page_bytes = page_bytes;
		placement->huge_bytes = done;
	}
	return error;
}

/* ---- the rest ---- */

int place_prefault(void *base, uint64_t bytes, bool writable)
{
	return advise(base, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void place_finish(const struct place *place, void *base, uint64_t bytes, uint64_t hugetlb_page,
	struct layout_placement *placement)
{
	if (hugetlb_page != 0 && placement->huge_bytes == 0) {
		placement->pages = LAYOUT_PAGES_HUGETLB;
		placement->page_bytes = hugetlb_page;
		placement->huge_bytes = bytes;
	} else if (wants(place, SLUICE_HUGE_PAGES)) {
		note(&placement->huge_error, collapse_all(base, bytes, placement));
	}
	if (wants(place, SLUICE_PREFAULT))
		note(&placement->prefault_error, place_prefault(base, bytes, true));
	/* mlock2, because sanitizers make of mlock a call that does nothing. */
	if (wants(place, SLUICE_LOCK_MEMORY))
		note(&placement->lock_error, mlock2(base, bytes, 0) == 0 ? 0 : -errno);
	if (wants(place, SLUICE_ON_NODE))
		look_where(place, base, bytes, placement);
}

static int32_t node_for_callers(uint32_t node)
{
	return node == LAYOUT_NODES_SEVERAL ? SLUICE_NODES_SEVERAL : (int32_t)node - 1;
}

void place_report(const struct layout_placement *shared, uint64_t mapped_bytes, struct sluice_placement *ret_placement)
{
	struct layout_placement copy = *(const volatile struct layout_placement *)shared;
	if (layout_check_placement(&copy, mapped_bytes) != NULL)
		copy = (struct layout_placement){0};
	uint32_t refused =
		(copy.node_error != 0 ? SLUICE_ON_NODE : 0) | (copy.huge_error != 0 ? SLUICE_HUGE_PAGES : 0) |
		(copy.prefault_error != 0 ? SLUICE_PREFAULT : 0) | (copy.lock_error != 0 ? SLUICE_LOCK_MEMORY : 0);
	*ret_placement = (struct sluice_placement){
		.asked = copy.asked,
		.obtained = copy.asked & ~refused,
		.asked_node = node_for_callers(copy.asked_node),
		.node = node_for_callers(copy.node),
		.node_error = -(int32_t)copy.node_error,
		.huge_error = -(int32_t)copy.huge_error,
		.prefault_error = -(int32_t)copy.prefault_error,
		.lock_error = -(int32_t)copy.lock_error,
		.pages = copy.pages,
		.page_bytes = copy.page_bytes,
		.huge_bytes = copy.huge_bytes,
	};
}
