/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inference on a GPU: receives token batches (common/batch.h), has the device read the tokens out of the producers'
 * memory, uploaded or in place, embeds every text there and gives each batch back when the device has come so far. The
 * CPU neither copies the tokens nor waits for a copy. Every embedding is compared with what the CPU makes of the same
 * tokens.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "../common/batch.h"
#include "../common/process.h"
#include "embedder.h"

#define SLOTS 4 /* batches whose results are under way */

/* Both add up the same floats in the same order, but for the length of the vector. */
#define TOLERANCE 1e-5f

struct settings {
	const char *channel;
	uint64_t producers;
	uint64_t dimensions;
	uint64_t vocabulary;
	uint64_t seed;
	uint64_t rows;
	uint64_t seq;
	bool in_place;
	bool unchecked;
};

/* A batch that was given to the device. */
struct slot {
	bool used;
	uint64_t number;
	int64_t rows;
	uintptr_t memory; /* on the device, for tokens and lengths */
	float *expected;  /* by the CPU */
};

struct inference {
	const struct settings *settings;
	struct sluice_consumer *consumer;
	struct embedding_table table;
	struct embedder *embedder;
	struct sluice_cuda_buffer *buffer; /* room for the uploads of all slots */
	uint64_t slot_bytes;
	struct slot slots[SLOTS];
	uint64_t batches;
	uint64_t texts;
	float largest; /* difference */
	uint64_t first_ns;
	uint64_t last_ns;
};

/* ---- results ---- */

static int compare(struct inference *self, uint32_t index)
{
	const struct slot *slot = &self->slots[index];
	const float *results = embedder_results(self->embedder, index);

	for (size_t i = 0; i < (size_t)slot->rows * self->table.dimensions; i++) {
		const float difference = fabsf(results[i] - slot->expected[i]);

		if (!(difference <= TOLERANCE)) {
			process_complain("text %zu of batch %" PRIu64 " is embedded otherwise than by the CPU",
				i / self->table.dimensions, slot->number);
			return -EBADMSG;
		}
		self->largest = difference > self->largest ? difference : self->largest;
	}
	return 0;
}

/* Waits for what is in a slot, if anything. */
static int finish(struct inference *self, uint32_t index)
{
	struct slot *slot = &self->slots[index];

	if (!slot->used)
		return 0;
	slot->used = false;
	if (!embedder_wait(self->embedder, index)) {
		process_complain(
			"batch %" PRIu64 " holds a length or a token that cannot be; see --vocabulary", slot->number);
		return -EBADMSG;
	}
	return self->settings->unchecked ? 0 : compare(self, index);
}

/* What the CPU makes of the same tokens, while the message is held. */
static int expect(struct inference *self, struct slot *slot, const struct batch *batch)
{
	for (int64_t row = 0; row < batch->rows; row++) {
		const int32_t length = batch->lengths[row];
		float *expected = slot->expected + (size_t)row * self->table.dimensions;

		if (length < 0 || length > batch->seq ||
			embedding_embed(
				&self->table, batch->input_ids + row * batch->seq, (uint32_t)length, expected) != 0)
			return -EBADMSG;
	}
	return 0;
}

/* ---- one batch ---- */

/* Has tokens and lengths copied behind one another into the slot's memory. */
static int upload(struct inference *self, const struct slot *slot, const struct sluice_message *message,
	const struct batch *batch, uintptr_t *ret_ids, uintptr_t *ret_lengths)
{
	struct CUstream_st *stream = embedder_stream(self->embedder);
	const uint64_t ids_bytes = (batch->tensors[BATCH_INPUT_IDS].bytes + 255) / 256 * 256;
	int error = -EMSGSIZE;

	if (ids_bytes <= self->slot_bytes)
		error = sluice_cuda_upload(message, BATCH_INPUT_IDS, slot->memory, self->slot_bytes, stream);
	if (error == 0)
		error = sluice_cuda_upload(
			message, BATCH_LENGTHS, slot->memory + ids_bytes, self->slot_bytes - ids_bytes, stream);
	*ret_ids = slot->memory;
	*ret_lengths = slot->memory + ids_bytes;
	return error;
}

static int locate(const struct sluice_message *message, uintptr_t *ret_ids, uintptr_t *ret_lengths)
{
	int error = sluice_cuda_pointer(message, BATCH_INPUT_IDS, ret_ids);

	return error != 0 ? error : sluice_cuda_pointer(message, BATCH_LENGTHS, ret_lengths);
}

static void complain_of_cuda(struct inference *self, int error)
{
	struct sluice_cuda_status status;

	if (sluice_cuda_status(self->consumer, &status) != 0)
		status.reason[0] = '\0';
	process_complain("%s (%s)", sluice_strerror(error), status.reason);
}

