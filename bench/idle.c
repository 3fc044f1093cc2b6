/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doing nothing: a process with IDLE_CHANNELS consumers, each blocked in receive in a thread of its own, and a process with
 * their producers, which send nothing until the end. CPU time and voluntary switches of both are counted meanwhile.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include <sluice/sluice.h>

#include "case.h"
#include "pair.h"

#define IDLE_CHANNELS  8
#define IDLE_SETTLE_NS 300000000u /* until every consumer has given up spinning */

static void channel_name(char *name, size_t bytes, const char *channel, int index)
{
	snprintf(name, bytes, "%s-idle%d", channel, index);
}

static struct sluice_channel_options channel_options(const struct side *side)
{
	return (struct sluice_channel_options){
		.size = sizeof(struct sluice_channel_options),
		.mode = SLUICE_QUEUE,
		.depth = side->of->depth,
		.lane_bytes = side->of->lane_bytes,
	};
}

/* The case is to let time pass; no one waits for anything here. */
static void pass_time(uint64_t ns)
{
	struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

static void look_on(struct side *side)
{
	pass_time(IDLE_SETTLE_NS);
	side_start(side);
	pass_time(side->idle_ns);
	side_finish(side);
}

/* Waits for the one message that ends it. */
static void *consume(void *context)
{
	const struct sluice_message *message;
	int error;

	do {
		error = sluice_receive(context, SLUICE_FOREVER, &message);
	} while (error == -EINTR);
	if (error == 0)
		sluice_release(message);
	return NULL;
}

int idle_first(struct side *side)
{
	struct sluice_channel_options channel = channel_options(side);
	struct sluice_consumer_options options = {.size = sizeof options, .channel = &channel};
	struct sluice_consumer *consumers[IDLE_CHANNELS] = {0};
	pthread_t threads[IDLE_CHANNELS];
	char name[PAIR_CHANNEL_BYTES + 8];
	int started = 0;
	int error = 0;

	for (int i = 0; i < IDLE_CHANNELS; i++) {
		channel_name(name, sizeof name, side->channel, i);
		error = sluice_consumer_open(name, &options, &consumers[i]);
		if (error)
			return side_fail(side, error, "sluice_consumer_open");
	}
	side_meet(side);
	for (; started < IDLE_CHANNELS; started++) {
		error = pthread_create(&threads[started], NULL, consume, consumers[started]);
		if (error)
			return side_fail(side, -error, "pthread_create");
	}
	look_on(side);
	for (int i = 0; i < IDLE_CHANNELS; i++) {
		pthread_join(threads[i], NULL);
		sluice_consumer_close(consumers[i]);
	}
	return 0;
}

static int end_one(struct side *side, struct sluice_producer *producer)
{
	struct sluice_tensor_spec spec = {.name = "end", .dtype = SLUICE_INT32, .ndim = 1, .shape = {1}};
	struct sluice_message *message;
	int error = sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message);

	if (error == 0)
		error = sluice_publish(message);
	return error ? side_fail(side, error, "sluice_publish") : 0;
}

int idle_second(struct side *side)
{
	struct sluice_channel_options channel = channel_options(side);
	struct sluice_producer_options options = {.size = sizeof options, .channel = &channel};
	struct sluice_producer *producers[IDLE_CHANNELS] = {0};
	char name[PAIR_CHANNEL_BYTES + 8];
	int error = 0;

	for (int i = 0; i < IDLE_CHANNELS; i++) {
		channel_name(name, sizeof name, side->channel, i);
		error = sluice_producer_open(name, &options, &producers[i]);
		if (error)
			return side_fail(side, error, "sluice_producer_open");
	}
	side_meet(side);
	look_on(side);
	for (int i = 0; i < IDLE_CHANNELS && error == 0; i++)
		error = end_one(side, producers[i]);
	for (int i = 0; i < IDLE_CHANNELS; i++)
		sluice_producer_close(producers[i]);
	return error;
}

void idle_clean_up(const char *channel)
{
	char name[PAIR_CHANNEL_BYTES + 8];

	for (int i = 0; i < IDLE_CHANNELS; i++) {
		channel_name(name, sizeof name, channel, i);
		(void)!sluice_channel_remove(name, NULL, SLUICE_REMOVE_FORCE);
	}
}
