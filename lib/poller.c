/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollers: which entries there are, waiting for any, the descriptor.
 *
 * A poller is awake or asleep. Awake, no bell of its entries is armed, and the descriptor, if anybody has asked for it,
 * is readable. Asleep, all are armed, all were looked at since, the backend watches them, and the descriptor is
 * readable only if one rang. Whatever goes wrong wakes it up.
 */
#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "handle.h"
#include "poller_entry.h"
#include "spin.h"
#include "stats.h"
#include "sys.h"
#include "waiter.h"

struct sluice_poller {
	struct handle handle;
	uint32_t knocking;     /* threads that want the mutex from one that spins */
	pthread_mutex_t mutex; /* of all that follows, but for `event_fd` and the word of `control` */
	int event_fd;
	bool may_fall_back;             /* the caller left it to us how to sleep */
	struct poller_sleeper *sleeper; /* the thread that waits replaces it, and so may read it without the mutex */
	struct poller_entry **entries;
	struct poller_word *words; /* of the same entries */
	uint32_t slots;            /* of both */
	uint32_t count;
	uint32_t turn;    /* the slot where the next look begins */
	uint32_t control; /* changes to end a sleep */
	uint64_t last_id;
	uint64_t version;
	bool waiting; /* a thread is in sluice_poller_wait */
	bool asleep;
	bool fd_used;  /* somebody has the descriptor */
	bool readable; /* the descriptor is, by this poller's own doing */
	struct spin spin;
	uint64_t longest_sleep_ns;
	uint64_t tick_ns;        /* of the sleep that it is in: shorter if an entry waits for what does not ring */
	struct sampler liveness; /* when a poller that always finds something looks after others */
};

void poller_signal(int event_fd)
{
	ssize_t written = write(event_fd, &(uint64_t){1}, sizeof(uint64_t));
	(void)written; /* only a counter that is full refuses, and that one is readable */
}

void poller_drain(int event_fd)
{
	uint64_t count;
	ssize_t got = read(event_fd, &count, sizeof count);
	(void)got; /* nothing there is as good */
}

/* ---- the mutex ---- */

static int lock_checked(struct sluice_poller *poller)
{
	if (poller == NULL)
		return -EINVAL;
	int error = handle_check(&poller->handle);
	if (error != 0)
		return error;
	atomic_add_relaxed(&poller->knocking, 1); /* relaxed: only to be let in earlier */
	pthread_mutex_lock(&poller->mutex);
	atomic_add_relaxed(&poller->knocking, UINT32_MAX); /* relaxed: likewise */
	error = handle_check(&poller->handle); /* it may have been destroyed while this thread waited for the mutex */
	if (error != 0)
		pthread_mutex_unlock(&poller->mutex);
	return error;
}

/* Lets other threads in between two looks of a spin. */
static void let_others_in(struct sluice_poller *poller)
{
	if (atomic_load_relaxed(&poller->knocking) == 0) /* relaxed: the next round sees it */
		return;
	pthread_mutex_unlock(&poller->mutex);
	sched_yield();
	pthread_mutex_lock(&poller->mutex);
}

/* Makes whoever sleeps look again: entries are others, or a bell was disarmed by somebody else. */
static void kick(struct sluice_poller *poller)
{
	if (!poller->asleep)
		return;
	atomic_add_relaxed(
		&poller->control, 1); /* relaxed: the kernel compares it after this or is woken by the call */
	sys_futex_wake(&poller->control, INT32_MAX);
	poller_signal(poller->event_fd);
}

/* ---- waking up and falling asleep ---- */

static void wake_up(struct sluice_poller *poller)
{
	if (poller->asleep)
		for (uint32_t slot = 0; slot < poller->slots; slot++)
			if (poller->entries[slot] != NULL)
				poller_entry_disarm(poller->entries[slot]);
	poller->asleep = false;
	if (poller->fd_used && !poller->readable)
		poller_signal(poller->event_fd);
	poller->readable = poller->fd_used;
}

