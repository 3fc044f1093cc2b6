/* SPDX-License-Identifier: Apache-2.0 */
/* Members with few options, messages of one number, patterns. */
#include "exchange.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "harness.h"

struct sluice_producer *join_producer(const char *name, const struct sluice_producer_options *options)
{
	struct sluice_producer *producer = NULL;

	check_result(0, sluice_producer_open(name, options, &producer));
	check(producer != NULL);
	return producer;
}

struct sluice_consumer *join_consumer(const char *name, const struct sluice_consumer_options *options)
{
	struct sluice_consumer *consumer = NULL;

	check_result(0, sluice_consumer_open(name, options, &consumer));
	check(consumer != NULL);
	return consumer;
}

int try_to_send(struct sluice_producer *producer, int64_t number, int64_t timeout_ns)
{
	const struct sluice_tensor_spec spec = {.name = "number", .dtype = SLUICE_INT64, .ndim = 0};
	struct sluice_message *message = NULL;
	int result = sluice_reserve(producer, &spec, 1, timeout_ns, &message);

	if (result)
		return result;
	memcpy(sluice_data(message, 0), &number, sizeof number);
	return sluice_publish(message);
}

void send_number(struct sluice_producer *producer, int64_t number)
{
	check_result(0, try_to_send(producer, number, PATIENCE));
}

void send_numbers(struct sluice_producer *producer, int64_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		send_number(producer, first + i);
}

void send_bytes(struct sluice_producer *producer, int64_t number, int64_t bytes)
{
	const struct sluice_tensor_spec spec = {.name = "bytes", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {bytes}};
	struct sluice_message *message = NULL;

	check_result(0, sluice_reserve(producer, &spec, 1, PATIENCE, &message));
	memset(sluice_data(message, 0), (int)(number & 0xff), (size_t)bytes);
	check_result(0, sluice_set_correlation_id(message, (uint64_t)number));
	check_result(0, sluice_publish(message));
}

int64_t number_of(const struct sluice_message *message)
{
	const struct sluice_tensor *tensor = sluice_tensor(message, 0);
	int64_t number;

	check(tensor != NULL);
	check_equal(sizeof number, tensor->bytes);
	memcpy(&number, tensor->data, sizeof number);
	return number;
}

const struct sluice_message *hold(struct sluice_consumer *consumer)
{
	const struct sluice_message *message = NULL;

	check_result(0, sluice_receive(consumer, PATIENCE, &message));
	check(message != NULL);
	return message;
}

const struct sluice_message *hold_number(struct sluice_consumer *consumer, int64_t number)
{
	const struct sluice_message *message = hold(consumer);

	check_equal(number, number_of(message));
	return message;
}

int64_t take(struct sluice_consumer *consumer)
{
	const struct sluice_message *message = hold(consumer);
	const int64_t number = number_of(message);

	check_result(0, sluice_release(message));
	return number;
}

void take_numbers(struct sluice_consumer *consumer, int64_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		check_equal(first + i, take(consumer));
}

int nothing_within(struct sluice_consumer *consumer, int64_t timeout_ns)
{
	const struct sluice_message *message = NULL;
	int result = sluice_receive(consumer, timeout_ns, &message);

	check(message == NULL);
	return result;
}

static unsigned sleepers(const char *name, uint32_t role)
{
	struct sluice_channel_stat *stat = NULL;
	unsigned count = 0;

	if (sluice_channel_stat(name, NULL, &stat))
		return 0;
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].role == role && stat->members[i].asleep)
			count++;
	sluice_channel_stat_free(stat);
	return count;
}

void wait_until_asleep(const char *name, uint32_t role, unsigned count)
{
	const uint64_t end = now_ns() + PATIENCE;

	while (sleepers(name, role) < count) {
		check(now_ns() < end);
		sched_yield();
	}
}

static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 32;
}

uint64_t pattern_fill(void *data, uint64_t bytes, uint64_t seed)
{
	unsigned char *at = data;
	uint64_t sum = mix(seed, bytes), state = seed * UINT64_C(0xd1342543de82ef95) + 1, word;

	for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
		state += UINT64_C(0x9e3779b97f4a7c15);
		word = state ^ state >> 29;
		memcpy(at, &word, sizeof word);
		sum = mix(sum, word);
	}
	for (; bytes; bytes--, at++) {
		*at = (unsigned char)(state >> (8 * (bytes % 8)));
		sum = mix(sum, *at);
	}
	return sum;
}

uint64_t pattern_sum(const void *data, uint64_t bytes, uint64_t seed)
{
	const unsigned char *at = data;
	uint64_t sum = mix(seed, bytes), word;

	for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
		memcpy(&word, at, sizeof word);
		sum = mix(sum, word);
	}
	for (; bytes; bytes--, at++)
		sum = mix(sum, *at);
	return sum;
}

uint64_t random_next(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state, *state >> 31);
}
