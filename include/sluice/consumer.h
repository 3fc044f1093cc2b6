/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumers: receive messages, read them where they lie, release them.
 *
 *     sluice_receive(consumer, SLUICE_FOREVER, &message);
 *     const struct sluice_tensor *ids = sluice_tensor(message, 0);
 *     ... read ids->data, ids->shape ...
 *     sluice_release(message);
 *
 * A consumer belongs to one thread at a time, except that messages may be released from any thread, in any order, also
 * while another thread receives. After fork the child's copy is dead: every call there returns -ECHILD; tensors
 * received before stay readable. Nothing here is safe in a signal handler. Each call returns -EBADF on a consumer that
 * was closed (as long as its memory was not given to a handle opened later).
 */
#ifndef SLUICE_CONSUMER_H
#define SLUICE_CONSUMER_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/channel.h>
#include <sluice/export.h>
#include <sluice/message.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_consumer;

/* Bits of sluice_consumer_options.flags. */
enum sluice_consumer_flags {
	SLUICE_START_NEWEST = 1, /* broadcast: skip what was published before this consumer opened */
	/* also SLUICE_REPORT_GONE and SLUICE_PREFAULT of channel.h */
	SLUICE_END_OF_STREAM = 2 /* receive returns -ENODATA when all producers closed cleanly and nothing is left */
};

/*
 * The end of a stream is not death. A producer that died keeps the stream open until another comes in its place and
 * closes; with SLUICE_REPORT_GONE receive then says -EPIPE instead of waiting for that one. And it is not the
 * beginning: before `expected_producers` have closed there is no end, so that one who is early does not end the stream
 * for those to come. If such an early one might leave an empty channel before the consumer opens, have it wait for the
 * consumer (sluice_producer_wait).
 */

/*
 * Options of a consumer. Zero means the default everywhere. `size` is sizeof(struct sluice_consumer_options). What would do
 * nothing is refused: `expected_producers` without SLUICE_END_OF_STREAM, SLUICE_START_NEWEST with the mode SLUICE_QUEUE.
 */
struct sluice_consumer_options {
	size_t size;
	const struct sluice_channel_options *channel; /* NULL: defaults; read during the call only */
	uint32_t flags;                               /* enum sluice_consumer_flags */
	uint32_t
		expected_producers; /* with SLUICE_END_OF_STREAM: no end before so many producers have closed; default 1 */
	uint32_t quantum_messages; /* messages taken from one lane before the next has its turn; default 32 */
	uint32_t pad;
	uint64_t quantum_bytes; /* bytes likewise; default 1 MiB */
	int64_t spin_ns; /* spin before a sleep; default: learnt, up to 50 us; SLUICE_NO_SPIN, SLUICE_SPIN_ONLY */
};

/* Who wrote what could not be read: see sluice_consumer_fault. */
struct sluice_fault {
	uint32_t slot; /* of the lane's producer */
	uint32_t incarnation;
	uint32_t pid;
	uint32_t pad;
	char program[SLUICE_PROGRAM_BYTES];
	uint64_t sequence; /* of the message, or UINT64_MAX if the lane as a whole is bad */
	char reason[64];   /* which check failed */
};

/*
 * Joins channel `name` as a consumer, creating the channel if need be.
 * `options` may be NULL. `*ret_consumer` is the caller's: close with sluice_consumer_close. In a broadcast it sees what
 * is retained and all that comes, or with SLUICE_START_NEWEST only what comes.
 * Returns as sluice_producer_open does; about -EINVAL see sluice_consumer_check.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_consumer_open(
	const char *name, const struct sluice_consumer_options *options, struct sluice_consumer **ret_consumer);

/*
 * What sluice_consumer_open answers with -EINVAL: NULL if it would not to these arguments, else which option it objects to and
 * what is allowed. As sluice_producer_check in all else.
 */
SLUICE_API const char *sluice_consumer_check(const char *name, const struct sluice_consumer_options *options);

