/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping by futex_waitv, where io_uring is not allowed. As long as nobody asked for the descriptor, the thread that
 * waits sleeps on all words itself. Else, and with more words than one call takes, helper threads do, each on some of
 * them, and signal the descriptor. Helpers touch words and nothing else of a channel.
 *
 * A helper watches until something rings; then it signals and rests until it is asked again. While nothing rings it
 * stays in the kernel, also when the words are armed anew.
 */
#include "poller.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "sys.h"

/* One call takes this many, and one of them is the word that ends it. */
#define WAITV_WORDS 128
#define CHUNK       (WAITV_WORDS - 1)

struct thread_sleeper;

struct helper {
	struct thread_sleeper *sleeper;
	pthread_t thread;
	uint32_t first;   /* index of its first word */
	uint64_t tick_ns; /* the helper's own copy */
	uint32_t request; /* a futex: changes when the helper is asked to watch, anew or others */
	bool resting;     /* something rang, and nobody asked since */
	bool quit;
};

struct thread_sleeper {
	struct poller_sleeper base;
	pthread_mutex_t mutex;  /* of all that follows, but for `own` */
	const uint32_t **words; /* what helpers watch */
	uint32_t count;
	uint64_t version; /* of those, as in the watch */
	uint64_t tick_ns;
	struct helper **helpers;
	uint32_t helper_count;
	struct futex_waitv own[WAITV_WORDS]; /* what the thread that waits sleeps on by itself */
	uint32_t own_count;
};

static struct thread_sleeper *thread_of(struct poller_sleeper *sleeper)
{
	return (struct thread_sleeper *)sleeper;
}

/* ---- futex_waitv ---- */

/* Not private to the process, as FUTEX_PRIVATE_FLAG would say. */
static struct futex_waitv waitv_of(const uint32_t *word, uint32_t value)
{
	return (struct futex_waitv){.val = value, .uaddr = (uint64_t)(uintptr_t)word, .flags = FUTEX_32};
}

/* Sleeps while all words have their values, up to `timeout_ns` (UINT64_MAX: for ever). 0 or a negative errno. */
static int wait_for_any(const struct futex_waitv *words, uint32_t count, uint64_t timeout_ns)
{
	uint64_t end_ns = timeout_ns != UINT64_MAX ? clock_monotonic_ns() + timeout_ns : 0;
	struct timespec end = {
		.tv_sec = (time_t)(end_ns / CLOCK_SECOND_NS),
		.tv_nsec = (long)(end_ns % CLOCK_SECOND_NS),
	};
	/* D6: the kernel compares, pairs with D4 in doorbell_ring */
	long woken = syscall(SYS_futex_waitv, words, count, 0, timeout_ns != UINT64_MAX ? &end : NULL, CLOCK_MONOTONIC);
	/* EFAULT: the handle of one of them was closed a moment ago, which by now shows in the list as well. */
	return woken >= 0 || errno == EAGAIN || errno == EFAULT ? 0 : -errno;
}

/* ---- helpers ---- */

/* What the helper watches next; 0 if it has to end. Rests until it is asked. */
static uint32_t next_watch(struct helper *helper, uint32_t *seen, struct futex_waitv *words)
{
	struct thread_sleeper *sleeper = helper->sleeper;
	pthread_mutex_lock(&sleeper->mutex);
	while (helper->resting && !helper->quit) {
		/* relaxed: under the mutex; the kernel compares */
		uint32_t request = atomic_load_relaxed(&helper->request);
		pthread_mutex_unlock(&sleeper->mutex);
		sys_futex_wait(&helper->request, request, 3600 * CLOCK_SECOND_NS);
		pthread_mutex_lock(&sleeper->mutex);
	}
	*seen = atomic_load_relaxed(&helper->request); /* relaxed: under the mutex */
	words[0] = waitv_of(&helper->request, *seen);
	uint32_t count = 1;
	for (uint32_t i = helper->first; i < sleeper->count && count < WAITV_WORDS; i++)
		words[count++] = waitv_of(sleeper->words[i], 1);
	/* One is enough to have dead peers noticed. */
	helper->tick_ns = helper->first == 0 ? sleeper->tick_ns : UINT64_MAX;
	bool quit = helper->quit;
	pthread_mutex_unlock(&sleeper->mutex);
	return quit ? 0 : count;
}

/* Something rang: rests, unless it has been asked to watch anew since it saw `seen`. */
static void rest(struct helper *helper, uint32_t seen)
{
	struct thread_sleeper *sleeper = helper->sleeper;
	pthread_mutex_lock(&sleeper->mutex);
	bool asked = atomic_load_relaxed(&helper->request) != seen; /* relaxed: under the mutex */
	if (!asked)
		helper->resting = true;
	pthread_mutex_unlock(&sleeper->mutex);
	/* After it says that it rests: whoever takes this signal back then sees that it has to be asked. */
	if (!asked)
		poller_signal(sleeper->base.event_fd);
}

static void *help(void *context)
{
	struct helper *helper = context;
	struct futex_waitv words[WAITV_WORDS];
	uint32_t seen;
	uint32_t count;
	while ((count = next_watch(helper, &seen, words)) != 0) {
		int error;
		do {
			error = wait_for_any(words, count, helper->tick_ns);
			if (error == -ETIMEDOUT)
				poller_signal(helper->sleeper->base.event_fd);
		} while (error == -ETIMEDOUT || error == -EINTR);
		rest(helper, seen);
	}
	return NULL;
}

/* The caller holds the mutex. */
static void ask(struct helper *helper)
{
	helper->resting = false;
	atomic_add_relaxed(&helper->request, 1); /* relaxed: under the mutex; the kernel compares */
	sys_futex_wake(&helper->request, INT32_MAX);
}

