/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers: waiting for messages and receiving them, singly and in batches. */
#include "consumer.h"

#include <errno.h>
#include <sys/param.h>

#include "acks.h"
#include "atomic.h"
#include "clock.h"
#include "course.h"
#include "lane_table.h"
#include "peers.h"
#include "recover.h"
#include "waiter.h"

/* ---- waiting ---- */

/* What GPUs have acknowledged of other consumers' messages, whose own calls may be long in coming. */
static COLD void collect_acknowledged(struct sluice_consumer *consumer)
{
	struct layout_control *control = consumer->channel.control;
	bool abandoned = false;
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[i];
		if (acks_collect(control, lane->key, lane->claims, lane->reader.depth) == 0)
			continue;
		atomic_fence_after_rmw(); /* D3: K2 before, the looks for sleepers after, pairs with D2 in doorbell_arm */
		consumer_wake_producer(consumer, lane->key.slot % LAYOUT_SLOTS);
		abandoned |= lane_table_is_abandoned(control, lane->key);
	}
	if (abandoned)
		doorbell_ring_all(control->bells, &control->sleeping_consumers);
}

void consumer_look_after(struct sluice_consumer *consumer, uint64_t now_ns)
{
	struct channel *channel = &consumer->channel;
	bool due = now_ns >= channel->liveness_due_ns;
	peers_look_after(channel, now_ns);
	if (!due || channel->config.mode == SLUICE_BROADCAST)
		return;
	/* What somebody gave back who was stopped or died before he could say so (R1). */
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		if (consumer_lane_has_returned(consumer->lanes[i]))
			consumer_rescan(consumer);
	if (UNLIKELY(acks_exist(channel->control)))
		collect_acknowledged(consumer);
	struct lane_table table = channel_lane_table(channel);
	for (uint32_t i = 0; i < consumer->lane_count; i++) {
		struct consumer_lane *lane = consumer->lanes[i];
		(void)recover_orphans(&table, lane->key, &lane->objects, channel->config.max_deliveries);
		if (channel->config.take_back_ns != 0)
			(void)recover_overdue(&table, lane->key, &lane->objects, &lane->watch, now_ns,
				channel->config.take_back_ns,
				channel->config.max_deliveries); /* out of memory: others look too */
	}
}

/* Polls for a while what a publish changes; all else can wait for so long. True if a message was taken. */
static bool spin(struct sluice_consumer *consumer, const struct waiter *waiter, uint64_t budget,
	const struct sluice_message **ret_message)
{
	for (int i = 0; i < WAITER_LOOKS; i++) {
		if (consumer_has_sign(consumer))
			return consumer_take_at_once(consumer, budget, ret_message);
		waiter_pause(waiter);
	}
	return false;
}

static int wait_for_message(struct sluice_consumer *consumer, struct waiter *waiter, uint64_t budget,
	const struct sluice_message **ret_message)
{
	for (;;) {
		enum waiter_next next = waiter_step(waiter);
		if (waiter->now_ns != 0)
			consumer_look_after(consumer, waiter->now_ns);
		if (next == WAITER_SLEEP)
			peers_arm(&consumer->channel, consumer->channel.bell);
		/* Before the look (M2), which so sees all that those who are gone did (M1, X1). */
		bool gone = (consumer->flags & SLUICE_REPORT_GONE) != 0 && peers_are_gone(&consumer->channel);
		if (next == WAITER_OVER && !gone && waiter->began_ns == 0)
			return deadline_error(&waiter->deadline); /* whoever was not to wait has looked */
		int result = consumer_look_at_all(consumer, budget, ret_message);
		if (result == LOOK_NOTHING && gone)
			result = -EPIPE;
		if (result == LOOK_NOTHING && next == WAITER_OVER)
			result = deadline_error(&waiter->deadline);
		if (result != LOOK_NOTHING) {
			if (next == WAITER_SLEEP)
				(void)peers_disarm(&consumer->channel, consumer->channel.bell);
			return result;
		}
		if (next == WAITER_SPIN) {
			if (spin(consumer, waiter, budget, ret_message))
				return LOOK_TAKEN;
			continue;
		}
		stats_add(&consumer->page->sleeps, 1);
		waiter->nap_ns = consumer_nap_ns(consumer);
		result = peers_sleep(&consumer->channel, consumer->channel.bell, waiter);
		if (result != 0)
			return result;
		consumer_look_after(consumer, waiter->now_ns);
	}
}

/* A consumer that always finds something looks after the others all the same, by a clock that it seldom reads. */
static void look_after_if_due(struct sluice_consumer *consumer)
{
	sampler_pass(&consumer->liveness, consumer->received_messages - consumer->looked_after);
	consumer->looked_after = consumer->received_messages;
	if (LIKELY(!sampler_is_due(&consumer->liveness)))
		return;
	uint64_t now_ns = clock_monotonic_ns();
	sampler_stamped(&consumer->liveness, now_ns);
	consumer_look_after(consumer, now_ns);
}

