/* SPDX-License-Identifier: Apache-2.0 */
#include "poller_entry.h"

#include <errno.h>

#include "consumer.h"
#include "doorbell.h"
#include "peers.h"
#include "producer.h"
#include "sys.h"

static int init_consumer(struct poller_entry *entry, struct sluice_consumer *consumer)
{
	entry->handle = &consumer->handle;
	int error = handle_check(entry->handle);
	if (error != 0)
		return error;
	entry->consumer = consumer;
	entry->channel = &consumer->channel;
	entry->reports_gone = (consumer->flags & SLUICE_REPORT_GONE) != 0;
	return 0;
}

static int init_producer(struct poller_entry *entry, struct sluice_producer *producer, uint64_t room_bytes)
{
	entry->handle = producer_handle(producer);
	int error = handle_check(entry->handle);
	if (error != 0)
		return error;
	if (!producer_can_hold(producer, room_bytes))
		return -EMSGSIZE;
	entry->producer = producer;
	entry->channel = producer_channel(producer);
	entry->reports_gone = producer_reports_gone(producer);
	entry->room_bytes = room_bytes;
	return 0;
}

int poller_entry_init(struct poller_entry *entry, const struct sluice_poller_entry *wanted)
{
	if ((wanted->consumer == NULL) == (wanted->producer == NULL))
		return -EINVAL;
	entry->data = wanted->data;
	return wanted->consumer != NULL ? init_consumer(entry, wanted->consumer)
					: init_producer(entry, wanted->producer, wanted->room_bytes);
}

/* 1 if the handle's next call gets what it wants, 0 if it would wait, or the error that it would return. */
static int peek(struct poller_entry *entry)
{
	if (entry->consumer != NULL)
		return consumer_peek(entry->consumer);
	return producer_has_room(entry->producer, entry->room_bytes);
}

/* As peek; also when there is nothing to come. */
static int look(struct poller_entry *entry)
{
	int result = peek(entry);
	if (result != 0)
		return result;
	if (!peers_count_me(entry->channel))
		return -ESTALE;
	if (!entry->reports_gone || !peers_are_gone(entry->channel))
		return 0;
	/* After the look at the roster (M2), to see all that those who are gone did (M1, X1). */
	result = peek(entry);
	return result != 0 ? result : -EPIPE;
}

bool poller_entry_look(struct poller_entry *entry, struct sluice_poller_event *ret_event)
{
	struct sluice_poller_event event = {.data = entry->data};
	int result = entry->closed ? 0 : look(entry);
	if (entry->closed) {
		event.events = SLUICE_POLL_CLOSED;
	} else if (result > 0) {
		event.events = entry->consumer != NULL ? SLUICE_POLL_RECEIVE : SLUICE_POLL_ROOM;
	} else if (result < 0) {
		event.events = result == -EPIPE || result == -ENODATA ? SLUICE_POLL_HANGUP : SLUICE_POLL_ERROR;
		event.error = result;
	}
	entry->reported = event.events != 0;
	if (entry->reported)
		*ret_event = event;
	return entry->reported;
}

void poller_entry_arm(struct poller_entry *entry)
{
	/* One who was declared dead may not touch the bell: it can be another's by now. */
	if (entry->closed || !peers_count_me(entry->channel))
		return;
	if (entry->producer != NULL)
		producer_before_arming(entry->producer, entry->room_bytes);
	doorbell_arm(entry->channel->bell);
	entry->armed = true;
}

uint64_t poller_entry_nap_ns(const struct poller_entry *entry)
{
	if (entry->closed)
		return 0;
	return entry->consumer != NULL ? consumer_nap_ns(entry->consumer) : producer_nap_ns(entry->producer);
}

void poller_entry_before_sleep(struct poller_entry *entry)
{
	if (entry->closed)
		return;
	if (entry->consumer != NULL)
		stats_add(&entry->consumer->page->sleeps, 1);
	else
		producer_before_sleep(entry->producer);
}

void poller_entry_disarm(struct poller_entry *entry)
{
	if (!entry->armed)
		return;
	entry->armed = false;
	if (entry->closed || !peers_count_me(entry->channel))
		return;
	bool rung = doorbell_withdraw(entry->channel->bell);
	if (rung && !entry->reported && entry->consumer != NULL)
		consumer_leave_to_others(entry->consumer);
}

void poller_entry_part(struct poller_entry *entry)
{
	poller_entry_disarm(entry);
	if (entry->closed)
		return;
	/* What was reported may stay where it is. */
	if (entry->consumer != NULL)
		consumer_leave_to_others(entry->consumer);
	sys_futex_wake(entry->channel->bell.word, INT32_MAX);
}

void poller_entry_look_after(struct poller_entry *entry, uint64_t now_ns)
{
	if (entry->closed)
		return;
	if (entry->consumer != NULL)
		consumer_look_after(entry->consumer, now_ns);
	else
		producer_look_after(entry->producer, now_ns);
}
