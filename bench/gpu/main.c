/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-bench-gpu: from the lane to the device, beside what the driver does from memory of its own. Needs a device,
 * and no library but Sluice's: see docs/benchmarks.md. Each time is that of one submission and the wait for its end;
 * what is compared is measured in turns.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "device.h"
#include "series.h"

#define KIB            UINT64_C(1024)
#define MIB            (1024 * KIB)
#define BATCH          32
#define BATCH_BYTES    (8 * KIB)
#define QUICK_DIVISOR  8
#define FORWARD_BUDGET 2000000000u /* bytes that one size moves from one source */

struct bench {
	bool json;
	bool quick;
	bool all_met;
	struct CUstream_st *stream;
	uintptr_t memory;
	char channel[64];
	struct sluice_consumer *consumer;
	struct sluice_producer *producer;
};

static void must(const char *what, int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "sluice-bench-gpu: %s: %s\n", what, sluice_strerror(result));
	exit(1);
}

static size_t rounds_of(const struct bench *bench, uint64_t bytes)
{
	uint64_t rounds = FORWARD_BUDGET / (bytes + 65536);

	rounds = rounds < 40 ? 40 : rounds > 1000 ? 1000 : rounds;
	return (size_t)(bench->quick ? (rounds + QUICK_DIVISOR - 1) / QUICK_DIVISOR : rounds);
}

/* ---- a channel within this process ---- */

static void open_channel(struct bench *bench, uint64_t lane_bytes, uint32_t cuda_flags)
{
	const struct sluice_channel_options channel = {.size = sizeof channel, .lane_bytes = lane_bytes, .depth = 256};
	const struct sluice_producer_options producer = {.size = sizeof producer, .channel = &channel};
	const struct sluice_consumer_options consumer = {.size = sizeof consumer, .channel = &channel};
	const struct sluice_cuda_options cuda = {.size = sizeof cuda, .flags = cuda_flags};
	struct sluice_cuda_status status;

	must("cannot open a channel", sluice_producer_open(bench->channel, &producer, &bench->producer));
	must("cannot open the channel", sluice_consumer_open(bench->channel, &consumer, &bench->consumer));
	must("cannot attach CUDA", sluice_cuda_attach(bench->consumer, &cuda));
	must("no status", sluice_cuda_status(bench->consumer, &status));
	if (status.pin_error != 0) {
		fprintf(stderr, "sluice-bench-gpu: the lane cannot be pinned: %s\n", status.pin_reason);
		exit(1);
	}
}

static void close_channel(struct bench *bench)
{
	must("cannot close", sluice_consumer_close(bench->consumer));
	must("cannot close", sluice_producer_close(bench->producer));
}

static const struct sluice_message *message_of(struct bench *bench, uint64_t bytes)
{
	const struct sluice_tensor_spec spec = {"tokens", SLUICE_INT32, 1, {(int64_t)(bytes / sizeof(int32_t))}};
	const struct sluice_message *message;
	struct sluice_message *room;

	must("no room", sluice_reserve(bench->producer, &spec, 1, SLUICE_FOREVER, &room));
	memset(sluice_data(room, 0), 1, bytes);
	must("cannot publish", sluice_publish(room));
	must("cannot receive", sluice_receive(bench->consumer, SLUICE_FOREVER, &message));
	return message;
}

/* Waits for releases behind the stream, as a caller that has nothing else to do. */
static void wait_for_releases(struct bench *bench)
{
	while (sluice_cuda_collect(bench->consumer) > 0)
		;
}

/* ---- by size ---- */

static void time_copy(struct bench *bench, struct series *series, const void *from, uint64_t bytes)
{
	const uint64_t began = series_now();

	device_copy(bench->memory, from, bytes, bench->stream);
	device_synchronize(bench->stream);
	series_add(series, began);
}

static void time_upload(
	struct bench *bench, struct series *series, const struct sluice_message *message, uint64_t bytes)
{
	const uint64_t began = series_now();

	must("cannot upload", sluice_cuda_upload(message, 0, bench->memory, bytes, bench->stream));
	device_synchronize(bench->stream);
	series_add(series, began);
}