static COLD int receive_properly(
	struct sluice_consumer *consumer, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	look_after_if_due(consumer);
	if (consumer_goes_on(consumer) && consumer_take_at_once(consumer, ANY_MESSAGE, ret_message))
		return 0;
	int result = consumer_look_at_all(consumer, ANY_MESSAGE, ret_message);
	if (result == LOOK_NOTHING) {
		struct waiter waiter = waiter_for(timeout_ns, spin_budget(&consumer->spin));
		result = wait_for_message(consumer, &waiter, ANY_MESSAGE, ret_message);
		if (result == LOOK_TAKEN || waiter.began_ns != 0)
			spin_learn_from(&consumer->spin, &waiter);
	}
	return result < 0 ? result : 0;
}

/* ---- receive ---- */

/* Kept free of calls but for the last thing it does: what comes one after another costs no more than it must. */
int sluice_receive(struct sluice_consumer *consumer, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	if (consumer == NULL || ret_message == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	if (LIKELY(consumer_take_at_once(consumer, ANY_MESSAGE, ret_message)))
		return 0;
	return receive_properly(consumer, timeout_ns, ret_message);
}

/* True if a producer whose messages are in the batch sleeps for want of room. */
static bool starves_producer(
	const struct sluice_consumer *consumer, const struct sluice_message *const *messages, size_t count)
{
	const struct layout_slot_map *map = &consumer->channel.control->sleeping_producers;
	if (!doorbell_is_armed(map))
		return false;
	for (size_t i = 0; i < count; i++)
		if (doorbell_slot_is_armed(map, (uint32_t)messages[i]->origin % LAYOUT_SLOTS))
			return true;
	return false;
}

/* A publish may have woken this consumer alone: if it leaves without that message, another has to hear of it. */
static void pass_wakeup_on(struct sluice_consumer *consumer, int result)
{
	struct layout_control *control = consumer->channel.control;
	if (result == LOOK_TAKEN)
		return;
	atomic_fence_full(); /* D3: for others, after the look that left the message where it is */
	if (doorbell_is_armed(&control->sleeping_consumers))
		doorbell_ring_one(control->bells, &control->sleeping_consumers, consumer->channel.slot + 1);
}

/*
 * Waits for one more message of a batch that is under way. Like wait_for_message, but a producer that waits for room
 * ends it too: it rings sleeping consumers when it goes to sleep itself.
 */
static int linger(struct sluice_consumer *consumer, struct waiter *waiter, uint64_t budget,
	const struct sluice_message **messages, size_t count)
{
	for (;;) {
		enum waiter_next next = waiter_step(waiter);
		if (next == WAITER_OVER || starves_producer(consumer, messages, count)) {
			pass_wakeup_on(consumer, LOOK_NOTHING);
			return LOOK_NOTHING;
		}
		if (next == WAITER_SLEEP)
			peers_arm(&consumer->channel, consumer->channel.bell);
		int result = consumer_look_at_all(consumer, budget, &messages[count]);
		bool stop = result != LOOK_NOTHING || starves_producer(consumer, messages, count);
		if (stop && next == WAITER_SLEEP)
			(void)peers_disarm(&consumer->channel, consumer->channel.bell);
		if (stop) {
			pass_wakeup_on(consumer, result);
			return result;
		}
		if (next == WAITER_SPIN) {
			if (spin(consumer, waiter, budget, &messages[count]))
				return LOOK_TAKEN;
			continue;
		}
		waiter->nap_ns = consumer_nap_ns(consumer);
		if (peers_sleep(&consumer->channel, consumer->channel.bell, waiter) != 0)
			return LOOK_NOTHING; /* over, or interrupted: what there is so far is an answer */
		consumer_look_after(consumer, waiter->now_ns);
	}
}

/* What `max_bytes` of a batch leaves for its messages: more than any has where there is no limit. */
static uint64_t byte_budget(uint64_t max_bytes)
{
	return max_bytes != 0 && max_bytes < ANY_MESSAGE ? max_bytes : ANY_MESSAGE - 1;
}

static uint64_t batch_bytes(const struct sluice_message *message)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < message->tensor_count; i++)
		bytes += message->tensors[i].bytes;
	return bytes;
}

/* So many messages at most are looked at before the first of them is claimed. */
#define RUN_MOST 32

/* How many messages of `bytes` bytes each fit into `room`. */
static uint64_t fitting(uint64_t room, uint64_t bytes)
{
	return bytes != 0 ? room / bytes : RUN_MOST;
}

