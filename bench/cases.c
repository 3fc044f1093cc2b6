/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: every case, in the order in which a round runs them (each beside its limit), and every target. */
#include "case.h"

#include <string.h>

#define ASLEEP .sleeps = true, .pause_ns = 100000
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)

#define LIMIT(stem) .run = {limit_##stem##_first, limit_##stem##_second}
#define EXCHANGE    .run = {exchange_first, exchange_second}, .clean_up = link_clean_up
#define STREAM      .kind = CASE_STREAM, .run = {stream_first, stream_second}, .clean_up = link_clean_up
#define SMALL_LANE  .depth = 64, .lane_bytes = KIB(64)

const struct bench_case bench_cases[] = {
	{.name = "line", .what = "bare: a cache line there and back", .depth = 1, LIMIT(line)},
	{.name = "roundtrip-64", .what = "Sluice: 64 B", .limit = "line", .bytes = 64, SMALL_LANE, EXCHANGE},
	{.name = "late-64",
		.what = "Sluice: 64 B, answer, then release",
		.limit = "line",
		.bytes = 64,
		.release_late = true,
		SMALL_LANE,
		EXCHANGE},
	{.name = "buffer-64", .what = "bare: 64 B and a flag", .limit = "line", .bytes = 64, .depth = 1, LIMIT(buffer)},
	{.name = "buffer-8k", .what = "bare: 8 KiB and a flag", .bytes = KIB(8), .depth = 1, LIMIT(buffer)},
	{.name = "roundtrip-8k", .what = "Sluice: 8 KiB", .limit = "buffer-8k", .bytes = KIB(8), SMALL_LANE, EXCHANGE},
	{.name = "untouched-4k",
		.what = "Sluice: 4 KiB, untouched",
		.bytes = KIB(4),
		.untouched = true,
		.depth = 4, /* both sizes come back for room equally often */
		.lane_bytes = MIB(16),
		EXCHANGE},
	{.name = "untouched-4m",
		.what = "Sluice: 4 MiB, untouched",
		.limit = "untouched-4k",
		.bytes = MIB(4),
		.untouched = true,
		.depth = 4,
		.lane_bytes = MIB(16),
		EXCHANGE},
	{.name = "futex", .what = "bare: a futex there and back", ASLEEP, .depth = 1, LIMIT(futex)},
	{.name = "sleep-64", .what = "Sluice: 64 B", .limit = "futex", ASLEEP, .bytes = 64, SMALL_LANE, EXCHANGE},
	{.name = "ring", .what = "bare: a ring, 64 B", .kind = CASE_STREAM, .bytes = 64, .depth = 1024, LIMIT(ring)},
	{.name = "stream-64",
		.what = "Sluice: 64 B one by one",
		.limit = "ring",
		.bytes = 64,
		.depth = 1024,
		.lane_bytes = KIB(256),
		.batch = 1,
		STREAM},
	{.name = "stream-64-batch",
		.what = "Sluice: 64 B, batches of 32",
		.limit = "ring",
		.bytes = 64,
		.depth = 1024,
		.lane_bytes = KIB(256),
		.batch = 32,
		STREAM},
	{.name = "idle",
		.what = "Sluice: 8 channels, nobody sends",
		.kind = CASE_IDLE,
		.sleeps = true,
		.depth = 64,
		.lane_bytes = KIB(64),
		.run = {idle_first, idle_second},
		.clean_up = idle_clean_up},
};

const size_t bench_case_count = sizeof bench_cases / sizeof *bench_cases;

const struct bench_target bench_targets[] = {
	{1, "round trip 64 B, spinning, against a cache line", TARGET_RATIO, "roundtrip-64", 1.5},
	{2, "round trip 8 KiB, spinning, against buffer and flag", TARGET_RATIO, "roundtrip-8k", 1.1},
	{3, "4 MiB untouched against 4 KiB untouched", TARGET_RATIO, "untouched-4m", 1.05},
	{4, "round trip 64 B, sleeping, against a futex", TARGET_RATIO, "sleep-64", 1.1},
	{5, "CPU of 8 idle channels, share of one core", TARGET_CPU, "idle", 0.001},
	{5, "wake-ups of 8 idle channels a second", TARGET_WAKE_UPS, "idle", 10},
	{6, "one-way 64 B one by one, against a bare ring", TARGET_RATIO, "stream-64", 2.5},
	{6, "one-way 64 B in batches, against a bare ring", TARGET_RATIO, "stream-64-batch", 1.5},
};

const size_t bench_target_count = sizeof bench_targets / sizeof *bench_targets;

const struct bench_case *case_find(const char *name)
{
	for (size_t i = 0; i < bench_case_count; i++)
		if (strcmp(bench_cases[i].name, name) == 0)
			return &bench_cases[i];
	return NULL;
}
