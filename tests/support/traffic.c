/* SPDX-License-Identifier: Apache-2.0 */
/* Producers and consumers of the stress. */
#include "traffic.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exchange.h"
#include "harness.h"

#define MOST_PRODUCERS 8
#define MOST_HELD      256
#define MOST_BATCH     64
#define MOST_THREADS   4

struct traffic {
	struct traffic_plan plan;
	char name[SLUICE_MAX_NAME + 1];
	_Atomic uint64_t received;
	_Atomic uint64_t bytes;
	_Atomic uint8_t seen[]; /* queue: of each producer, of each message: how many consumers got it */
};

/* What stands in a message's first tensor. */
struct head {
	uint64_t producer;
	uint64_t number;
	uint64_t sum; /* of the second tensor, or of nothing if there is none */
};

/* What a consumer knows while it runs. */
struct reader {
	struct traffic *traffic;
	struct sluice_consumer *consumer;
	uint64_t next[MOST_PRODUCERS];
	uint64_t origins[MOST_PRODUCERS];
	const struct sluice_message *held[MOST_HELD];
	uint32_t held_count;
	uint64_t received;
	uint64_t bytes;
	uint64_t random;
	pthread_t threads[MOST_THREADS];
	int pipe[2];
};

static uint64_t seed_of(uint64_t producer, uint64_t number)
{
	return producer << 48 ^ number;
}

/* Bytes of the second tensor of a message, or -1 for no second tensor. */
static int64_t size_of(enum traffic_sizes sizes, uint64_t largest, uint64_t *random)
{
	const uint64_t dice = random_next(random);

	if (sizes == TRAFFIC_SMALL)
		return -1;
	if (sizes == TRAFFIC_ANY && dice % 64 == 0)
		return (int64_t)(dice % 128 ? (dice >> 16) % (largest + 1) : largest);
	if (dice % 4 == 0)
		return -1;
	if (dice % 4 == 1)
		return (int64_t)((dice >> 16) % 200);
	return (int64_t)((dice >> 16) % (largest < 4096 ? largest : 4096));
}

static void send_one(struct sluice_producer *producer, uint64_t index, uint64_t number, int64_t bytes)
{
	const struct sluice_tensor_spec specs[2] = {
		{.name = "head", .dtype = SLUICE_UINT64, .ndim = 1, .shape = {3}},
		{.name = "body", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {bytes}},
	};
	struct sluice_message *message = NULL;
	struct head head = {.producer = index, .number = number};

	check_result(0, sluice_reserve(producer, specs, bytes < 0 ? 1 : 2, SLUICE_FOREVER, &message));
	check_equal(number, sluice_sequence(message));
	if (bytes < 0)
		head.sum = pattern_sum(NULL, 0, seed_of(index, number));
	else
		head.sum = pattern_fill(sluice_data(message, 1), (uint64_t)bytes, seed_of(index, number));
	memcpy(sluice_data(message, 0), &head, sizeof head);
	check_result(0, sluice_set_correlation_id(message, seed_of(index, number)));
	check_result(0, sluice_publish(message));
}

static struct sluice_channel_options channel_of(const struct traffic_plan *plan)
{
	return (struct sluice_channel_options){.size = sizeof(struct sluice_channel_options),
		.mode = plan->mode,
		.flags = plan->flags,
		.lane_bytes = plan->lane_bytes,
		.depth = plan->depth};
}

static void produce(void *shared, unsigned index)
{
	struct traffic *traffic = shared;
	const struct traffic_plan *plan = &traffic->plan;
	const struct sluice_channel_options channel = channel_of(plan);
	struct sluice_producer *producer =
		join_producer(traffic->name, PRODUCER(.channel = &channel, .spin_ns = plan->spin_ns));
	struct sluice_geometry geometry;
	uint64_t random = index, largest;

	check_result(0, sluice_producer_geometry(producer, &geometry));
	largest = geometry.max_message_bytes - geometry.alignment;
	check(sluice_producer_wait(producer, plan->consumers, SLUICE_FOREVER) >= (int)plan->consumers);
	for (uint64_t number = 0; number < plan->messages; number++)
		send_one(producer, index, number, size_of(plan->sizes, largest, &random));
	check_result(0, sluice_producer_close(producer));
}

static void check_content(const struct sluice_message *message, const struct head *head)
{
	const uint64_t seed = seed_of(head->producer, head->number);
	const struct sluice_tensor *body = sluice_tensor(message, 1);

	check_equal(seed, sluice_correlation_id(message));
	check_equal(body ? 2 : 1, sluice_tensor_count(message));
	check_equal(head->sum, body ? pattern_sum(body->data, body->bytes, seed) : pattern_sum(NULL, 0, seed));
}

static void check_place(struct reader *reader, const struct sluice_message *message, const struct head *head)
{
	const struct traffic_plan *plan = &reader->traffic->plan;
	uint64_t *next = &reader->next[head->producer], *origin = &reader->origins[head->producer];

	check_equal(head->number, sluice_sequence(message));
	check_equal(1, sluice_delivery_count(message));
	if (plan->mode == SLUICE_BROADCAST) {
		check_equal(*next, head->number);
	} else {
		check(head->number >= *next);
		check_equal(
			0, atomic_fetch_add(&reader->traffic->seen[head->producer * plan->messages + head->number], 1));
	}
	*next = head->number + 1;
	if (!*origin)
		*origin = sluice_origin(message);
	check_equal(*origin, sluice_origin(message));
}