static void unlist(struct sluice_poller *poller, struct poller_entry *entry)
{
	poller->entries[entry->slot] = NULL;
	poller->words[entry->slot].word = NULL;
	poller->count--;
	poller->version++;
	entry->listed = false;
}

static uint32_t look_at_entries(struct sluice_poller *poller, struct sluice_poller_event *events, uint32_t max)
{
	uint32_t found = 0;
	uint32_t start = poller->turn;
	for (uint32_t i = 0; i < poller->slots && found < max; i++) {
		uint32_t slot = (start + i) % poller->slots;
		struct poller_entry *entry = poller->entries[slot];
		if (entry == NULL || !poller_entry_look(entry, &events[found]))
			continue;
		found++;
		poller->turn = (slot + 1) % poller->slots;
		if (entry->closed) {
			unlist(poller, entry);
			free(entry);
		}
	}
	return found;
}

static void look_after_others(struct sluice_poller *poller, uint64_t now_ns)
{
	for (uint32_t slot = 0; slot < poller->slots; slot++)
		if (poller->entries[slot] != NULL)
			poller_entry_look_after(poller->entries[slot], now_ns);
}

/* How long entries that found nothing may sleep. */
static uint64_t shortest_sleep(const struct sluice_poller *poller)
{
	uint64_t shortest_ns = poller->longest_sleep_ns;
	for (uint32_t slot = 0; slot < poller->slots; slot++) {
		uint64_t nap_ns = poller->entries[slot] != NULL ? poller_entry_nap_ns(poller->entries[slot]) : 0;
		shortest_ns = nap_ns != 0 && nap_ns < shortest_ns ? nap_ns : shortest_ns;
	}
	return shortest_ns;
}

/* Arms everything, looks again, and has the backend watch. Returns as fall_asleep. */
static int arm_and_watch(struct sluice_poller *poller, struct sluice_poller_event *events, uint32_t max)
{
	const struct poller_backend *backend = poller->sleeper->backend;
	look_after_others(poller, clock_monotonic_ns());
	int error = backend->settle(poller->sleeper, poller->fd_used);
	poller->readable = false;
	poller->asleep = true;
	for (uint32_t slot = 0; slot < poller->slots; slot++)
		if (poller->entries[slot] != NULL)
			poller_entry_arm(poller->entries[slot]);
	uint32_t found = error == 0 ? look_at_entries(poller, events, max) : 0;
	if (found > 0 || error != 0)
		return error != 0 ? error : (int)found;
	for (uint32_t slot = 0; slot < poller->slots; slot++)
		if (poller->entries[slot] != NULL)
			poller_entry_before_sleep(poller->entries[slot]);
	poller->tick_ns = shortest_sleep(poller);
	struct poller_watch watch = {
		.words = poller->words,
		.slots = poller->slots,
		.count = poller->count,
		.version = poller->version,
		.control = &poller->control,
		.control_value = poller->control,
		.use_fd = poller->fd_used,
		.tick_ns = poller->tick_ns,
	};
	return backend->watch(poller->sleeper, &watch);
}

/* What system-call filters and old kernels say, also of a call that worked before: processes forbid themselves things. */
static bool is_forbidden(int error)
{
	return error == -EPERM || error == -EACCES || error == -ENOSYS || error == -ENOTSUP;
}

/* io_uring has been forbidden since this poller was made: threads do it from now on. Returns 0, -ENOTSUP or another errno. */
static int fall_back(struct sluice_poller *poller)
{
	struct poller_sleeper *threads;
	if (!poller->may_fall_back || poller->sleeper->backend == &poller_thread)
		return -ENOTSUP;
	int error = poller_thread.open(poller->event_fd, &threads);
	if (error != 0)
		return error;
	poller->sleeper->backend->close(poller->sleeper);
	poller->sleeper = threads;
	return 0;
}

