/* SPDX-License-Identifier: Apache-2.0 */
/* Producers: a lane of one's own, one reservation at a time, publishing. */
#include "producer.h"

#include <errno.h>
#include <string.h>

#include "atomic.h"
#include "channel.h"
#include "claims.h"
#include "clock.h"
#include "course.h"
#include "handle.h"
#include "lane.h"
#include "lane_table.h"
#include "message.h"
#include "options.h"
#include "peers.h"
#include "place.h"
#include "plan.h"
#include "plant.h"
#include "recover.h"
#include "spin.h"
#include "stats.h"
#include "tensor.h"
#include "waiter.h"

/* ---- open and close ---- */

static uint32_t lane_depth(const struct sluice_producer *producer, const struct sluice_producer_options *options)
{
	uint32_t depth = 2;
	while (depth < options->depth)
		depth *= 2;
	return options->depth != 0 ? depth : producer->channel.config.depth;
}

static int make_lane(
	struct sluice_producer *producer, const struct sluice_producer_options *options, const struct place *place)
{
	struct channel *channel = &producer->channel;
	struct lane_table table = channel_lane_table(channel);
	struct lane_key key = {channel->slot, channel->incarnation};
	uint32_t depth = lane_depth(producer, options);
	uint64_t bytes = options->lane_bytes != 0 ? options->lane_bytes : channel->config.lane_bytes;
	bytes = layout_round_payload(bytes);
	int error = lane_table_make(&table, key, depth, bytes, place, &producer->objects);
	if (error != 0)
		return error;
	error = lane_writer_start(&producer->writer, producer->objects.data.base, bytes, depth,
		options->alignment != 0 ? options->alignment : 64);
	if (error == 0)
		error = channel_lock_gate(channel, channel->open_timeout_ns);
	if (error == 0) {
		error = lane_table_link(&table, key, &producer->objects);
		channel_unlock_gate(channel);
	}
	if (error != 0) {
		lane_writer_stop(&producer->writer);
		lane_objects_release(&producer->objects);
		return error;
	}
	producer->claims = producer->objects.claims.base;
	struct layout_data *data = producer->objects.data.base;
	producer->stats = &data->stats;
	producer->objects.geometry = data->geometry; /* as a lane that was mapped has it: see producer_look_after */
	channel_ring_everybody(channel);
	return 0;
}

int sluice_producer_open(
	const char *name, const struct sluice_producer_options *given, struct sluice_producer **ret_producer)
{
	struct sluice_producer_options options;
	struct place place;
	if (ret_producer == NULL || options_load_producer(given, &options) != NULL)
		return -EINVAL;
	int error = place_choose(options.flags, options.node, options.device, &place);
	if (error != 0)
		return error;
	struct sluice_producer *producer = handle_new(HANDLE_PRODUCER, sizeof *producer);
	if (producer == NULL)
		return -ENOMEM;
	memset(&producer->handle + 1, 0, sizeof *producer - sizeof producer->handle);

	error = channel_join(&producer->channel, &producer->handle, name, options.channel, SLUICE_ROLE_PRODUCER);
	if (error != 0) {
		handle_retire(&producer->handle);
		return error;
	}
	error = make_lane(producer, &options, &place);
	if (error != 0) {
		channel_leave(&producer->channel, false);
		handle_retire(&producer->handle);
		return error;
	}
	producer->sampler = sampler_at_rate(options.sample_rate_hz);
	producer->spin = spin_for(options.spin_ns);
	producer->liveness = sampler_at_rate(4);
	producer->report_gone = (options.flags & SLUICE_REPORT_GONE) != 0;
	producer->broadcast = producer->channel.config.mode == SLUICE_BROADCAST;
	producer->ordered = (producer->channel.config.flags & SLUICE_ORDERED) != 0;
	peers_start(&producer->channel);
	producer->message.handle = &producer->handle;
	producer->message.origin = (uint64_t)producer->channel.incarnation << 32 | producer->channel.slot;
	handle_publish(&producer->handle);
	*ret_producer = producer;
	return 0;
}

/* ---- reserve ---- */

