/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inference: receives token batches (common/batch.h) from any number of tokenizers, reads them where they lie, checks their
 * checksums and embeds every text. When all tokenizers have finished it shows what is like what, and the waterfall.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "../common/batch.h"
#include "../common/process.h"
#include "embedding.h"
#include "excerpt.h"
#include "shelf.h"
#include "waterfall.h"

#define PROGRESS_TERMINAL_NS 100000000u  /* on a terminal one line is rewritten */
#define PROGRESS_LOG_NS      2000000000u /* elsewhere each is a line of its own */
#define MOST_BATCHES         (1 << 28)   /* of one run: what a tokenizer may make us allocate for */

struct settings {
	const char *channel;
	const char *file;
	uint64_t producers;
	uint64_t dimensions;
	uint64_t vocabulary;
	uint64_t seed;
	uint64_t show;
};

struct inference {
	const struct settings *settings;
	struct sluice_consumer *consumer;
	struct embedding_table table;
	struct shelf shelf;
	struct waterfall waterfall;
	unsigned char *seen; /* one byte a batch of the run */
	uint64_t run_batches;
	uint64_t batches;
	uint64_t texts;
	uint64_t tokens;
	uint64_t checksum;
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t next_progress_ns;
};

static bool on_terminal(void)
{
	return isatty(STDERR_FILENO) != 0;
}

static void print_progress(struct inference *self, uint64_t now_ns)
{
	const char *format = on_terminal() ? "\r  %" PRIu64 " of %" PRIu64 " batches, %.1f million tokens, %.1f s"
					   : "  %" PRIu64 " of %" PRIu64 " batches, %.1f million tokens, %.1f s\n";

	fprintf(stderr, format, self->batches, self->run_batches, (double)self->tokens / 1e6,
		(double)(now_ns - self->first_ns) / 1e9);
	self->next_progress_ns = now_ns + (on_terminal() ? PROGRESS_TERMINAL_NS : PROGRESS_LOG_NS);
}

static void end_progress(struct inference *self)
{
	if (self->batches == 0 || !on_terminal())
		return;
	print_progress(self, process_now_ns());
	fputc('\n', stderr);
}

/* The first batch tells how many there will be. */
static int begin_run(struct inference *self, const struct batch *batch)
{
	int64_t run_batches = *batch->run_batches;

	if (run_batches < 1 || run_batches > MOST_BATCHES) {
		process_complain("batch %" PRIu64 " speaks of a run of %" PRId64 " batches, which cannot be",
			batch->number, run_batches);
		return -EINVAL;
	}
	self->seen = calloc((size_t)run_batches, 1);
	if (self->seen == NULL)
		return -ENOMEM;
	self->run_batches = (uint64_t)run_batches;
	self->first_ns = process_now_ns();
	self->next_progress_ns = self->first_ns + (on_terminal() ? PROGRESS_TERMINAL_NS : PROGRESS_LOG_NS);
	return 0;
}

/* Each batch of the run is to come once, whole, from tokenizers that agree about the run. */
static int check_batch(struct inference *self, const struct batch *batch)
{
	const char *differs = batch_verify(batch);

	if (differs != NULL) {
		process_complain("tensor '%s' of batch %" PRIu64
				 " is not what its tokenizer wrote: the checksums differ",
			differs, batch->number);
		return -EBADMSG;
	}
	if (self->seen == NULL && begin_run(self, batch) < 0)
		return -EINVAL;
	if (batch->number >= self->run_batches || (uint64_t)*batch->run_batches != self->run_batches) {
		process_complain("batch %" PRIu64 " belongs to another run than the first that came (%" PRIu64
				 " batches); give each run a channel of its own",
			batch->number, self->run_batches);
		return -EINVAL;
	}
	if (self->seen[batch->number] != 0) {
		process_complain("batch %" PRIu64 " came twice", batch->number);
		return -EEXIST;
	}
	self->seen[batch->number] = 1;
	return 0;
}

