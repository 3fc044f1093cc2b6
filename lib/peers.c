/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include <errno.h>

#include "atomic.h"
#include "clock.h"
#include "doorbell.h"
#include "recover.h"
#include "roster.h"

#define LIVENESS_INTERVAL_NS (CLOCK_SECOND_NS / 4)

void peers_look_after(struct channel *channel, uint64_t now_ns)
{
	if (now_ns < channel->liveness_due_ns)
		return;
	channel->liveness_due_ns = now_ns + LIVENESS_INTERVAL_NS;
	if (!channel_is_open(channel))
		return;
	struct lane_table table = channel_lane_table(channel);
	/* What could not be recovered now, for want of descriptors say, will be at the next look. */
	(void)recover_dead(&table, channel->control_fd, channel->slot, channel->config.max_deliveries);
}

static enum sluice_role other_role(const struct channel *channel)
{
	return channel->role == SLUICE_ROLE_PRODUCER ? SLUICE_ROLE_CONSUMER : SLUICE_ROLE_PRODUCER;
}

static uint64_t opened_by_others(const struct channel *channel)
{
	const struct layout_epochs *epochs = &channel->control->epochs;
	const uint64_t *opened =
		channel->role == SLUICE_ROLE_PRODUCER ? &epochs->consumers_opened : &epochs->producers_opened;
	return atomic_load_acquire(opened); /* E6: pairs with E5 in enter */
}

static bool has_peers(const struct channel *channel)
{
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		if (roster_is_present(&channel->control->members[slot], other_role(channel)))
			return true;
	return false;
}

void peers_start(struct channel *channel)
{
	channel->peers_opened = opened_by_others(channel);
	channel->had_peers = has_peers(channel);
}

bool peers_are_gone(struct channel *channel)
{
	/*
	 * The count first: one who opens after it is not missed, only seen at the next look. And nobody may come or go
	 * during the scan, lest one that leaves a slot further on passes one that takes a slot further back.
	 */
	uint64_t opened = opened_by_others(channel);
	uint64_t membership = atomic_load_acquire(&channel->control->epochs.membership); /* E4: before the scan */
	bool present = has_peers(channel);
	bool still = atomic_load_acquire(&channel->control->epochs.membership) == membership; /* E4: as before it */
	channel->had_peers |= present;
	return !present && still && (channel->had_peers || opened != channel->peers_opened);
}

/* ---- waiting ---- */

bool peers_count_me(const struct channel *channel)
{
	return roster_holds(&channel->control->members[channel->slot], channel->incarnation, channel->role);
}

bool peers_disarm(struct channel *channel, struct doorbell bell)
{
	if (!peers_count_me(channel))
		return false;
	doorbell_disarm(bell);
	return true;
}

int peers_sleep(struct channel *channel, struct doorbell bell, struct waiter *waiter)
{
	uint64_t sleep_ns = waiter_sleep_ns(waiter);
	int error = sleep_ns == 0 ? deadline_error(&waiter->deadline) : doorbell_sleep(bell, sleep_ns);
	if (!peers_disarm(channel, bell))
		return -ESTALE;
	if (error == -ETIMEDOUT)
		waiter->now_ns += sleep_ns; /* for the caller, who looks after the others by it */
	return sleep_ns == 0 || error == -EINTR ? error : 0;
}

/* Members in the roster; the locks are asked only once the words say that there are enough. */
static uint32_t count_members(struct channel *channel, enum sluice_role role, uint32_t wanted)
{
	uint32_t present = 0;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		/* E4: the roster's words (M2), again after arming (D2), pairs with E3 in enter */
		present += roster_is_present(&channel->control->members[slot], role);
	return present < wanted ? present : roster_count(channel->control->members, role, channel->control_fd);
}

int peers_wait(struct channel *channel, enum sluice_role role, uint32_t wanted, int64_t timeout_ns, int64_t spin_ns)
{
	struct waiter waiter = waiter_for(timeout_ns, spin_ns);
	/*
	 * Among the producers whatever the role: a publish wakes one consumer and would count one that waits for
	 * something else. Those who join or leave ring both maps, and a release looks at its own producer's bit only.
	 */
	struct doorbell bell =
		doorbell_of(channel->control->bells, &channel->control->sleeping_producers, channel->slot);
	for (;;) {
		uint32_t count = count_members(channel, role, wanted);
		if (count >= wanted)
			return (int)count;
		enum waiter_next next = waiter_step(&waiter);
		if (next == WAITER_OVER)
			return deadline_error(&waiter.deadline);
		if (waiter.now_ns != 0)
			peers_look_after(channel, waiter.now_ns);
		if (next == WAITER_SPIN) {
			waiter_rest();
			continue;
		}
		peers_arm(channel, bell);
		if (count_members(channel, role, wanted) >= wanted) {
			(void)peers_disarm(channel, bell);
			/* A roster that says so only every second time must not make this call outlast its time. */
			if (deadline_left_ns(&waiter.deadline, clock_monotonic_ns()) == 0)
				return deadline_error(&waiter.deadline);
			continue;
		}
		int error = peers_sleep(channel, bell, &waiter);
		if (error != 0)
			return error;
		peers_look_after(channel, waiter.now_ns);
	}
}
