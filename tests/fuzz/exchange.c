/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange.h"

#include <string.h>

#include "files.h"
#include "mappings.h"
#include "sandbox.h"

/* ---- publishing ---- */

static const struct sluice_tensor_spec specs[] = {
	{"ids", SLUICE_INT32, 1, {8}},
	{"ids", SLUICE_INT32, 2, {4, 64}},
	{"cu_seqlens", SLUICE_INT64, 1, {5}},
	{"wide", SLUICE_UINT8, 8, {2, 1, 3, 1, 2, 1, 2, 1}},
};

static const struct kind {
	unsigned first;
	unsigned count;
	int64_t shrink; /* the first dimension of the first tensor; negative: as it is */
	bool traced;
} kinds[MESSAGE_KINDS] = {{0, 1, -1, false}, {1, 2, 3, true}, {3, 1, -1, false}, {0, 1, 0, false}};

static void describe(struct sluice_message *message, const struct kind *kind)
{
	static const struct sluice_trace trace = {.trace_id = {1}, .parent_id = {2}, .flags = 1};
	for (uint32_t i = 0; i < kind->count; i++)
		memset(sluice_data(message, i), 7, sluice_tensor(message, i)->bytes);
	sluice_set_correlation_id(message, 1);
	if (kind->shrink >= 0)
		sluice_shrink(message, 0, kind->shrink);
	if (!kind->traced)
		return;
	sluice_set_trace(message, &trace);
	sluice_set_deadline(message, 1);
}

void publish_kind(struct sluice_producer *producer, unsigned number, int64_t timeout_ns)
{
	const struct kind *kind = &kinds[number % MESSAGE_KINDS];
	struct sluice_message *message;
	if (sluice_reserve(producer, &specs[kind->first], kind->count, timeout_ns, &message) != 0)
		return;
	describe(message, kind);
	if ((number & MESSAGE_KINDS) != 0)
		sluice_publish_more(message);
	else
		sluice_publish(message);
}

/* ---- reading ---- */

/* Where the sum goes, so that no read is left out. */
static volatile uint64_t sum_of_all;

/* By a way of its own: a product in 128 bits stays exact until one factor too many has made it larger than any lane. */
static unsigned __int128 bytes_of(const struct sluice_tensor *tensor)
{
	unsigned __int128 product = (tensor->dtype >> 8 & 0xff) / 8;
	for (uint32_t i = 0; i < tensor->ndim; i++) {
		if (tensor->shape[i] < 0)
			fail("a negative dimension");
		if (tensor->shape[i] == 0)
			return 0;
	}
	for (uint32_t i = 0; i < tensor->ndim && product <= INT64_MAX; i++)
		product *= (uint64_t)tensor->shape[i];
	return product;
}

static void read_tensor(const struct sluice_message *message, const struct sluice_tensor *tensor)
{
	if (tensor->ndim > SLUICE_MAX_DIMENSIONS || strlen(tensor->name) > SLUICE_MAX_TENSOR_NAME)
		fail("a tensor that cannot be");
	if (bytes_of(tensor) != tensor->bytes)
		fail("a shape that does not fit its bytes");
	if (!mappings_hold(tensor->data, tensor->bytes))
		fail("a tensor outside every mapping");
	if ((uintptr_t)tensor->data % 64 != 0)
		fail("a tensor that is not aligned");
	if (tensor->bytes > 0)
		sum_of_all += *(const uint8_t *)tensor->data + ((const uint8_t *)tensor->data)[tensor->bytes - 1];
	(void)sluice_tensor_find(message, tensor->name);
}

void read_message(const struct sluice_message *message)
{
	struct sluice_trace trace;
	struct sluice_stamps stamps;
	uint32_t count = sluice_tensor_count(message);
	if (count == 0 || count > SLUICE_MAX_TENSORS)
		fail("a message without tensors");
	for (uint32_t i = 0; i < count; i++)
		read_tensor(message, sluice_tensor(message, i));
	sluice_trace(message, &trace);
	sluice_stamps(message, &stamps);
	sum_of_all += sluice_deadline(message) + sluice_correlation_id(message) + sluice_sequence(message) +
		      sluice_origin(message) + sluice_delivery_count(message) + trace.flags + stamps.publish_ns;
}

void check_fault(struct sluice_consumer *consumer)
{
	struct sluice_fault fault;
	if (sluice_consumer_fault(consumer, &fault) != 0 || fault.reason[0] == '\0')
		fail("no reason for a refusal");
}

void look_at_channels(const char *name)
{
	struct sluice_channel_entry *entries;
	struct sluice_channel_stat *stat;
	if (sluice_channel_list(FILES_DIRECTORY, &entries) >= 0)
		sluice_channel_list_free(entries);
	if (sluice_channel_stat(name, FILES_DIRECTORY, &stat) == 0)
		sluice_channel_stat_free(stat);
}
