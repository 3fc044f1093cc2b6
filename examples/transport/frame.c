/* SPDX-License-Identifier: Apache-2.0 */
/* Framing of tensors on a stream socket. */
#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../common/process.h"

#define MAGIC 0x656d6172662d3031u

int frame_open(uint64_t payload_capacity, struct frame *ret_frame)
{
	uint64_t capacity = (payload_capacity + FRAME_ALIGNMENT - 1) / FRAME_ALIGNMENT * FRAME_ALIGNMENT;
	struct frame_header *header = aligned_alloc(FRAME_ALIGNMENT, sizeof *header + capacity);

	if (header == NULL)
		return -ENOMEM;
	memset(header, 0, sizeof *header + capacity);
	*ret_frame = (struct frame){header, capacity};
	return 0;
}

void frame_close(struct frame *frame)
{
	free(frame->header);
	*frame = (struct frame){0};
}

static char *payload(const struct frame *frame)
{
	return (char *)(frame->header + 1);
}

void *frame_data(const struct frame *frame, uint32_t index)
{
	return payload(frame) + frame->header->tensors[index].offset;
}

static uint64_t spec_bytes(const struct sluice_tensor_spec *spec)
{
	uint64_t bytes = (spec->dtype >> 8 & 0xff) / 8;

	for (uint32_t d = 0; d < spec->ndim; d++)
		bytes *= (uint64_t)spec->shape[d];
	return bytes;
}

int frame_lay_out(struct frame *frame, uint64_t number, const struct sluice_tensor_spec *specs, uint32_t count)
{
	uint64_t offset = 0;

	if (count > FRAME_TENSORS)
		return -EMSGSIZE;
	for (uint32_t i = 0; i < count; i++) {
		struct frame_tensor *tensor = &frame->header->tensors[i];

		*tensor = (struct frame_tensor){.dtype = specs[i].dtype,
			.ndim = specs[i].ndim,
			.offset = offset,
			.bytes = spec_bytes(&specs[i])};
		strncpy(tensor->name, specs[i].name, sizeof tensor->name - 1);
		memcpy(tensor->shape, specs[i].shape, sizeof tensor->shape);
		offset += (tensor->bytes + FRAME_ALIGNMENT - 1) / FRAME_ALIGNMENT * FRAME_ALIGNMENT;
	}
	if (offset > frame->capacity)
		return -EMSGSIZE;
	frame->header->magic = MAGIC;
	frame->header->number = number;
	frame->header->payload_bytes = offset;
	frame->header->tensor_count = count;
	return 0;
}

int frame_send(const struct frame *frame, int socket)
{
	const char *at = (const char *)frame->header;
	uint64_t left = sizeof *frame->header + frame->header->payload_bytes;

	while (left > 0) {
		ssize_t sent = send(socket, at, left, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR && process_stopped() == 0)
			continue;
		if (sent < 0)
			return -errno;
		at += sent;
		left -= (uint64_t)sent;
	}
	return 0;
}

/* Waits in the kernel if asked to; how often the caller then looks at its clock does not matter. */
static ssize_t receive_some(int socket, void *place, uint64_t most, bool spin)
{
	ssize_t got = recv(socket, place, most, spin ? MSG_DONTWAIT : 0);

	if (got < 0)
		return -errno;
	return got == 0 ? -EPIPE : got;
}

static bool is_passing(ssize_t result)
{
	return (result == -EAGAIN || result == -EINTR) && process_stopped() == 0;
}

/* Bytes of the whole frame, once its header is there; until then those of the header. */
static uint64_t frame_bytes(const struct frame *frame, uint64_t got)
{
	return sizeof *frame->header + (got < sizeof *frame->header ? 0 : frame->header->payload_bytes);
}

static int receive_bytes(struct frame *frame, int socket, bool spin, uint64_t deadline_ns)
{
	char *buffer = (char *)frame->header;
	uint64_t got = 0;

	while (got < frame_bytes(frame, got)) {
		/* One frame is on its way at a time: asking for more than it holds saves a call and takes nothing else. */
		ssize_t more = receive_some(socket, buffer + got, sizeof *frame->header + frame->capacity - got, spin);

		if (is_passing(more) && process_now_ns() < deadline_ns)
			continue;
		if (more < 0)
			return more == -EAGAIN ? -ETIMEDOUT : (int)more;
		got += (uint64_t)more;
		if (got >= sizeof *frame->header && frame->header->payload_bytes > frame->capacity)
			return -EBADMSG;
	}
	return got == frame_bytes(frame, got) ? 0 : -EBADMSG;
}

static bool is_sound(const struct frame *frame, const struct frame_tensor *tensor)
{
	uint64_t payload_bytes = frame->header->payload_bytes;

	return tensor->ndim <= SLUICE_MAX_DIMENSIONS && tensor->offset % FRAME_ALIGNMENT == 0 &&
	       tensor->offset <= payload_bytes && tensor->bytes <= payload_bytes - tensor->offset &&
	       memchr(tensor->name, '\0', sizeof tensor->name) != NULL;
}

int frame_receive(struct frame *frame, int socket, bool spin, uint64_t timeout_ns,
	struct sluice_tensor ret_tensors[FRAME_TENSORS])
{
	const struct frame_header *header = frame->header;
	int result = receive_bytes(frame, socket, spin, process_now_ns() + timeout_ns);

	if (result < 0)
		return result;
	if (header->magic != MAGIC || header->tensor_count > FRAME_TENSORS)
		return -EBADMSG;
	for (uint32_t i = 0; i < header->tensor_count; i++) {
		const struct frame_tensor *tensor = &header->tensors[i];

		if (!is_sound(frame, tensor))
			return -EBADMSG;
		ret_tensors[i] = (struct sluice_tensor){.name = tensor->name,
			.data = frame_data(frame, i),
			.bytes = tensor->bytes,
			.dtype = tensor->dtype,
			.ndim = tensor->ndim};
		memcpy(ret_tensors[i].shape, tensor->shape, sizeof tensor->shape);
	}
	return (int)header->tensor_count;
}