static bool matches(const struct lane_schema *schema, const struct sluice_tensor_spec *specs, size_t count)
{
	if (schema->tensor_count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (schema->dtypes[i] != specs[i].dtype || schema->ranks[i] != specs[i].ndim || specs[i].name == NULL ||
			strcmp(schema->names[i], specs[i].name) != 0)
			return false;
	return true;
}

static bool is_good_name(const struct lane_schema *schema, size_t index, const char *name)
{
	size_t length = name != NULL ? strnlen(name, SLUICE_MAX_TENSOR_NAME + 1) : 0;
	if (length == 0 || length > SLUICE_MAX_TENSOR_NAME)
		return false;
	for (size_t i = 0; i < index; i++)
		if (strcmp(schema->names[i], name) == 0)
			return false;
	return true;
}

static int new_schema(struct lane_writer *writer, const struct sluice_tensor_spec *specs, size_t count)
{
	struct lane_schema schema = {.tensor_count = (uint32_t)count};
	for (size_t i = 0; i < count; i++) {
		if (!is_good_name(&schema, i, specs[i].name))
			return -EINVAL;
		memcpy(schema.names[i], specs[i].name, strlen(specs[i].name) + 1);
		schema.dtypes[i] = specs[i].dtype;
		schema.ranks[i] = specs[i].ndim;
	}
	return lane_writer_schema(writer, &schema);
}

static int find_schema(struct sluice_producer *producer, const struct sluice_tensor_spec *specs, size_t count)
{
	struct lane_writer *writer = &producer->writer;
	if (producer->last_schema < writer->schema_count &&
		matches(&writer->schemas[producer->last_schema], specs, count))
		return (int)producer->last_schema;
	int schema = new_schema(writer, specs, count);
	if (schema >= 0)
		producer->last_schema = (uint32_t)schema;
	return schema;
}

static void fill_tensors(struct sluice_message *message, const struct lane_schema *schema,
	const struct sluice_tensor_spec *specs, const struct plan *plan)
{
	message->tensor_count = schema->tensor_count;
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		struct sluice_tensor *tensor = &message->tensors[i];
		tensor->name = schema->names[i];
		tensor->bytes = plan->tensor_bytes[i];
		tensor->dtype = specs[i].dtype;
		tensor->ndim = specs[i].ndim;
		for (uint32_t k = 0; k < specs[i].ndim; k++)
			tensor->shape[k] = specs[i].shape[k];
		message->reserved.first[i] = specs[i].ndim > 0 ? specs[i].shape[0] : 0;
		message->reserved.offsets[i] = plan->offsets[i];
	}
}

/* Any 8 characters. */
typedef uint64_t __attribute__((may_alias, aligned(1))) any_characters;

static inline bool same_characters(const char *a, const char *b)
{
	return *(const any_characters *)a == *(const any_characters *)b;
}

/*
 * True if `name` is that of tensor `i` of the last reservation. Equal names are the rule here, at the address of last time,
 * where that many characters could be read: so they are compared in words, of which the last overlaps the one before it.
 */
static inline bool repeats_name(const struct sluice_producer *producer, size_t i, const char *name)
{
	const char *last = producer->message.tensors[i].name;
	if (UNLIKELY(name != producer->names[i].address))
		return name != NULL && strcmp(name, last) == 0;
	size_t end = producer->names[i].bytes - sizeof(any_characters);
	for (size_t at = 0; at < end; at += sizeof(any_characters))
		if (!same_characters(name + at, last + at))
			return false;
	return same_characters(name + end, last + end);
}

/*
 * Remembers where the name of tensor `i` lay; our own copy stands for one too short for words, and for one at the end of a
 * page, where a shorter one could follow that must not be read past its end.
 */
static void note_name(struct sluice_producer *producer, size_t i, const char *name)
{
	size_t bytes = strlen(name) + 1;
	bool in_words = bytes >= sizeof(any_characters) && (uintptr_t)name % 4096 <= 4096 - bytes;
	producer->names[i].address = in_words ? name : producer->message.tensors[i].name;
	producer->names[i].bytes = in_words ? bytes : sizeof(any_characters);
}

/* True if the tensors asked for are those of the last reservation, whose description then still stands. */
static inline bool repeats_last(
	const struct sluice_producer *producer, const struct sluice_tensor_spec *specs, size_t count)
{
	const struct sluice_message *last = &producer->message;
	if (!producer->has_plan || last->tensor_count != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		const struct sluice_tensor *tensor = &last->tensors[i];
		if (specs[i].dtype != tensor->dtype || specs[i].ndim != tensor->ndim ||
			(tensor->ndim > 0 && specs[i].shape[0] != last->reserved.first[i]) ||
			!repeats_name(producer, i, specs[i].name))
			return false;
		for (uint32_t k = 1; k < tensor->ndim; k++)
			if (specs[i].shape[k] != tensor->shape[k])
				return false;
	}
	return true;
}

