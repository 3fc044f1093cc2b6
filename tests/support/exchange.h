/* SPDX-License-Identifier: Apache-2.0 */
/* Members with few options, and messages that are one number each: enough for most promises. */
#ifndef TEST_EXCHANGE_H
#define TEST_EXCHANGE_H

#include <sluice/sluice.h>

/* Options of a channel with small lanes of `depth` messages, as a compound literal whose fields may be set further. */
#define CHANNEL(...)                                                                                                   \
	(&(struct sluice_channel_options){                                                                             \
		.size = sizeof(struct sluice_channel_options), .lane_bytes = 65536, .depth = 8, __VA_ARGS__})
#define PRODUCER(...) (&(struct sluice_producer_options){.size = sizeof(struct sluice_producer_options), __VA_ARGS__})
#define CONSUMER(...) (&(struct sluice_consumer_options){.size = sizeof(struct sluice_consumer_options), __VA_ARGS__})

/* Open or fail the test. */
struct sluice_producer *join_producer(const char *name, const struct sluice_producer_options *options);
struct sluice_consumer *join_consumer(const char *name, const struct sluice_consumer_options *options);

/* Publishes a scalar int64 that is `number`, waiting for room. */
void send_number(struct sluice_producer *producer, int64_t number);
/* Sends `first` to `first` + `count` - 1. */
void send_numbers(struct sluice_producer *producer, int64_t first, unsigned count);
/* As send_number, with a time-out and its result. */
int try_to_send(struct sluice_producer *producer, int64_t number, int64_t timeout_ns);
/* Publishes `bytes` bytes, each the low byte of `number`, with `number` as correlation id. */
void send_bytes(struct sluice_producer *producer, int64_t number, int64_t bytes);

/* The number that a message of send_number carries. */
int64_t number_of(const struct sluice_message *message);
/* Receives a message without releasing it; it must come. */
const struct sluice_message *hold(struct sluice_consumer *consumer);
/* Receives a message that must be `number`, without releasing it. */
const struct sluice_message *hold_number(struct sluice_consumer *consumer, int64_t number);
/* Receives and releases a message; returns its number. */
int64_t take(struct sluice_consumer *consumer);
/* Receives and releases messages that must be `first` to `first` + `count` - 1. */
void take_numbers(struct sluice_consumer *consumer, int64_t first, unsigned count);
/* Receives nothing: the result of sluice_receive with this time-out, which must not be 0. */
int nothing_within(struct sluice_consumer *consumer, int64_t timeout_ns);

/* Waits until `count` members of `role` sleep in a call. */
void wait_until_asleep(const char *name, uint32_t role, unsigned count);

/* Content that no two seeds share: fills memory, and returns its checksum, which pattern_sum finds again. */
uint64_t pattern_fill(void *data, uint64_t bytes, uint64_t seed);
uint64_t pattern_sum(const void *data, uint64_t bytes, uint64_t seed);
/* A generator with its state at the caller's. */
uint64_t random_next(uint64_t *state);

#endif
