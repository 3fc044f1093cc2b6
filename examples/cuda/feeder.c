/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeder: publishes batches of random tokens as the tokenizer does of real ones, for machines that have a GPU and no
 * SentencePiece.
 *
 * Usage: cuda-feeder CHANNEL PART PARTS BATCHES
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "../common/batch.h"
#include "../common/process.h"

#define ROWS       32
#define SEQ        256
#define VOCABULARY 4000

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return *state >> 33;
}

static void fill(struct sluice_message *message, uint64_t number, uint64_t run_batches)
{
	uint64_t state = number;
	int64_t *times = sluice_data(message, BATCH_TOKENIZE_NS);
	int32_t *lengths = sluice_data(message, BATCH_LENGTHS);
	int32_t *texts = sluice_data(message, BATCH_TEXTS);
	int64_t *spans = sluice_data(message, BATCH_SPANS);
	int32_t *ids = sluice_data(message, BATCH_INPUT_IDS);

	times[0] = (int64_t)process_now_ns();
	*(int64_t *)sluice_data(message, BATCH_RUN_BATCHES) = (int64_t)run_batches;
	memset(spans, 0, (size_t)2 * ROWS * sizeof *spans); /* of no file */
	memset(ids, 0, (size_t)ROWS * SEQ * sizeof *ids);
	for (int row = 0; row < ROWS; row++) {
		int32_t *text = ids + (size_t)row * SEQ;

		lengths[row] = (int32_t)(next_random(&state) % (SEQ + 1));
		texts[row] = (int32_t)(number * ROWS) + row;
		for (int32_t i = 0; i < lengths[row]; i++)
			text[i] = (int32_t)(next_random(&state) % VOCABULARY);
	}
	times[1] = (int64_t)process_now_ns();
	batch_sign(message);
}

static int feed(struct sluice_producer *producer, uint64_t part, uint64_t parts, uint64_t batches)
{
	struct sluice_tensor_spec specs[BATCH_TENSORS];

	batch_specs(ROWS, SEQ, specs);
	for (uint64_t number = part; number < batches && process_stopped() == 0; number += parts) {
		struct sluice_message *message;
		int result;

		do
			result = sluice_reserve(producer, specs, BATCH_TENSORS, PROCESS_PATIENCE_NS, &message);
		while ((result == -ETIMEDOUT || result == -EINTR) && process_stopped() == 0);
		if (result != 0)
			return result;
		fill(message, number, batches);
		sluice_set_correlation_id(message, number);
		result = sluice_publish(message);
		if (result != 0)
			return result;
	}
	return 0;
}

int main(int count, char **arguments)
{
	const struct sluice_producer_options options = {.size = sizeof options, .sample_rate_hz = SLUICE_STAMP_ALL};
	struct sluice_producer *producer;
	uint64_t part, parts, batches;
	int result;

	if (count != 5 || !process_parse_count(arguments[2], 0, SLUICE_MAX_MEMBERS, &part) ||
		!process_parse_count(arguments[3], 1, SLUICE_MAX_MEMBERS, &parts) ||
		!process_parse_count(arguments[4], 1, 1 << 28, &batches)) {
		process_complain("usage: cuda-feeder CHANNEL PART PARTS BATCHES");
		return 2;
	}
	process_catch_signals();
	result = sluice_producer_open(arguments[1], &options, &producer);
	if (result == 0) {
		result = feed(producer, part, parts, batches);
		sluice_producer_close(producer);
	}
	if (result != 0 && process_stopped() == 0)
		process_complain("channel '%s': %s", arguments[1], sluice_strerror(result));
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
