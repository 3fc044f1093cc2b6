/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One and several, through one Sluice channel. Gather: several producers that never pause, one consumer. Spread: one
 * such producer, several consumers, to which each message goes once (queue) or all messages go (broadcast). The one
 * keeps the time; the shares of the several show how fair it is. An element's upper 8 bits say which producer wrote it.
 */
#include <errno.h>

#include "case.h"
#include "link.h"
#include "payload.h"

#define NUMBER_BITS 24
#define NUMBER_MASK ((1u << NUMBER_BITS) - 1)

static int send_one(struct link *link, uint32_t number)
{
	struct sluice_message *message;
	int error = sluice_reserve(link->producer, &link->spec, 1, SLUICE_FOREVER, &message);

	if (error)
		return side_fail(link->side, error, "sluice_reserve");
	uint32_t writer = (uint32_t)link->side->index << NUMBER_BITS;
	payload_fill(sluice_data(message, 0), link->count, writer | (number & NUMBER_MASK));
	error = sluice_publish(message);
	return error ? side_fail(link->side, error, "sluice_publish") : 0;
}

/* Receives one, reads it whole and releases it. Returns 0, or what went wrong; -ENODATA is no failure: the end. */
static int receive_one(struct link *link, uint32_t *ret_seed)
{
	const struct sluice_message *message;
	int error = sluice_receive(link->consumer, SLUICE_FOREVER, &message);

	if (error == -ENODATA)
		return error;
	if (error)
		return side_fail(link->side, error, "sluice_receive");
	const int32_t *data = sluice_tensor(message, 0)->data;
	uint32_t seed = (uint32_t)data[0];
	if (payload_sum(data, link->count) != payload_expected(link->count, seed))
		return side_fail(link->side, -EBADMSG, "the payload is not what was written");
	*ret_seed = seed;
	error = sluice_release(message);
	return error ? side_fail(link->side, error, "sluice_release") : 0;
}

/* What the consumer of several producers knows of each. */
struct gathering {
	uint64_t messages[PAIR_MOST_SIDES];
};

/* Each producer's messages must come in its order and without holes. */
static int gather_one(struct link *link, struct gathering *gathering)
{
	uint32_t seed = 0;
	int error = receive_one(link, &seed);

	if (error)
		return error;
	uint32_t writer = seed >> NUMBER_BITS;
	if (writer >= PAIR_MOST_SIDES || (gathering->messages[writer]++ & NUMBER_MASK) != (seed & NUMBER_MASK))
		return side_fail(link->side, -EBADMSG, "a producer's messages came out of order");
	return 0;
}

static int gather_measured(struct link *link)
{
	struct side *side = link->side;
	struct gathering now = {0};
	struct gathering before = {0};
	uint64_t step = side_step(side->of->bytes);
	int error = 0;

	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side)) {
			before = now;
			side_start_clock(side);
		}
		if (i % step == 0)
			side_check_time(side, i, step);
		error = gather_one(link, &now);
	}
	side_stop_clock(side);
	for (int i = 1; i < side->sides; i++)
		side_share(side, i, now.messages[i] - before.messages[i]);
	side_stop(side);
	while (error == 0)
		error = gather_one(link, &now); /* what is under way, up to the end of the stream */
	return error == -ENODATA ? 0 : error;
}

int gather_consumer(struct side *side)
{
	struct link link;
	int error = link_open(side, NULL, "there", &link);

	if (error == 0) {
		side_meet(side);
		error = gather_measured(&link);
	}
	if (error == 0)
		side_meet(side);
	link_close(&link);
	return error;
}

int gather_producer(struct side *side)
{
	struct link link;
	int error = link_open(side, "there", NULL, &link);

	if (error == 0) {
		side_meet(side);
		side_start_clock(side);
		for (uint32_t number = 0; error == 0 && !side_stopped(side); number++)
			error = send_one(&link, number);
	}
	link_close(&link);
	if (error == 0)
		side_finish(side);
	return error;
}

int spread_producer(struct side *side)
{
	uint64_t step = side_step(side->of->bytes);
	struct link link;
	int error = link_open(side, "there", NULL, &link);

	if (error == 0)
		side_meet(side);
	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side))
			side_start_clock(side);
		if (i % step == 0)
			side_check_time(side, i, step);
		error = send_one(&link, (uint32_t)i);
	}
	side_stop_clock(side);
	link_close(&link);
	if (error == 0)
		side_meet(side);
	return error;
}

/* Up to the end of the stream. In a queue others get what is missing here, in a broadcast nothing may be missing. */
static int receive_share(struct link *link, uint64_t *ret_messages)
{
	bool all = link->side->of->mode == SLUICE_BROADCAST;
	uint64_t messages = 0;
	uint32_t last = UINT32_MAX;

	for (;;) {
		uint32_t seed = 0;
		int error = receive_one(link, &seed);

		if (error == -ENODATA)
			break;
		if (error)
			return error;
		uint32_t step = (seed - last) & NUMBER_MASK;
		if (all ? step != 1 : step == 0 || step > NUMBER_MASK / 2)
			return side_fail(link->side, -EBADMSG, "messages came out of order");
		last = seed;
		messages++;
	}
	*ret_messages = messages;
	return 0;
}

int spread_consumer(struct side *side)
{
	struct link link;
	uint64_t messages = 0;
	int error = link_open(side, NULL, "there", &link);

	if (error == 0) {
		side_meet(side);
		side_start_clock(side);
		error = receive_share(&link, &messages);
	}
	if (error == 0) {
		side_share(side, side->index, messages);
		side_finish(side);
	}
	link_close(&link);
	return error;
}
