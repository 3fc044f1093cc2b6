/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollers: wait for any of many channels, and one file descriptor for event loops.
 *
 *     struct sluice_poller_entry entry = {.consumer = consumer, .data = mine};
 *     sluice_poller_create(NULL, &poller);
 *     sluice_poller_add(poller, &entry);
 *     while ((count = sluice_poller_wait(poller, events, 16, SLUICE_FOREVER)) > 0)
 *         ... for each event: sluice_receive(..., 0, &message) until it says -EAGAIN ...
 *
 * In an event loop (epoll, libuv, asyncio) watch sluice_poller_fd for reading instead. Whenever it is readable, call
 * sluice_poller_wait with a time-out of 0: it says which entries are ready, and once none is, it goes to sleep, by
 * which the descriptor stops being readable. A loop that never makes that call spins.
 *
 * Level-triggered: an entry is reported as long as it is ready, and the descriptor is readable as long as any is. So
 * take a producer out while there is nothing to send, and a consumer after SLUICE_POLL_HANGUP. The descriptor may also
 * be readable for no reason, among others about once a second while all is quiet: the call then looks whether those on
 * the other side live, as every sleeper does.
 *
 * Producers and consumers need not know. A poller sleeps in its entries' places, by the same words in shared memory:
 * who publishes while it is awake makes no system call. It is awake from the moment it reports something until the next
 * call finds nothing, so a consumer that keeps up costs its producers none. In a queue a publish wakes one sleeper: a
 * loop that is long busy with other things after its descriptor fired may keep a message from other consumers for about
 * a second.
 *
 * Calls may come from any thread at any time, but only one thread may be in sluice_poller_wait. Handles that are in a
 * poller are used by that call too: while it runs, other threads may release messages, close handles and take them out
 * of the poller, and do nothing else with those that are in it. After fork the child's copy is dead: every call there
 * returns -ECHILD, and the child need close nothing. Nothing here is safe in a signal handler. Each call returns -EBADF
 * on a poller that was destroyed (as long as its memory was not given to a poller created later).
 */
#ifndef SLUICE_POLLER_H
#define SLUICE_POLLER_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/consumer.h>
#include <sluice/export.h>
#include <sluice/producer.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_poller;

/* How a poller sleeps. */
enum sluice_poller_backends {
	SLUICE_POLLER_AUTO = 0,     /* io_uring where it was compiled in and the system allows it, else threads */
	SLUICE_POLLER_IO_URING = 1, /* Linux 6.7; Docker's default profile forbids it. Sleeps of a thread end with it */
	SLUICE_POLLER_THREAD = 2    /* futex_waitv, Linux 5.16; the descriptor takes a thread for each 127 entries */
};

/* Options of a poller. Zero means the default everywhere. `size` is sizeof(struct sluice_poller_options). */
struct sluice_poller_options {
	size_t size;
	uint32_t backend; /* enum sluice_poller_backends */
	uint32_t pad;
	int64_t spin_ns; /* longest spin of sluice_poller_wait before a sleep; default 50 us; SLUICE_NO_SPIN, _SPIN_ONLY */
};

/*
 * What to wait for: one handle, and what comes back with its events. Payload of a message is what its tensors take,
 * each rounded up to the lane's alignment, and 64 bytes or more where their shapes do not fit the descriptor; none if
 * it all fits.
 */
struct sluice_poller_entry {
	struct sluice_consumer *consumer; /* to receive; or NULL */
	struct sluice_producer *producer; /* for room; or NULL. One of the two */
	uint64_t room_bytes;              /* producer: so much payload; 0: what was last asked to be reserved */
	void *data;                       /* the caller's */
};