/* Gives a batch to the device, which gives it back to its producer. What fails before that leaves it to the caller. */
static int hand_over(struct inference *self, const struct sluice_message *message, const struct batch *batch)
{
	const uint32_t index = (uint32_t)(self->batches % SLOTS);
	struct slot *slot = &self->slots[index];
	uintptr_t ids, lengths;
	int error = finish(self, index);

	if (error == 0 &&
		((uint64_t)batch->rows > self->settings->rows || (uint64_t)batch->seq > self->settings->seq)) {
		process_complain("batch %" PRIu64 " is larger than --rows and --seq say", batch->number);
		error = -EMSGSIZE;
	}
	if (error == 0 && !self->settings->unchecked)
		error = expect(self, slot, batch);
	if (error != 0)
		return error;
	error = self->settings->in_place ? locate(message, &ids, &lengths)
					 : upload(self, slot, message, batch, &ids, &lengths);
	if (error != 0) {
		complain_of_cuda(self, error);
		return error;
	}
	if (!embedder_embed(self->embedder, index, ids, lengths, batch->rows, batch->seq))
		return -EIO;
	slot->used = true;
	slot->number = batch->number;
	slot->rows = batch->rows;
	/* Behind the kernel: from here on the memory is the device's to give back. */
	error = sluice_cuda_release(message, embedder_stream(self->embedder));
	if (error != 0)
		complain_of_cuda(self, error);
	return error;
}

static int handle(struct inference *self, const struct sluice_message *message)
{
	struct batch batch;
	const char *wrong = batch_read(message, &batch);

	if (wrong != NULL) {
		process_complain("a message has %s; is something else publishing on channel '%s'?", wrong,
			self->settings->channel);
		return -EINVAL;
	}
	const int64_t rows = batch.rows; /* of the message, which is gone afterwards */
	const int error = hand_over(self, message, &batch);

	if (error != 0)
		return error;
	if (self->batches == 0)
		self->first_ns = process_now_ns();
	self->batches++;
	self->texts += (uint64_t)rows;
	return 0;
}

/* Returns 0 at the end of the stream. What was received and not handed over goes back when the consumer closes. */
static int receive_all(struct inference *self)
{
	const struct sluice_message *message;
	int result = 0;

	while (process_stopped() == 0 && result == 0) {
		result = sluice_receive(self->consumer, PROCESS_PATIENCE_NS, &message);
		if (result == -ENODATA)
			break;
		if (result == -ETIMEDOUT || result == -EINTR) {
			result = 0;
			continue;
		}
		if (result < 0)
			process_complain("cannot receive from channel '%s': %s", self->settings->channel,
				sluice_strerror(result));
		else
			result = handle(self, message);
	}
	if (process_stopped() != 0)
		return -EINTR;
	result = result == -ENODATA ? 0 : result;
	for (uint32_t i = 0; i < SLOTS && result == 0; i++)
		result = finish(self, i);
	self->last_ns = process_now_ns();
	return result;
}

/* ---- all of it ---- */

static int open_cuda(struct inference *self)
{
	struct sluice_cuda_status status;
	int result;

	if (!embedder_make(&self->table, SLOTS, (int64_t)self->settings->rows, &self->embedder))
		return -EIO;
	/* The context that the CUDA runtime has just made current. */
	result = sluice_cuda_attach(self->consumer, NULL);
	if (result == 0 && !self->settings->in_place)
		result = sluice_cuda_buffer_create(
			self->consumer, SLOTS * self->slot_bytes, embedder_stream(self->embedder), &self->buffer);
	if (result != 0) {
		complain_of_cuda(self, result);
		return result;
	}
	for (uint32_t i = 0; i < SLOTS; i++)
		self->slots[i].memory = sluice_cuda_buffer_address(self->buffer) + i * self->slot_bytes;
	if (sluice_cuda_status(self->consumer, &status) == 0)
		printf("%s, tokens %s, released by %s\n", status.device_name,
			self->settings->in_place ? "read in place" : "uploaded",
			(status.features & SLUICE_CUDA_STREAM_WRITES) != 0 ? "stream writes" : "events");
	return 0;
}

static int open_all(struct inference *self)
{
	const struct settings *settings = self->settings;
	struct sluice_consumer_options options = {.size = sizeof options,
		.flags = SLUICE_END_OF_STREAM,
		.expected_producers = (uint32_t)settings->producers};
	int result = embedding_table_make(
		(uint32_t)settings->vocabulary, (uint32_t)settings->dimensions, settings->seed, &self->table);

	self->slot_bytes =
		(settings->rows * settings->seq * sizeof(int32_t) + 255) / 256 * 256 + settings->rows * 4 + 256;
	self->slot_bytes = (self->slot_bytes + 255) / 256 * 256;
	for (uint32_t i = 0; i < SLOTS && result == 0; i++) {
		self->slots[i].expected = calloc(settings->rows * settings->dimensions, sizeof(float));
		result = self->slots[i].expected != NULL ? 0 : -ENOMEM;
	}
	if (result == 0)
		result = sluice_consumer_open(settings->channel, &options, &self->consumer);
	if (result != 0) {
		process_complain("cannot begin: %s", sluice_strerror(result));
		return result;
	}
	return open_cuda(self);
}

