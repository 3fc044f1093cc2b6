/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers: opening and closing. */
#include "consumer.h"

#include <errno.h>
#include <string.h>

#include "atomic.h"
#include "options.h"
#include "peers.h"

#define DEFAULT_QUANTUM_MESSAGES 32
#define DEFAULT_QUANTUM_BYTES    (UINT64_C(1) << 20)

/* ---- open and close ---- */

static void set_up(struct sluice_consumer *consumer, const struct sluice_consumer_options *options)
{
	consumer->page = &consumer->channel.control->consumers[consumer->channel.slot];
	peers_start(&consumer->channel);
	consumer->lanes_epoch = UINT64_MAX;
	/* R2: before any lane's tail is read: what is returned later is seen as a change */
	consumer->redelivery_epoch = atomic_load_acquire(&consumer->channel.control->epochs.redelivery);
	consumer->quantum_messages =
		options->quantum_messages != 0 ? options->quantum_messages : DEFAULT_QUANTUM_MESSAGES;
	consumer->quantum_bytes = options->quantum_bytes != 0 ? options->quantum_bytes : DEFAULT_QUANTUM_BYTES;
	consumer_begin_turn(consumer);
	consumer->flags = options->flags;
	consumer->expected_producers = options->expected_producers != 0 ? options->expected_producers : 1;
	consumer->spin = spin_for(options->spin_ns);
	consumer->liveness = sampler_at_rate(4);
	consumer->looked_after = consumer->received_messages;
	consumer->ordered = (consumer->channel.config.flags & SLUICE_ORDERED) != 0;
	memset(consumer->refused, 0xff, sizeof consumer->refused); /* no lane has such a slot */
}

int sluice_consumer_open(
	const char *name, const struct sluice_consumer_options *options, struct sluice_consumer **ret_consumer)
{
	static const struct sluice_consumer_options defaults = {.size = sizeof defaults};
	if (options == NULL)
		options = &defaults;
	if (ret_consumer == NULL || options_object_to_consumer(options) != NULL)
		return -EINVAL;
	struct sluice_consumer *consumer = handle_new(HANDLE_CONSUMER, sizeof *consumer);
	if (consumer == NULL)
		return -ENOMEM;
	struct message_pool pool = consumer->pool;
	memset(&consumer->handle + 1, 0, sizeof *consumer - sizeof consumer->handle);
	consumer->pool = pool;

	int error = message_pool_start(&consumer->pool, &consumer->handle) ? 0 : -ENOMEM;
	if (error == 0)
		error = channel_join(
			&consumer->channel, &consumer->handle, name, options->channel, SLUICE_ROLE_CONSUMER);
	if (error != 0) {
		handle_retire(&consumer->handle);
		return error;
	}
	set_up(consumer, options);
	error = consumer_sync_lanes(consumer, (options->flags & SLUICE_START_NEWEST) != 0);
	if (error < 0) {
		consumer_depart_lanes(consumer);
		consumer_forget_lanes(consumer);
		channel_leave(&consumer->channel, false);
		handle_retire(&consumer->handle);
		return error;
	}
	handle_publish(&consumer->handle);
	*ret_consumer = consumer;
	return 0;
}

int sluice_consumer_close(struct sluice_consumer *consumer)
{
	if (consumer == NULL)
		return 0;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	handle_tell_if_watched(&consumer->handle, HANDLE_CLOSES);
	if (consumer->attachment != NULL)
		consumer->attachment->closing(consumer->attachment);
	consumer_give_back(consumer, MESSAGE_HELD);
	consumer_depart_lanes(consumer);
	consumer_forget_lanes(consumer);
	error = channel_leave(&consumer->channel, true);
	handle_retire(&consumer->handle);
	return error;
}

/* ---- the rest ---- */

int sluice_consumer_wait(struct sluice_consumer *consumer, uint32_t producers, int64_t timeout_ns)
{
	if (consumer == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	return peers_wait(&consumer->channel, SLUICE_ROLE_PRODUCER, producers, timeout_ns, consumer->spin.most_ns);
}

int sluice_consumer_geometry(struct sluice_consumer *consumer, struct sluice_geometry *ret_geometry)
{
	if (consumer == NULL || ret_geometry == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	channel_geometry(&consumer->channel, ret_geometry);
	return 0;
}

int sluice_consumer_fault(struct sluice_consumer *consumer, struct sluice_fault *ret_fault)
{
	if (consumer == NULL || ret_fault == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	if (!consumer->has_fault)
		return -ENOENT;
	*ret_fault = consumer->fault;
	return 0;
}
