/* SPDX-License-Identifier: Apache-2.0 */
/* Producers and consumers of a soak. */
#include "member.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "../support/exchange.h"

#define BRIEFLY    INT64_C(100000000) /* 100 ms, between two looks whether one is asked to leave */
#define MOST_HELD  24
#define MOST_BATCH 40
#define LANES      1024

static const struct sluice_channel_options *channel_of(const struct journal *journal)
{
	static struct sluice_channel_options options;

	options = (struct sluice_channel_options){
		.size = sizeof options,
		.mode = journal->mode,
		.lane_bytes = 2 << 20,
		.depth = 256,
		.max_deliveries = SLUICE_UNLIMITED,
		.open_timeout_ns = INT64_C(60000000000),
	};
	return &options;
}

static void give_up(const char *what, uint64_t number, int error) __attribute__((noreturn));

static void give_up(const char *what, uint64_t number, int error)
{
	fprintf(stderr, "process %d: message %" PRIu64 ": %s (%s)\n", (int)getpid(), number, what,
		error < 0 ? strerrorname_np(-error) : "0");
	_exit(1);
}

/* ---- producers ---- */

/* The number of the next message, or UINT64_MAX when there are enough. */
static uint64_t next_number(struct journal *journal)
{
	uint64_t number = journal->next;

	while (number < journal->wanted)
		if (atomic_compare_exchange_weak(&journal->next, &number, number + 1))
			return number;
	return UINT64_MAX;
}

static void fill(const struct journal *journal, struct sluice_message *message, uint64_t number)
{
	const uint64_t content = journal_content(journal, number);
	uint64_t head[2] = {number, 0};

	head[1] = pattern_fill(sluice_data(message, 1), sluice_tensor(message, 1)->bytes, content);
	memcpy(sluice_data(message, 0), head, sizeof head);
	if (sluice_set_correlation_id(message, content))
		give_up("no correlation id", number, 0);
}

enum fate { DISCARD, PUBLISH_MORE, PUBLISH };

static void finish(struct journal *journal, struct sluice_message *message, uint64_t number, enum fate fate)
{
	struct journal_entry *entry = &journal->entries[number];
	int error;

	if (fate == DISCARD) {
		entry->sent = SENT_DISCARDED;
		error = sluice_discard(message);
	} else {
		entry->sent = SENT_IN_DOUBT;
		error = fate == PUBLISH_MORE ? sluice_publish_more(message) : sluice_publish(message);
		entry->sent = SENT_SURELY;
	}
	if (error)
		give_up("not published", number, error);
}

static int reserve(const struct journal *journal, struct sluice_producer *producer, uint64_t number,
	struct sluice_message **ret_message)
{
	const struct sluice_tensor_spec specs[2] = {
		{.name = "head", .dtype = SLUICE_UINT64, .ndim = 1, .shape = {2}},
		{.name = "data", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {(int64_t)journal_bytes(journal, number)}},
	};

	return sluice_reserve(producer, specs, 2, BRIEFLY, ret_message);
}

static void flush(struct sluice_producer *producer)
{
	int error = sluice_flush(producer);

	if (error)
		give_up("no flush", 0, error);
}

void member_produce(struct journal *journal, unsigned member, uint64_t life)
{
	const struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = channel_of(journal),
		.spin_ns = life % 3 ? 0 : SLUICE_NO_SPIN,
	};
	struct sluice_producer *producer;
	const uint64_t bursts = life % 2 ? 0 : 60; /* of 64 messages so many have another one follow */
	uint64_t number = UINT64_MAX, random = journal->seed ^ life;
	int error = sluice_producer_open(SOAK_CHANNEL, &options, &producer);

	if (error)
		give_up("no producer", 0, error);
	while (!journal->leave[member]) {
		struct sluice_message *message;

		if (number == UINT64_MAX)
			number = next_number(journal);
		if (number == UINT64_MAX)
			break;
		error = reserve(journal, producer, number, &message);
		if (error == -ETIMEDOUT)
			continue;
		if (error)
			give_up("no room", number, error);
		fill(journal, message, number);
		const uint64_t dice = random_next(&random) % 64;

		finish(journal, message, number, dice == 0 ? DISCARD : dice < bursts ? PUBLISH_MORE : PUBLISH);
		number = UINT64_MAX;
		if (dice == 1)
			flush(producer);
	}
	error = sluice_producer_close(producer);
	if (error)
		give_up("producer not closed", 0, error);
	_exit(0);
}