/* Goes to sleep unless something is ready after all. Returns how many events, or a negative errno; 0: it is asleep. */
static int fall_asleep(struct sluice_poller *poller, struct sluice_poller_event *events, uint32_t max)
{
	int found = arm_and_watch(poller, events, max);
	if (!is_forbidden(found))
		return found;
	int error = fall_back(poller);
	return error != 0 ? error : arm_and_watch(poller, events, max);
}

static int sleep_unlocked(struct sluice_poller *poller, uint64_t timeout_ns)
{
	pthread_mutex_unlock(&poller->mutex);
	int error = poller->sleeper->backend->sleep(poller->sleeper, timeout_ns);
	pthread_mutex_lock(&poller->mutex);
	return error == -ETIMEDOUT ? 0 : error;
}

static uint64_t sleep_ns(const struct sluice_poller *poller, struct waiter *waiter)
{
	uint64_t left_ns = deadline_left_ns(&waiter->deadline, clock_monotonic_ns());
	waiter->sleeps++;
	return left_ns < poller->tick_ns ? left_ns : poller->tick_ns;
}

/* The wait. What it returns with it leaves to its caller: whether to stay asleep. */
static int wait_for_entries(
	struct sluice_poller *poller, struct sluice_poller_event *events, uint32_t max, int64_t timeout_ns)
{
	struct waiter waiter = waiter_for(timeout_ns, spin_budget(&poller->spin));
	enum waiter_next next = WAITER_SPIN;
	for (;;) {
		int found = (int)look_at_entries(poller, events, max);
		if (found != 0) {
			if (timeout_ns > 0)
				spin_learn_from(&poller->spin, &waiter);
			return found;
		}
		if (next == WAITER_SPIN)
			next = waiter_step(&waiter);
		if (next == WAITER_SPIN) {
			let_others_in(poller);
			atomic_pause();
			continue;
		}
		if (next == WAITER_OVER && !poller->fd_used)
			return 0;
		found = fall_asleep(poller, events, max);
		if (found != 0 || next == WAITER_OVER)
			return found;
		uint64_t timeout = sleep_ns(poller, &waiter);
		int error = timeout != 0 ? sleep_unlocked(poller, timeout) : 0;
		if (is_forbidden(error))
			error = fall_back(poller);
		if (error != 0 || timeout == 0)
			return error;
	}
}

int sluice_poller_wait(
	struct sluice_poller *poller, struct sluice_poller_event *ret_events, uint32_t max_events, int64_t timeout_ns)
{
	if (ret_events == NULL || max_events == 0 || max_events > INT32_MAX)
		return -EINVAL;
	int error = lock_checked(poller);
	if (error != 0)
		return error;
	if (poller->waiting) {
		pthread_mutex_unlock(&poller->mutex);
		return -EBUSY;
	}
	poller->waiting = true;
	if (sampler_is_due(&poller->liveness)) {
		uint64_t now_ns = clock_monotonic_ns();
		sampler_stamped(&poller->liveness, now_ns);
		look_after_others(poller, now_ns);
	}
	int result = wait_for_entries(poller, ret_events, max_events, timeout_ns);
	/* Whose descriptor is watched stays asleep; who was in this call only must not be counted on any more. */
	if (!poller->fd_used || (result != 0 && result != -EINTR))
		wake_up(poller);
	poller->waiting = false;
	pthread_mutex_unlock(&poller->mutex);
	return result;
}

/* ---- entries ---- */

/* A handle that is in the poller is being closed, or is about to use its bell itself. */
static void notice(struct handle_watch *watch, enum handle_news news)
{
	struct poller_entry *entry = (struct poller_entry *)watch;
	struct sluice_poller *poller = entry->poller;
	atomic_add_relaxed(&poller->knocking, 1); /* relaxed: as in lock_checked */
	pthread_mutex_lock(&poller->mutex);
	atomic_add_relaxed(&poller->knocking, UINT32_MAX); /* relaxed: likewise */
	if (news == HANDLE_CLOSES) {
		poller_entry_part(entry);
		entry->closed = true;
		if (entry->listed) {
			poller->words[entry->slot].word = NULL;
			poller->version++;
		}
	}
	kick(poller);
	pthread_mutex_unlock(&poller->mutex);
}

