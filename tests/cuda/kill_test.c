/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumers that are killed at random moments while their streams copy, acknowledge and fall behind. Every message is
 * copied whole at least once, none is copied after its memory was used again, and none is delivered again after its
 * consumer lived to see it released, but for a raised count.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "device.h"

#define MESSAGES  40000
#define DEPTH     16
#define BYTES     2048
#define STREAMS   2
#define CONSUMERS 2
#define SLOTS     512 /* of device memory, more than can be under way */

struct record {
	_Atomic uint32_t copied[MESSAGES]; /* how often the stream found the right bytes */
	_Atomic uint32_t wrong;
	_Atomic uint32_t deliveries;
	_Atomic uint32_t published;
	_Atomic uint32_t over;
	struct gauge ready[CONSUMERS];
};

static struct record *record;

static const struct sluice_channel_options *channel(void)
{
	static struct sluice_channel_options options = {
		.size = sizeof options, .depth = DEPTH, .lane_bytes = 65536, .max_deliveries = SLUICE_UNLIMITED};

	return &options;
}

/* ---- the producer ---- */

static void produce(void *argument)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = channel()));

	(void)argument;
	for (uint64_t i = 0; i < MESSAGES; i++) {
		check_result(0, send_pattern(producer, i, BYTES, PATIENCE));
		atomic_store(&record->published, (uint32_t)i + 1);
	}
	check_result(0, sluice_producer_close(producer));
}

/* ---- consumers ---- */

struct copy {
	uintptr_t address;
	uint64_t number;
	uint32_t pause_ns;
};

/* In the stream, behind the copy and before the acknowledgement: the stand-in's device memory can be read. */
static void look_at_copy(void *argument)
{
	const struct copy *copy = argument;
	const struct timespec pause = {.tv_nsec = copy->pause_ns};

	if (copy->pause_ns)
		nanosleep(&pause, NULL);
	if (is_pattern((const void *)copy->address, copy->number, BYTES))
		atomic_fetch_add(&record->copied[copy->number], 1);
	else
		atomic_fetch_add(&record->wrong, 1);
}

/* Goes on until it is killed, or there is nothing more. */
static void consume(void *argument)
{
	const unsigned index = (unsigned)(uintptr_t)argument;
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = channel(), .flags = SLUICE_END_OF_STREAM));
	static struct copy copies[SLOTS];
	stream_handle streams[STREAMS];
	const struct sluice_message *message;
	unsigned seed = (unsigned)getpid();
	uintptr_t memory;
	int result;

	device_use(0);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	for (unsigned i = 0; i < STREAMS; i++)
		streams[i] = device_stream();
	memory = device_allocate((size_t)SLOTS * BYTES);
	gauge_set(&record->ready[index], 1);
	for (unsigned turn = 0; (result = sluice_receive(consumer, PATIENCE, &message)) == 0; turn++) {
		struct copy *copy = &copies[turn % SLOTS];
		stream_handle stream = streams[(unsigned)rand_r(&seed) % STREAMS];

		copy->address = memory + turn % SLOTS * BYTES;
		copy->number = sluice_correlation_id(message);
		copy->pause_ns = rand_r(&seed) % 8 ? 0 : (uint32_t)rand_r(&seed) % 300000;
		check(copy->number < MESSAGES);
		atomic_fetch_add(&record->deliveries, 1);
		check_result(0, sluice_cuda_upload(message, 0, copy->address, BYTES, stream));
		device_call(stream, look_at_copy, copy);
		check_result(0, sluice_cuda_release(message, stream));
	}
	check_result(-ENODATA, result);
	check_result(0, sluice_consumer_close(consumer));
	for (unsigned i = 0; i < STREAMS; i++)
		device_end_stream(streams[i]);
	device_free(memory);
	device_let_go(0);
	atomic_fetch_add(&record->over, 1);
}

/* ---- the test ---- */

static pid_t start_consumer(unsigned index)
{
	pid_t child = fork();

	check(child >= 0);
	if (child)
		return child;
	alarm(120);
	consume((void *)(uintptr_t)index); /* NOLINT(performance-no-int-to-ptr): a number */
	device_check_left();
	exit(0);
}

static void pause_a_while(unsigned *seed)
{
	const struct timespec pause = {.tv_nsec = 1000000 + (long)rand_r(seed) % 20000000};

	nanosleep(&pause, NULL);
}

static void killed_consumers_lose_and_corrupt_nothing(void)
{
	pid_t consumers[CONSUMERS];
	unsigned producer, kills = 0, seed = 1;
	struct sluice_consumer *keeper;

	record = shared_memory(sizeof *record);
	/* Takes nothing; so that one who comes after all is over still finds this channel. */
	keeper = join_consumer(CONSUMER(.channel = channel()));
	producer = start_process(produce, NULL);
	for (unsigned i = 0; i < CONSUMERS; i++)
		consumers[i] = start_consumer(i);
	while (atomic_load(&record->published) < MESSAGES && !atomic_load(&record->over)) {
		const unsigned victim = kills++ % CONSUMERS;

		gauge_wait(&record->ready[victim], 1);
		pause_a_while(&seed);
		check(!kill(consumers[victim], SIGKILL));
		check(waitpid(consumers[victim], NULL, 0) == consumers[victim]);
		gauge_set(&record->ready[victim], 0);
		consumers[victim] = start_consumer(victim);
	}
	finish_process(producer);
	for (unsigned i = 0; i < CONSUMERS; i++) {
		int status;

		check(waitpid(consumers[i], &status, 0) == consumers[i]);
		check_equal(0, status);
	}
	check_result(0, sluice_consumer_close(keeper));
	check(kills > 2);
	check_equal(0, record->wrong);
	for (unsigned i = 0; i < MESSAGES; i++)
		check(record->copied[i] > 0);
	/* A death costs what was under way, and no more. */
	check(record->deliveries >= MESSAGES);
	check(record->deliveries <= MESSAGES + (kills + 1) * DEPTH);
	printf("(%u killed, %u deliveries) ", kills, record->deliveries);
}

static const struct check_case cases[] = {STANDIN(killed_consumers_lose_and_corrupt_nothing)};

int main(int count, char **arguments)
{
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
