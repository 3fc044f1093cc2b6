/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of every case, in the order in which a round runs them: what targets compare first, each beside its limit,
 * and the poller beside what it is made of; then what takes part in some rounds only.
 */
#include "case.h"

#include <string.h>

#include <sluice/producer.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)

#define ASLEEP .waiting = CASE_SLEEPS, .pause_ns = 100000
#define RARELY .turns = CASE_SOME_ROUNDS

#define LIMIT(stem) .run = {limit_##stem##_first, limit_##stem##_second}
#define EXCHANGE    .run = {exchange_first, exchange_second}, .clean_up = link_clean_up
#define STREAM      .kind = CASE_STREAM, .run = {stream_first, stream_second}, .clean_up = link_clean_up
#define OPEN        .kind = CASE_OPEN, .run = {open_first, open_second}, .clean_up = link_clean_up
#define POLLED                                                                                                         \
	.kind = CASE_ROUND_TRIP, ASLEEP, RARELY, .bytes = 64, SMALL_LANE,                                              \
	.run = {polled_exchange_first, polled_exchange_second}, .clean_up = polled_clean_up
#define POLLED_STREAM                                                                                                  \
	.kind = CASE_STREAM, RARELY, .bytes = 64, LONG_LANE, .run = {stream_first, polled_stream_second},              \
	.clean_up = polled_clean_up
#define GATHER     .kind = CASE_CROWD, .run = {gather_consumer, gather_producer}, .clean_up = link_clean_up
#define SPREAD     .kind = CASE_CROWD, .run = {spread_producer, spread_consumer}, .clean_up = link_clean_up
#define SMALL_LANE .depth = 64, .lane_bytes = KIB(64)
#define LONG_LANE  .depth = 1024, .lane_bytes = KIB(256)
#define LARGE_LANE .depth = 4, .lane_bytes = MIB(16) /* the untouched sizes come back for room equally often */

#define RIVAL_EXCHANGE .run = {rival_exchange_first, rival_exchange_second}, .clean_up = rival_clean_up
#define RIVAL_STREAM   .run = {rival_stream_first, rival_stream_second}, .clean_up = rival_clean_up
#define RIVAL_OPEN     .run = {rival_open_first, rival_open_second}, .clean_up = rival_clean_up

/* Each backend of the poller, by a wait and by its descriptor. */
#define POLLER_CASES(stem, title, backend)                                                                             \
	{.name = "poll-" stem,                                                                                         \
		.what = "Sluice: poller, " title,                                                                      \
		.against = "futex",                                                                                    \
		.beside = "sleep-64",                                                                                  \
		.poller = (backend),                                                                                   \
		POLLED},                                                                                               \
		{.name = "loop-" stem,                                                                                 \
			.what = "Sluice: epoll, poller, " title,                                                       \
			.against = "epoll",                                                                            \
			.beside = "sleep-64",                                                                          \
			.poller = (backend),                                                                           \
			.in_loop = true,                                                                               \
			POLLED},                                                                                       \
		{.name = "poll64-" stem,                                                                               \
			.what = "Sluice: poller, 64 entries, " title,                                                  \
			.against = "poll-" stem,                                                                       \
			.poller = (backend),                                                                           \
			.entries = 64,                                                                                 \
			POLLED},                                                                                       \
	{                                                                                                              \
		.name = "loop64-" stem, .what = "Sluice: epoll, 64 entries, " title, .against = "loop-" stem,          \
		.poller = (backend), .in_loop = true, .entries = 64, POLLED                                            \
	}
/* A stream into an event loop. */
#define POLLER_STREAM(stem, title, backend)                                                                            \
	{                                                                                                              \
		.name = "stream-loop-" stem, .what = "Sluice: epoll, poller, " title, .against = "stream-64-block",    \
		.waiting = CASE_BLOCKS, .batch = UINT32_MAX, .poller = (backend), .in_loop = true, POLLED_STREAM       \
	}