static int grow(struct sluice_poller *poller)
{
	uint32_t slots = poller->slots != 0 ? 2 * poller->slots : 8;
	struct poller_entry **entries = realloc(poller->entries, slots * sizeof(struct poller_entry *));
	if (entries == NULL)
		return -ENOMEM;
	poller->entries = entries;
	struct poller_word *words = realloc(poller->words, slots * sizeof *words);
	if (words == NULL)
		return -ENOMEM;
	poller->words = words;
	memset(&entries[poller->slots], 0, (slots - poller->slots) * sizeof(struct poller_entry *));
	memset(&words[poller->slots], 0, (slots - poller->slots) * sizeof *words);
	poller->slots = slots;
	return 0;
}

static int list(struct sluice_poller *poller, struct poller_entry *entry)
{
	if (poller->count == poller->slots) {
		int error = grow(poller);
		if (error != 0)
			return error;
	}
	uint32_t slot = 0;
	while (poller->entries[slot] != NULL)
		slot++;
	poller->entries[slot] = entry;
	if (!entry->closed)
		poller->words[slot].word = entry->channel->bell.word;
	poller->words[slot].id = ++poller->last_id << 32 | slot;
	poller->count++;
	poller->version++;
	entry->slot = slot;
	entry->listed = true;
	kick(poller);
	return 0;
}

int sluice_poller_add(struct sluice_poller *poller, const struct sluice_poller_entry *wanted)
{
	if (poller == NULL || wanted == NULL)
		return -EINVAL;
	int error = handle_check(&poller->handle);
	if (error != 0)
		return error;
	struct poller_entry *entry = calloc(1, sizeof *entry);
	if (entry == NULL)
		return -ENOMEM;
	entry->poller = poller;
	entry->watch = (struct handle_watch){.owner = poller, .notice = notice};
	error = poller_entry_init(entry, wanted);
	if (error == 0)
		error = handle_begin_watch(entry->handle, &entry->watch);
	if (error != 0) {
		free(entry);
		return error;
	}
	error = lock_checked(poller);
	if (error == 0) {
		error = list(poller, entry);
		pthread_mutex_unlock(&poller->mutex);
	}
	if (error != 0) {
		handle_end_watch(entry->handle, &entry->watch);
		free(entry);
	}
	return error;
}

/* Takes an entry out; its watch has to be ended, and it has to be freed, without the mutex. */
static void take_out(struct sluice_poller *poller, struct poller_entry *entry)
{
	poller_entry_part(entry);
	unlist(poller, entry);
	kick(poller);
}

/* The entry of a handle; one that is open before one that was closed and had its memory used again. */
static struct poller_entry *find(struct sluice_poller *poller, const void *handle)
{
	struct poller_entry *found = NULL;
	for (uint32_t slot = 0; slot < poller->slots; slot++) {
		struct poller_entry *entry = poller->entries[slot];
		if (entry != NULL && entry->handle == handle && (found == NULL || found->closed))
			found = entry;
	}
	return found;
}

int sluice_poller_remove(struct sluice_poller *poller, const void *handle)
{
	if (handle == NULL)
		return -EINVAL;
	int error = lock_checked(poller);
	if (error != 0)
		return error;
	struct poller_entry *entry = find(poller, handle);
	if (entry != NULL)
		take_out(poller, entry);
	pthread_mutex_unlock(&poller->mutex);
	if (entry == NULL)
		return -ENOENT;
	handle_end_watch(entry->handle, &entry->watch);
	free(entry);
	return 0;
}

/* ---- create and destroy ---- */

