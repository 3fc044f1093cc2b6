/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping by io_uring: one futex wait a word, which stays in the kernel until the word is rung, and one time-out. The
 * only file that knows liburing, whose version in Debian 12 has no helpers for futexes yet.
 *
 * A ring belongs to the thread that made it: requests are submitted and their completions run there alone. When another
 * thread waits, or the first has ended and its requests with it, which the kernel tells through the descriptor, a new
 * ring takes its place.
 *
 * With IORING_SETUP_DEFER_TASKRUN the kernel signals the descriptor as soon as a request has something to complete, and
 * only for the first until that thread comes to run them (IORING_SQ_TASKRUN says that there are some).
 */
#include "poller.h"

#include <errno.h>

#if SLUICE_HAVE_LIBURING

#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"

/* Of Linux 6.7, as its <linux/io_uring.h> and <linux/futex.h> name them. */
#define OP_FUTEX_WAIT 51
#define FUTEX_WORD    2 /* FUTEX2_SIZE_U32, shared between processes */

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#define SUBMISSIONS 64

/* What completions are known by, beside the words' ids, which are larger. */
enum { ID_CONTROL = 1, ID_TICK = 2, ID_NAP = 3 };

struct uring_sleeper {
	struct poller_sleeper base;
	struct io_uring ring;
	bool has_ring;
	bool tells; /* completions signal the descriptor */
	pid_t owner;
	uint64_t *waits; /* by index of a word: the id that the kernel waits for, or 0 */
	uint32_t slots;
	bool waits_for_control;
	bool waits_for_tick;
	uint64_t tick_ns;              /* of the tick that is waited for */
	bool waits_for_nap;            /* a tick that is sooner than that one */
	struct __kernel_timespec tick; /* the kernel reads them when the requests are submitted */
	struct __kernel_timespec nap;
};

static struct uring_sleeper *uring_of(struct poller_sleeper *sleeper)
{
	return (struct uring_sleeper *)sleeper;
}

static struct __kernel_timespec time_of(uint64_t duration_ns)
{
	return (struct __kernel_timespec){
		.tv_sec = (int64_t)(duration_ns / CLOCK_SECOND_NS),
		.tv_nsec = (long long)(duration_ns % CLOCK_SECOND_NS),
	};
}

/* ---- the ring ---- */

static void close_ring(struct uring_sleeper *sleeper)
{
	if (sleeper->has_ring)
		io_uring_queue_exit(&sleeper->ring);
	sleeper->has_ring = false;
	sleeper->tells = false;
	sleeper->waits_for_control = false;
	sleeper->waits_for_tick = false;
	sleeper->waits_for_nap = false;
	if (sleeper->slots != 0)
		memset(sleeper->waits, 0, sleeper->slots * sizeof *sleeper->waits);
}

static int open_ring(struct uring_sleeper *sleeper)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	};
	close_ring(sleeper);
	int error = io_uring_queue_init_params(SUBMISSIONS, &sleeper->ring, &params);
	if (error != 0)
		return error;
	sleeper->has_ring = true;
	sleeper->owner = gettid();
	return 0;
}

/* Makes the ring this thread's. */
static int own_ring(struct uring_sleeper *sleeper)
{
	return sleeper->has_ring && sleeper->owner == gettid() ? 0 : open_ring(sleeper);
}

