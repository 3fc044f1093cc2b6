/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rival: another way to get messages from one process to another. Each has a file of its own and a line in rivals.c;
 * what is not there at build time is reported as left out. All do the same work: every byte of a buffer is written,
 * sent, received and read, by the functions of payload.h.
 *
 * The receiver knows the size of a message, as one that had to be told would only be slower.
 */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "pair.h"

struct rival {
	const char *name;     /* as in a case's `rival` */
	const char *package;  /* Debian's, where it must be there at build time; NULL: nothing is needed */
	const char *version;  /* NULL: not there at build time */
	const char *settings; /* what was chosen, in words */
	bool has_threads;     /* of its own, beside the caller's */
	/*
	 * Connects the two sides, both ways: out to the other, in from it. Meets once, between what the first side sets
	 * up and what the second side looks for. By the case's `waiting`: polls without sleeping, or blocks.
	 * `*ret_line` is the caller's: close. Returns 0 or a negative errno, noted with side_fail.
	 */
	int (*open)(struct side *side, void **ret_line);
	/* Fills a message as payload_fill does with `number`, and sends it. Returns 0 or a negative errno. */
	int (*send)(void *line, uint32_t number);
	/* Receives a message and checks its sum. Returns 0, a negative errno, or -EBADMSG (it is not that message). */
	int (*receive)(void *line, uint32_t number);
	void (*close)(void *line);
	void (*clean_up)(const char *channel); /* what a run that failed left behind; NULL if nothing can be */
};

extern const struct rival rival_pipe;
extern const struct rival rival_socket;
extern const struct rival rival_zeromq;
extern const struct rival rival_nng;
extern const struct rival rival_boost;

extern const struct rival *const rivals[];
extern const int rival_count;

/* The rival of that name; NULL if there is none. */
const struct rival *rival_find(const char *name);

#endif
