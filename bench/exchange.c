/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips through Sluice, on two channels, and open loops on one of them. Everything that a careful user does is
 * inside the measured time: reserve, fill, publish; receive, read, release; on both sides. `release_late` moves the
 * second side's release behind its answer.
 */
#include <errno.h>

#include "case.h"
#include "exchange.h"
#include "pace.h"
#include "roundtrip.h"

static inline int send_untouched(void *context, uint32_t number)
{
	struct link *link = context;
	struct sluice_message *message;
	int error = sluice_reserve(link->producer, &link->spec, 1, SLUICE_FOREVER, &message);

	(void)number;
	if (error)
		return side_fail(link->side, error, "sluice_reserve");
	error = sluice_publish(message);
	return error ? side_fail(link->side, error, "sluice_publish") : 0;
}

static inline int receive_untouched(void *context, uint32_t number)
{
	struct link *link = context;
	int error = sluice_receive(link->consumer, SLUICE_FOREVER, &link->held);

	if (error)
		return side_fail(link->side, error, "sluice_receive");
	if (sluice_tensor(link->held, 0)->bytes != link->side->of->bytes ||
		(uint32_t)sluice_sequence(link->held) + 1 != number)
		return side_fail(link->side, -EBADMSG, "the message is not the one that was sent");
	return release_held(context, number);
}

int exchange_first(struct side *side)
{
	struct link link;
	int error = link_open(side, "there", "back", &link);

	if (error == 0) {
		side_meet(side);
		error = side->of->untouched ? roundtrip_first(side, &link, send_untouched, receive_untouched)
					    : roundtrip_first(side, &link, send_filled, receive_filled);
	}
	link_close(&link);
	return error;
}

int exchange_second(struct side *side)
{
	struct link link;
	int error = link_open(side, "back", "there", &link);

	if (error == 0) {
		side_meet(side);
		if (side->of->untouched)
			error = roundtrip_second(side, &link, send_untouched, receive_untouched, NULL);
		else if (side->of->release_late)
			error = roundtrip_second(side, &link, send_filled, receive_held, release_held);
		else
			error = roundtrip_second(side, &link, send_filled, receive_filled, NULL);
	}
	link_close(&link);
	return error;
}

int open_first(struct side *side)
{
	struct link link;
	int error = link_open(side, "there", NULL, &link);

	if (error == 0) {
		side_meet(side);
		error = pace_first(side, &link, send_filled);
	}
	link_close(&link);
	return error;
}

int open_second(struct side *side)
{
	struct link link;
	int error = link_open(side, NULL, "there", &link);

	if (error == 0) {
		side_meet(side);
		error = pace_second(side, &link, receive_filled);
	}
	link_close(&link);
	return error;
}
