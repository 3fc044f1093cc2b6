/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport: what it costs to get a token batch from one process to another, through Sluice and through a Unix stream
 * socket with a copy on each side.
 *
 * First it collects the batches that the tokenizers publish on a channel. Then it starts one sender process for each of
 * them and asks the senders, in turn, for one batch at a time: the receiver is asleep or spins when the batch is handed
 * over, nothing queues, and the next request is the acknowledgement. Both ways have the same processes, batches, order and
 * copies into place; they take turns after each pass over the batches, so that a machine that drifts drifts for both. The
 * receiver has one processor and the senders another: if the scheduler puts all on one, which it does now and then, the
 * figures are those of its switch between them. Two times are taken:
 *
 *   handed over to usable   from the moment the sender begins to hand the filled batch over (sluice_publish, or the first
 *                           send) until the receiver has all its bytes (sluice_receive, or the last recv, has returned)
 *   fill to read            from before the sender reserves or lays out and fills until the receiver has read every byte
 *                           and checked the checksums: whatever one way only moves elsewhere is in here
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <sluice/sluice.h>

#include "../common/process.h"
#include "collect.h"
#include "frame.h"
#include "peers.h"
#include "results.h"
#include "ways.h"

#define SILENCE_NS (PEER_SILENCE_S * UINT64_C(1000000000))

struct settings {
	const char *channel;
	uint64_t producers;
	uint64_t samples;
};

struct transport {
	const struct settings *settings;
	struct collection collection;
	char channels[CHANNELS][SLUICE_MAX_NAME + 1];
	struct sluice_consumer *consumers[CHANNELS];
	struct peers peers; /* one for each part */
	struct frame frame;
	struct results results;
	uint64_t checked; /* tensors */
	bool can_spin;
};

/* What came in, and when all of it had come in. */
struct arrival {
	struct sluice_tensor tensors[WAY_TENSORS];
	uint32_t count;
	uint64_t number;
	uint64_t usable_ns;
	const struct sluice_message *message; /* NULL from a socket */
};

static int receive_from_sluice(struct transport *self, enum way way, struct arrival *ret_arrival)
{
	const struct sluice_message *message;
	int result;

	do
		result = sluice_receive(self->consumers[way_channel(way)], SILENCE_NS, &message);
	while (result == -EINTR && process_stopped() == 0);
	if (result < 0)
		return result;
	ret_arrival->usable_ns = process_now_ns();
	ret_arrival->message = message;
	ret_arrival->number = sluice_correlation_id(message);
	ret_arrival->count = sluice_tensor_count(message);
	for (uint32_t i = 0; i < ret_arrival->count && i < WAY_TENSORS; i++)
		ret_arrival->tensors[i] = *sluice_tensor(message, i);
	return 0;
}

static int receive_from_socket(struct transport *self, enum way way, int socket, struct arrival *ret_arrival)
{
	int result = frame_receive(&self->frame, socket, way_spins(way), SILENCE_NS, ret_arrival->tensors);

	if (result < 0)
		return result;
	ret_arrival->usable_ns = process_now_ns();
	ret_arrival->message = NULL;
	ret_arrival->number = self->frame.header->number;
	ret_arrival->count = (uint32_t)result;
	return 0;
}

/* Is it the batch that was asked for, byte for byte? Reads all of it. */
static const char *check(const struct arrival *arrival, const struct batch *sent)
{
	struct batch batch;
	const char *wrong;

	if (arrival->count != WAY_TENSORS || arrival->tensors[HANDED_NS].bytes != 2 * sizeof(int64_t))
		return "an unexpected number of tensors";
	wrong = batch_read_tensors(arrival->tensors, arrival->count, arrival->number, &batch);
	if (wrong != NULL)
		return wrong;
	wrong = batch_verify(&batch);
	if (wrong != NULL)
		return wrong;
	if (batch.number != sent->number ||
		memcmp(batch.checksums, sent->checksums, sizeof(uint64_t) * BATCH_CHECKSUM_COUNT) != 0)
		return "the contents of another batch";
	return NULL;
}