/* Undoes sluice_shrink in a description that serves once more. */
static void unshrink(struct sluice_producer *producer)
{
	struct sluice_message *message = &producer->message;
	for (uint32_t i = 0; i < message->tensor_count; i++) {
		message->tensors[i].shape[0] = message->reserved.first[i];
		message->tensors[i].bytes = producer->plan.tensor_bytes[i];
	}
	message->reserved.shrunk = false;
}

/* Into the head: dimensions of all tensors, then where the second and those after it start, in units of 64 bytes. */
static void write_dims(const struct sluice_message *message, uint32_t dims[LAYOUT_DIMS])
{
	for (uint32_t i = 0; i < message->tensor_count; i++)
		for (uint32_t k = 0; k < message->tensors[i].ndim; k++)
			*dims++ = (uint32_t)message->tensors[i].shape[k];
	for (uint32_t i = 1; i < message->tensor_count; i++)
		*dims++ = (uint32_t)(message->reserved.offsets[i] / LAYOUT_UNIT);
}

/* Before the payload, where they do not fit: dimensions of all tensors, then where each starts. */
static void write_wide(const struct sluice_message *message, uint64_t *words)
{
	for (uint32_t i = 0; i < message->tensor_count; i++)
		for (uint32_t k = 0; k < message->tensors[i].ndim; k++)
			*words++ = (uint64_t)message->tensors[i].shape[k];
	for (uint32_t i = 0; i < message->tensor_count; i++)
		*words++ = message->reserved.offsets[i] / LAYOUT_UNIT;
}

/* How far the message reaches after its tensors were shrunk. */
static uint64_t payload_end(const struct sluice_message *message)
{
	uint64_t end = 0;
	for (uint32_t i = 0; i < message->tensor_count; i++) {
		uint64_t tensor_end = message->reserved.offsets[i] + message->tensors[i].bytes;
		end = tensor_end > end ? tensor_end : end;
	}
	return end;
}

/* Makes the words of the reservation's head, as its tensors are now. */
static struct lane_words describe(const struct sluice_producer *producer)
{
	struct layout_descriptor_head head = {
		.payload_bytes = payload_end(&producer->message),
		.schema = (uint16_t)producer->last_schema,
		.flags = (producer->plan.inside ? LAYOUT_PAYLOAD_INLINE : 0) |
			 (producer->plan.wide ? LAYOUT_DIMS_IN_PAYLOAD : 0),
	};
	if (!producer->plan.wide)
		write_dims(&producer->message, head.dims);
	return lane_words_of(&head);
}

/* Decides where the tensors go and describes them in the message. */
static int plan_reservation(struct sluice_producer *producer, const struct sluice_tensor_spec *specs, size_t count)
{
	struct plan plan = {0};
	int error =
		plan_message(specs, count, producer->writer.alignment, lane_writer_largest(&producer->writer), &plan);
	if (error != 0)
		return error;
	int schema = find_schema(producer, specs, count);
	if (schema < 0)
		return schema;
	producer->plan = plan;
	producer->has_plan = true;
	producer->message.reserved.shrunk = false;
	fill_tensors(&producer->message, &producer->writer.schemas[schema], specs, &plan);
	for (size_t i = 0; i < count; i++)
		note_name(producer, i, specs[i].name);
	producer->words = describe(producer);
	producer->place = producer->words.place;
	return 0;
}

static void stamp_reservation(struct sluice_producer *producer)
{
	uint64_t now_ns = clock_monotonic_ns();
	sampler_stamped(&producer->sampler, now_ns);
	producer->message.stamps = (struct sluice_stamps){.reserve_ns = now_ns};
	producer->message.flags |= LAYOUT_STAMPED;
}

static inline int begin_reservation(
	struct sluice_producer *producer, struct lane_room room, struct sluice_message **ret_message)
{
	struct lane_writer *writer = &producer->writer;
	struct sluice_message *message = &producer->message;
	const struct plan *plan = &producer->plan;
	message->sequence = writer->head;
	message->correlation_id = 0;
	message->flags = LANE_PLACE_FLAGS(producer->place);
	message->reserved.room = room;
	uint8_t *base = plan->inside ? lane_writer_descriptor(writer)->payload : writer->payload + room.offset;
	message->tensors[0].data = base + plan->offsets[0];
	for (uint32_t i = 1; i < message->tensor_count; i++)
		message->tensors[i].data = base + plan->offsets[i];
	message_set_state(message, MESSAGE_RESERVED);
	*ret_message = message;
	return 0;
}