/* `pageable`, `pinned`, `lane`: where the bytes come from. */
static void compare_sources(struct bench *bench, uint64_t bytes, void *pinned, void *pageable)
{
	static struct series from_pinned, from_pageable, from_lane;
	const struct sluice_message *message = message_of(bench, bytes);
	const size_t rounds = rounds_of(bench, bytes);
	char title[64], what[80];

	from_pinned = (struct series){.name = "cuMemHostAlloc", .bytes = bytes};
	from_pageable = (struct series){.name = "pageable", .bytes = bytes};
	from_lane = (struct series){.name = "lane", .bytes = bytes};
	for (size_t i = 0; i < rounds + 3; i++) {
		if (i == 3) /* the first few warm up */
			from_pinned.count = from_pageable.count = from_lane.count = 0;
		time_copy(bench, &from_pinned, pinned, bytes);
		time_upload(bench, &from_lane, message, bytes);
		if (i % 4 == 0)
			time_copy(bench, &from_pageable, pageable, bytes);
	}
	must("cannot release", sluice_release(message));
	snprintf(title, sizeof title, "%llu KiB to the device", (unsigned long long)(bytes / KIB));
	report_title(title);
	report_series(&from_pinned, true);
	report_series(&from_lane, true);
	report_series(&from_pageable, true);
	const double pinned_ns = (double)series_percentile(&from_pinned, 50);
	const double pageable_ns = (double)series_percentile(&from_pageable, 50);
	const double lane_ns = (double)series_percentile(&from_lane, 50);
	snprintf(what, sizeof what, "lane against pinned, %llu KiB", (unsigned long long)(bytes / KIB));
	bench->all_met &= report_ratio(what, pinned_ns / lane_ns, false, 0.98);
	if (bytes < MIB)
		return;
	snprintf(what, sizeof what, "lane against pageable, %llu KiB", (unsigned long long)(bytes / KIB));
	bench->all_met &= report_ratio(what, pageable_ns / lane_ns, false, 5);
}

/* Bytes of shared memory that are free, as far as can be seen. */
static uint64_t shared_memory_left(void)
{
	const char *directory = getenv("SLUICE_DIR");
	struct statvfs system;

	if (statvfs(directory != NULL ? directory : "/dev/shm", &system) != 0)
		return 0;
	return (uint64_t)system.f_bavail * system.f_frsize;
}

static void compare_sizes(struct bench *bench)
{
	static const uint64_t sizes[] = {8 * KIB, 32 * KIB, 256 * KIB, MIB, 8 * MIB, 64 * MIB, 256 * MIB};
	const uint64_t most = bench->quick ? 8 * MIB : 256 * MIB;
	uint64_t largest = most;

	while (largest > MIB && 2 * largest + 8 * MIB > shared_memory_left())
		largest /= 2;
	void *pinned = device_allocate_pinned(largest);
	void *pageable = malloc(largest);

	if (pageable == NULL)
		must("no memory", -12);
	memset(pinned, 1, largest);
	memset(pageable, 1, largest);
	open_channel(bench, 2 * largest, 0);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		if (sizes[i] <= largest)
			compare_sources(bench, sizes[i], pinned, pageable);
		else if (sizes[i] <= most)
			report_left_out("a larger size",
				"shared memory is too small for its lane: raise it (docker: --shm-size)");
	}
	close_channel(bench);
	free(pageable);
	device_free_pinned(pinned);
}

/* ---- batches ---- */

/* Takes a batch whose messages lie one behind another; now and then the lane's end is in between. */
static bool receive_batch(struct bench *bench, const struct sluice_message *messages[BATCH])
{
	for (int i = 0; i < BATCH; i++)
		messages[i] = message_of(bench, BATCH_BYTES);
	return sluice_tensor(messages[BATCH - 1], 0)->data > sluice_tensor(messages[0], 0)->data;
}

static void compare_batches(struct bench *bench)
{
	static struct series one, batch, singly;
	const struct sluice_message *messages[BATCH];
	uint64_t offsets[BATCH];
	void *pinned = device_allocate_pinned(BATCH * BATCH_BYTES);
	const size_t rounds = rounds_of(bench, BATCH * BATCH_BYTES);

	one = (struct series){.name = "one copy of 256 KiB, pinned", .bytes = BATCH * BATCH_BYTES};
	batch = (struct series){.name = "sluice_cuda_upload_batch", .bytes = BATCH * BATCH_BYTES};
	singly = (struct series){.name = "sluice_cuda_upload, 32 times", .bytes = BATCH * BATCH_BYTES};
	memset(pinned, 1, BATCH * BATCH_BYTES);
	open_channel(bench, 4 * MIB, 0);
	for (size_t i = 0; i < rounds + 3; i++) {
		if (i == 3)
			one.count = batch.count = singly.count = 0;
		const bool in_one = receive_batch(bench, messages);
		uint64_t began = series_now();

		must("cannot upload",
			sluice_cuda_upload_batch(messages, BATCH, bench->memory, MIB, bench->stream, offsets));
		device_synchronize(bench->stream);
		if (in_one)
			series_add(&batch, began);
		began = series_now();
		for (int k = 0; k < BATCH; k++)
			must("cannot upload",
				sluice_cuda_upload(messages[k], 0, bench->memory + (size_t)k * BATCH_BYTES, BATCH_BYTES,
					bench->stream));
		device_synchronize(bench->stream);
		series_add(&singly, began);
		time_copy(bench, &one, pinned, BATCH * BATCH_BYTES);
		must("cannot release", sluice_cuda_release_batch(messages, BATCH, bench->stream));
		wait_for_releases(bench);
	}
	close_channel(bench);
	device_free_pinned(pinned);
	report_title("32 messages of 8 KiB to the device");
	report_series(&one, true);
	report_series(&batch, true);
	report_series(&singly, true);
	bench->all_met &= report_ratio("batch against one copy",
		(double)series_percentile(&batch, 50) / (double)series_percentile(&one, 50), true, 1.25);
}

