/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a channel's objects that are worth writing to, so that few bytes of input reach each of them. */
#ifndef FUZZ_REGIONS_H
#define FUZZ_REGIONS_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

/* What both fuzzers make their lanes like; regions below stay inside. */
#define FUZZ_DEPTH      8
#define FUZZ_LANE_BYTES 8192

enum object { OBJECT_CONTROL, OBJECT_DATA, OBJECT_CLAIMS, OBJECTS };

struct region {
	enum object object;
	uint32_t offset;
	uint32_t bytes;
	uint32_t record; /* size of what repeats in it */
};

#define REGIONS 32

static const struct region regions[REGIONS] = {
	{OBJECT_CONTROL, 0, 64, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, config), 128, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, epochs), 128, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, ticket), 8, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, sleeping_consumers), 16, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, sleeping_producers), 16, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, active_consumers), 16, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, aside_count), 8, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, acknowledging), 16, 8},
	{OBJECT_CONTROL, offsetof(struct layout_control, lanes), 2048, 16},
	{OBJECT_CONTROL, offsetof(struct layout_control, aside), 128, 64},
	{OBJECT_CONTROL, offsetof(struct layout_control, members), 512, 128},
	{OBJECT_CONTROL, offsetof(struct layout_control, members), 16384, 128},
	{OBJECT_CONTROL, offsetof(struct layout_control, bells), 512, 128},
	{OBJECT_CONTROL, offsetof(struct layout_control, consumers) + offsetof(struct layout_consumer_page, words), 520,
		8},
	{OBJECT_CONTROL, offsetof(struct layout_control, consumers) + offsetof(struct layout_consumer_page, acks), 480,
		48},
	{OBJECT_CONTROL, 0, sizeof(struct layout_control), 4096},
	{OBJECT_DATA, 0, 64, 8},
	{OBJECT_DATA, offsetof(struct layout_data, geometry), 128, 8},
	{OBJECT_DATA, offsetof(struct layout_data, state), 16, 8},
	{OBJECT_DATA, offsetof(struct layout_data, tail), 8, 8},
	{OBJECT_DATA, offsetof(struct layout_data, stats), 128, 8},
	{OBJECT_DATA, offsetof(struct layout_data, schemas), 704 * 3, 704},
	{OBJECT_DATA, offsetof(struct layout_data, descriptors), 256, 8},
	{OBJECT_DATA, offsetof(struct layout_data, descriptors), 256 * FUZZ_DEPTH, 256},
	{OBJECT_DATA, offsetof(struct layout_data, descriptors) + 256, 256, 8},
	{OBJECT_DATA, 0x2000 + 704 * 64 + 0x1000, FUZZ_LANE_BYTES, 64}, /* payload: descriptors fill less than a page */
	{OBJECT_DATA, 0, 0xd000 + 256 * FUZZ_DEPTH + FUZZ_LANE_BYTES, 4096},
	{OBJECT_CLAIMS, 0, 64, 8},
	{OBJECT_CLAIMS, offsetof(struct layout_claims, departed), 8, 8},
	{OBJECT_CLAIMS, offsetof(struct layout_claims, u), 8 * FUZZ_DEPTH, 8},
	{OBJECT_CLAIMS, offsetof(struct layout_claims, u), 4096, 128},
};
static_assert(offsetof(struct layout_data, descriptors) == 0x2000 + 704 * 64, "payload region");

#endif