/* A rival's cases, each compared with Sluice's of the same kind. */
#define RIVAL_TRIP(stem, suffix, title, beside, size, ...)                                                             \
	{                                                                                                              \
		.name = stem suffix, .what = (title), .against = (beside), .rival = (stem), .bytes = (size),           \
		.depth = 64, RARELY, RIVAL_EXCHANGE, __VA_ARGS__                                                       \
	}
#define RIVAL_STREAM_CASE(stem, title, when)                                                                           \
	{                                                                                                              \
		.name = stem "-stream", .what = title ": 64 B one by one", .against = "stream-64-block",               \
		.rival = (stem), .kind = CASE_STREAM, .waiting = CASE_BLOCKS, .turns = (when), .bytes = 64,            \
		.depth = 1024, RIVAL_STREAM                                                                            \
	}
#define RIVAL_OPEN_CASE(stem, title)                                                                                   \
	{                                                                                                              \
		.name = stem "-open", .what = title ": 64 B", .against = "open-sleep", .rival = (stem),                \
		.kind = CASE_OPEN, .waiting = CASE_SLEEPS, .rate_hz = 1000, .bytes = 64, .depth = 64, RARELY,          \
		RIVAL_OPEN                                                                                             \
	}
#define RIVAL_CASES(stem, title)                                                                                       \
	RIVAL_TRIP(stem, "-64", title ": 64 B", "roundtrip-64", 64, .waiting = CASE_SPINS),                            \
		RIVAL_TRIP(stem, "-8k", title ": 8 KiB", "roundtrip-8k", KIB(8), .waiting = CASE_SPINS),               \
		RIVAL_TRIP(stem, "-sleep-64", title ": 64 B", "sleep-64", 64, ASLEEP),                                 \
		RIVAL_TRIP(stem, "-sleep-8k", title ": 8 KiB", "sleep-8k", KIB(8), ASLEEP),                            \
		RIVAL_OPEN_CASE(stem, title)

#define ROOM_FOR_FOUR(size) (4 * (uint64_t)(size) > KIB(256) ? 4 * (uint64_t)(size) : KIB(256))
#define SIZED               .kind = CASE_SIZE, .waiting = CASE_BLOCKS, RARELY

#define RIVAL_SIZE(stem, title, size, text, room)                                                                      \
	{                                                                                                              \
		.name = stem "-size-" text, .what = (title), .against = "sluice-size-" text, .rival = (stem),          \
		.bytes = (size), .depth = (room), SIZED, RIVAL_STREAM                                                  \
	}

/* One size through everything. A lane of 256 KiB, or of four messages where these are larger. */
#define SIZE_CASES(size, text, room)                                                                                   \
	{.name = "copy-size-" text, .what = "memcpy", .bytes = (size), .depth = 1, SIZED, LIMIT(copy)},                \
		{.name = "sluice-size-" text,                                                                          \
			.what = "Sluice",                                                                              \
			.bytes = (size),                                                                               \
			.depth = (room),                                                                               \
			.lane_bytes = ROOM_FOR_FOUR(size),                                                             \
			.batch = 1,                                                                                    \
			SIZED,                                                                                         \
			.run = {stream_first, stream_second},                                                          \
			.clean_up = link_clean_up},                                                                    \
		RIVAL_SIZE("pipe", "pipe", size, text, room), RIVAL_SIZE("socket", "socket", size, text, room),        \
		RIVAL_SIZE("zeromq", "ZeroMQ", size, text, room)