/* ---- releasing ---- */

static void raise_flag(void *flag)
{
	atomic_store((_Atomic int *)flag, 1);
}

static void time_release(struct bench *bench, struct series *series, bool by_call)
{
	const struct sluice_message *message = message_of(bench, BATCH_BYTES);
	_Atomic int flag = 0;
	const uint64_t began = series_now();

	must("cannot upload", sluice_cuda_upload(message, 0, bench->memory, BATCH_BYTES, bench->stream));
	if (by_call) {
		device_call(bench->stream, raise_flag, &flag);
		while (!atomic_load(&flag))
			;
		must("cannot release", sluice_release(message));
	} else {
		must("cannot release", sluice_cuda_release(message, bench->stream));
		wait_for_releases(bench);
	}
	series_add(series, began);
}

static void compare_releases(struct bench *bench)
{
	static struct series ways[3];
	static const struct {
		const char *name;
		uint32_t flags;
		bool by_call;
	} table[3] = {{"released by a stream write", 0, false},
		{"released by an event", SLUICE_CUDA_NO_STREAM_WRITES, false},
		{"released by a host function", 0, true}};
	const size_t rounds = rounds_of(bench, BATCH_BYTES);

	report_title("8 KiB copied, and released behind it");
	for (int way = 0; way < 3; way++) {
		ways[way] = (struct series){.name = table[way].name, .bytes = BATCH_BYTES};
		open_channel(bench, MIB, table[way].flags);
		for (size_t i = 0; i < rounds + 3; i++) {
			if (i == 3)
				ways[way].count = 0;
			time_release(bench, &ways[way], table[way].by_call);
		}
		close_channel(bench);
		report_series(&ways[way], false);
	}
}

/* ---- in place ---- */

static void compare_in_place(struct bench *bench)
{
	static struct series in_place, copied;
	const uintptr_t sum = bench->memory + MIB;
	const uint32_t tokens = (uint32_t)(BATCH_BYTES / sizeof(int32_t));
	const char *why;

	if (!device_has_kernel(&why)) {
		report_left_out("in place against copy and kernel", why);
		return;
	}
	in_place = (struct series){.name = "kernel that reads the lane", .bytes = BATCH_BYTES};
	copied = (struct series){.name = "copy, and a kernel that reads that", .bytes = BATCH_BYTES};
	open_channel(bench, MIB, 0);
	for (size_t i = 0; i < rounds_of(bench, BATCH_BYTES) + 3; i++) {
		const struct sluice_message *message = message_of(bench, BATCH_BYTES);
		uintptr_t address;
		uint64_t began = series_now();

		if (i == 3)
			in_place.count = copied.count = 0;
		must("no address", sluice_cuda_pointer(message, 0, &address));
		device_sum(address, tokens, sum, bench->stream);
		device_synchronize(bench->stream);
		series_add(&in_place, began);
		began = series_now();
		must("cannot upload", sluice_cuda_upload(message, 0, bench->memory, BATCH_BYTES, bench->stream));
		device_sum(bench->memory, tokens, sum, bench->stream);
		device_synchronize(bench->stream);
		series_add(&copied, began);
		must("cannot release", sluice_cuda_release(message, bench->stream));
	}
	close_channel(bench);
	report_title("8 KiB read by a kernel");
	report_series(&in_place, false);
	report_series(&copied, false);
}

/* ---- all ---- */

static void begin(struct bench *bench)
{
	struct sluice_cuda_status status;

	snprintf(bench->channel, sizeof bench->channel, "bench-gpu-%d", (int)getpid());
	bench->stream = device_stream();
	bench->memory = device_allocate(bench->quick ? 16 * MIB : 256 * MIB);
	open_channel(bench, MIB, 0);
	must("no status", sluice_cuda_status(bench->consumer, &status));
	close_channel(bench);
	report_begin(bench->json, status.device_name, status.driver_version, device_is_standin());
}

int main(int count, char **arguments)
{
	struct bench bench = {.all_met = true};
	const char *why;

	bool probe = false;

	for (int i = 1; i < count; i++) {
		bench.quick |= strcmp(arguments[i], "--quick") == 0;
		bench.json |= strcmp(arguments[i], "--json") == 0;
		probe |= strcmp(arguments[i], "--probe") == 0;
		if (strcmp(arguments[i], "--quick") != 0 && strcmp(arguments[i], "--json") != 0 &&
			strcmp(arguments[i], "--probe") != 0) {
			fprintf(stderr, "usage: sluice-bench-gpu [--quick] [--json] [--probe]\n");
			return 2;
		}
	}
	why = device_open();
	if (why != NULL) {
		fprintf(stderr, "sluice-bench-gpu: %s\n", why);
		return 77;
	}
	begin(&bench);
	if (probe) {
		report_end();
		return 0;
	}
	compare_sizes(&bench);
	compare_batches(&bench);
	compare_releases(&bench);
	compare_in_place(&bench);
	report_end();
	return bench.all_met || device_is_standin() ? 0 : 1;
}