static COLD int reserve_properly(struct sluice_producer *producer, const struct sluice_tensor_spec *specs, size_t count,
	int64_t timeout_ns, struct sluice_message **ret_message)
{
	if (message_state(&producer->message) == MESSAGE_RESERVED)
		return -EBUSY;
	if (specs == NULL || count == 0)
		return -EINVAL;
	if (count > SLUICE_MAX_TENSORS)
		return -E2BIG;
	int error = repeats_last(producer, specs, count) ? 0 : plan_reservation(producer, specs, count);
	if (error != 0)
		return error;
	if (producer->message.reserved.shrunk)
		unshrink(producer);
	struct lane_room room = {0};
	if (!producer_find_room(producer, producer->plan.bytes, &room)) {
		error = producer_wait_for_room(producer, producer->plan.bytes, timeout_ns, &room);
		if (error != 0)
			return error;
	}
	begin_reservation(producer, room, ret_message);
	if (sampler_is_due(&producer->sampler))
		stamp_reservation(producer);
	return 0;
}

/* Kept free of calls but for the last thing it does, as all that is done for every message. */
int sluice_reserve(struct sluice_producer *producer, const struct sluice_tensor_spec *specs, size_t count,
	int64_t timeout_ns, struct sluice_message **ret_message)
{
	if (producer == NULL || ret_message == NULL)
		return -EINVAL;
	int error = handle_check(&producer->handle);
	if (error != 0)
		return error;
	atomic_prefetch_write(lane_writer_descriptor(&producer->writer)); /* it travels while this call works */
	struct lane_room room = {0};
	if (LIKELY(message_state(&producer->message) == MESSAGE_NONE && specs != NULL) &&
		LIKELY(repeats_last(producer, specs, count) && !producer->message.reserved.shrunk) &&
		LIKELY(lane_writer_find_room(&producer->writer, producer->plan.bytes, &room)) &&
		LIKELY(sampler_passes(&producer->sampler)))
		return begin_reservation(producer, room, ret_message);
	return reserve_properly(producer, specs, count, timeout_ns, ret_message);
}

/* ---- publish ---- */

/* What travels beside: the few messages that have it. */
static void write_annex(struct sluice_producer *producer)
{
	struct sluice_message *message = &producer->message;
	struct layout_descriptor_annex *annex = &lane_writer_descriptor(&producer->writer)->annex;
	if ((message->flags & LAYOUT_DEADLINE) != 0)
		annex->deadline_ns = message->reserved.deadline_ns;
	if ((message->flags & LAYOUT_TRACED) != 0) {
		const struct sluice_trace *trace = &message->reserved.trace;
		memcpy(annex->trace_id, trace->trace_id, sizeof annex->trace_id);
		memcpy(annex->parent_id, trace->parent_id, sizeof annex->parent_id);
		annex->trace_flags = trace->flags;
	}
	if ((message->flags & LAYOUT_STAMPED) != 0) {
		message->stamps.publish_ns = clock_monotonic_ns();
		annex->reserve_ns = message->stamps.reserve_ns;
		annex->publish_ns = message->stamps.publish_ns;
		stats_record(&producer->stats->fill_time, message->stamps.publish_ns - message->stamps.reserve_ns);
	}
}

/* What the plan does not know: tensors that were shrunk, dimensions that lie in the payload. */
static struct lane_words describe_again(const struct sluice_producer *producer)
{
	const struct sluice_message *message = &producer->message;
	if (producer->plan.wide)
		write_wide(message, (uint64_t *)(void *)(producer->writer.payload + message->reserved.room.offset));
	return describe(producer);
}

/*
 * Publishes the reservation, of which `words` says all but where it lies and what travels beside it. `more`: another one
 * follows, which looks for sleepers.
 */
static inline int hand_over(struct sluice_producer *producer, struct lane_words *words, uint64_t ticket, bool more)
{
	struct sluice_message *message = &producer->message;
	struct lane_writer *writer = &producer->writer;
	struct lane_room room = message->reserved.room;
	bool inside = producer->plan.inside;
	uint64_t bytes = inside ? 0 : align_up(words->payload_bytes, writer->alignment);
	words->place = producer->place | LANE_PLACE(inside ? 0 : room.offset / LAYOUT_UNIT, 0, message->flags);
	lane_writer_publish(writer, words, message->correlation_id, ticket, room, bytes, more);
	/* The next small message's payload; consumers have no business there until it is published. */
	atomic_prefetch_write(lane_writer_descriptor(writer)->payload);

	message_set_state(message, MESSAGE_NONE);
	stats_add(&producer->stats->published_messages, 1);
	stats_add(&producer->stats->published_bytes, words->payload_bytes);
	uint64_t owed = producer->owed + 1;
	producer->owed = more ? owed : 0;
	if (more)
		return 0;
	/* The publish ended with the full fence (D3) that this look needs. */
	bool asleep = doorbell_is_armed(&producer->channel.control->sleeping_consumers);
	return UNLIKELY(asleep) ? producer_wake_consumers(producer, owed) : 0;
}

