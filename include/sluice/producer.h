/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Producers: reserve memory in a lane, fill it in place, publish it.
 *
 *     struct sluice_tensor_spec spec = {"input_ids", SLUICE_INT32, 2, {16, 512}};
 *     sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message);
 *     memcpy(sluice_data(message, 0), ids, sizeof ids);
 *     sluice_publish(message);
 *
 * A producer and its reservation belong to one thread at a time. After fork the child's copy is dead: every call there
 * returns -ECHILD, and the child need close nothing. Nothing here is safe in a signal handler. Each call returns -EBADF
 * on a producer that was closed (as long as its memory was not given to a handle opened later).
 */
#ifndef SLUICE_PRODUCER_H
#define SLUICE_PRODUCER_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/channel.h>
#include <sluice/export.h>
#include <sluice/message.h>
#include <sluice/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_producer;

#define SLUICE_STAMP_ALL  UINT32_MAX /* as a sample rate: stamp every message */
#define SLUICE_STAMP_NONE (UINT32_MAX - 1)

/* Memory nodes (NUMA), as an option `node`. */
#define SLUICE_NODE(number) ((uint32_t)(number) + 1) /* that one */
#define SLUICE_NODE_OF_CPU  UINT32_MAX               /* that of the CPU on which sluice_producer_open runs */

/* Options of a producer. Zero means the default everywhere. `size` is sizeof(struct sluice_producer_options). */
struct sluice_producer_options {
	size_t size;
	const struct sluice_channel_options *channel; /* NULL: defaults; read during the call only */
	uint64_t lane_bytes;                          /* payload bytes of this lane; default: the channel's */
	uint32_t depth;                               /* messages this lane can hold; default: the channel's */
	uint32_t alignment;                           /* of payloads, a power of two, 64 to 4096 bytes; default 64 */
	uint32_t sample_rate_hz; /* messages stamped a second; default 1000; SLUICE_STAMP_ALL, _NONE */
	uint32_t flags;          /* SLUICE_REPORT_GONE, SLUICE_HUGE_PAGES, SLUICE_PREFAULT, SLUICE_LOCK_MEMORY */
	int64_t spin_ns; /* spin before a sleep; default: learnt, up to 50 us; SLUICE_NO_SPIN, SLUICE_SPIN_ONLY */
	uint32_t node;   /* of the lane's memory: SLUICE_NODE(n), SLUICE_NODE_OF_CPU; default: as the kernel likes */
	uint32_t pad;
	const char *device; /* instead of `node`: near this PCI device, "0000:17:00.0"; read during the call only */
};

/*
 * Joins channel `name` as a producer, creating the channel if need be, and brings a lane of one's own.
 * `options` may be NULL. `*ret_producer` is the caller's: close with sluice_producer_close. All memory is allocated for
 * real before the call returns, so a full file system is -ENOSPC here and never a SIGBUS later. Wishes for that memory
 * (node, device, huge pages, ...) are met as far as they can be: see sluice_producer_placement.
 * Returns 0, or
 *   -EINVAL (name, options, no PCI address: see sluice_producer_check), -ENODEV (no such node or PCI device),
 *   -ENOENT (SLUICE_ATTACH_ONLY, or no such directory), -ENOTDIR (the directory is none), -EEXIST (SLUICE_INSIST),
 *   -ENOSPC (the file system is full, or the pool of a hugetlbfs),
 *   -EFBIG (RLIMIT_FSIZE), -EUSERS (SLUICE_MAX_MEMBERS are there, or as many lanes),
 *   -EPERM (its owner is not trusted), -EACCES, -ELOOP (a symbolic link stands in its place),
 *   -EPROTO (its place is taken by something that is not Sluice's), -EPROTONOSUPPORT (another layout version),
 *   -EBADMSG (its contents contradict themselves), -ENOTSUP (the directory is not on a tmpfs or hugetlbfs; no /proc),
 *   -ENOLCK (this system only pretends to lock files), -ETIMEDOUT (open_timeout_ns), -ENOMEM, -EMFILE, -ENFILE.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_producer_open(
	const char *name, const struct sluice_producer_options *options, struct sluice_producer **ret_producer);

/*
 * What sluice_producer_open answers with -EINVAL: NULL if it would not to these arguments, else which option it objects to and
 * what is allowed, in an English sentence without a final full stop that lives for ever. Looks at the arguments alone and
 * opens nothing. Any thread; after fork too; not in a signal handler.
 */
