/* SPDX-License-Identifier: Apache-2.0 */
/* What one message takes on either side of a channel, for all loops in which Sluice's messages are written and read. */
#ifndef BENCH_EXCHANGE_H
#define BENCH_EXCHANGE_H

#include <errno.h>

#include "link.h"
#include "payload.h"

static inline int send_filled(void *context, uint32_t number)
{
	struct link *link = context;
	struct sluice_message *message;
	int error = sluice_reserve(link->producer, &link->spec, 1, SLUICE_FOREVER, &message);

	if (error)
		return side_fail(link->side, error, "sluice_reserve");
	payload_fill(sluice_data(message, 0), link->count, number);
	error = sluice_publish(message);
	return error ? side_fail(link->side, error, "sluice_publish") : 0;
}

/* Reads the message that is held, which has to be message number `number`. */
static inline int exchange_check(struct link *link, uint32_t number)
{
	const struct sluice_tensor *tensor = sluice_tensor(link->held, 0);
	uint32_t sum = payload_sum(tensor->data, (size_t)tensor->shape[0]);

	if (sum != payload_expected(link->count, number))
		return side_fail(link->side, -EBADMSG, "the payload is not what was written");
	return 0;
}

/* Receives and reads message number `number`, waiting in the call for up to `timeout_ns`. */
static inline int exchange_receive(struct link *link, uint32_t number, int64_t timeout_ns)
{
	int error = sluice_receive(link->consumer, timeout_ns, &link->held);

	if (error)
		return side_fail(link->side, error, "sluice_receive");
	return exchange_check(link, number);
}

static inline int receive_held(void *context, uint32_t number)
{
	return exchange_receive(context, number, SLUICE_FOREVER);
}

static inline int release_held(void *context, uint32_t number)
{
	struct link *link = context;
	int error = sluice_release(link->held);

	(void)number;
	return error ? side_fail(link->side, error, "sluice_release") : 0;
}

static inline int receive_filled(void *context, uint32_t number)
{
	int error = receive_held(context, number);

	return error ? error : release_held(context, number);
}

#endif
