/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the lane to the device: one tensor, a message, or a batch in as few copies as can be; and where kernels read it.
 */
#include "cuda.h"

#include <errno.h>

/*
 * Submitting a copy costs as much as 160 KiB of it: what lies between two messages may be copied along up to so much.
 */
#define GAP_BYTES 4096

/* Where parts of a batch that are copies of their own begin in the buffer. */
#define PART_ALIGNMENT 256

/* ---- copying ---- */

struct copier {
	struct cuda *cuda;
	struct cuda_driver *driver;
	cuda_stream stream;
	uintptr_t address; /* of the buffer */
	int copies;
	uint64_t bytes;
	uint64_t pageable;
	struct cuda_reason reason;
};

static int submit(struct copier *copier, uint64_t offset, const uint8_t *from, uint64_t bytes)
{
	int result = copier->driver->MemcpyHtoDAsync(copier->address + offset, from, bytes, copier->stream);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(copier->driver, "cuMemcpyHtoDAsync", result, &copier->reason);
	copier->copies++;
	copier->bytes += bytes;
	return 0;
}

/* Copies part of a lane. Drivers refuse a copy that begins in one registration and ends in another. */
static int copy(struct copier *copier, const struct cuda_pin *pin, uint64_t offset, const uint8_t *from, uint64_t bytes)
{
	if (pin == NULL)
		return cuda_explain(-ENOMEM, &copier->reason, "out of memory when the lane was to be pinned");
	if (pin->reason.error != 0) {
		if ((copier->cuda->flags & SLUICE_CUDA_PAGEABLE) == 0) {
			copier->reason = pin->reason;
			return pin->reason.error;
		}
		int error = bytes > 0 ? submit(copier, offset, from, bytes) : 0;
		copier->pageable += error == 0 && bytes > 0;
		return error;
	}
	while (bytes > 0) {
		uint64_t left = pin->chunk_bytes - (uint64_t)(from - pin->base) % pin->chunk_bytes;
		uint64_t part = bytes < left ? bytes : left;
		int error = submit(copier, offset, from, part);
		if (error != 0)
			return error;
		offset += part;
		from += part;
		bytes -= part;
	}
	return 0;
}

/* Enters the context and looks at the stream. Returns 0 or a negative errno; then the context was left again. */
static int begin(
	struct copier *copier, struct cuda *cuda, cuda_stream stream, uintptr_t address, struct cuda_visit *ret_visit)
{
	*copier = (struct copier){.cuda = cuda, .driver = cuda->driver, .stream = stream, .address = address};
	int result = cuda_driver_enter(copier->driver, ret_visit);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(copier->driver, "cuCtxPushCurrent", result, &copier->reason);
	int error = cuda_driver_check_stream(copier->driver, stream, &copier->reason);
	if (error != 0)
		cuda_driver_leave(copier->driver, ret_visit);
	return error;
}

static void end(struct copier *copier, const struct cuda_visit *visit)
{
	struct sluice_cuda_status *figures = &copier->cuda->figures;
	cuda_driver_leave(copier->driver, visit);
	pthread_mutex_lock(&copier->cuda->mutex);
	figures->copies += (uint64_t)copier->copies;
	figures->copied_bytes += copier->bytes;
	figures->pageable_copies += copier->pageable;
	pthread_mutex_unlock(&copier->cuda->mutex);
}

/* ---- where things lie ---- */

struct extent {
	const uint8_t *begin;
	const uint8_t *end;
};

/* All tensors of a message; they lie in order. */
static struct extent extent_of(const struct sluice_message *message)
{
	const struct sluice_tensor *last = &message->tensors[message->tensor_count - 1];
	return (struct extent){message->tensors[0].data, (const uint8_t *)last->data + last->bytes};
}

static uint64_t align_part(uint64_t bytes)
{
	return (bytes + PART_ALIGNMENT - 1) / PART_ALIGNMENT * PART_ALIGNMENT;
}

/* A part of a batch that lies in one piece: messages one behind another in a lane. */
struct part {
	const struct consumer_lane *lane;
	struct extent extent;
	uint64_t offset; /* in the buffer */
};

/* True if the message lies right behind the part, or hardly further. Addresses are compared as numbers. */
static bool continues(const struct part *part, const struct sluice_message *message, struct extent extent)
{
	uintptr_t begin = (uintptr_t)extent.begin;
	uintptr_t before = (uintptr_t)part->extent.end;
	return part->lane == message->held.lane && begin >= before && begin - before <= GAP_BYTES;
}

/* Takes one part off the messages at `*at`. Its offset is set. */
static struct part next_part(const struct sluice_message *const *messages, size_t count, size_t *at, uint64_t offset)
{
	struct part part = {messages[*at]->held.lane, extent_of(messages[*at]), offset};
	for ((*at)++; *at < count; (*at)++) {
		struct extent extent = extent_of(messages[*at]);
		if (!continues(&part, messages[*at], extent))
			break;
		part.extent.end = extent.end;
	}
	return part;
}

static uint64_t part_bytes(const struct part *part)
{
	return (uint64_t)(part->extent.end - part->extent.begin);
}

/* ---- one message ---- */

