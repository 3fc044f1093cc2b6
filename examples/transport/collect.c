/* SPDX-License-Identifier: Apache-2.0 */
/* A consumer that copies what it receives: the batches are to outlive their messages. */
#include "collect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/process.h"

static struct part *part_of(struct collection *collection, uint64_t origin)
{
	struct part *grown;

	for (size_t i = 0; i < collection->part_count; i++) {
		if (collection->parts[i].origin == origin)
			return &collection->parts[i];
	}
	grown = realloc(collection->parts, (collection->part_count + 1) * sizeof *grown);
	if (grown == NULL)
		return NULL;
	collection->parts = grown;
	grown[collection->part_count] = (struct part){.origin = origin};
	return &grown[collection->part_count++];
}

static struct stored_batch *add_place(struct part *part)
{
	if (part->count == part->capacity) {
		size_t capacity = part->capacity == 0 ? 64 : part->capacity * 2;
		struct stored_batch *grown = realloc(part->batches, capacity * sizeof *grown);

		if (grown == NULL)
			return NULL;
		part->batches = grown;
		part->capacity = capacity;
	}
	return &part->batches[part->count];
}

/* Names are those of this program: the message's die with its lane. */
static const char *keep(const struct batch *batch, struct stored_batch *stored)
{
	struct sluice_tensor_spec specs[BATCH_TENSORS];
	struct sluice_tensor tensors[BATCH_TENSORS];
	uint64_t bytes = batch_bytes(batch->rows, batch->seq);
	char *place = aligned_alloc(64, bytes);

	if (place == NULL)
		return "no place in memory";
	stored->memory = place;
	batch_specs(batch->rows, batch->seq, specs);
	for (int i = 0; i < BATCH_TENSORS; i++) {
		tensors[i] = batch->tensors[i];
		tensors[i].name = specs[i].name;
		tensors[i].data = memcpy(place, batch->tensors[i].data, tensors[i].bytes);
		place += (tensors[i].bytes + 63) / 64 * 64;
	}
	/* Cannot fail: it is a copy of what was read as a batch before, and this process's own by now. */
	return batch_read_tensors(tensors, BATCH_TENSORS, batch->number, &stored->batch);
}

static int take(struct collection *collection, const struct sluice_message *message)
{
	struct batch batch;
	const char *wrong = batch_read(message, &batch);
	struct part *part = part_of(collection, sluice_origin(message));
	struct stored_batch *stored = part == NULL ? NULL : add_place(part);
	uint64_t bytes;

	if (wrong == NULL && stored == NULL)
		wrong = "no place in memory";
	if (wrong == NULL)
		wrong = keep(&batch, stored);
	if (wrong != NULL) {
		process_complain("a message has %s", wrong);
		return -EINVAL;
	}
	part->count++;
	wrong = batch_verify(&stored->batch);
	if (wrong != NULL) {
		process_complain("tensor '%s' of batch %" PRIu64
				 " is not what its tokenizer wrote: the checksums differ",
			wrong, batch.number);
		return -EBADMSG;
	}
	bytes = batch_bytes(batch.rows, batch.seq);
	if (bytes > collection->content_bytes)
		collection->content_bytes = bytes;
	collection->batches++;
	collection->checksum += batch_content_checksum(&stored->batch);
	return 0;
}

static int take_all(struct sluice_consumer *consumer, struct collection *collection)
{
	const struct sluice_message *message;
	int result;

	while (process_stopped() == 0) {
		result = sluice_receive(consumer, PROCESS_PATIENCE_NS, &message);
		if (result == -ENODATA)
			break;
		if (result == -ETIMEDOUT || result == -EINTR)
			continue;
		if (result < 0) {
			process_complain("cannot receive batches: %s", sluice_strerror(result));
			return result;
		}
		result = take(collection, message);
		sluice_release(message);
		if (result < 0)
			return result;
	}
	return process_stopped() == 0 ? 0 : -EINTR;
}

int collect(const char *channel, uint32_t producers, struct collection *ret_collection)
{
	struct sluice_consumer_options options = {
		.size = sizeof options, .flags = SLUICE_END_OF_STREAM, .expected_producers = producers};
	struct sluice_consumer *consumer;
	int result = sluice_consumer_open(channel, &options, &consumer);

	if (result < 0) {
		process_complain("cannot open channel '%s': %s", channel, sluice_strerror(result));
		return result;
	}
	result = take_all(consumer, ret_collection);
	sluice_consumer_close(consumer);
	if (result == 0 && ret_collection->batches == 0) {
		process_complain("all tokenizers ended without sending anything; see what they said");
		result = -ENODATA;
	}
	return result;
}

void collection_free(struct collection *collection)
{
	for (size_t p = 0; p < collection->part_count; p++) {
		for (size_t i = 0; i < collection->parts[p].count; i++)
			free(collection->parts[p].batches[i].memory);
		free(collection->parts[p].batches);
	}
	free(collection->parts);
	*collection = (struct collection){0};
}
