/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a poller sleeps on. Two backends, a file each: poller_uring.c and poller_thread.c. They know words in shared
 * memory that are 1 while their member is asleep, and nothing of members.
 *
 * Use, by the one thread that waits: `settle`, arm all words, look at everything again, `watch`, and then either go
 * away, leaving the descriptor to tell, or `sleep`. After `watch`, each word that was rung since it was armed, or is
 * rung later, ends the sleep and makes the descriptor readable, also if that happened before the kernel looked at it:
 * it compares.
 */
#ifndef SLUICE_LIB_POLLER_H
#define SLUICE_LIB_POLLER_H

#include <sluice/poller.h>

#include <stdbool.h>
#include <stdint.h>

/* A word to sleep on. */
struct poller_word {
	const uint32_t *word; /* NULL: none here */
	uint64_t id;          /* its index in the low 32 bits; never used twice, and never below 2^32 */
};

/* Everything to sleep on. */
struct poller_watch {
	const struct poller_word *words;
	uint32_t slots;          /* of `words` */
	uint32_t count;          /* of those that are not NULL */
	uint64_t version;        /* another whenever the words are others */
	const uint32_t *control; /* ends a sleep when it is no longer `control_value` */
	uint32_t control_value;
	bool use_fd; /* the descriptor has to tell as well, and about every `tick_ns` for no reason */
	uint64_t tick_ns;
};

/* The base of what a backend keeps. */
struct poller_sleeper {
	const struct poller_backend *backend;
	int event_fd; /* the descriptor */
};

struct poller_backend {
	enum sluice_poller_backends kind;
	/* Returns 0, -ENOTSUP (the system has or allows none of this), -ENOMEM, -EMFILE, -ENFILE. */
	int (*open)(int event_fd, struct poller_sleeper **ret_sleeper);
	void (*close)(struct poller_sleeper *sleeper);
	/*
	 * Forgets what rang so far: from here on the descriptor becomes readable only for something new. Neither this
	 * nor `watch` blocks or says -EINTR.
	 */
	int (*settle)(struct poller_sleeper *sleeper, bool use_fd);
	/* `watch` need not outlive the call. */
	int (*watch)(struct poller_sleeper *sleeper, const struct poller_watch *watch);
	/* Sleeps until something rang. Returns 0, -ETIMEDOUT, -EINTR or another errno; may return early for no reason. */
	int (*sleep)(struct poller_sleeper *sleeper, uint64_t timeout_ns);
};

extern const struct poller_backend poller_uring;
extern const struct poller_backend poller_thread;

/* Makes the descriptor readable, or not readable. */
void poller_signal(int event_fd);
void poller_drain(int event_fd);

/* For tests: entries that sleep wake by themselves this often instead of every second. Before anybody waits. */
void poller_set_longest_sleep(struct sluice_poller *poller, uint64_t longest_sleep_ns);

#endif