/* Bits of sluice_poller_event.events. */
enum sluice_poller_events {
	SLUICE_POLL_RECEIVE = 1, /* sluice_receive finds a message, unless another consumer is quicker */
	SLUICE_POLL_ROOM = 2,    /* sluice_reserve finds room */
	SLUICE_POLL_HANGUP = 4,  /* nothing is left: -EPIPE (SLUICE_REPORT_GONE), -ENODATA (SLUICE_END_OF_STREAM) */
	SLUICE_POLL_ERROR = 8,   /* -ESTALE; or another error, which sluice_receive will tell once, such as -EBADMSG */
	SLUICE_POLL_CLOSED = 16  /* the handle was closed. Told once: the entry is gone by then */
};

struct sluice_poller_event {
	uint32_t events; /* enum sluice_poller_events; one bit */
	int32_t error;   /* HANGUP, ERROR: a negative errno value; else 0 */
	void *data;      /* of the entry */
};

/*
 * Makes a poller without entries. `options` may be NULL. `*ret_poller` is the caller's: destroy it with
 * sluice_poller_destroy. Returns 0, -EINVAL (options), -ENOTSUP (the system has or allows no such backend, or neither),
 * -ENOMEM, -EMFILE, -ENFILE.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_poller_create(
	const struct sluice_poller_options *options, struct sluice_poller **ret_poller);

/*
 * Ends a poller; its descriptor is closed. The entries' handles stay open and the caller's. NULL is fine.
 * Returns 0, -EBUSY (a thread is in sluice_poller_wait), -ECHILD, -EBADF.
 */
SLUICE_API int sluice_poller_destroy(struct sluice_poller *poller);

/*
 * Adds a handle; `*entry` is copied. The handle stays the caller's. One that is closed takes itself out and is told as
 * SLUICE_POLL_CLOSED. Wakes a thread that waits, so that it waits for the new one as well.
 * Returns 0, -EINVAL (not exactly one handle), -EEXIST (it is in this poller), -EBUSY (in another), -EMSGSIZE (room for
 * more than the lane's largest message), -EBADF (the handle or the poller was closed), -ENOMEM, -ECHILD.
 */
SLUICE_API int sluice_poller_add(struct sluice_poller *poller, const struct sluice_poller_entry *entry);

/*
 * Takes the consumer or producer `handle` out. No call of sluice_poller_wait that begins afterwards, or sleeps at the
 * time, reports it; one that is just returning in another thread may have it among its events. `handle` is only
 * compared and may be closed. Returns 0, -EINVAL (NULL), -ENOENT (not in this poller), -ECHILD, -EBADF.
 */
SLUICE_API int sluice_poller_remove(struct sluice_poller *poller, const void *handle);

/*
 * Waits up to `timeout_ns` until an entry is ready, spinning and then asleep. Writes up to `max_events` events, those
 * that were left out coming first the next time. While something is ready it makes no system call but to make the
 * descriptor readable, and for a look about four times a second whether others live. A time-out of 0 or less is one
 * look.
 * Returns how many events, 0 when the time has passed and nothing was ready, -EINVAL (`max_events` is 0), -EBUSY
 * (another thread waits), -EINTR (a signal handler ran, or the process was stopped and goes on; call again. After a handler
 * with SA_RESTART it may go on waiting), -ENOTSUP (how it sleeps has been forbidden since it was made, and there is no other
 * way), -ENOMEM, -EMFILE, -ENFILE, -ECHILD, -EBADF.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_poller_wait(
	struct sluice_poller *poller, struct sluice_poller_event *ret_events, uint32_t max_events, int64_t timeout_ns);

/*
 * The descriptor that is readable when something is ready; only ever wait for it, never read or close it. The same each
 * time. It is readable at first. From the first call on, sluice_poller_wait stays asleep also after it returned 0.
 * Returns it, -ECHILD, -EBADF.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_poller_fd(struct sluice_poller *poller);

/*
 * How this poller sleeps: SLUICE_POLLER_IO_URING or SLUICE_POLLER_THREAD, -ECHILD, -EBADF. One made with SLUICE_POLLER_AUTO
 * goes over to threads when io_uring is forbidden later, as by a filter that a process sets up for itself.
 */
SLUICE_API int sluice_poller_backend(const struct sluice_poller *poller);

#ifdef __cplusplus
}
#endif
#endif