static int open_sleeper(struct sluice_poller *poller, uint32_t backend)
{
	int error = -ENOTSUP;
	if (backend != SLUICE_POLLER_THREAD)
		error = poller_uring.open(poller->event_fd, &poller->sleeper);
	if (backend == SLUICE_POLLER_THREAD || (backend == SLUICE_POLLER_AUTO && error != 0))
		error = poller_thread.open(poller->event_fd, &poller->sleeper);
	return error;
}

int sluice_poller_create(const struct sluice_poller_options *options, struct sluice_poller **ret_poller)
{
	static const struct sluice_poller_options defaults = {.size = sizeof defaults};
	if (options == NULL)
		options = &defaults;
	if (ret_poller == NULL || options->size != sizeof *options || options->backend > SLUICE_POLLER_THREAD ||
		options->spin_ns < SLUICE_NO_SPIN)
		return -EINVAL;
	struct sluice_poller *poller = handle_new(HANDLE_POLLER, sizeof *poller);
	if (poller == NULL)
		return -ENOMEM;
	memset(&poller->handle + 1, 0, sizeof *poller - sizeof poller->handle);
	poller->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error = poller->event_fd < 0 ? -errno : open_sleeper(poller, options->backend);
	if (error != 0) {
		if (poller->event_fd >= 0)
			close(poller->event_fd);
		handle_retire(&poller->handle);
		return error;
	}
	pthread_mutex_init(&poller->mutex, NULL);
	poller->may_fall_back = options->backend == SLUICE_POLLER_AUTO;
	poller->spin = spin_for(options->spin_ns);
	poller->longest_sleep_ns = WAITER_LONGEST_SLEEP_NS;
	poller->liveness = sampler_at_rate(4);
	handle_publish(&poller->handle);
	*ret_poller = poller;
	return 0;
}

/* Takes one entry out, or returns NULL. */
static struct poller_entry *take_any(struct sluice_poller *poller)
{
	struct poller_entry *entry = NULL;
	pthread_mutex_lock(&poller->mutex);
	for (uint32_t slot = 0; slot < poller->slots && entry == NULL; slot++)
		entry = poller->entries[slot];
	if (entry != NULL)
		take_out(poller, entry);
	pthread_mutex_unlock(&poller->mutex);
	return entry;
}

int sluice_poller_destroy(struct sluice_poller *poller)
{
	if (poller == NULL)
		return 0;
	int error = lock_checked(poller);
	if (error != 0)
		return error;
	bool waiting = poller->waiting;
	if (!waiting)
		handle_shut(&poller->handle); /* with the mutex: who comes after this finds nothing half gone */
	pthread_mutex_unlock(&poller->mutex);
	if (waiting)
		return -EBUSY;
	for (struct poller_entry *entry; (entry = take_any(poller)) != NULL;) {
		handle_end_watch(entry->handle, &entry->watch);
		free(entry);
	}
	poller->sleeper->backend->close(poller->sleeper);
	close(poller->event_fd);
	free(poller->entries);
	free(poller->words);
	/* The mutex stays: a thread that was just let in may be on its way out. */
	handle_retire(&poller->handle);
	return 0;
}

/* ---- the rest ---- */

int sluice_poller_fd(struct sluice_poller *poller)
{
	int error = lock_checked(poller);
	if (error != 0)
		return error;
	if (!poller->fd_used) {
		poller->fd_used = true;
		kick(poller); /* a thread that sleeps does so without the descriptor */
		poller_signal(poller->event_fd);
		poller->readable = true;
	}
	pthread_mutex_unlock(&poller->mutex);
	return poller->event_fd;
}

int sluice_poller_backend(const struct sluice_poller *const_poller)
{
	struct sluice_poller *poller = (struct sluice_poller *)(uintptr_t)const_poller;
	int error = lock_checked(poller);
	if (error != 0)
		return error;
	int backend = (int)poller->sleeper->backend->kind;
	pthread_mutex_unlock(&poller->mutex);
	return backend;
}

void poller_set_longest_sleep(struct sluice_poller *poller, uint64_t longest_sleep_ns)
{
	poller->longest_sleep_ns = longest_sleep_ns;
}