static void check_message(struct reader *reader, const struct sluice_message *message)
{
	const struct sluice_tensor *tensor = sluice_tensor(message, 0);
	struct head head;

	check(tensor != NULL);
	check_equal(sizeof head, tensor->bytes);
	memcpy(&head, tensor->data, sizeof head);
	check(head.producer < reader->traffic->plan.producers);
	check(head.number < reader->traffic->plan.messages);
	check_place(reader, message, &head);
	check_content(message, &head);
	reader->received++;
	reader->bytes += tensor->bytes + (sluice_tensor(message, 1) ? sluice_tensor(message, 1)->bytes : 0);
}

static void release_one_held(struct reader *reader)
{
	const uint32_t which = (uint32_t)(random_next(&reader->random) % reader->held_count);

	check_result(0, sluice_release(reader->held[which]));
	reader->held[which] = reader->held[--reader->held_count];
}

/* A thread that releases what comes through the pipe. */
static void *release_all(void *argument)
{
	const struct reader *reader = argument;
	const struct sluice_message *message;

	while (read(reader->pipe[0], &message, sizeof message) == sizeof message)
		check_result(0, sluice_release(message));
	return NULL;
}

static void let_go(struct reader *reader, const struct sluice_message *message)
{
	const struct traffic_plan *plan = &reader->traffic->plan;

	if (plan->release_threads) {
		check(write(reader->pipe[1], &message, sizeof message) == sizeof message);
		return;
	}
	reader->held[reader->held_count++] = message;
	while (reader->held_count > plan->held)
		release_one_held(reader);
}

/* The next messages; a reader that holds some does not wait, for the room that it waits for may be its own. */
static int next_messages(struct reader *reader, const struct sluice_message **messages)
{
	const uint32_t batch = reader->traffic->plan.batch;
	const int64_t timeout_ns = reader->held_count ? 0 : SLUICE_FOREVER;
	int result;

	if (batch)
		return sluice_receive_batch(reader->consumer, batch, 0, 0, timeout_ns, messages);
	result = sluice_receive(reader->consumer, timeout_ns, messages);
	return result ? result : 1;
}

static void read_all(struct reader *reader)
{
	const struct sluice_message *messages[MOST_BATCH];
	int count;

	while ((count = next_messages(reader, messages)) != -ENODATA) {
		if (count == -EAGAIN && reader->held_count) {
			release_one_held(reader);
			continue;
		}
		check(count > 0 && count <= (int)(reader->traffic->plan.batch ? reader->traffic->plan.batch : 1));
		for (int i = 0; i < count; i++) {
			check_message(reader, messages[i]);
			let_go(reader, messages[i]);
		}
	}
	while (reader->held_count)
		release_one_held(reader);
}

static void start_threads(struct reader *reader)
{
	if (!reader->traffic->plan.release_threads)
		return;
	check(!pipe(reader->pipe));
	for (uint32_t i = 0; i < reader->traffic->plan.release_threads; i++)
		check(!pthread_create(&reader->threads[i], NULL, release_all, reader));
}

static void end_threads(struct reader *reader)
{
	if (!reader->traffic->plan.release_threads)
		return;
	close(reader->pipe[1]);
	for (uint32_t i = 0; i < reader->traffic->plan.release_threads; i++)
		pthread_join(reader->threads[i], NULL);
	close(reader->pipe[0]);
}

static void consume(void *shared, unsigned index)
{
	struct traffic *traffic = shared;
	const struct traffic_plan *plan = &traffic->plan;
	const struct sluice_channel_options channel = channel_of(plan);
	struct reader reader = {.traffic = traffic, .random = index};

	reader.consumer =
		join_consumer(traffic->name, CONSUMER(.channel = &channel, .flags = SLUICE_END_OF_STREAM,
						     .expected_producers = plan->producers, .spin_ns = plan->spin_ns));
	start_threads(&reader);
	read_all(&reader);
	end_threads(&reader);
	check_result(0, sluice_consumer_close(reader.consumer));
	if (plan->mode == SLUICE_BROADCAST)
		check_equal(plan->messages * plan->producers, reader.received);
	atomic_fetch_add(&traffic->received, reader.received);
	atomic_fetch_add(&traffic->bytes, reader.bytes);
}

static void check_and_tell(struct traffic *traffic, uint64_t begin_ns)
{
	const struct traffic_plan *plan = &traffic->plan;
	const uint64_t copies = plan->mode == SLUICE_BROADCAST ? plan->consumers : 1;
	const double seconds = (double)(now_ns() - begin_ns) / 1e9;

	check_equal(plan->messages * plan->producers * copies, traffic->received);
	print_message("%ux%u: %llu messages, %.1f MB, %.2f s\n", plan->producers, plan->consumers,
		(unsigned long long)traffic->received, (double)traffic->bytes / 1e6, seconds);
}

void traffic_run(const char *name, const struct traffic_plan *plan)
{
	const uint64_t begin_ns = now_ns();
	struct traffic *traffic = shared_memory(sizeof *traffic + plan->messages * plan->producers);

	check(plan->producers <= MOST_PRODUCERS && plan->held < MOST_HELD - MOST_BATCH && plan->batch <= MOST_BATCH);
	check(plan->release_threads <= MOST_THREADS);
	traffic->plan = *plan;
	snprintf(traffic->name, sizeof traffic->name, "%s", name);
	for (uint32_t i = 0; i < plan->producers; i++)
		process_start(produce, traffic, i);
	for (uint32_t i = 0; i < plan->consumers; i++)
		process_start(consume, traffic, i);
	processes_finish();
	check_and_tell(traffic, begin_ns);
}