/* Signals are for the program's own threads. */
static int start_thread(struct helper *helper)
{
	sigset_t all;
	sigset_t before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&helper->thread, NULL, help, helper);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return -ENOMEM; /* too many threads */
	pthread_setname_np(helper->thread, "sluice-poller");
	return 0;
}

/* The caller holds the mutex. */
static int add_helper(struct thread_sleeper *sleeper)
{
	size_t bytes = (sleeper->helper_count + 1) * sizeof(struct helper *);
	struct helper **helpers = realloc(sleeper->helpers, bytes);
	if (helpers == NULL)
		return -ENOMEM;
	sleeper->helpers = helpers;
	struct helper *helper = calloc(1, sizeof *helper);
	if (helper == NULL)
		return -ENOMEM;
	helper->sleeper = sleeper;
	helper->first = sleeper->helper_count * CHUNK;
	int error = start_thread(helper);
	if (error != 0) {
		free(helper);
		return error;
	}
	helpers[sleeper->helper_count++] = helper;
	return 0;
}

/* The caller holds the mutex. */
static int list_words(struct thread_sleeper *sleeper, const struct poller_watch *watch)
{
	const uint32_t **words = realloc(sleeper->words, (watch->count + 1) * sizeof *words);
	if (words == NULL)
		return -ENOMEM;
	sleeper->words = words;
	sleeper->count = 0;
	for (uint32_t i = 0; i < watch->slots; i++)
		if (watch->words[i].word != NULL)
			words[sleeper->count++] = watch->words[i].word;
	return 0;
}

static int watch_by_helpers(struct thread_sleeper *sleeper, const struct poller_watch *watch)
{
	int error = 0;
	bool changed = sleeper->helper_count == 0 || watch->version != sleeper->version;
	pthread_mutex_lock(&sleeper->mutex);
	bool other_tick = watch->tick_ns != sleeper->tick_ns;
	sleeper->tick_ns = watch->tick_ns;
	if (changed)
		error = list_words(sleeper, watch);
	while (error == 0 && (sleeper->helper_count == 0 || sleeper->helper_count * CHUNK < sleeper->count))
		error = add_helper(sleeper);
	for (uint32_t i = 0; i < sleeper->helper_count && error == 0; i++)
		if (changed || sleeper->helpers[i]->resting || (i == 0 && other_tick))
			ask(sleeper->helpers[i]);
	if (error == 0)
		sleeper->version = watch->version;
	pthread_mutex_unlock(&sleeper->mutex);
	return error;
}

/* ---- the backend ---- */

static int thread_settle(struct poller_sleeper *base, bool use_fd)
{
	if (use_fd || thread_of(base)->helper_count > 0)
		poller_drain(base->event_fd);
	return 0;
}

static int thread_watch(struct poller_sleeper *base, const struct poller_watch *watch)
{
	struct thread_sleeper *sleeper = thread_of(base);
	if (watch->use_fd || watch->count > CHUNK || sleeper->helper_count > 0)
		return watch_by_helpers(sleeper, watch);
	sleeper->own[0] = waitv_of(watch->control, watch->control_value);
	sleeper->own_count = 1;
	for (uint32_t i = 0; i < watch->slots; i++)
		if (watch->words[i].word != NULL)
			sleeper->own[sleeper->own_count++] = waitv_of(watch->words[i].word, 1);
	return 0;
}

static int thread_sleep(struct poller_sleeper *base, uint64_t timeout_ns)
{
	struct thread_sleeper *sleeper = thread_of(base);
	if (sleeper->helper_count == 0)
		return wait_for_any(sleeper->own, sleeper->own_count, timeout_ns);
	struct pollfd signalled = {.fd = base->event_fd, .events = POLLIN};
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / CLOCK_SECOND_NS),
		.tv_nsec = (long)(timeout_ns % CLOCK_SECOND_NS),
	};
	int ready = ppoll(&signalled, 1, &timeout, NULL);
	if (ready < 0)
		return -errno;
	return ready > 0 ? 0 : -ETIMEDOUT;
}

static void thread_close(struct poller_sleeper *base)
{
	struct thread_sleeper *sleeper = thread_of(base);
	pthread_mutex_lock(&sleeper->mutex);
	for (uint32_t i = 0; i < sleeper->helper_count; i++) {
		sleeper->helpers[i]->quit = true;
		ask(sleeper->helpers[i]);
	}
	pthread_mutex_unlock(&sleeper->mutex);
	for (uint32_t i = 0; i < sleeper->helper_count; i++) {
		pthread_join(sleeper->helpers[i]->thread, NULL);
		free(sleeper->helpers[i]);
	}
	free(sleeper->helpers);
	free(sleeper->words);
	pthread_mutex_destroy(&sleeper->mutex);
	free(sleeper);
}

static int thread_open(int event_fd, struct poller_sleeper **ret_sleeper)
{
	/* No words at all are EINVAL where the call is there; ENOSYS, or EPERM of a filter, where it is not. */
	if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) >= 0 || errno != EINVAL)
		return -ENOTSUP;
	struct thread_sleeper *sleeper = calloc(1, sizeof *sleeper);
	if (sleeper == NULL)
		return -ENOMEM;
	sleeper->base = (struct poller_sleeper){.backend = &poller_thread, .event_fd = event_fd};
	pthread_mutex_init(&sleeper->mutex, NULL);
	*ret_sleeper = &sleeper->base;
	return 0;
}

const struct poller_backend poller_thread = {
	.kind = SLUICE_POLLER_THREAD,
	.open = thread_open,
	.close = thread_close,
	.settle = thread_settle,
	.watch = thread_watch,
	.sleep = thread_sleep,
};
