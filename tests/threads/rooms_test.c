/* SPDX-License-Identifier: Apache-2.0 */
/* Doorbells, statistics and handles, with threads as their parties. */
#include <errno.h>
#include <sched.h>

#include "../support/exchange.h"
#include "clock.h"
#include "doorbell.h"
#include "handle.h"
#include "stats.h"
#include "threads.h"

/* ---- doorbells ---- */

struct chime {
	struct layout_control *control;
	uint64_t value; /* plain: handed over by `event` */
	uint64_t event;
	uint64_t heard;
	uint64_t rounds;
};

static void sleep_until(struct chime *chime, struct doorbell bell, uint64_t event)
{
	while (atomic_load_acquire(&chime->event) < event) {
		doorbell_arm(bell);
		if (atomic_load_acquire(&chime->event) < event)
			expect(doorbell_sleep(bell, 5 * CLOCK_SECOND_NS) != -ETIMEDOUT);
		doorbell_disarm(bell);
	}
}

static void *sleep_and_hear(void *argument)
{
	struct chime *chime = argument;
	struct doorbell bell = doorbell_of(chime->control->bells, &chime->control->sleeping_consumers, 3);
	for (uint64_t round = 1; round <= chime->rounds; round++) {
		sleep_until(chime, bell, round);
		expect(chime->value == round * 3);
		atomic_store_release(&chime->heard, round);
	}
	return NULL;
}

static void *ring(void *argument)
{
	struct chime *chime = argument;
	for (uint64_t round = 1; round <= chime->rounds; round++) {
		chime->value = round * 3;
		atomic_store_release(&chime->event, round);
		atomic_fence_full();
		doorbell_ring_all(chime->control->bells, &chime->control->sleeping_consumers);
		while (atomic_load_acquire(&chime->heard) != round)
			sched_yield();
	}
	return NULL;
}

static void a_bell_wakes_its_sleeper_every_time(void **state)
{
	struct chime chime = {.control = zeroed(sizeof(struct layout_control)), .rounds = scaled(50000)};
	(void)state;
	wrong = 0;
	pthread_t sleeper = start_thread(sleep_and_hear, &chime);
	pthread_t ringer = start_thread(ring, &chime);
	join_thread(ringer);
	join_thread(sleeper);
	assert_int_equal(wrong, 0);
	free(chime.control);
}

/* ---- statistics ---- */

struct figures {
	struct layout_histogram histogram;
	uint64_t counter; /* of the first thread */
	uint64_t rounds;
	uint32_t started;
};

static void *count_up(void *argument)
{
	struct figures *figures = argument;
	bool owner = atomic_add_relaxed(&figures->started, 1) == 0;
	for (uint64_t i = 0; i < figures->rounds; i++) {
		stats_record(&figures->histogram, i);
		if (owner)
			stats_add(&figures->counter, 2);
	}
	return NULL;
}

static void figures_add_up_while_they_are_read(void **state)
{
	static struct figures figures;
	struct sluice_distribution distribution;
	pthread_t threads[READERS];
	(void)state;
	figures = (struct figures){.rounds = scaled(200000)};
	for (unsigned i = 0; i < READERS; i++)
		threads[i] = start_thread(count_up, &figures);
	do
		stats_distribution(&figures.histogram, &distribution);
	while (distribution.count < figures.rounds);
	for (unsigned i = 0; i < READERS; i++)
		join_thread(threads[i]);
	stats_distribution(&figures.histogram, &distribution);
	assert_int_equal(distribution.count, READERS * figures.rounds);
	assert_int_equal(atomic_load_relaxed(&figures.counter), 2 * figures.rounds);
}

/* ---- handles ---- */

struct crate {
	pthread_mutex_t mutex;
	const struct sluice_message *messages[64];
	unsigned count;
	bool done;
};

