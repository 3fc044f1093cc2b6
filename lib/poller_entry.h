/* SPDX-License-Identifier: Apache-2.0 */
/* One handle in a poller: is it ready, arming its bell, taking that back. One thread at a time. */
#ifndef SLUICE_LIB_POLLER_ENTRY_H
#define SLUICE_LIB_POLLER_ENTRY_H

#include <sluice/poller.h>

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "handle.h"

struct poller_entry {
	struct handle_watch watch; /* first: notices are given this */
	struct sluice_poller *poller;
	struct handle *handle;
	struct channel *channel;
	struct sluice_consumer *consumer;
	struct sluice_producer *producer;
	uint64_t room_bytes;
	void *data;
	uint32_t slot; /* in the poller */
	bool reports_gone;
	bool listed;   /* in the poller */
	bool closed;   /* its handle was: nothing of it is there any more */
	bool armed;    /* its bell is, for all this entry knows */
	bool reported; /* the last look found it ready */
};

/* Fills in what the caller asks for. Returns 0, -EINVAL, -EMSGSIZE, -EBADF or -ECHILD. */
int poller_entry_init(struct poller_entry *entry, const struct sluice_poller_entry *wanted);

/* True, and an event, if the entry is ready. What it found stays for the handle's own calls to find. */
bool poller_entry_look(struct poller_entry *entry, struct sluice_poller_event *ret_event);

/* Arms the bell: look again afterwards. */
void poller_entry_arm(struct poller_entry *entry);

/* How long a sleep may last at most, since not everything that is waited for rings; 0: as long as any. After arming. */
uint64_t poller_entry_nap_ns(const struct poller_entry *entry);

/* What is done when that look found nothing, before a sleep. */
void poller_entry_before_sleep(struct poller_entry *entry);

/* Takes the arming back. A wake-up that was meant for this member and that nobody is told of goes to another. */
void poller_entry_disarm(struct poller_entry *entry);

/* The same for good, before the entry goes: also ends all sleeps on the bell's word that the kernel still knows of. */
void poller_entry_part(struct poller_entry *entry);

/* What the member does for its channel now and then. `now_ns` is CLOCK_MONOTONIC. */
void poller_entry_look_after(struct poller_entry *entry, uint64_t now_ns);

#endif
