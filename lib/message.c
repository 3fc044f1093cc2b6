/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tensor.h"

static bool is_live(const struct sluice_message *message)
{
	return message != NULL && message_state(message) > MESSAGE_NONE;
}

static bool is_reserved(const struct sluice_message *message)
{
	return message != NULL && message_state(message) == MESSAGE_RESERVED;
}

static void set_flag(struct sluice_message *message, uint32_t flag, bool on)
{
	message->flags = on ? message->flags | flag : message->flags & ~flag;
}

uint32_t sluice_tensor_count(const struct sluice_message *message)
{
	return is_live(message) ? message->tensor_count : 0;
}

const struct sluice_tensor *sluice_tensor(const struct sluice_message *message, uint32_t index)
{
	return index < sluice_tensor_count(message) ? &message->tensors[index] : NULL;
}

const struct sluice_tensor *sluice_tensor_find(const struct sluice_message *message, const char *name)
{
	uint32_t count = sluice_tensor_count(message);
	for (uint32_t i = 0; name != NULL && i < count; i++)
		if (strcmp(message->tensors[i].name, name) == 0)
			return &message->tensors[i];
	return NULL;
}

void *sluice_data(struct sluice_message *message, uint32_t index)
{
	if (!is_reserved(message) || index >= message->tensor_count)
		return NULL;
	return (void *)(uintptr_t)message->tensors[index].data;
}

int sluice_shrink(struct sluice_message *message, uint32_t index, int64_t first)
{
	if (!is_reserved(message))
		return -EALREADY;
	if (index >= message->tensor_count || message->tensors[index].ndim == 0)
		return -EINVAL;
	struct sluice_tensor *tensor = &message->tensors[index];
	if (first < 0 || first > message->reserved.first[index])
		return -EINVAL;
	message->reserved.shrunk = true;
	tensor->shape[0] = first;
	/* It was reserved at its largest, so this cannot overflow. */
	return tensor_bytes(tensor->shape, tensor->ndim, tensor_element_bytes(tensor->dtype), &tensor->bytes);
}

int sluice_set_correlation_id(struct sluice_message *message, uint64_t id)
{
	if (!is_reserved(message))
		return -EALREADY;
	message->correlation_id = id;
	return 0;
}

int sluice_set_deadline(struct sluice_message *message, uint64_t deadline_ns)
{
	if (!is_reserved(message))
		return -EALREADY;
	message->reserved.deadline_ns = deadline_ns;
	set_flag(message, LAYOUT_DEADLINE, deadline_ns != 0);
	return 0;
}

int sluice_set_trace(struct sluice_message *message, const struct sluice_trace *trace)
{
	static const struct sluice_trace none;
	if (!is_reserved(message))
		return -EALREADY;
	message->reserved.trace = trace != NULL ? *trace : none;
	set_flag(message, LAYOUT_TRACED,
		trace != NULL && memcmp(trace->trace_id, none.trace_id, sizeof none.trace_id) != 0);
	return 0;
}

uint64_t sluice_correlation_id(const struct sluice_message *message)
{
	return is_live(message) ? message->correlation_id : 0;
}

uint64_t sluice_deadline(const struct sluice_message *message)
{
	if (!is_live(message) || (message->flags & LAYOUT_DEADLINE) == 0)
		return 0;
	if (is_reserved(message))
		return message->reserved.deadline_ns;
	return atomic_load_relaxed(
		&message->descriptor->annex.deadline_ns); /* relaxed: after C1, and the message is held */
}

void sluice_trace(const struct sluice_message *message, struct sluice_trace *ret_trace)
{
	*ret_trace = (struct sluice_trace){0};
	if (!is_live(message) || (message->flags & LAYOUT_TRACED) == 0)
		return;
	if (is_reserved(message)) {
		*ret_trace = message->reserved.trace;
	} else {
		const struct layout_descriptor_annex *annex = &message->descriptor->annex;
		memcpy(ret_trace->trace_id, annex->trace_id, sizeof ret_trace->trace_id);
		memcpy(ret_trace->parent_id, annex->parent_id, sizeof ret_trace->parent_id);
		ret_trace->flags = annex->trace_flags;
	}
}

void sluice_stamps(const struct sluice_message *message, struct sluice_stamps *ret_stamps)
{
	*ret_stamps = is_live(message) && (message->flags & LAYOUT_STAMPED) != 0 ? message->stamps
										 : (struct sluice_stamps){0};
}

uint64_t sluice_sequence(const struct sluice_message *message)
{
	return is_live(message) ? message->sequence : 0;
}

uint64_t sluice_origin(const struct sluice_message *message)
{
	return is_live(message) ? message->origin : 0;
}

uint32_t sluice_delivery_count(const struct sluice_message *message)
{
	return is_live(message) ? message->deliveries : 0;
}

/* ---- pool ---- */

#define POOL_FIRST 32

/* Doubles: a search that finds all in use is as long as the pool, so there must be few of them. */
static bool grow(struct message_pool *pool, struct handle *handle)
{
	uint32_t more = pool->count != 0 ? pool->count : POOL_FIRST;
	size_t count = (size_t)pool->count + more;
	if (count > UINT32_MAX / 2)
		return false;
	struct sluice_message **messages = realloc(pool->messages, count * sizeof(struct sluice_message *));
	if (messages == NULL)
		return false;
	pool->messages = messages;
	struct sluice_message *added = aligned_alloc(_Alignof(struct sluice_message), more * sizeof *added);
	if (added == NULL)
		return false;
	memset(added, 0, more * sizeof *added);
	for (uint32_t i = 0; i < more; i++) {
		added[i].handle = handle;
		pool->messages[pool->count + i] = &added[i];
	}
	pool->hint = pool->count;
	pool->count += more;
	return true;
}

bool message_pool_start(struct message_pool *pool, struct handle *handle)
{
	return pool->count > 0 || grow(pool, handle);
}

struct sluice_message *message_pool_take(struct message_pool *pool, struct handle *handle)
{
	/* One taken and released at a time finds its own handle again, still in the cache; many held go round in order. */
	for (uint32_t i = 0; i < pool->count; i++) {
		uint32_t index = pool->hint + i < pool->count ? pool->hint + i : pool->hint + i - pool->count;
		if (message_state(pool->messages[index]) == MESSAGE_NONE) {
			pool->hint = index;
			return pool->messages[index];
		}
	}
	return grow(pool, handle) ? pool->messages[pool->hint] : NULL;
}