static int record(struct transport *self, enum way way, const struct arrival *arrival, uint64_t read_ns)
{
	const int64_t *handed_ns = arrival->tensors[HANDED_NS].data;
	uint64_t begin_ns = (uint64_t)handed_ns[0];
	uint64_t handed_over_ns = (uint64_t)handed_ns[1];

	if (begin_ns > handed_over_ns || handed_over_ns > arrival->usable_ns) {
		process_complain("the times of batch %" PRIu64 " run backwards", arrival->number);
		return -EINVAL;
	}
	if (samples_add(&self->results.samples[way][SPAN_TRANSPORT], arrival->usable_ns - handed_over_ns) < 0)
		return -ENOMEM;
	return samples_add(&self->results.samples[way][SPAN_WHOLE], read_ns - begin_ns);
}

static int send_one(struct transport *self, enum way way, size_t part, size_t index, struct arrival *ret_arrival)
{
	const struct request request = {way, (uint32_t)index};
	const struct peer *peer = &self->peers.peers[part];

	if (send(peer->control, &request, sizeof request, MSG_NOSIGNAL) < 0)
		return -errno;
	return way_is_socket(way) ? receive_from_socket(self, way, peer->data, ret_arrival)
				  : receive_from_sluice(self, way, ret_arrival);
}

static int measure_one(struct transport *self, enum way way, size_t part, size_t index, bool counts)
{
	const char *road = way_is_socket(way) ? "the socket" : "Sluice";
	const struct batch *sent = &self->collection.parts[part].batches[index].batch;
	struct arrival arrival = {.message = NULL};
	const char *wrong;
	uint64_t read_ns;
	int result = send_one(self, way, part, index, &arrival);

	if (result < 0) {
		if (process_stopped() == 0)
			process_complain("batch %" PRIu64 " did not come through %s: %s", sent->number, road,
				sluice_strerror(result));
		return result;
	}
	wrong = check(&arrival, sent);
	read_ns = process_now_ns();
	if (wrong == NULL && counts)
		result = record(self, way, &arrival, read_ns);
	if (arrival.message != NULL)
		sluice_release(arrival.message);
	if (wrong != NULL) {
		process_complain(
			"batch %" PRIu64 " came through %s with something wrong: %s", sent->number, road, wrong);
		return -EBADMSG;
	}
	self->checked += BATCH_CHECKSUM_COUNT;
	return result;
}

/* Every batch once, the senders taking turns. */
static int measure_pass(struct transport *self, enum way way, bool counts)
{
	const struct collection *collection = &self->collection;
	bool more = true;

	for (size_t index = 0; more; index++) {
		more = false;
		for (size_t part = 0; part < collection->part_count; part++) {
			int result;

			if (index >= collection->parts[part].count)
				continue;
			more = true;
			result = measure_one(self, way, part, index, counts);
			if (result < 0)
				return result;
			if (process_stopped() != 0)
				return -EINTR;
		}
	}
	return 0;
}

static int measure(struct transport *self)
{
	uint64_t passes = (self->settings->samples + self->collection.batches - 1) / self->collection.batches;

	/* The first pass touches all memory for the first time and does not count. */
	for (uint64_t pass = 0; pass <= passes; pass++) {
		for (enum way way = 0; way < (self->can_spin ? WAYS : SOCKET_SPINNING); way++) {
			int result = measure_pass(self, way, pass > 0);

			if (result < 0)
				return result;
		}
	}
	return 0;
}

