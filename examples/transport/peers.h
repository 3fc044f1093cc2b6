/* SPDX-License-Identifier: Apache-2.0 */
/* The sender processes, from the receiver's side: starting them, their sockets, and seeing them out. */
#ifndef EXAMPLES_PEERS_H
#define EXAMPLES_PEERS_H

#include <stddef.h>
#include <sys/types.h>

#include "ways.h"

#define PEER_SILENCE_S 10 /* a sender that says nothing for so long is given up */

/* This process's ends of the sockets to one sender. */
struct peer {
	pid_t pid;
	int control; /* requests go out here */
	int data;    /* frames come in here */
};

struct peers {
	struct peer *peers;
	size_t count;
};

/* Starts a sender for each part; they send by these channels. Returns 0, or a negative errno after saying what is wrong. */
int peers_start(
	const struct part *parts, size_t part_count, const char *const channels[CHANNELS], struct peers *ret_peers);

/*
 * Tells the senders that nothing more is wanted and waits for them. Returns 0, or -ECHILD if one of them did not leave in
 * good order. Does nothing a second time.
 */
int peers_stop(struct peers *peers);

#endif
