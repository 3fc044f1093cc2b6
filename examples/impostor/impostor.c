/* SPDX-License-Identifier: Apache-2.0 */
/* Impostor: for the test of the examples. Publishes a batch that is wrong in one way, named by its second argument. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "../common/batch.h"
#include "../common/process.h"

#define ROWS 4
#define SEQ  16

/* A sound batch: every text has SEQ tokens, all of them token 1. */
static void fill(struct sluice_message *message, uint64_t begin_ns)
{
	int64_t *tokenize_ns = sluice_data(message, BATCH_TOKENIZE_NS);
	int64_t *run_batches = sluice_data(message, BATCH_RUN_BATCHES);
	int32_t *lengths = sluice_data(message, BATCH_LENGTHS);
	int32_t *texts = sluice_data(message, BATCH_TEXTS);
	int64_t *spans = sluice_data(message, BATCH_SPANS);
	int32_t *ids = sluice_data(message, BATCH_INPUT_IDS);

	tokenize_ns[0] = tokenize_ns[1] = (int64_t)begin_ns;
	*run_batches = 1;
	for (int64_t row = 0; row < ROWS; row++) {
		lengths[row] = SEQ;
		texts[row] = (int32_t)row;
		spans[2 * row] = row;
		spans[2 * row + 1] = 1;
	}
	for (int i = 0; i < ROWS * SEQ; i++)
		ids[i] = 1;
}

static void flip_a_bit(struct sluice_message *message)
{
	int32_t *ids = sluice_data(message, BATCH_INPUT_IDS);

	ids[ROWS * SEQ - 1] ^= 1 << 20;
}

static void lengthen(struct sluice_message *message)
{
	int32_t *lengths = sluice_data(message, BATCH_LENGTHS);

	lengths[1] = SEQ + 1;
	batch_sign(message);
}

static void invent_a_token(struct sluice_message *message)
{
	int32_t *ids = sluice_data(message, BATCH_INPUT_IDS);

	ids[5] = -7;
	batch_sign(message);
}

static void promise_more(struct sluice_message *message)
{
	int64_t *run_batches = sluice_data(message, BATCH_RUN_BATCHES);

	*run_batches = 3;
	batch_sign(message);
}

static void promise_nonsense(struct sluice_message *message)
{
	int64_t *run_batches = sluice_data(message, BATCH_RUN_BATCHES);

	*run_batches = -1;
	batch_sign(message);
}

static void nothing(struct sluice_message *message)
{
	(void)message;
}

static const struct lie {
	const char *name;
	void (*tell)(struct sluice_message *message);
	int times;
} lies[] = {
	{"none", nothing, 1},
	{"bit", flip_a_bit, 1},
	{"length", lengthen, 1},
	{"token", invent_a_token, 1},
	{"missing", promise_more, 1},
	{"nonsense", promise_nonsense, 1},
	{"twice", nothing, 2},
};

static int publish(struct sluice_producer *producer, const struct lie *lie)
{
	struct sluice_tensor_spec specs[BATCH_TENSORS];
	struct sluice_message *message;
	uint64_t begin_ns = process_now_ns();
	int result;

	batch_specs(ROWS, SEQ, specs);
	result = sluice_reserve(producer, specs, BATCH_TENSORS, 0, &message);
	if (result < 0)
		return result;
	fill(message, begin_ns);
	batch_sign(message);
	lie->tell(message);
	return sluice_publish(message);
}

static int publish_other_tensors(struct sluice_producer *producer)
{
	const struct sluice_tensor_spec spec = {"image", SLUICE_UINT8, 3, {4, 4, 3}};
	struct sluice_message *message;
	int result = sluice_reserve(producer, &spec, 1, 0, &message);

	return result < 0 ? result : sluice_publish(message);
}

static int run(const char *channel, const char *name)
{
	const struct sluice_producer_options options = {.size = sizeof options, .sample_rate_hz = SLUICE_STAMP_ALL};
	struct sluice_producer *producer;
	int result = sluice_producer_open(channel, &options, &producer);

	if (result < 0)
		return result;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		for (int n = 0; strcmp(name, lies[i].name) == 0 && n < lies[i].times && result == 0; n++)
			result = publish(producer, &lies[i]);
	}
	if (strcmp(name, "tensors") == 0)
		result = publish_other_tensors(producer);
	sluice_producer_close(producer);
	return result;
}

int main(int count, char **arguments)
{
	int result = count == 3 ? run(arguments[1], arguments[2]) : -EINVAL;

	if (result < 0)
		process_complain("%s", sluice_strerror(result));
	return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