/*
 * Leaves the channel. In a queue, what was received and not released goes back and reaches another consumer. All
 * handles of messages and their data are dead then: no other thread may be using them. NULL is fine. Returns as
 * sluice_producer_close does.
 */
SLUICE_API int sluice_consumer_close(struct sluice_consumer *consumer);

/*
 * Takes the next message. `*ret_message` is the caller's until sluice_release; any number may be held, and what is held
 * takes room in its producer's lane. Waits up to `timeout_ns`, spinning and then asleep; publishers wake it.
 * Returns 0, -EAGAIN (nothing there, time-out 0), -ETIMEDOUT, -EINTR (a signal handler ran; call again), -ENODATA (end of
 * stream, if asked for), -EBADMSG (a lane holds rubbish: see sluice_consumer_fault; that message is dropped, call again),
 * -EPIPE (nothing there, SLUICE_REPORT_GONE), -ESTALE (declared dead by others: close and open again), -ENOMEM, -EMFILE,
 * -ENFILE (a new producer's lane cannot be opened; what comes from the others still does, unless the channel is ordered:
 * what is in that lane may be older), -ECHILD.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_receive(
	struct sluice_consumer *consumer, int64_t timeout_ns, const struct sluice_message **ret_message);

/*
 * Takes up to `max_messages` messages, `max_bytes` payload bytes at most but one message at least (0: no limit). Waits
 * up to `timeout_ns` for the first, then up to `linger_ns` more for the rest; it does not linger while a producer whose
 * messages it holds waits for room. Returns how many it wrote to `ret_messages`, at least 1, -EINVAL (`max_messages` is
 * 0), or as sluice_receive does.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_receive_batch(struct sluice_consumer *consumer, size_t max_messages,
	uint64_t max_bytes, int64_t linger_ns, int64_t timeout_ns, const struct sluice_message **ret_messages);

/*
 * Lingers on over a batch: `messages` are `count` messages that this consumer holds, and up to `max_messages` in all, and
 * `max_bytes` payload bytes, are put behind them as sluice_receive_batch would have done with so much more time. For callers
 * that want a word in between, as where a consumer that spins is to be interrupted. Returns how many there are now, `count`
 * if none came, -EINVAL (`count` is 0 or more than `max_messages`; one of them is not held), -ECHILD.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_receive_more(struct sluice_consumer *consumer, size_t count,
	size_t max_messages, uint64_t max_bytes, int64_t linger_ns, const struct sluice_message **messages);

/*
 * Gives a message's memory back to its producer; the handle and its data are dead then. From any thread, in any order.
 * Wakes the producer if it sleeps for room; no system call otherwise. Never blocks.
 * Returns 0, -EALREADY (released before), -ESTALE (no longer one's own: one was declared dead and it went to another),
 * -ECHILD.
 */
SLUICE_API int sluice_release(const struct sluice_message *message);

/* Releases `count` messages. Returns 0, or the first error after trying all. */
SLUICE_API int sluice_release_batch(const struct sluice_message *const *messages, size_t count);

/*
 * Waits until at least `producers` producers are in the channel. Returns how many there are, -EAGAIN, -ETIMEDOUT, -EINTR,
 * -ECHILD.
 */
SLUICE_API int sluice_consumer_wait(struct sluice_consumer *consumer, uint32_t producers, int64_t timeout_ns);

/* Fills `*ret_geometry` with the channel's modes and default sizes. Returns 0, -ECHILD. */
SLUICE_API int sluice_consumer_geometry(struct sluice_consumer *consumer, struct sluice_geometry *ret_geometry);

/* Fills `*ret_fault` with the lane that caused the last -EBADMSG. Returns 0, -ENOENT (there was none), -ECHILD. */
SLUICE_API int sluice_consumer_fault(struct sluice_consumer *consumer, struct sluice_fault *ret_fault);

#ifdef __cplusplus
}
#endif
#endif