/* ---- consumers ---- */

struct held {
	const struct sluice_message *message;
	uint64_t number;
};

/* A consumer's life. */
struct reader {
	struct journal *journal;
	struct sluice_consumer *consumer;
	struct sluice_poller *poller; /* waits in the consumer's place, or NULL */
	struct held held[MOST_HELD + MOST_BATCH];
	unsigned count;
	uint64_t random;
	struct {
		uint64_t origin;
		uint64_t next;
	} lanes[LANES]; /* broadcast: what comes next of each */
};

/* In a broadcast each lane's messages come in order and without holes as long as one lives. */
static void check_order(struct reader *reader, const struct sluice_message *message, uint64_t number)
{
	const uint64_t origin = sluice_origin(message), sequence = sluice_sequence(message);
	const unsigned index = (unsigned)((origin * 37 + (origin >> 32)) % LANES);

	if (reader->lanes[index].origin == origin && reader->lanes[index].next != sequence)
		give_up("a hole in a broadcast", number, 0);
	reader->lanes[index].origin = origin;
	reader->lanes[index].next = sequence + 1;
}

static void take_in(struct reader *reader, const struct sluice_message *message, bool alone)
{
	struct held *held = &reader->held[reader->count];
	const char *wrong = journal_receive(reader->journal, message, &held->number);

	if (!wrong && !alone && sluice_delivery_count(message) > 1)
		wrong = "delivered again, but not alone";
	if (wrong)
		give_up(wrong, held->number, 0);
	if (reader->journal->mode == SLUICE_BROADCAST)
		check_order(reader, message, held->number);
	held->message = message;
	reader->count++;
}

static void release_one(struct reader *reader, unsigned which)
{
	struct held held = reader->held[which];
	struct journal_entry *entry = &reader->journal->entries[held.number];
	int error;

	reader->held[which] = reader->held[--reader->count];
	if (entry->released == RELEASED_NOT)
		entry->released = RELEASED_IN_DOUBT;
	error = sluice_release(held.message);
	if (error)
		give_up("not released", held.number, error);
	entry->released = RELEASED_SURELY;
}

/* All there are, by one call. */
static void release_all(struct reader *reader)
{
	const struct sluice_message *messages[MOST_HELD + MOST_BATCH];
	int error;

	for (unsigned i = 0; i < reader->count; i++) {
		struct journal_entry *entry = &reader->journal->entries[reader->held[i].number];

		messages[i] = reader->held[i].message;
		if (entry->released == RELEASED_NOT)
			entry->released = RELEASED_IN_DOUBT;
	}
	error = sluice_release_batch(messages, reader->count);
	if (error)
		give_up("a batch not released", reader->held[0].number, error);
	for (; reader->count > 0; reader->count--)
		reader->journal->entries[reader->held[reader->count - 1].number].released = RELEASED_SURELY;
}

/* Waits by the poller, so that the call that follows need not. */
static int wait_by_poller(struct reader *reader, int64_t timeout_ns)
{
	struct sluice_poller_event event;
	int count = sluice_poller_wait(reader->poller, &event, 1, timeout_ns);

	if (count == -EINTR) /* it was stopped and goes on */
		return 0;
	if (count < 0 || (count == 1 && event.events != SLUICE_POLL_RECEIVE))
		give_up("a poller that does not wait", event.events, count);
	return count;
}

