/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: one to sixteen tensors with what travels beside them.
 *
 * A message is a handle into a lane's shared memory. It belongs to the producer that reserved it until publish or
 * discard, or to the consumer that received it until release; it is never freed by the caller. The functions on this
 * page neither block nor wake anybody, make no system call, and may be used by any thread that may use the message.
 */
#ifndef SLUICE_MESSAGE_H
#define SLUICE_MESSAGE_H

#include <stdint.h>

#include <sluice/export.h>
#include <sluice/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_message;

/*
 * W3C trace context (https://www.w3.org/TR/trace-context/, version 00): what the `traceparent` header carries, in
 * bytes. All-zero `trace_id` means that none was set.
 */
struct sluice_trace {
	uint8_t trace_id[16];
	uint8_t parent_id[8];
	uint8_t flags;
};

/*
 * When things happened to a message: CLOCK_MONOTONIC, nanoseconds. Stamps are sampled by rate (see `sample_rate_hz` of
 * the producer's options): a stamp that was not taken reads 0. The rate is approximate, because what is not stamped
 * costs no look at the clock: a burst gets a few more, and never are more than 4095 messages in a row left out.
 */
struct sluice_stamps {
	uint64_t reserve_ns; /* the producer got the memory */
	uint64_t publish_ns; /* the producer handed it over */
	uint64_t receive_ns; /* this consumer took it; taken when publish_ns was */
};

/* Number of tensors, 1 to SLUICE_MAX_TENSORS; 0 for a message that is no longer the caller's. */
SLUICE_API uint32_t sluice_tensor_count(const struct sluice_message *message);

/*
 * Tensor `index` in the order of the specs, or NULL if there is no such tensor. At a producer `shape` is what was
 * reserved, or what sluice_shrink made of it.
 */
SLUICE_API const struct sluice_tensor *sluice_tensor(const struct sluice_message *message, uint32_t index);

/* The tensor of that name, or NULL. Compares at most sixteen names: look the index up once where it matters. */
SLUICE_API const struct sluice_tensor *sluice_tensor_find(const struct sluice_message *message, const char *name);

/*
 * Writable memory of tensor `index` of a reserved message, for filling in place; NULL if there is no such tensor or the
 * message is not a reservation. What it holds at first is unspecified.
 */
SLUICE_API void *sluice_data(struct sluice_message *message, uint32_t index);

/*
 * Sets the first dimension of tensor `index` of a reserved message to `first`, from 0 up to what was reserved: for a
 * tokenizer that learns its lengths while it writes. Data stays where it lies; bytes behind the last tensor go back to
 * the lane at publish. Returns 0, -EINVAL (no such tensor, a scalar, or larger than reserved) or -EALREADY (not a
 * reservation).
 */
SLUICE_API int sluice_shrink(struct sluice_message *message, uint32_t index, int64_t first);

/* Sets the correlation id of a reserved message; 0 at first. Returns 0 or -EALREADY (not a reservation). */
SLUICE_API int sluice_set_correlation_id(struct sluice_message *message, uint64_t id);

/*
 * Sets the deadline of a reserved message, CLOCK_MONOTONIC in nanoseconds; 0 means none. Sluice carries it and compares
 * nothing. Returns 0 or -EALREADY.
 */
SLUICE_API int sluice_set_deadline(struct sluice_message *message, uint64_t deadline_ns);

/* Sets the trace context of a reserved message; copied; NULL removes it. Returns 0 or -EALREADY. */
SLUICE_API int sluice_set_trace(struct sluice_message *message, const struct sluice_trace *trace);

SLUICE_API uint64_t sluice_correlation_id(const struct sluice_message *message);
SLUICE_API uint64_t sluice_deadline(const struct sluice_message *message);
/* Fills `*ret_trace`; all zeros if the message carries none. */
SLUICE_API void sluice_trace(const struct sluice_message *message, struct sluice_trace *ret_trace);
/* Fills `*ret_stamps`; 0 for each stamp that was not taken. */
SLUICE_API void sluice_stamps(const struct sluice_message *message, struct sluice_stamps *ret_stamps);

/* Place of a received message in its producer's order, from 0 without holes; for a reservation the one it will get. */
SLUICE_API uint64_t sluice_sequence(const struct sluice_message *message);

/*
 * The producer of a message: its roster slot in the low 32 bits, that slot's incarnation in the high 32. Two messages
 * with the same value came through the same lane.
 */
SLUICE_API uint64_t sluice_origin(const struct sluice_message *message);

/* How often a received message has been handed out, this time included: 1 at first; 62 and 63 mean so often or more. */
SLUICE_API uint32_t sluice_delivery_count(const struct sluice_message *message);

#ifdef __cplusplus
}
#endif
#endif