static void close_all(struct inference *self)
{
	/* Before the memory that copies go to. */
	sluice_consumer_close(self->consumer);
	sluice_cuda_buffer_destroy(self->buffer, self->embedder != NULL ? embedder_stream(self->embedder) : NULL);
	embedder_free(self->embedder);
	for (uint32_t i = 0; i < SLOTS; i++)
		free(self->slots[i].expected);
	embedding_table_free(&self->table);
}

static int run(const struct settings *settings)
{
	struct inference self = {.settings = settings};
	int result = open_all(&self);

	if (result == 0)
		result = receive_all(&self);
	if (result == 0) {
		const double seconds = (double)(self.last_ns - self.first_ns) / 1e9;

		printf("cuda-inference: %" PRIu64 " batches, %" PRIu64 " texts in %.2f s", self.batches, self.texts,
			seconds);
		if (settings->unchecked)
			puts("");
		else
			printf(", each as the CPU embeds it (largest difference %.1e)\n", (double)self.largest);
	}
	close_all(&self);
	if (result == -EINTR && process_stopped() != 0)
		return 128 + process_stopped();
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

enum { OPTION_SEED = 256, OPTION_IN_PLACE, OPTION_UNCHECKED, OPTION_ROWS, OPTION_SEQ };

static const struct argp_option options[] = {
	{"channel", 'c', "NAME", 0, "Channel to receive from (tokens)", 0},
	{"producers", 'p', "COUNT", 0, "Tokenizers to wait for before the stream can end (1)", 0},
	{"in-place", OPTION_IN_PLACE, NULL, 0, "Have the kernel read the tokens where they lie; else they are uploaded",
		0},
	{"unchecked", OPTION_UNCHECKED, NULL, 0, "Do not compare with the CPU, which takes longer than all the rest",
		0},
	{"rows", OPTION_ROWS, "COUNT", 0, "Texts of a batch at most (64)", 0},
	{"seq", OPTION_SEQ, "COUNT", 0, "Tokens of a text at most (512)", 0},
	{"dimensions", 'd', "COUNT", 0, "Floats of an embedding (256)", 0},
	{"vocabulary", 'v', "COUNT", 0, "Tokens that the model knows (4000)", 0},
	{"seed", OPTION_SEED, "NUMBER", 0, "Seed of the random table (1)", 0},
	{0},
};

static void parse_count(const char *text, uint64_t least, uint64_t most, uint64_t *value, struct argp_state *state)
{
	if (!process_parse_count(text, least, most, value))
		argp_error(state, "'%s' should be a number from %" PRIu64 " to %" PRIu64, text, least, most);
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct settings *settings = state->input;

	switch (key) {
	case 'c':
		settings->channel = argument;
		break;
	case 'p':
		parse_count(argument, 1, SLUICE_MAX_MEMBERS - 1, &settings->producers, state);
		break;
	case OPTION_IN_PLACE:
		settings->in_place = true;
		break;
	case OPTION_UNCHECKED:
		settings->unchecked = true;
		break;
	case OPTION_ROWS:
		parse_count(argument, 1, BATCH_MAX_ROWS, &settings->rows, state);
		break;
	case OPTION_SEQ:
		parse_count(argument, 1, BATCH_MAX_SEQ, &settings->seq, state);
		break;
	case 'd':
		parse_count(argument, 1, 65536, &settings->dimensions, state);
		break;
	case 'v':
		parse_count(argument, 1, 1 << 24, &settings->vocabulary, state);
		break;
	case OPTION_SEED:
		parse_count(argument, 0, UINT64_MAX, &settings->seed, state);
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' has no place here", argument);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int count, char **arguments)
{
	static const struct argp parser = {.options = options,
		.parser = parse_option,
		.doc = "Embeds the token batches that tokenizers publish on a Sluice channel on a GPU, which reads "
		       "them out "
		       "of the tokenizers' memory."};
	struct settings settings = {.channel = "tokens",
		.producers = 1,
		.dimensions = 256,
		.vocabulary = 4000,
		.seed = 1,
		.rows = 64,
		.seq = 512};

	argp_parse(&parser, count, arguments, 0, NULL, &settings);
	process_catch_signals();
	return run(&settings);
}