static int check_reservation(struct sluice_message *message)
{
	if (message == NULL)
		return -EINVAL;
	int error = handle_check(message->handle);
	if (error != 0)
		return error;
	return message_state(message) == MESSAGE_RESERVED ? 0 : -EALREADY; /* one of a consumer never is */
}

static COLD int publish_properly(struct sluice_producer *producer, bool more)
{
	struct lane_words words = describe_again(producer);
	uint64_t ticket = 0;
	write_annex(producer);
	/* O1: ticket, before P1, pairs with O2 in look_by_order */
	if (producer->ordered)
		ticket = atomic_add_full(&producer->channel.control->ticket.value, UINT64_C(1)) + 1;
	return hand_over(producer, &words, ticket, more);
}

static inline int publish(struct sluice_message *message, bool more)
{
	int error = check_reservation(message);
	if (error != 0)
		return error;
	struct sluice_producer *producer = (struct sluice_producer *)message->handle;
	if (UNLIKELY((message->flags & ~(uint32_t)LAYOUT_PAYLOAD_INLINE) != 0 || message->reserved.shrunk ||
		     producer->ordered))
		return publish_properly(producer, more);
	return hand_over(producer, &producer->words, 0, more);
}

int sluice_publish(struct sluice_message *message)
{
	return publish(message, false);
}

int sluice_publish_more(struct sluice_message *message)
{
	return publish(message, true);
}

int sluice_flush(struct sluice_producer *producer)
{
	if (producer == NULL)
		return -EINVAL;
	int error = handle_check(&producer->handle);
	if (error == 0)
		producer_settle(producer);
	return error;
}

int sluice_discard(struct sluice_message *message)
{
	int error = check_reservation(message);
	if (error != 0)
		return error;
	message_set_state(message, MESSAGE_NONE);
	stats_add(&((struct sluice_producer *)message->handle)->stats->discarded_messages, 1);
	return 0;
}

int sluice_producer_close(struct sluice_producer *producer)
{
	if (producer == NULL)
		return 0;
	int error = handle_check(&producer->handle);
	if (error != 0)
		return error;
	handle_tell_if_watched(&producer->handle, HANDLE_CLOSES);
	message_set_state(&producer->message, MESSAGE_NONE);
	producer_reclaim(producer); /* so that late joiners need not look at what is done with */
	lane_writer_end(&producer->writer);
	/* E1: ended, after F1, pairs with E2 in consumer_sync_lanes: consumers look whether it is drained */
	atomic_add_full(&producer->channel.control->epochs.lanes, UINT64_C(1));
	lane_writer_stop(&producer->writer);
	recover_watch_free(&producer->watch);
	lane_objects_release(&producer->objects);
	error = channel_leave(&producer->channel, true);
	handle_retire(&producer->handle);
	return error;
}

/* ---- the rest ---- */

int sluice_producer_wait(struct sluice_producer *producer, uint32_t consumers, int64_t timeout_ns)
{
	if (producer == NULL)
		return -EINVAL;
	int error = handle_check(&producer->handle);
	if (error != 0)
		return error;
	producer_settle(producer);
	return peers_wait(&producer->channel, SLUICE_ROLE_CONSUMER, consumers, timeout_ns, producer->spin.most_ns);
}

int sluice_producer_geometry(struct sluice_producer *producer, struct sluice_geometry *ret_geometry)
{
	if (producer == NULL || ret_geometry == NULL)
		return -EINVAL;
	int error = handle_check(&producer->handle);
	if (error != 0)
		return error;
	channel_geometry(&producer->channel, ret_geometry);
	ret_geometry->depth = producer->writer.depth;
	ret_geometry->lane_bytes = producer->writer.capacity;
	ret_geometry->max_message_bytes = lane_writer_largest(&producer->writer);
	ret_geometry->alignment = producer->writer.alignment;
	return 0;
}

int sluice_producer_placement(struct sluice_producer *producer, struct sluice_placement *ret_placement)
{
	if (producer == NULL || ret_placement == NULL)
		return -EINVAL;
	int error = handle_check(&producer->handle);
	if (error != 0)
		return error;
	const struct segment *data = &producer->objects.data;
	place_report(&((const struct layout_data *)data->base)->placement, data->mapped_bytes, ret_placement);
	return 0;
}