SLUICE_API const char *sluice_producer_check(const char *name, const struct sluice_producer_options *options);

/*
 * Leaves the channel: discards an open reservation, marks the lane as ended. What was published stays until it is
 * released. NULL is fine. Returns 0, -ECHILD, -EBADF, or -ETIMEDOUT (somebody holds the channel's gate for longer than
 * open_timeout_ns) or -ESTALE (declared dead by others, or its descriptors were closed behind its back): one has left all
 * the same, and removing what is drained is up to others.
 */
SLUICE_API int sluice_producer_close(struct sluice_producer *producer);

/*
 * Reserves memory for a message of `count` tensors. One reservation at a time.
 * `*ret_message` belongs to the caller until sluice_publish or sluice_discard. Waits up to `timeout_ns` for room,
 * spinning and then asleep; consumers wake it. A time-out of 0 makes no system call, but for a look about four times a
 * second whether those who hold the room live.
 * Returns 0, -EAGAIN (no room, time-out 0), -ETIMEDOUT, -EINTR (a signal handler ran; call again), -EBUSY (a reservation is
 * open), -EMSGSIZE (larger than half the lane: see sluice_producer_geometry), -E2BIG (too many tensors or dimensions),
 * -EOVERFLOW (a shape's product overflows), -EINVAL (no tensors, a name, a dtype, a negative dimension),
 * -ENOBUFS (over 64 different sets of names, dtypes and ranks in this lane), -EPIPE (SLUICE_REPORT_GONE),
 * -ESTALE (declared dead by others), -ECHILD.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_reserve(struct sluice_producer *producer,
	const struct sluice_tensor_spec *specs, size_t count, int64_t timeout_ns, struct sluice_message **ret_message);

/*
 * Hands a reserved message over to the consumers; the handle is dead then. Wakes one sleeping consumer (queue) or all
 * (broadcast); no system call while nobody sleeps. Never blocks.
 * Returns 0, -EALREADY (published or discarded before), -EBADF (its producer was closed), -ECHILD.
 */
SLUICE_API int sluice_publish(struct sluice_message *message);

/*
 * sluice_publish for all but the last message of a burst: consumers that look find it at once, but those that sleep are
 * woken only by the next sluice_publish or sluice_flush of this producer, or by its waiting (for room, for consumers) or
 * leaving; then in a queue one for each message. If none of these follows, they find it within about a second. What it
 * saves is a full fence and a look for sleepers a message.
 * Returns as sluice_publish.
 */
SLUICE_API int sluice_publish_more(struct sluice_message *message);

/*
 * Wakes whoever sluice_publish_more has not woken, for when a burst ends otherwise than it was thought. Costs nothing when
 * nothing is owed. Returns 0, -ECHILD, -EBADF.
 */
SLUICE_API int sluice_flush(struct sluice_producer *producer);

/* Gives a reservation back unpublished, as if it had never been. Returns 0, -EALREADY, -ECHILD. */
SLUICE_API int sluice_discard(struct sluice_message *message);

/*
 * Waits until at least `consumers` consumers are in the channel. Returns how many there are, -EAGAIN, -ETIMEDOUT, -EINTR,
 * -ECHILD.
 */
SLUICE_API int sluice_producer_wait(struct sluice_producer *producer, uint32_t consumers, int64_t timeout_ns);

/* Fills `*ret_geometry` with the channel's modes and this lane's sizes. Returns 0, -ECHILD. */
SLUICE_API int sluice_producer_geometry(struct sluice_producer *producer, struct sluice_geometry *ret_geometry);

/* Fills `*ret_placement` with where this lane's memory lies, against what was asked for. Returns 0, -ECHILD. */
SLUICE_API int sluice_producer_placement(struct sluice_producer *producer, struct sluice_placement *ret_placement);

#ifdef __cplusplus
}
#endif
#endif
