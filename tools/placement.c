/* SPDX-License-Identifier: Apache-2.0 */
/* Where the memory of lanes lies, and what their producers asked for and did not get. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "placement.h"
#include "summary.h"
#include "table.h"
#include "units.h"

static bool asks_for(const struct sluice_placement *placement, uint32_t wish)
{
	return placement->asked & wish;
}

static bool is_known(const struct sluice_placement *placement)
{
	return placement->asked || placement->pages != SLUICE_PAGES_SMALL;
}

/* ---- text ---- */

static struct text node_text(const struct sluice_placement *placement)
{
	struct text text = {"-"};

	if (placement->node >= 0)
		snprintf(text.text, sizeof text.text, "%" PRId32, placement->node);
	else if (placement->node == SLUICE_NODES_SEVERAL)
		snprintf(text.text, sizeof text.text, "several");
	else if (asks_for(placement, SLUICE_ON_NODE))
		snprintf(text.text, sizeof text.text, "unknown");
	return text;
}

static struct text pages_text(const struct sluice_placement *placement)
{
	struct text text = {"-"};

	if (placement->pages != SLUICE_PAGES_SMALL)
		snprintf(text.text, sizeof text.text, "%.24s of %.24s%s", units_bytes(placement->huge_bytes).text,
			units_bytes(placement->page_bytes).text,
			placement->pages == SLUICE_PAGES_HUGETLB ? ", hugetlb" : "");
	else if (asks_for(placement, SLUICE_HUGE_PAGES))
		snprintf(text.text, sizeof text.text, "none");
	return text;
}

static const char *answer(const struct sluice_placement *placement, uint32_t wish)
{
	return !asks_for(placement, wish) ? "-" : placement->obtained & wish ? "yes" : "no";
}

static const char *node_reason(int error)
{
	switch (error) {
	case -EPERM:
		return "this process may not place memory (in a container: docker run --cap-add SYS_NICE)";
	case -EINVAL:
		return "that node has no memory, or none for this process";
	case -EXDEV:
		return "the memory lies elsewhere, at least in part: that node is full";
	case -ENODATA:
		return "the kernel does not know which node the device is near to";
	case -ENOSYS:
		return "the library was built without libnuma, or the kernel without NUMA";
	default:
		return strerror(-error);
	}
}

static const char *huge_reason(int error)
{
	switch (error) {
	case -ENOMEM:
	case -EAGAIN:
	case -EBUSY:
		return "no memory in pieces that large was free";
	case -EINVAL:
	case -EOPNOTSUPP:
		return "the kernel makes none here: Linux 6.1 does, with transparent huge pages and shmem_enabled not "
		       "at deny";
	case -ERANGE:
		return "the lane is smaller than one";
	default:
		return strerror(-error);
	}
}

static const char *prefault_reason(int error)
{
	return error == -EINVAL ? "the kernel cannot: Linux 5.14 can" : strerror(-error);
}

static const char *lock_reason(int error)
{
	if (error == -ENOMEM || error == -EPERM)
		return "RLIMIT_MEMLOCK is too low (ulimit -l; docker run --ulimit memlock=-1)";
	return strerror(-error);
}

static void print_refusals(const struct sluice_lane_stat *lane)
{
	const struct sluice_placement *placement = &lane->placement;
	struct text id = id_of(lane->slot, lane->incarnation);
	struct {
		const char *what;
		int error;
		const char *reason;
	} refusals[] = {
		{"the node asked for", placement->node_error, node_reason(placement->node_error)},
		{placement->huge_bytes ? "huge pages for all of it" : "huge pages", placement->huge_error,
			huge_reason(placement->huge_error)},
		{"page tables filled beforehand", placement->prefault_error,
			prefault_reason(placement->prefault_error)},
		{"locked memory", placement->lock_error, lock_reason(placement->lock_error)},
	};

	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (refusals[i].error)
			printf("lane %s did not get %s: %s\n", id.text, refusals[i].what, refusals[i].reason);
}

void print_placements(const struct sluice_channel_stat *stat)
{
	struct table *table = table_new("lrrll");
	const char *headings[] = {"LANE", "NODE", "HUGE PAGES", "PREFAULTED", "LOCKED"};

	table_headings(table, headings);
	for (uint32_t i = 0; i < stat->lane_count; i++) {
		const struct sluice_lane_stat *lane = &stat->lanes[i];
		if (!is_known(&lane->placement))
			continue;
		table_add(table, "%s", id_of(lane->slot, lane->incarnation).text);
		table_add(table, "%s", node_text(&lane->placement).text);
		table_add(table, "%s", pages_text(&lane->placement).text);
		table_add(table, "%s", answer(&lane->placement, SLUICE_PREFAULT));
		table_add(table, "%s", answer(&lane->placement, SLUICE_LOCK_MEMORY));
	}
	if (table_rows(table))
		putchar('\n');
	table_print(table, stdout);
	for (uint32_t i = 0; i < stat->lane_count; i++)
		print_refusals(&stat->lanes[i]);
}

/* ---- JSON ---- */

static void put_wish(struct json_object *object, const struct sluice_placement *placement, uint32_t wish, int error,
	const char *reason)
{
	json_put_bool(object, "asked", asks_for(placement, wish));
	json_put_bool(object, "obtained", placement->obtained & wish);
	json_put(object, "error", error ? json_error(error, reason) : NULL);
}

static void put_node(struct json_object *object, const char *key, int32_t node)
{
	if (node >= 0)
		json_put_uint(object, key, (uint64_t)node);
	else
		json_put_text(object, key, node == SLUICE_NODES_SEVERAL ? "several" : NULL);
}

struct json_object *placement_json(const struct sluice_placement *placement)
{
	static const char *const kinds[] = {"small", "transparent", "hugetlb"};
	struct json_object *object = json_object_need();
	struct json_object *node = json_object_need(), *huge = json_object_need();
	struct json_object *prefault = json_object_need(), *lock = json_object_need();

	put_wish(node, placement, SLUICE_ON_NODE, placement->node_error, node_reason(placement->node_error));
	put_node(node, "asked_node", placement->asked_node);
	put_node(node, "node", placement->node);
	json_put(object, "on_node", node);
	put_wish(huge, placement, SLUICE_HUGE_PAGES, placement->huge_error, huge_reason(placement->huge_error));
	json_put_text(huge, "pages", kinds[placement->pages]);
	json_put_uint(huge, "page_bytes", placement->page_bytes);
	json_put_uint(huge, "huge_bytes", placement->huge_bytes);
	json_put(object, "huge_pages", huge);
	put_wish(prefault, placement, SLUICE_PREFAULT, placement->prefault_error,
		prefault_reason(placement->prefault_error));
	json_put(object, "prefault", prefault);
	put_wish(lock, placement, SLUICE_LOCK_MEMORY, placement->lock_error, lock_reason(placement->lock_error));
	json_put(object, "lock_memory", lock);
	return object;
}