const struct bench_case bench_cases[] = {
	{.name = "line", .what = "bare: a cache line there and back", .depth = 1, LIMIT(line)},
	{.name = "roundtrip-64", .what = "Sluice: 64 B", .against = "line", .bytes = 64, SMALL_LANE, EXCHANGE},
	{.name = "buffer-8k", .what = "bare: 8 KiB and a flag", .bytes = KIB(8), .depth = 1, LIMIT(buffer)},
	{.name = "roundtrip-8k",
		.what = "Sluice: 8 KiB",
		.against = "buffer-8k",
		.bytes = KIB(8),
		SMALL_LANE,
		EXCHANGE},
	{.name = "unstamped-8k",
		.what = "Sluice: 8 KiB, no stamps",
		.against = "roundtrip-8k",
		.bytes = KIB(8),
		.sample_rate_hz = SLUICE_STAMP_NONE,
		SMALL_LANE,
		EXCHANGE},
	{.name = "untouched-4k",
		.what = "Sluice: 4 KiB, untouched",
		.bytes = KIB(4),
		.untouched = true,
		LARGE_LANE,
		EXCHANGE},
	{.name = "untouched-4m",
		.what = "Sluice: 4 MiB, untouched",
		.against = "untouched-4k",
		.bytes = MIB(4),
		.untouched = true,
		LARGE_LANE,
		EXCHANGE},
	{.name = "futex", .what = "bare: a futex there and back", ASLEEP, .depth = 1, LIMIT(futex)},
	{.name = "sleep-64", .what = "Sluice: 64 B", .against = "futex", ASLEEP, .bytes = 64, SMALL_LANE, EXCHANGE},
	{.name = "epoll",
		.what = "bare: eventfd and epoll there and back",
		.against = "futex",
		ASLEEP,
		.depth = 1,
		RARELY,
		LIMIT(epoll)},
	POLLER_CASES("uring", "io_uring", SLUICE_POLLER_IO_URING),
	POLLER_CASES("thread", "waitv", SLUICE_POLLER_THREAD),
	{.name = "ring", .what = "bare: a ring, 64 B", .kind = CASE_STREAM, .bytes = 64, .depth = 1024, LIMIT(ring)},
	{.name = "stream-64",
		.what = "Sluice: 64 B one by one",
		.against = "ring",
		.bytes = 64,
		.batch = 1,
		LONG_LANE,
		STREAM},
	{.name = "stream-64-batch",
		.what = "Sluice: 64 B, batches of 32",
		.against = "ring",
		.bytes = 64,
		.batch = 32,
		LONG_LANE,
		STREAM},
	{.name = "stream-unstamped",
		.what = "Sluice: 64 B one by one, no stamps",
		.against = "stream-64",
		.bytes = 64,
		.batch = 1,
		.sample_rate_hz = SLUICE_STAMP_NONE,
		LONG_LANE,
		STREAM},
	{.name = "stream-64-block",
		.what = "Sluice: 64 B one by one",
		.against = "stream-64",
		.waiting = CASE_BLOCKS,
		.bytes = 64,
		.batch = 1,
		LONG_LANE,
		STREAM},
	RIVAL_STREAM_CASE("zeromq", "ZeroMQ ipc", CASE_EVERY_ROUND),

	{.name = "stream-stamp-all",
		.what = "Sluice: 64 B one by one, all stamped",
		.against = "stream-unstamped",
		.bytes = 64,
		.batch = 1,
		.sample_rate_hz = SLUICE_STAMP_ALL,
		LONG_LANE,
		RARELY,
		STREAM},
	{.name = "buffer-64",
		.what = "bare: 64 B and a flag",
		.against = "line",
		.bytes = 64,
		.depth = 1,
		RARELY,
		LIMIT(buffer)},
	{.name = "late-64",
		.what = "Sluice: 64 B, answer, then release",
		.against = "line",
		.bytes = 64,
		.release_late = true,
		SMALL_LANE,
		RARELY,
		EXCHANGE},
	{.name = "stamp-all-64",
		.what = "Sluice: 64 B, all stamped",
		.against = "roundtrip-64",
		.bytes = 64,
		.sample_rate_hz = SLUICE_STAMP_ALL,
		SMALL_LANE,
		RARELY,
		EXCHANGE},
	{.name = "sleep-8k",
		.what = "Sluice: 8 KiB",
		.against = "sleep-64",
		ASLEEP,
		.bytes = KIB(8),
		SMALL_LANE,
		RARELY,
		EXCHANGE},
	POLLER_STREAM("uring", "io_uring", SLUICE_POLLER_IO_URING),
	POLLER_STREAM("thread", "waitv", SLUICE_POLLER_THREAD),
	{.name = "stream-poll",
		.what = "Sluice: poller, all that is there",
		.against = "stream-64",
		.batch = UINT32_MAX,
		POLLED_STREAM},
	{.name = "stream-poll-one",
		.what = "Sluice: poller, one message a wait",
		.against = "stream-64",
		.batch = 1,
		POLLED_STREAM},
	{.name = "open-spin", .what = "Sluice: 64 B", .rate_hz = 100000, .bytes = 64, SMALL_LANE, RARELY, OPEN},
	{.name = "open-sleep",
		.what = "Sluice: 64 B",
		.waiting = CASE_SLEEPS,
		.rate_hz = 1000,
		.bytes = 64,
		SMALL_LANE,
		RARELY,
		OPEN},
	RIVAL_CASES("pipe", "pipe"),
	RIVAL_STREAM_CASE("pipe", "pipe", CASE_SOME_ROUNDS),
	RIVAL_CASES("socket", "Unix stream socket"),
	RIVAL_STREAM_CASE("socket", "Unix stream socket", CASE_SOME_ROUNDS),
	RIVAL_CASES("zeromq", "ZeroMQ ipc"),
	RIVAL_CASES("nng", "nng ipc"),
	RIVAL_STREAM_CASE("nng", "nng ipc", CASE_SOME_ROUNDS),
	RIVAL_CASES("boost", "Boost message_queue"),
	RIVAL_STREAM_CASE("boost", "Boost message_queue", CASE_SOME_ROUNDS),
	{.name = "gather-one",
		.what = "Sluice: 1 producer to 1 consumer",
		.waiting = CASE_BLOCKS,
		.bytes = 64,
		.alone = true,
		LONG_LANE,
		RARELY,
		GATHER},
	{.name = "gather",
		.what = "Sluice: producers to 1 consumer",
		.against = "gather-one",
		.waiting = CASE_BLOCKS,
		.bytes = 64,
		LONG_LANE,
		RARELY,
		GATHER},
	{.name = "spread",
		.what = "Sluice: 1 producer to consumers, queue",
		.against = "gather-one",
		.waiting = CASE_BLOCKS,
		.bytes = 64,
		LONG_LANE,
		RARELY,
		SPREAD},
	{.name = "spread-all",
		.what = "Sluice: 1 producer to consumers, all",
		.against = "gather-one",
		.waiting = CASE_BLOCKS,
		.bytes = 64,
		.mode = SLUICE_BROADCAST,
		LONG_LANE,
		RARELY,
		SPREAD},
	SIZE_CASES(64, "64", 1024),
	SIZE_CASES(512, "512", 512),
	SIZE_CASES(KIB(4), "4k", 64),
	SIZE_CASES(KIB(32), "32k", 8),
	SIZE_CASES(KIB(256), "256k", 4),
	SIZE_CASES(MIB(1), "1m", 4),

	{.name = "open-rare-futex",
		.what = "bare: a futex",
		.kind = CASE_OPEN,
		.waiting = CASE_SLEEPS,
		.turns = CASE_ONE_ROUND,
		.rate_hz = 100,
		.depth = 1,
		LIMIT(futex)},
	{.name = "open-rare",
		.what = "Sluice: 64 B",
		.against = "open-rare-futex",
		.waiting = CASE_SLEEPS,
		.turns = CASE_ONE_ROUND,
		.rate_hz = 100,
		.bytes = 64,
		SMALL_LANE,
		OPEN},
	{.name = "idle",
		.what = "Sluice: 8 channels, nobody sends",
		.kind = CASE_IDLE,
		.waiting = CASE_BLOCKS,
		.turns = CASE_ONE_ROUND,
		SMALL_LANE,
		.run = {idle_first, idle_second},
		.clean_up = idle_clean_up},
};

const size_t bench_case_count = sizeof bench_cases / sizeof *bench_cases;

const struct bench_case *case_find(const char *name)
{
	for (size_t i = 0; i < bench_case_count; i++)
		if (strcmp(bench_cases[i].name, name) == 0)
			return &bench_cases[i];
	return NULL;
}
