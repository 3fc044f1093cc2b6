/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sender: fills one batch when told to, in its lane or in a buffer of its own, and hands it over. Filling is the same
 * copy from the same private memory either way; what differs is only what happens from "handed over" on.
 */
#include "ways.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../common/process.h"
#include "frame.h"

#define DEPTH 16 /* as the tokenizer's default */

/*
 * A sender wakes up and fills a batch faster than the receiver's request returns from the kernel. It gives the receiver this
 * long to come to rest, asleep or spinning, before it begins; else the figures would tell about the request.
 */
#define SETTLE_NS 50000

struct state {
	const struct sender *sender;
	struct sluice_producer *producers[CHANNELS];
	struct frame frame;
};

void way_specs(const struct batch *batch, struct sluice_tensor_spec ret_specs[WAY_TENSORS])
{
	static const struct sluice_tensor_spec handed = HANDED_SPECS;

	batch_specs(batch->rows, batch->seq, ret_specs);
	ret_specs[HANDED_NS] = handed;
}

static uint64_t largest_bytes(const struct part *part)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < part->count; i++) {
		const struct batch *batch = &part->batches[i].batch;
		uint64_t bytes = batch_bytes(batch->rows, batch->seq) + FRAME_ALIGNMENT;

		largest = bytes > largest ? bytes : largest;
	}
	return largest;
}

static int open_state(const struct sender *sender, struct state *state)
{
	struct sluice_producer_options options = {
		.size = sizeof options, .lane_bytes = DEPTH * largest_bytes(sender->part), .depth = DEPTH};
	int result = frame_open(largest_bytes(sender->part), &state->frame);

	state->sender = sender;
	for (int i = 0; i < CHANNELS && result == 0; i++)
		result = sluice_producer_open(sender->channels[i], &options, &state->producers[i]);
	if (result < 0)
		process_complain("a sender cannot begin: %s", sluice_strerror(result));
	return result;
}

static void close_state(struct state *state)
{
	for (int i = 0; i < CHANNELS; i++)
		sluice_producer_close(state->producers[i]);
	frame_close(&state->frame);
}

static int send_by_sluice(struct state *state, enum channel channel, const struct batch *batch)
{
	struct sluice_tensor_spec specs[WAY_TENSORS];
	struct sluice_message *message;
	uint64_t begin_ns = process_now_ns();
	int64_t *handed_ns;
	int result;

	way_specs(batch, specs);
	result = sluice_reserve(state->producers[channel], specs, WAY_TENSORS, PROCESS_PATIENCE_NS, &message);
	if (result < 0)
		return result;
	for (uint32_t i = 0; i < BATCH_TENSORS; i++)
		memcpy(sluice_data(message, i), batch->tensors[i].data, batch->tensors[i].bytes);
	sluice_set_correlation_id(message, batch->number);
	handed_ns = sluice_data(message, HANDED_NS);
	handed_ns[0] = (int64_t)begin_ns;
	handed_ns[1] = (int64_t)process_now_ns();
	return sluice_publish(message);
}

static int send_by_socket(struct state *state, const struct batch *batch)
{
	struct sluice_tensor_spec specs[WAY_TENSORS];
	uint64_t begin_ns = process_now_ns();
	int64_t *handed_ns;
	int result;

	way_specs(batch, specs);
	result = frame_lay_out(&state->frame, batch->number, specs, WAY_TENSORS);
	if (result < 0)
		return result;
	for (uint32_t i = 0; i < BATCH_TENSORS; i++)
		memcpy(frame_data(&state->frame, i), batch->tensors[i].data, batch->tensors[i].bytes);
	handed_ns = frame_data(&state->frame, HANDED_NS);
	handed_ns[0] = (int64_t)begin_ns;
	handed_ns[1] = (int64_t)process_now_ns();
	return frame_send(&state->frame, state->sender->data);
}

/* Returns 1, 0 when there are no more requests, or a negative errno. */
static int next_request(const struct sender *sender, struct request *ret_request)
{
	ssize_t got = read(sender->control, ret_request, sizeof *ret_request);

	if (got < 0)
		return -errno;
	if (got == 0)
		return 0;
	if (got != sizeof *ret_request || ret_request->index >= sender->part->count || ret_request->way >= WAYS)
		return -EBADMSG;
	return 1;
}

static void let_receiver_settle(void)
{
	uint64_t end_ns = process_now_ns() + SETTLE_NS;

	while (process_now_ns() < end_ns)
		continue;
}

static int serve(struct state *state)
{
	struct request request;
	int result;

	while ((result = next_request(state->sender, &request)) > 0) {
		const struct batch *batch = &state->sender->part->batches[request.index].batch;

		let_receiver_settle();
		result = way_is_socket(request.way) ? send_by_socket(state, batch)
						    : send_by_sluice(state, way_channel(request.way), batch);
		if (result < 0)
			break;
	}
	if (result < 0 && process_stopped() == 0)
		process_complain("a sender has to stop: %s", sluice_strerror(result));
	return result;
}

int sender_run(const struct sender *sender)
{
	struct state state = {0};
	int result = open_state(sender, &state);

	if (result == 0)
		result = serve(&state);
	close_state(&state);
	return result;
}
