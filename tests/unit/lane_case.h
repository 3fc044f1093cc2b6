/* SPDX-License-Identifier: Apache-2.0 */
/* A lane in anonymous memory with a page behind it that faults, its writer and a reader. */
#ifndef TEST_UNIT_LANE_CASE_H
#define TEST_UNIT_LANE_CASE_H

#include <sys/mman.h>

#include "lane.h"

#include "../support/harness.h"
#include "corrupt.h"
#include "random.h"

#define PAGE 4096

struct lane_case {
	struct layout_data *data;
	uint64_t bytes;
	struct lane_writer writer;
	struct lane_reader reader;
};

/* `capacity` in whole pages puts the page that faults right behind the payload. */
static inline void lane_case_open(struct lane_case *lane, uint64_t capacity, uint32_t depth, uint32_t alignment)
{
	lane->bytes = layout_data_bytes(depth, capacity, NULL);
	lane->data = mmap(NULL, lane->bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(lane->data != MAP_FAILED);
	check_result(0, mprotect((uint8_t *)lane->data + lane->bytes, PAGE, PROT_NONE));
	check_result(0, lane_writer_start(&lane->writer, lane->data, capacity, depth, alignment));
	check(layout_check_geometry(&lane->data->geometry, lane->bytes) == NULL);
	lane_reader_start(&lane->reader, lane->data, &lane->data->geometry);
}

static inline void lane_case_close(struct lane_case *lane)
{
	lane_writer_stop(&lane->writer);
	check_result(0, munmap(lane->data, lane->bytes + PAGE));
}

#endif