static void *release_handles(void *argument)
{
	struct crate *crate = argument;
	for (;;) {
		const struct sluice_message *message = NULL;
		pthread_mutex_lock(&crate->mutex);
		bool done = crate->done && crate->count == 0;
		if (crate->count > 0)
			message = crate->messages[--crate->count];
		pthread_mutex_unlock(&crate->mutex);
		if (done)
			return NULL;
		if (message != NULL)
			expect(sluice_release(message) == 0);
		else
			sched_yield();
	}
}

static void put_into(struct crate *crate, const struct sluice_message *message)
{
	for (bool put = false; !put; sched_yield()) {
		pthread_mutex_lock(&crate->mutex);
		put = crate->count < 64;
		if (put)
			crate->messages[crate->count++] = message;
		pthread_mutex_unlock(&crate->mutex);
	}
}

struct source {
	struct sluice_producer *producer;
	uint64_t messages;
};

static void *publish_all(void *argument)
{
	struct source *source = argument;
	const struct sluice_tensor_spec spec = {"bytes", SLUICE_UINT8, 1, {200}};
	for (uint64_t i = 0; i < source->messages; i++) {
		struct sluice_message *message;
		if (sluice_reserve(source->producer, &spec, 1, PATIENCE, &message) != 0) {
			expect(false);
			return NULL;
		}
		memset(sluice_data(message, 0), (int)(i % 251), 200);
		expect(sluice_publish(message) == 0);
	}
	return NULL;
}

static void receive_and_hand_on(uint32_t mode, uint64_t messages)
{
	struct crate crate = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct source source = {
		join_producer("tokens", PRODUCER(.channel = CHANNEL(.mode = mode, .depth = 16))), messages};
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	pthread_t threads[HELPERS + 1];
	wrong = 0;
	for (unsigned i = 0; i < HELPERS; i++)
		threads[i] = start_thread(release_handles, &crate);
	threads[HELPERS] = start_thread(publish_all, &source);
	for (uint64_t i = 0; i < messages; i++) {
		const struct sluice_message *message;
		check_result(0, sluice_receive(consumer, PATIENCE, &message));
		check_equal(i, sluice_sequence(message));
		check_equal(i % 251, *(const uint8_t *)sluice_tensor(message, 0)->data);
		put_into(&crate, message);
	}
	pthread_mutex_lock(&crate.mutex);
	crate.done = true;
	pthread_mutex_unlock(&crate.mutex);
	for (unsigned i = 0; i <= HELPERS; i++)
		join_thread(threads[i]);
	assert_int_equal(wrong, 0);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(source.producer));
}

static void messages_are_released_by_other_threads_while_more_are_received(void **state)
{
	(void)state;
	receive_and_hand_on(SLUICE_QUEUE, scaled(100000));
	receive_and_hand_on(SLUICE_BROADCAST, scaled(100000));
}

static void *open_and_close(void *argument)
{
	uint64_t rounds = *(uint64_t *)argument;
	for (uint64_t i = 0; i < rounds; i++) {
		struct handle *handle = handle_new(HANDLE_CONSUMER, sizeof *handle);
		expect(handle != NULL);
		if (handle == NULL)
			return NULL;
		handle_publish(handle);
		expect(handle_check(handle) == 0);
		handle_retire(handle);
	}
	return NULL;
}

static void handles_are_opened_and_closed_from_several_threads(void **state)
{
	uint64_t rounds = scaled(20000);
	pthread_t threads[READERS];
	(void)state;
	wrong = 0;
	for (unsigned i = 0; i < READERS; i++)
		threads[i] = start_thread(open_and_close, &rounds);
	for (unsigned i = 0; i < READERS; i++)
		join_thread(threads[i]);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_bell_wakes_its_sleeper_every_time),
		promise(figures_add_up_while_they_are_read),
		promise(messages_are_released_by_other_threads_while_more_are_received),
		promise(handles_are_opened_and_closed_from_several_threads),
	};
	return cmocka_run_group_tests_name("threads of the other rooms", tests, NULL, NULL);
}
