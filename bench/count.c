/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-count: what callgrind looks at. One process at both ends of a channel sends itself messages, so that no call
 * ever waits; every reserve with publish and every receive with release goes through a function of its own, whose
 * inclusive count instructions.c reads. Payloads stay untouched, time stamps are off: nothing depends on the clock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "instructions.h"

#define DEPTH   64
#define WARM_UP (2 * DEPTH)
#define LIMIT_S 60 /* under callgrind it takes a second or two */

struct ends {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	struct sluice_tensor_spec spec;
};

static inline int send_one(struct ends *ends)
{
	struct sluice_message *message;
	int error = sluice_reserve(ends->producer, &ends->spec, 1, 0, &message);

	return error ? error : sluice_publish(message);
}

static inline int receive_one(struct ends *ends)
{
	const struct sluice_message *message;
	int error = sluice_receive(ends->consumer, 0, &message);

	return error ? error : sluice_release(message);
}

/* The comment in the assembly keeps functions apart that are otherwise the same. */
#define COUNTED(kind)                                                                                                  \
	__attribute__((noinline)) static int counted_publish_##kind(struct ends *ends)                                 \
	{                                                                                                              \
		__asm__ volatile("/* publish " #kind " */");                                                           \
		return send_one(ends);                                                                                 \
	}                                                                                                              \
	__attribute__((noinline)) static int counted_receive_##kind(struct ends *ends)                                 \
	{                                                                                                              \
		__asm__ volatile("/* receive " #kind " */");                                                           \
		return receive_one(ends);                                                                              \
	}

COUNTED(queue_64)
COUNTED(queue_8k)
COUNTED(broadcast_64)

static const struct counted {
	const char *name;
	uint32_t mode;
	int64_t elements;
	int (*publish)(struct ends *ends);
	int (*receive)(struct ends *ends);
} all[] = {
	{"queue_64", SLUICE_QUEUE, 16, counted_publish_queue_64, counted_receive_queue_64},
	{"queue_8k", SLUICE_QUEUE, 2048, counted_publish_queue_8k, counted_receive_queue_8k},
	{"broadcast_64", SLUICE_BROADCAST, 16, counted_publish_broadcast_64, counted_receive_broadcast_64},
};

static int ends_open(const struct counted *counted, const char *name, struct ends *ret_ends)
{
	struct sluice_channel_options channel = {
		.size = sizeof channel, .mode = counted->mode, .depth = DEPTH, .lane_bytes = 1u << 20};
	struct sluice_producer_options producer = {
		.size = sizeof producer, .channel = &channel, .sample_rate_hz = SLUICE_STAMP_NONE};
	struct sluice_consumer_options consumer = {.size = sizeof consumer, .channel = &channel};

	ret_ends->spec = (struct sluice_tensor_spec){
		.name = "input_ids", .dtype = SLUICE_INT32, .ndim = 1, .shape = {counted->elements}};
	int error = sluice_producer_open(name, &producer, &ret_ends->producer);
	return error ? error : sluice_consumer_open(name, &consumer, &ret_ends->consumer);
}

static int count(const struct counted *counted)
{
	struct ends ends = {0};
	char name[SLUICE_MAX_NAME + 1];

	snprintf(name, sizeof name, "count-%d-%s", (int)getpid(), counted->name);
	int error = ends_open(counted, name, &ends);
	for (int i = 0; i < WARM_UP && error == 0; i++) {
		error = send_one(&ends);
		error = error ? error : receive_one(&ends);
	}
	for (int i = 0; i < INSTRUCTIONS_MESSAGES && error == 0; i++) {
		error = counted->publish(&ends);
		error = error ? error : counted->receive(&ends);
	}
	sluice_consumer_close(ends.consumer);
	sluice_producer_close(ends.producer);
	if (error)
		fprintf(stderr, "sluice-count: %s: %s\n", counted->name, sluice_strerror(error));
	return error;
}

int main(void)
{
	int error = 0;

	alarm(LIMIT_S);
	for (size_t i = 0; i < sizeof all / sizeof *all && error == 0; i++)
		error = count(&all[i]);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
