/* SPDX-License-Identifier: Apache-2.0 */
/* The other members of a channel, as one of them sees them: do they live, are there enough, sleeping until they ring. */
#ifndef SLUICE_LIB_PEERS_H
#define SLUICE_LIB_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "waiter.h"

/* Takes note of who is there when a member joins. */
void peers_start(struct channel *channel);

/*
 * Looks whether the other members live and recovers what the dead left, if a quarter of a second has passed since the
 * last look. For the slow paths of a member; `now_ns` is CLOCK_MONOTONIC.
 */
void peers_look_after(struct channel *channel, uint64_t now_ns);

/* False once others have declared this member dead and taken over what it held. */
bool peers_count_me(const struct channel *channel);

/* True if this member has seen members of the other role and none is left. */
bool peers_are_gone(struct channel *channel);

/* Waits until at least `wanted` members of `role` live. Returns how many, -EAGAIN, -ETIMEDOUT, -EINTR. */
int peers_wait(struct channel *channel, enum sluice_role role, uint32_t wanted, int64_t timeout_ns, int64_t spin_ns);

/* Arms the bell of a member for a sleep in a call of its own, and tells who may be asleep in its place by that bell. */
static inline void peers_arm(struct channel *channel, struct doorbell bell)
{
	handle_tell_if_watched(channel->handle, HANDLE_SLEEPS);
	doorbell_arm(bell);
}

/*
 * Disarms it. False: this member was declared dead, and the bell is left alone, which can be another's by now who is about to
 * sleep.
 */
bool peers_disarm(struct channel *channel, struct doorbell bell);

/* One sleep of a member that armed `bell` and found nothing. Returns 0 to look again, -EINTR, or the wait's error. */
int peers_sleep(struct channel *channel, struct doorbell bell, struct waiter *waiter);

#endif
