/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "mappings.h"
#include "pace.h"

#define HANDLES 20 /* more than the library lets rest before it uses one again */

/* ---- input ---- */

uint64_t input_number(struct input *input, size_t bytes)
{
	uint64_t number = 0;
	size_t taken = bytes < input->left ? bytes : input->left;
	memcpy(&number, input->bytes, taken);
	input->bytes += taken;
	input->left -= taken;
	return number;
}

void fail(const char *reason)
{
	dprintf(STDERR_FILENO, "fuzz: %s\n", reason); /* perhaps from within a signal handler */
	abort();
}

/* ---- the account ---- */

static unsigned descriptors;
static unsigned mappings;

void sandbox_begin(void)
{
	pace_begin();
	descriptors = files_open();
	mappings = mappings_count();
}

void sandbox_end(bool none_expected)
{
	if (files_open() != descriptors)
		fail("a descriptor was left open");
	if (mappings_count() != mappings)
		fail("a mapping was left");
	files_clear(none_expected);
	pace_end();
}

/* ---- handles ---- */

static void exchange_one(struct sluice_producer *producer, struct sluice_consumer *consumer)
{
	const struct sluice_tensor_spec spec = {"x", SLUICE_UINT8, 1, {1}};
	struct sluice_message *message;
	const struct sluice_message *received;
	if (sluice_reserve(producer, &spec, 1, 0, &message) != 0 || sluice_publish(message) != 0 ||
		sluice_receive(consumer, 0, &received) != 0 || sluice_release(received) != 0)
		fail("a channel does not work at all");
}

void sandbox_start(void)
{
	files_start();
	mappings_reserve();
	pace_start();
	pace_begin();
	const struct sluice_channel_options channel = {
		.size = sizeof channel, .directory = FILES_DIRECTORY, .depth = 2};
	const struct sluice_producer_options producing = {
		.size = sizeof producing, .channel = &channel, .lane_bytes = 4096};
	const struct sluice_consumer_options consuming = {.size = sizeof consuming, .channel = &channel};
	for (unsigned i = 0; i < 2 * HANDLES; i++) {
		struct sluice_producer *producer;
		struct sluice_consumer *consumer;
		if (sluice_producer_open("warm", &producing, &producer) != 0 ||
			sluice_consumer_open("warm", &consuming, &consumer) != 0)
			fail("a channel cannot be opened at all");
		exchange_one(producer, consumer);
		sluice_producer_close(producer);
		sluice_consumer_close(consumer);
	}
	files_clear(true);
}
