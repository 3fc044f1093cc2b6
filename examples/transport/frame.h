/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors through a stream socket: a header of fixed size that describes them, then their bytes. Written with one system
 * call out of the sender's buffer and read with as few as possible into the receiver's: one copy on each side and no more,
 * which is the best that a socket can do.
 */
#ifndef EXAMPLES_FRAME_H
#define EXAMPLES_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/sluice.h>

#define FRAME_TENSORS   8
#define FRAME_ALIGNMENT 64

struct frame_tensor {
	char name[SLUICE_MAX_TENSOR_NAME + 1];
	uint32_t dtype;
	uint32_t ndim;
	int64_t shape[SLUICE_MAX_DIMENSIONS];
	uint64_t offset; /* in the payload */
	uint64_t bytes;
};

struct frame_header {
	uint64_t magic;
	uint64_t number; /* of the batch */
	uint64_t payload_bytes;
	uint32_t tensor_count;
	uint32_t pad;
	struct frame_tensor tensors[FRAME_TENSORS];
} __attribute__((aligned(FRAME_ALIGNMENT)));

/* A header and the memory behind it, aligned; the payload follows the header. */
struct frame {
	struct frame_header *header;
	uint64_t capacity; /* of the payload */
};

/* Returns 0 or -ENOMEM. */
int frame_open(uint64_t payload_capacity, struct frame *ret_frame);
void frame_close(struct frame *frame);

/* Describes `count` tensors in the header, each at an aligned place. Returns 0, or -EMSGSIZE if they do not fit. */
int frame_lay_out(struct frame *frame, uint64_t number, const struct sluice_tensor_spec *specs, uint32_t count);

/* Where tensor `index` of a frame lies. */
void *frame_data(const struct frame *frame, uint32_t index);

/* Writes the frame. Blocks. Returns 0 or a negative errno. */
int frame_send(const struct frame *frame, int socket);

/*
 * Reads a whole frame into `frame` and describes its tensors, which lie in it. Sleeps in the kernel, or with `spin` asks
 * again and again. Returns how many tensors there are, -ETIMEDOUT, -EPIPE (the other side closed), -EBADMSG or another
 * negative errno.
 */
int frame_receive(struct frame *frame, int socket, bool spin, uint64_t timeout_ns,
	struct sluice_tensor ret_tensors[FRAME_TENSORS]);

#endif