static int embed_text(struct inference *self, const struct batch *batch, int64_t row)
{
	const struct shelf_text text = {batch->spans[2 * row], batch->spans[2 * row + 1], batch->lengths[row]};
	float *embedding;
	int result = shelf_put(&self->shelf, batch->texts[row], &text, &embedding);

	if (result < 0) {
		process_complain("cannot keep text %" PRId32 ": %s", batch->texts[row], strerror(-result));
		return result;
	}
	if (text.tokens > batch->seq || text.tokens < 0)
		return -EBADMSG;
	result = embedding_embed(&self->table, batch->input_ids + row * batch->seq, (uint32_t)text.tokens, embedding);
	if (result < 0)
		process_complain("batch %" PRIu64 " holds a token beyond the table of %" PRIu64
				 "; pass the model's size with --vocabulary",
			batch->number, self->settings->vocabulary);
	self->tokens += (uint64_t)text.tokens;
	return result;
}

static int record_times(struct inference *self, const struct sluice_message *message, const struct batch *batch)
{
	struct sluice_stamps stamps;
	struct waterfall_times times;
	int result;

	sluice_stamps(message, &stamps);
	times = (struct waterfall_times){(uint64_t)batch->tokenize_ns[0], (uint64_t)batch->tokenize_ns[1],
		stamps.reserve_ns, stamps.publish_ns, stamps.receive_ns, self->last_ns};
	result = waterfall_add(&self->waterfall, &times);
	if (result == -EINVAL)
		process_complain("the time stamps of batch %" PRIu64 " run backwards or are missing", batch->number);
	return result;
}

static int handle(struct inference *self, const struct sluice_message *message)
{
	struct batch batch;
	const char *wrong = batch_read(message, &batch);
	int result = 0;

	if (wrong != NULL) {
		process_complain("a message has %s; is something else publishing on channel '%s'?", wrong,
			self->settings->channel);
		return -EINVAL;
	}
	result = check_batch(self, &batch);
	for (int64_t row = 0; row < batch.rows && result == 0; row++)
		result = embed_text(self, &batch, row);
	if (result < 0)
		return result;
	self->last_ns = process_now_ns();
	self->batches++;
	self->texts += (uint64_t)batch.rows;
	self->checksum += batch_content_checksum(&batch);
	if (self->last_ns >= self->next_progress_ns)
		print_progress(self, self->last_ns);
	return record_times(self, message, &batch);
}

/* Returns 0 at the end of the stream. */
static int receive_all(struct inference *self)
{
	const struct sluice_message *message;
	int result;

	while (process_stopped() == 0) {
		result = sluice_receive(self->consumer, PROCESS_PATIENCE_NS, &message);
		if (result == -ENODATA)
			break;
		if (result == -ETIMEDOUT || result == -EINTR)
			continue;
		if (result < 0) {
			process_complain("cannot receive from channel '%s': %s", self->settings->channel,
				sluice_strerror(result));
			return result;
		}
		result = handle(self, message);
		sluice_release(message);
		if (result < 0)
			return result;
	}
	/* What stopped us may have stopped the tokenizers first: an early end is then nothing to report. */
	return process_stopped() == 0 ? 0 : -EINTR;
}

static int report_missing(const struct inference *self)
{
	uint64_t first = 0;

	if (self->batches == 0) {
		process_complain("all tokenizers ended without sending anything; see what they said");
		return -ENODATA;
	}
	if (self->batches == self->run_batches)
		return 0;
	while (self->seen[first] != 0)
		first++;
	process_complain("%" PRIu64 " of %" PRIu64 " batches never came, the first of them batch %" PRIu64,
		self->run_batches - self->batches, self->run_batches, first);
	return -ENODATA;
}

static int print_neighbours(const struct inference *self)
{
	struct excerpt_file file;
	int result = excerpt_open(self->settings->file, &file);

	if (result < 0) {
		process_complain(
			"cannot read '%s' to show what the texts say: %s", self->settings->file, strerror(-result));
		return result;
	}
	printf("\nWhat is like what: %" PRIu64
	       " texts with their nearest neighbours by cosine of embeddings. Nothing was trained:\n"
	       "tokens have random vectors (random indexing), so a cosine says how many tokens two texts share.\n",
		self->settings->show);
	shelf_print_neighbours(&self->shelf, &file, (unsigned)self->settings->show, stdout);
	excerpt_close(&file);
	return 0;
}