static void print_results(struct transport *self)
{
	results_print(&self->results, stdout);
	printf("  %zu samples a row: one batch of up to %.1f KiB at a time, from %zu senders in turn. The receiver is "
	       "asleep\n"
	       "  already (waking it up is in the figures) or spins (and keeps a processor busy), the same both ways.\n"
	       "  Handed over: just before publish or send. Usable: receive, or the last recv, has returned.\n",
		self->results.samples[0][0].count, (double)self->collection.content_bytes / 1024,
		self->collection.part_count);
	if (self->can_spin)
		printf("  Senders run on one processor and the receiver on another.\n");
	else
		printf("  There is one processor, which all share; a receiver that spins is left out.\n");
	printf("  Checksums of all %" PRIu64 " tensors agree on both sides, both ways.\n", self->checked);
}

static int open_consumers(struct transport *self)
{
	const int64_t spin_ns[CHANNELS] = {SLUICE_NO_SPIN, SLUICE_SPIN_ONLY};

	for (int i = 0; i < CHANNELS; i++) {
		struct sluice_consumer_options options = {.size = sizeof options, .spin_ns = spin_ns[i]};
		int result = sluice_consumer_open(self->channels[i], &options, &self->consumers[i]);

		if (result < 0) {
			process_complain("cannot open channel '%s': %s", self->channels[i], sluice_strerror(result));
			return result;
		}
	}
	return 0;
}

static int measure_with_senders(struct transport *self)
{
	const char *channels[CHANNELS] = {self->channels[CHANNEL_ASLEEP], self->channels[CHANNEL_SPINNING]};
	int result = peers_start(self->collection.parts, self->collection.part_count, channels, &self->peers);

	if (result < 0)
		return result;
	/* Senders have the first processor. On one and the same, a spinning receiver would only be in the sender's way. */
	self->can_spin = process_pin(1);
	result = open_consumers(self);
	if (result == 0)
		result = measure(self);
	if (peers_stop(&self->peers) < 0 && result == 0)
		result = -ECHILD;
	for (int i = 0; i < CHANNELS; i++)
		sluice_consumer_close(self->consumers[i]);
	return result;
}

static int prepare(struct transport *self)
{
	static const char *const endings[CHANNELS] = {"asleep", "spinning"};

	for (int i = 0; i < CHANNELS; i++) {
		int length = snprintf(
			self->channels[i], sizeof self->channels[i], "%s-%s", self->settings->channel, endings[i]);

		if (length >= (int)sizeof self->channels[i]) {
			process_complain(
				"the channel's name is too long for '-%s' behind it; choose a shorter one", endings[i]);
			return -ENAMETOOLONG;
		}
	}
	return collect(self->settings->channel, (uint32_t)self->settings->producers, &self->collection);
}

static int run(const struct settings *settings)
{
	struct transport self = {.settings = settings};
	int result = prepare(&self);

	if (result == 0) {
		printf("transport: %zu batches, checksum %016" PRIx64 "\n", self.collection.batches,
			self.collection.checksum);
		fflush(stdout);
		result = frame_open(self.collection.content_bytes + FRAME_ALIGNMENT, &self.frame);
	}
	if (result == 0)
		result = measure_with_senders(&self);
	if (result == 0)
		print_results(&self);
	results_free(&self.results);
	frame_close(&self.frame);
	collection_free(&self.collection);
	if (process_stopped() != 0)
		return 128 + process_stopped();
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const struct argp_option options[] = {
	{"channel", 'c', "NAME", 0, "Channel to receive the batches from (tokens)", 0},
	{"producers", 'p', "COUNT", 0, "Tokenizers to wait for (1)", 0},
	{"samples", 'n', "COUNT", 0, "Batches to send each way, at least (4000)", 0},
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
	case 'n':
		parse_count(argument, 1, 10000000, &settings->samples, state);
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
		.doc = "Collects the token batches of a Sluice channel, sends each of them through Sluice and through "
		       "a Unix "
		       "stream socket, and compares."};
	struct settings settings = {.channel = "tokens", .producers = 1, .samples = 4000};

	argp_parse(&parser, count, arguments, 0, NULL, &settings);
	process_catch_signals();
	return run(&settings);
}