/* True if there are completions, or requests that have something to complete. */
static bool has_news(struct uring_sleeper *sleeper)
{
	/* relaxed: the kernel sets it before it signals the descriptor, which was read before this */
	return io_uring_cq_ready(&sleeper->ring) != 0 ||
	       (atomic_load_relaxed(sleeper->ring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

static void note_completion(struct uring_sleeper *sleeper, uint64_t id)
{
	uint32_t index = (uint32_t)id;
	if (id == ID_CONTROL)
		sleeper->waits_for_control = false;
	else if (id == ID_TICK)
		sleeper->waits_for_tick = false;
	else if (id == ID_NAP)
		sleeper->waits_for_nap = false;
	else if (index < sleeper->slots && sleeper->waits[index] == id)
		sleeper->waits[index] = 0;
}

static void reap(struct uring_sleeper *sleeper)
{
	struct io_uring_cqe *completion;
	while (io_uring_peek_cqe(&sleeper->ring, &completion) == 0) {
		note_completion(sleeper, completion->user_data);
		io_uring_cqe_seen(&sleeper->ring, completion);
	}
}

static int uring_settle(struct poller_sleeper *base, bool use_fd)
{
	struct uring_sleeper *sleeper = uring_of(base);
	int error = own_ring(sleeper);
	if (error != 0)
		return error;
	/* Completing signals the descriptor again, so it comes first; what comes in between shows by the flag. */
	for (int round = 0; round < 16; round++) {
		reap(sleeper);
		if (use_fd)
			poller_drain(base->event_fd);
		if (!has_news(sleeper))
			return 0;
	}
	poller_signal(base->event_fd); /* rung without end: then it stays readable */
	return 0;
}

/* ---- watching ---- */

static int submit(struct uring_sleeper *sleeper)
{
	for (int tries = 0; tries < 16; tries++) {
		int result = io_uring_submit(&sleeper->ring);
		/* The kernel may stop half way, short of memory: what it did not take would be waited for by nobody. */
		if (result >= 0 && io_uring_sq_ready(&sleeper->ring) == 0)
			return 0;
		if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
			return result;
		(void)io_uring_get_events(&sleeper->ring); /* makes room, if that is what lacks */
	}
	return -ENOMEM;
}

static struct io_uring_sqe *next_request(struct uring_sleeper *sleeper, uint64_t id, int *ret_error)
{
	struct io_uring_sqe *request = io_uring_get_sqe(&sleeper->ring);
	if (request == NULL) {
		*ret_error = submit(sleeper);
		request = *ret_error == 0 ? io_uring_get_sqe(&sleeper->ring) : NULL;
	}
	if (request == NULL) {
		*ret_error = *ret_error != 0 ? *ret_error : -ENOMEM;
		return NULL;
	}
	memset(request, 0, sizeof *request);
	request->user_data = id;
	return request;
}

static int wait_for_word(struct uring_sleeper *sleeper, const uint32_t *word, uint32_t value, uint64_t id)
{
	int error = 0;
	struct io_uring_sqe *request = next_request(sleeper, id, &error);
	if (request == NULL)
		return error;
	/* D6: the kernel compares when this is submitted, pairs with D4 in doorbell_ring */
	request->opcode = OP_FUTEX_WAIT;
	request->fd = FUTEX_WORD;
	request->addr = (uint64_t)(uintptr_t)word;
	request->off = value;
	request->addr3 = UINT32_MAX; /* any waker */
	return 0;
}

static int wait_for_words(struct uring_sleeper *sleeper, const struct poller_watch *watch)
{
	for (uint32_t i = 0; i < watch->slots; i++) {
		const struct poller_word *word = &watch->words[i];
		if (word->word == NULL || sleeper->waits[i] == word->id)
			continue;
		int error = wait_for_word(sleeper, word->word, 1, word->id);
		if (error != 0)
			return error;
		sleeper->waits[i] = word->id;
	}
	if (sleeper->waits_for_control)
		return 0;
	sleeper->waits_for_control = true;
	return wait_for_word(sleeper, watch->control, watch->control_value, ID_CONTROL);
}

static int wait_for_time(struct uring_sleeper *sleeper, struct __kernel_timespec *time, uint64_t id)
{
	int error = 0;
	struct io_uring_sqe *request = next_request(sleeper, id, &error);
	if (request == NULL)
		return error;
	io_uring_prep_timeout(request, time, 0, 0);
	request->user_data = id;
	return 0;
}

/* One that is waited for already will do, unless a sooner one is wanted now. */
static int wait_for_tick(struct uring_sleeper *sleeper, uint64_t tick_ns)
{
	int error = 0;
	if (!sleeper->waits_for_tick) {
		sleeper->tick = time_of(tick_ns);
		error = wait_for_time(sleeper, &sleeper->tick, ID_TICK);
		sleeper->waits_for_tick = error == 0;
		sleeper->tick_ns = tick_ns;
	} else if (tick_ns < sleeper->tick_ns && !sleeper->waits_for_nap) {
		sleeper->nap = time_of(tick_ns);
		error = wait_for_time(sleeper, &sleeper->nap, ID_NAP);
		sleeper->waits_for_nap = error == 0;
	}
	return error;
}

static int fit(struct uring_sleeper *sleeper, uint32_t slots)
{
	if (slots <= sleeper->slots)
		return 0;
	uint64_t *waits = realloc(sleeper->waits, slots * sizeof *waits);
	if (waits == NULL)
		return -ENOMEM;
	memset(&waits[sleeper->slots], 0, (slots - sleeper->slots) * sizeof *waits);
	sleeper->waits = waits;
	sleeper->slots = slots;
	return 0;
}

/* From now on completions signal the descriptor. */
static int tell(struct uring_sleeper *sleeper)
{
	if (sleeper->tells)
		return 0;
	int error = io_uring_register_eventfd(&sleeper->ring, sleeper->base.event_fd);
	sleeper->tells = error == 0;
	return error;
}

static int try_to_watch(struct uring_sleeper *sleeper, const struct poller_watch *watch)
{
	int error = fit(sleeper, watch->slots);
	if (error == 0 && watch->use_fd)
		error = tell(sleeper);
	if (error == 0)
		error = wait_for_words(sleeper, watch);
	if (error == 0 && watch->use_fd)
		error = wait_for_tick(sleeper, watch->tick_ns);
	return error == 0 ? submit(sleeper) : error;
}

static int uring_watch(struct poller_sleeper *base, const struct poller_watch *watch)
{
	struct uring_sleeper *sleeper = uring_of(base);
	int error = try_to_watch(sleeper, watch);
	if (error == -EEXIST) { /* the ring is another thread's that had this one's number */
		error = open_ring(sleeper);
		error = error != 0 ? error : try_to_watch(sleeper, watch);
	}
	if (error != 0) {
		close_ring(sleeper); /* half of what was asked for waits: begin anew the next time */
		return error;
	}
	/* What was rung before the kernel compared. */
	if (watch->use_fd && has_news(sleeper))
		poller_signal(base->event_fd);
	return 0;
}

static int uring_sleep(struct poller_sleeper *base, uint64_t timeout_ns)
{
	struct uring_sleeper *sleeper = uring_of(base);
	struct __kernel_timespec timeout = time_of(timeout_ns);
	struct io_uring_cqe *completion;
	int error = io_uring_wait_cqe_timeout(&sleeper->ring, &completion, &timeout);
	return error == -ETIME ? -ETIMEDOUT : error;
}

/* ---- open and close ---- */

static void uring_close(struct poller_sleeper *base)
{
	struct uring_sleeper *sleeper = uring_of(base);
	close_ring(sleeper);
	free(sleeper->waits);
	free(sleeper);
}

/* The kernel has futex waits, time-outs for waiting, and keeps completions that find no room; and all may be used. */
static int check_ring(struct uring_sleeper *sleeper)
{
	const uint32_t needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
	if ((sleeper->ring.features & needed) != needed)
		return -ENOTSUP;
	struct io_uring_probe *probe = io_uring_get_probe_ring(&sleeper->ring);
	bool supported = probe != NULL && io_uring_opcode_supported(probe, OP_FUTEX_WAIT);
	io_uring_free_probe(probe);
	if (!supported || io_uring_get_events(&sleeper->ring) < 0)
		return -ENOTSUP;
	return 0;
}

static int uring_open(int event_fd, struct poller_sleeper **ret_sleeper)
{
	struct uring_sleeper *sleeper = calloc(1, sizeof *sleeper);
	if (sleeper == NULL)
		return -ENOMEM;
	sleeper->base = (struct poller_sleeper){.backend = &poller_uring, .event_fd = event_fd};
	int error = open_ring(sleeper);
	if (error == 0)
		error = check_ring(sleeper);
	if (error != 0) {
		uring_close(&sleeper->base);
		/* EINVAL: flags that a kernel before 6.1 does not know */
		return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? error : -ENOTSUP;
	}
	*ret_sleeper = &sleeper->base;
	return 0;
}

#else

static int uring_open(int event_fd, struct poller_sleeper **ret_sleeper)
{
	(void)event_fd;
	(void)ret_sleeper;
	return -ENOTSUP;
}

/* Never called: nothing was opened. */
static void uring_close(struct poller_sleeper *sleeper)
{
	(void)sleeper;
}

static int uring_settle(struct poller_sleeper *sleeper, bool use_fd)
{
	(void)sleeper;
	(void)use_fd;
	return -ENOTSUP;
}

static int uring_watch(struct poller_sleeper *sleeper, const struct poller_watch *watch)
{
	(void)sleeper;
	(void)watch;
	return -ENOTSUP;
}

static int uring_sleep(struct poller_sleeper *sleeper, uint64_t timeout_ns)
{
	(void)sleeper;
	(void)timeout_ns;
	return -ENOTSUP;
}

#endif

const struct poller_backend poller_uring = {
	.kind = SLUICE_POLLER_IO_URING,
	.open = uring_open,
	.close = uring_close,
	.settle = uring_settle,
	.watch = uring_watch,
	.sleep = uring_sleep,
};