/* Or a reader would take the scheduler's doing for Sluice's. */
static void print_processors(uint64_t processes)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && (uint64_t)CPU_COUNT(&allowed) < processes)
		printf("  Here %" PRIu64
		       " busy processes share %d processor%s: the slowest queue waits are waits for one.\n",
			processes, CPU_COUNT(&allowed), CPU_COUNT(&allowed) == 1 ? "" : "s");
}

static int print_results(struct inference *self)
{
	double seconds = (double)(self->last_ns - self->first_ns) / 1e9;

	printf("inference: %" PRIu64 " batches, %" PRIu64 " texts, %" PRIu64 " tokens in %.1f s, checksum %016" PRIx64
	       "\n",
		self->batches, self->texts, self->tokens, seconds, self->checksum);
	if (self->settings->file != NULL && self->settings->show > 0 && print_neighbours(self) < 0)
		return -EIO;
	printf("\nWhere the time of a batch goes:\n");
	waterfall_print(&self->waterfall, stdout);
	print_processors(self->settings->producers + 1);
	return 0;
}

static int open_all(struct inference *self)
{
	struct sluice_consumer_options options = {.size = sizeof options,
		.flags = SLUICE_END_OF_STREAM,
		.expected_producers = (uint32_t)self->settings->producers};
	int result = embedding_table_make((uint32_t)self->settings->vocabulary, (uint32_t)self->settings->dimensions,
		self->settings->seed, &self->table);

	if (result < 0) {
		process_complain("no memory for a table of %" PRIu64 " x %" PRIu64
				 " floats; pass a smaller --dimensions",
			self->settings->vocabulary, self->settings->dimensions);
		return result;
	}
	self->shelf.table = &self->table;
	result = sluice_consumer_open(self->settings->channel, &options, &self->consumer);
	if (result < 0)
		process_complain("cannot open channel '%s': %s", self->settings->channel, sluice_strerror(result));
	return result;
}

static void close_all(struct inference *self)
{
	sluice_consumer_close(self->consumer);
	waterfall_free(&self->waterfall);
	shelf_free(&self->shelf);
	embedding_table_free(&self->table);
	free(self->seen);
}

static int run(const struct settings *settings)
{
	struct inference self = {.settings = settings};
	int result = open_all(&self);

	if (result == 0)
		result = receive_all(&self);
	end_progress(&self);
	if (result == 0)
		result = report_missing(&self);
	if (result == 0)
		result = print_results(&self);
	close_all(&self);
	if (result == -EINTR && process_stopped() != 0)
		return 128 + process_stopped();
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

enum { OPTION_SEED = 256 };

static const struct argp_option options[] = {
	{"channel", 'c', "NAME", 0, "Channel to receive from (tokens)", 0},
	{"producers", 'p', "COUNT", 0, "Tokenizers to wait for before the stream can end (1)", 0},
	{"text", 't', "FILE", 0, "The file that is tokenized, to show texts and their neighbours", 0},
	{"show", 'n', "COUNT", 0, "Texts to show (3)", 0},
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
	case 't':
		settings->file = argument;
		break;
	case 'p':
		parse_count(argument, 1, SLUICE_MAX_MEMBERS - 1, &settings->producers, state);
		break;
	case 'n':
		parse_count(argument, 0, 1000, &settings->show, state);
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
		argp_error(state, "'%s' has no place here; pass a text with --text", argument);
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
		.doc = "Embeds the token batches that tokenizers publish on a Sluice channel, reading them where they "
		       "lie."};
	struct settings settings = {
		.channel = "tokens", .producers = 1, .dimensions = 256, .vocabulary = 4000, .seed = 1, .show = 3};

	argp_parse(&parser, count, arguments, 0, NULL, &settings);
	process_catch_signals();
	return run(&settings);
}