/* Takes some messages, one or a batch; returns what the call did. */
static int receive_some(struct reader *reader, int64_t timeout_ns)
{
	const struct sluice_message *messages[MOST_BATCH];
	const size_t wanted = random_next(&reader->random) % 2 ? 1 : MOST_BATCH;
	int count;

	if (reader->poller && wait_by_poller(reader, timeout_ns) == 0)
		return -ETIMEDOUT;
	if (reader->poller)
		timeout_ns = 0;
	if (wanted == 1)
		count = sluice_receive(reader->consumer, timeout_ns, messages) ?: 1;
	else
		count = sluice_receive_batch(reader->consumer, wanted, 1 << 20, 0, timeout_ns, messages);
	for (int i = 0; i < count; i++)
		take_in(reader, messages[i], count == 1);
	if (count < 0 && count != -ETIMEDOUT && count != -EAGAIN)
		give_up("nothing received", 0, count);
	return count;
}

static void open_poller(struct reader *reader, uint32_t backend, bool spin)
{
	const struct sluice_poller_options options = {
		.size = sizeof options,
		.backend = backend,
		.spin_ns = spin ? 0 : SLUICE_NO_SPIN,
	};
	const struct sluice_poller_entry entry = {.consumer = reader->consumer};
	int error = sluice_poller_create(&options, &reader->poller);

	if (!error)
		error = sluice_poller_add(reader->poller, &entry);
	if (error)
		give_up("no poller", 0, error);
}

static void open_reader(struct reader *reader, struct journal *journal, uint64_t life)
{
	const struct sluice_consumer_options options = {
		.size = sizeof options,
		.channel = channel_of(journal),
		.spin_ns = life % 3 ? 0 : SLUICE_NO_SPIN,
	};
	int error = sluice_consumer_open(SOAK_CHANNEL, &options, &reader->consumer);

	if (error)
		give_up("no consumer", 0, error);
	reader->journal = journal;
	reader->random = journal->seed ^ life * 3;
	if (life % 4 >= 2)
		open_poller(reader, life % 4 == 2 ? SLUICE_POLLER_AUTO : SLUICE_POLLER_THREAD, life % 3);
}

static void close_reader(struct reader *reader)
{
	int error;

	for (unsigned i = 0; i < reader->count && reader->journal->mode != SLUICE_BROADCAST; i++)
		journal_return(reader->journal, reader->held[i].number, sluice_delivery_count(reader->held[i].message));
	error = sluice_poller_destroy(reader->poller);
	if (!error)
		error = sluice_consumer_close(reader->consumer);
	if (error)
		give_up("consumer not closed", 0, error);
}

void member_consume(struct journal *journal, unsigned member, uint64_t life)
{
	struct reader *reader = calloc(1, sizeof *reader);
	unsigned patience;

	if (!reader)
		give_up("no memory", 0, -ENOMEM);
	open_reader(reader, journal, life);
	patience = (unsigned)(random_next(&reader->random) % MOST_HELD);
	while (!journal->leave[member]) {
		const int count = receive_some(reader, reader->count ? 0 : BRIEFLY);

		if (reader->count > patience && random_next(&reader->random) % 2)
			release_all(reader);
		while (reader->count > (count > 0 ? patience : 0))
			release_one(reader, (unsigned)(random_next(&reader->random) % reader->count));
	}
	close_reader(reader);
	_exit(0);
}

uint64_t member_drain(struct journal *journal)
{
	struct reader *reader = calloc(1, sizeof *reader);
	uint64_t drained = 0;

	if (!reader)
		give_up("no memory", 0, -ENOMEM);
	open_reader(reader, journal, 1);
	while (receive_some(reader, BRIEFLY) > 0)
		for (; reader->count > 0; drained++)
			release_one(reader, 0);
	close_reader(reader);
	free(reader);
	return drained;
}