int sluice_cuda_upload(const struct sluice_message *message, uint32_t tensor, uintptr_t address, uint64_t bytes,
	struct CUstream_st *stream)
{
	struct cuda *cuda;
	int error = cuda_check_message(message, &cuda);
	if (error != 0)
		return error;
	if (tensor != SLUICE_CUDA_ALL && tensor >= message->tensor_count)
		return -EINVAL;
	struct extent extent = extent_of(message);
	if (tensor != SLUICE_CUDA_ALL) {
		extent.begin = message->tensors[tensor].data;
		extent.end = extent.begin + message->tensors[tensor].bytes;
	}
	uint64_t size = (uint64_t)(extent.end - extent.begin);
	if (size > bytes)
		return -EMSGSIZE;
	struct copier copier;
	struct cuda_visit visit;
	error = begin(&copier, cuda, stream, address, &visit);
	if (error != 0)
		return cuda_note(cuda, &copier.reason);
	error = copy(&copier, message->held.lane->attachment, 0, extent.begin, size);
	end(&copier, &visit);
	return error != 0 ? cuda_note(cuda, &copier.reason) : 0;
}

/* ---- a batch ---- */

/* 0 if all messages are held by one consumer, or a negative errno. */
static int check_messages(const struct sluice_message *const *messages, size_t count)
{
	if (messages == NULL || count == 0 || count > INT32_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (messages[i] == NULL || messages[i]->handle != messages[0]->handle)
			return -EINVAL;
		int error = i == 0 ? handle_check(messages[0]->handle) : 0;
		if (error != 0)
			return error;
		if (message_state(messages[i]) != MESSAGE_HELD)
			return -EALREADY;
	}
	return 0;
}

static uint64_t measure(const struct sluice_message *const *messages, size_t count)
{
	uint64_t bytes = 0;
	for (size_t at = 0; at < count;) {
		struct part part = next_part(messages, count, &at, align_part(bytes));
		bytes = part.offset + part_bytes(&part);
	}
	return bytes;
}

int64_t sluice_cuda_batch_bytes(const struct sluice_message *const *messages, size_t count)
{
	int error = check_messages(messages, count);
	return error != 0 ? error : (int64_t)measure(messages, count);
}

/* Where the tensors of messages `from` to `to` - 1 are, which are one part. Returns behind the last of them. */
static uint64_t *tell_offsets(const struct part *part, const struct sluice_message *const *messages, size_t from,
	size_t to, uint64_t *ret_offsets)
{
	for (; from < to; from++)
		for (uint32_t i = 0; i < messages[from]->tensor_count; i++)
			*ret_offsets++ = part->offset + (uint64_t)((const uint8_t *)messages[from]->tensors[i].data -
								   part->extent.begin);
	return ret_offsets;
}

/* Copies all parts, then says where things are: a call that fails leaves the table as it was. */
static int copy_parts(
	struct copier *copier, const struct sluice_message *const *messages, size_t count, uint64_t *ret_offsets)
{
	uint64_t bytes = 0;
	for (size_t at = 0; at < count;) {
		struct part part = next_part(messages, count, &at, align_part(bytes));
		bytes = part.offset + part_bytes(&part);
		int error = copy(copier, part.lane->attachment, part.offset, part.extent.begin, part_bytes(&part));
		if (error != 0)
			return error;
	}
	bytes = 0;
	for (size_t at = 0; at < count;) {
		size_t from = at;
		struct part part = next_part(messages, count, &at, align_part(bytes));
		bytes = part.offset + part_bytes(&part);
		ret_offsets = tell_offsets(&part, messages, from, at, ret_offsets);
	}
	return 0;
}

int sluice_cuda_upload_batch(const struct sluice_message *const *messages, size_t count, uintptr_t address,
	uint64_t bytes, struct CUstream_st *stream, uint64_t *ret_offsets)
{
	struct cuda *cuda;
	int error = ret_offsets != NULL ? check_messages(messages, count) : -EINVAL;
	if (error == 0)
		error = cuda_check_message(messages[0], &cuda);
	if (error != 0)
		return error;
	if (measure(messages, count) > bytes)
		return -EMSGSIZE;
	struct copier copier;
	struct cuda_visit visit;
	error = begin(&copier, cuda, stream, address, &visit);
	if (error != 0)
		return cuda_note(cuda, &copier.reason);
	error = copy_parts(&copier, messages, count, ret_offsets);
	end(&copier, &visit);
	return error != 0 ? cuda_note(cuda, &copier.reason) : copier.copies;
}

/* ---- in place ---- */

int sluice_cuda_pointer(const struct sluice_message *message, uint32_t tensor, uintptr_t *ret_address)
{
	struct cuda *cuda;
	int error = ret_address != NULL ? cuda_check_message(message, &cuda) : -EINVAL;
	if (error != 0)
		return error;
	if (tensor >= message->tensor_count)
		return -EINVAL;
	const struct cuda_pin *pin = message->held.lane->attachment;
	if (pin == NULL)
		return -ENOMEM;
	const struct cuda_reason *reason = pin->reason.error != 0 ? &pin->reason : &pin->unseen;
	if (reason->error != 0)
		return cuda_note(cuda, reason);
	const struct sluice_tensor *found = &message->tensors[tensor];
	uint64_t begin = (uint64_t)((const uint8_t *)found->data - pin->base);
	uint64_t end = begin + (found->bytes != 0 ? found->bytes - 1 : 0);
	uint64_t first = begin / pin->chunk_bytes;
	for (uint64_t i = first; i < end / pin->chunk_bytes; i++)
		if (pin->addresses[i + 1] != pin->addresses[i] + pin->chunk_bytes) {
			struct cuda_reason apart;
			cuda_explain(
				-EXDEV, &apart, "the tensor lies in two registrations, which the device sees apart");
			return cuda_note(cuda, &apart);
		}
	*ret_address = pin->addresses[first] + begin % pin->chunk_bytes;
	return 0;
}