/* consumer_take_at_once for several messages of a queue: at most `most`, and of `budget` bytes. Returns how many. */
static size_t take_run(
	struct sluice_consumer *consumer, uint64_t budget, size_t most, const struct sluice_message **ret_messages)
{
	struct consumer_lane *lane = consumer->at_once;
	if (consumer->received_messages >= consumer->at_once_until || lane->broadcast)
		return 0;
	uint64_t bytes = lane->last_words.payload_bytes;
	uint64_t allowed = consumer->at_once_until - consumer->received_messages;
	allowed = MIN(allowed, MIN((uint64_t)most, RUN_MOST));
	if (consumer->received_bytes >= consumer->turn_until_bytes)
		return 0;
	allowed = MIN(allowed, fitting(consumer->turn_until_bytes - consumer->received_bytes - 1, bytes));
	allowed = MIN(allowed, fitting(budget, bytes));
	uint32_t row = allowed != 0 ? message_pool_row(&consumer->pool, (uint32_t)allowed) : 0;
	if (row == 0)
		return 0;
	struct sluice_message *const *messages = &consumer->pool.messages[consumer->pool.hint];
	uint32_t taken = consumer_lane_take_run(lane, messages, row);
	if (taken == 0)
		return 0;
	consumer->pool.hint += taken - 1;
	for (uint32_t i = 0; i < taken; i++) {
		message_set_state(messages[i], MESSAGE_HELD);
		ret_messages[i] = messages[i];
	}
	consumer_count(consumer, taken, taken * bytes);
	return taken;
}

/*
 * Takes what there is, and what comes within `linger_ns`, behind the `count` messages of a batch that is under way. Returns
 * how many there are then.
 */
static int fill_batch(struct sluice_consumer *consumer, size_t count, size_t max_messages, uint64_t max_bytes,
	int64_t linger_ns, const struct sluice_message **messages)
{
	uint64_t left = byte_budget(max_bytes);
	struct waiter waiter = waiter_for(linger_ns, spin_budget(&consumer->spin));
	size_t counted = 0; /* messages whose bytes are no longer in `left` */
	int result = 0;
	while (count < max_messages) {
		for (; max_bytes != 0 && counted < count; counted++) {
			uint64_t taken = batch_bytes(messages[counted]);
			left = taken < left ? left - taken : 0;
		}
		size_t more = take_run(consumer, left, max_messages - count, &messages[count]);
		if (LIKELY(more != 0)) {
			count += more;
			continue;
		}
		if (consumer_take_at_once(consumer, left, &messages[count])) {
			count++;
			continue;
		}
		look_after_if_due(consumer);
		if (consumer_goes_on(consumer))
			continue;
		result = consumer_look(consumer, left, &messages[count]);
		if (result == LOOK_NOTHING && linger_ns > 0)
			result = linger(consumer, &waiter, left, messages, count);
		if (result != LOOK_TAKEN)
			break;
		count++;
	}
	/* The end of the stream shows again by itself; anything else that went wrong is told by the next call. */
	if (result < 0 && result != -ENODATA) {
		consumer->pending_error = result;
		consumer->at_once_until = 0; /* so that the next call finds it */
	}
	return (int)count;
}

int sluice_receive_batch(struct sluice_consumer *consumer, size_t max_messages, uint64_t max_bytes, int64_t linger_ns,
	int64_t timeout_ns, const struct sluice_message **ret_messages)
{
	if (consumer == NULL || ret_messages == NULL || max_messages == 0 || max_messages > INT32_MAX)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	message_pool_rewind(&consumer->pool);
	size_t count = take_run(consumer, byte_budget(max_bytes), max_messages, ret_messages);
	if (count == 0) {
		int result = sluice_receive(
			consumer, timeout_ns, &ret_messages[0]); /* the first one may be over the limit */
		if (result < 0)
			return result;
		count = 1;
	}
	if (ret_messages[0]->deliveries > 1)
		return 1; /* alone: see take */
	return fill_batch(consumer, count, max_messages, max_bytes, linger_ns, ret_messages);
}

int sluice_receive_more(struct sluice_consumer *consumer, size_t count, size_t max_messages, uint64_t max_bytes,
	int64_t linger_ns, const struct sluice_message **messages)
{
	if (consumer == NULL || messages == NULL || count == 0 || count > max_messages || max_messages > INT32_MAX)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	for (size_t i = 0; i < count; i++)
		if (messages[i] == NULL || messages[i]->handle != &consumer->handle ||
			message_state(messages[i]) != MESSAGE_HELD)
			return -EINVAL;
	if (messages[0]->deliveries > 1)
		return (int)count; /* alone, as in sluice_receive_batch */
	return fill_batch(consumer, count, max_messages, max_bytes, linger_ns, messages);
}

/* ---- for a poller, which sleeps in a consumer's place ---- */

void consumer_leave_to_others(struct sluice_consumer *consumer)
{
	if (consumer->channel.config.mode == SLUICE_QUEUE)
		pass_wakeup_on(consumer, LOOK_NOTHING);
}
