/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a lane's placement: others see what its producer sees, and nothing of a record that is rubbish. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../support/harness.h"
#include "layout.h"
#include "mapping.h"
#include "place.h"

#define LANE_BYTES (UINT64_C(5) << 20)
#define WISHES     (SLUICE_HUGE_PAGES | SLUICE_PREFAULT | SLUICE_LOCK_MEMORY)

static struct sluice_placement seen_from_outside(void)
{
	struct sluice_channel_stat *stat = NULL;
	struct sluice_placement placement;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(1, stat->lane_count);
	placement = stat->lanes[0].placement;
	sluice_channel_stat_free(stat);
	return placement;
}

static void see_the_same(void *shared, unsigned index)
{
	const struct sluice_placement *expected = shared, placement = seen_from_outside();

	(void)index;
	check(!memcmp(expected, &placement, sizeof placement));
}

static void others_see_what_the_producer_sees(void **state)
{
	struct sluice_producer *producer = join_producer("tokens",
		PRODUCER(.channel = CHANNEL(), .lane_bytes = LANE_BYTES, .flags = WISHES, .node = SLUICE_NODE(0)));
	struct sluice_placement *placement = shared_memory(sizeof *placement);

	(void)state;
	*placement = placement_of(producer);
	check_equal(WISHES | SLUICE_ON_NODE, placement->asked);
	process_start(see_the_same, placement, 0);
	processes_finish();
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

static void write_record(const void *record)
{
	static sandbox_name names[SANDBOX_NAMES];
	const unsigned count = sandbox_objects(names);

	for (unsigned i = 0; i < count; i++) {
		int fd;

		if (!strstr(names[i], ".data"))
			continue;
		fd = open(sandbox_path(names[i]), O_WRONLY | O_CLOEXEC);
		check(fd >= 0);
		check(pwrite(fd, record, sizeof(struct layout_placement), offsetof(struct layout_data, placement)) ==
			sizeof(struct layout_placement));
		close(fd);
	}
}

static bool is_blank(const struct sluice_placement *placement)
{
	const struct sluice_placement blank = {.asked_node = SLUICE_NODE_UNKNOWN, .node = SLUICE_NODE_UNKNOWN};

	return !memcmp(&blank, placement, sizeof blank);
}

static void of_a_record_that_is_rubbish_nothing_is_told(void **state)
{
	struct sluice_producer *producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(), .flags = SLUICE_PREFAULT));
	uint8_t record[sizeof(struct layout_placement)];
	uint64_t seed = 4711;

	(void)state;
	for (unsigned round = 0; round < 1000; round++) {
		struct sluice_placement placement;

		for (unsigned i = 0; i < sizeof record; i += sizeof seed)
			memcpy(record + i, &(uint64_t){random_next(&seed)}, sizeof seed);
		if (round == 0)
			memset(record, 0xff, sizeof record);
		write_record(record);
		placement = seen_from_outside();
		check(is_blank(&placement));
	}
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void each_value_of_a_record_is_checked(void **state)
{
	const uint64_t mapped_bytes = 8192;
	const struct layout_placement good[] = {
		{0},
		{.asked = WISHES | SLUICE_ON_NODE},
		{.pages = LAYOUT_PAGES_HUGETLB, .page_bytes = 4096, .huge_bytes = mapped_bytes},
		{.asked_node = LAYOUT_MAX_NODES, .node = LAYOUT_NODES_SEVERAL},
		{.node_error = 4095, .huge_error = 4095, .prefault_error = 4095, .lock_error = 4095},
	};
	const struct layout_placement bad[] = {
		{.asked = 1},
		{.asked = UINT32_C(1) << 31},
		{.pages = LAYOUT_PAGES_HUGETLB + 1},
		{.asked_node = LAYOUT_MAX_NODES + 1},
		{.node = LAYOUT_NODES_SEVERAL - 1},
		{.node_error = 4096},
		{.huge_error = 4096},
		{.prefault_error = UINT32_MAX},
		{.lock_error = UINT32_C(1) << 31},
		{.huge_bytes = mapped_bytes + 1},
	};
	struct sluice_placement placement;

	(void)state;
	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		check(layout_check_placement(&good[i], mapped_bytes) == NULL);
		place_report(&good[i], mapped_bytes, &placement);
		check_equal(good[i].asked, placement.asked);
		check_equal(good[i].huge_bytes, placement.huge_bytes);
	}
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		check(layout_check_placement(&bad[i], mapped_bytes) != NULL);
		place_report(&bad[i], mapped_bytes, &placement);
		check(is_blank(&placement));
	}
}

static void what_was_refused_does_not_count_as_obtained(void **state)
{
	const struct layout_placement record = {.asked = WISHES | SLUICE_ON_NODE,
		.node_error = EPERM,
		.lock_error = ENOMEM,
		.asked_node = 3,
		.node = 1};
	struct sluice_placement placement;

	(void)state;
	place_report(&record, 8192, &placement);
	check_equal(SLUICE_HUGE_PAGES | SLUICE_PREFAULT, placement.obtained);
	check_result(-EPERM, placement.node_error);
	check_result(-ENOMEM, placement.lock_error);
	check_result(0, placement.huge_error);
	check_equal(2, placement.asked_node);
	check_equal(0, placement.node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(others_see_what_the_producer_sees),
		promise(of_a_record_that_is_rubbish_nothing_is_told),
		promise(each_value_of_a_record_is_checked),
		promise(what_was_refused_does_not_count_as_obtained),
	};

	return cmocka_run_group_tests_name("placement record", tests, NULL, NULL);
}
