/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of message handles: none is given out twice, those given back serve again, it grows and never moves one. */
#include "message.h"

#include <pthread.h>

#include "../support/harness.h"
#include "corrupt.h"

#define MOST 500

/* Reachable until the program ends, as a consumer's pool is. */
static struct message_pool pools[6];
static struct handle owner;

static struct sluice_message *hold(struct message_pool *pool)
{
	struct sluice_message *message = message_pool_take(pool, &owner);

	check(message != NULL && message->handle == &owner);
	check_equal(MESSAGE_NONE, message_state(message));
	message_set_state(message, MESSAGE_HELD);
	return message;
}

static uint32_t held_of(const struct message_pool *pool)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < pool->count; i++)
		held += message_state(pool->messages[i]) == MESSAGE_HELD;
	return held;
}

static void a_handle_stays_free_until_its_state_is_set(void **state)
{
	struct message_pool *pool = &pools[0];
	struct sluice_message *message = message_pool_take(pool, &owner);

	(void)state;
	check(message != NULL);
	check(message_pool_take(pool, &owner) == message);
	message_set_state(message, MESSAGE_HELD);
	check(message_pool_take(pool, &owner) != message);
}

static void one_at_a_time_is_the_same_one_each_time(void **state)
{
	struct message_pool *pool = &pools[1];
	struct sluice_message *first = hold(pool);

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		message_set_state(first, MESSAGE_NONE);
		check(hold(pool) == first);
	}
}

static void all_that_are_held_are_different_and_stay_where_they_are(void **state)
{
	struct message_pool *pool = &pools[2];
	static struct sluice_message *held[MOST];

	(void)state;
	for (unsigned i = 0; i < MOST; i++) {
		held[i] = hold(pool);
		held[i]->sequence = i;
		for (unsigned k = 0; k < i; k++)
			check(held[k] != held[i]);
	}
	check(pool->count >= MOST && pool->count < 2 * MOST);
	for (unsigned i = 0; i < MOST; i++)
		check(held[i]->sequence == i && message_state(held[i]) == MESSAGE_HELD);
}

static void a_pool_grows_only_when_all_are_held(void **state)
{
	struct message_pool *pool = &pools[3];
	static struct sluice_message *held[MOST];
	uint32_t count;

	(void)state;
	for (unsigned i = 0; i < MOST; i++)
		held[i] = hold(pool);
	while (held_of(pool) < pool->count)
		hold(pool);
	count = pool->count;
	for (unsigned i = 0; i < MOST; i++) {
		const unsigned other = i * 7 % MOST;

		message_set_state(held[other], MESSAGE_NONE);
		check(hold(pool) == held[other]); /* the only free one, wherever it is */
		check_equal(count, pool->count);
	}
}

static void what_was_given_back_serves_again_before_the_pool_grows(void **state)
{
	struct message_pool *pool = &pools[4];
	struct sluice_message *held[100];
	uint32_t count;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		held[i] = hold(pool);
	count = pool->count;
	for (unsigned turn = 0; turn < 100; turn++) {
		for (unsigned i = turn % 3; i < 100; i += 3)
			message_set_state(held[i], MESSAGE_NONE);
		for (unsigned i = turn % 3; i < 100; i += 3)
			held[i] = hold(pool);
	}
	check_equal(count, pool->count);
}

/* ---- given back by another thread ---- */

#define RING 8

struct handover {
	struct sluice_message *ring[RING];
	uint64_t given, taken, count;
};

static void *give_back_all(void *argument)
{
	struct handover *handover = argument;

	for (uint64_t i = 0; i < handover->count; i++) {
		struct sluice_message *message;

		while (atomic_load_acquire(&handover->given) == i)
			atomic_pause();
		message = handover->ring[i % RING];
		if (message->sequence != i)
			return handover;
		message->sequence = UINT64_MAX;
		message_set_state(message, MESSAGE_NONE);
		atomic_store_release(&handover->taken, i + 1);
	}
	return NULL;
}

static void another_thread_may_give_them_back(void **state)
{
	struct message_pool *pool = &pools[5];
	struct handover handover = {.count = scaled(100000)};
	pthread_t thread;
	void *failed;

	(void)state;
	check_result(0, pthread_create(&thread, NULL, give_back_all, &handover));
	for (uint64_t i = 0; i < handover.count; i++) {
		struct sluice_message *message = hold(pool);

		check(i == 0 || message->sequence == UINT64_MAX || message->sequence == 0);
		message->sequence = i;
		while (i - atomic_load_acquire(&handover.taken) >= RING)
			atomic_pause();
		handover.ring[i % RING] = message;
		atomic_store_release(&handover.given, i + 1);
	}
	check_result(0, pthread_join(thread, &failed));
	check(failed == NULL);
	check(pool->count <= 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_handle_stays_free_until_its_state_is_set),
		promise(one_at_a_time_is_the_same_one_each_time),
		promise(all_that_are_held_are_different_and_stay_where_they_are),
		promise(a_pool_grows_only_when_all_are_held),
		promise(what_was_given_back_serves_again_before_the_pool_grows),
		promise(another_thread_may_give_them_back),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
