/* SPDX-License-Identifier: Apache-2.0 */
/* Death in a broadcast: the dead hold nobody back, whoever replaces them misses nothing that is there, nothing is dropped. */
#include <errno.h>
#include <string.h>

#include "deaths.h"

#define BROADCAST(...) CHANNEL(.mode = SLUICE_BROADCAST, __VA_ARGS__)

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_producer(void)
{
	producer = join_producer("tokens", PRODUCER(.channel = BROADCAST(), .spin_ns = SLUICE_NO_SPIN));
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Receives and releases `index` messages, then receives one more, and stays with it. */
static void read_and_stay(void *shared, unsigned index)
{
	struct sluice_consumer *own = join_consumer("tokens", CONSUMER(.channel = BROADCAST()));

	take_numbers(own, 0, index);
	hold_number(own, index);
	stay(shared);
}

static void a_dead_consumer_holds_nobody_back(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 8);
	dead = start_ready(read_and_stay, scene, 2);
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 0, 8);
	check_result(0, try_to_send(producer, 8, 0)); /* it released two */
	check_result(0, try_to_send(producer, 9, 0));
	check_result(-EAGAIN, try_to_send(producer, 10, 0));
	take_numbers(consumer, 8, 2);
	kill_hard(dead);
	check_result(0, try_to_send(producer, 10, NOTICED));
	take_numbers(consumer, 10, 1);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void join_and_stay(void *shared, unsigned index)
{
	(void)index;
	join_consumer("tokens", CONSUMER(.channel = BROADCAST()));
	stay(shared);
}

static void the_dead_do_not_hold_back_lanes_that_came_after_them(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = BROADCAST()));
	for (int round = 0; round < 3; round++) {
		kill_hard(start_ready(join_and_stay, scene, 0));
		open_producer();
		for (int i = 0; i < 20; i++) {
			check_result(0, try_to_send(producer, i, NOTICED));
			take_numbers(consumer, i, 1);
		}
		check_full_capacity(producer, consumer, 8);
		check_result(0, sluice_producer_close(producer));
	}
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Reads 0 to `index` - 1. */
static void read_all(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", CONSUMER(.channel = BROADCAST()));

	tally_add(&scene->ready);
	for (unsigned number = 0; number < index; number++)
		take_numbers(own, number, 1);
	tally_add(&scene->done);
	check_result(0, sluice_consumer_close(own));
}

static void the_living_see_every_message_while_others_die(void **state)
{
	struct scene *scene = new_scene();
	unsigned living[2], number = 0;

	(void)state;
	open_producer();
	for (int i = 0; i < 2; i++)
		living[i] = start_ready(read_all, scene, 60);
	for (int round = 0; round < 5; round++) {
		kill_hard(start_ready(join_and_stay, scene, 0));
		send_numbers(producer, number, 12); /* more than fits: the dead one must have been noticed */
		number += 12;
	}
	for (int i = 0; i < 2; i++)
		finish(living[i]);
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_replacement_starts_at_the_oldest_that_is_retained(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 8);
	dead = start_ready(read_and_stay, scene, 3);
	kill_hard(dead);
	consumer = join_consumer("tokens", NULL);
	/* Nobody needed room meanwhile, so that even what the dead one had released is still there. */
	take_numbers(consumer, 0, 8);
	close_both();
}

static void when_everybody_died_the_producer_waits_and_nothing_is_dropped(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead[2];

	(void)state;
	open_producer();
	send_numbers(producer, 0, 6);
	dead[0] = start_ready(read_and_stay, scene, 2);
	dead[1] = start_ready(read_and_stay, scene, 4);
	kill_hard(dead[0]);
	kill_hard(dead[1]);
	send_numbers(producer, 6, 4); /* 0 and 1 were released by both */
	check_result(-ETIMEDOUT, try_to_send(producer, 10, 3 * SECOND));
	check_equal(1, look().alive);
	check_result(-EAGAIN, try_to_send(producer, 10, 0));
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 2, 8);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void wait_for_room_and_send(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own =
		join_producer("tokens", PRODUCER(.channel = BROADCAST(), .spin_ns = SLUICE_NO_SPIN));

	send_numbers(own, 0, 8);
	tally_add(&scene->ready);
	send_number(own, index);
	tally_add(&scene->done);
	stay(scene);
}

static void a_producer_that_sleeps_for_room_is_freed_by_a_death(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead, sender;

	(void)state;
	sender = start_ready(wait_for_room_and_send, scene, 8);
	dead = start_ready(join_and_stay, scene, 0);
	consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 0, 8);
	wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
	kill_hard(dead);
	check(tally_wait_for(&scene->done, 1, NOTICED));
	take_numbers(consumer, 8, 1);
	kill_hard(sender);
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void what_a_dead_producer_published_reaches_every_consumer(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *both[2];
	unsigned dead;

	(void)state;
	for (int i = 0; i < 2; i++)
		both[i] = join_consumer("tokens", CONSUMER(.channel = BROADCAST()));
	dead = start_ready(send_and_stay, scene, 5);
	take_numbers(both[0], 0, 3);
	kill_hard(dead);
	take_numbers(both[0], 3, 2);
	take_numbers(both[1], 0, 5);
	for (const uint64_t end = now_ns() + NOTICED; look().lanes > 0;) {
		check_result(-ETIMEDOUT, nothing_within(both[1], 20 * MILLISECOND));
		check(now_ns() < end);
	}
	for (int i = 0; i < 2; i++)
		check_result(0, sluice_consumer_close(both[i]));
	check_equal(0, sandbox_objects(NULL));
}

static void expected_consumers_that_died_before_they_were_complete_leave_all_for_later(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *both[2];

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = BROADCAST(.expected_consumers = 2)));
	send_numbers(producer, 0, 8);
	kill_hard(start_ready(read_and_stay, scene, 5));
	check_result(-ETIMEDOUT, try_to_send(producer, 8, SECOND));
	for (int i = 0; i < 2; i++)
		both[i] = join_consumer("tokens", NULL);
	for (int i = 0; i < 2; i++)
		take_numbers(both[i], 0, 8);
	check_result(0, try_to_send(producer, 8, NOTICED));
	for (int i = 0; i < 2; i++) {
		take_numbers(both[i], 8, 1);
		check_result(0, sluice_consumer_close(both[i]));
	}
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_dead_consumer_holds_nobody_back),
		promise(the_dead_do_not_hold_back_lanes_that_came_after_them),
		promise(the_living_see_every_message_while_others_die),
		promise(a_replacement_starts_at_the_oldest_that_is_retained),
		promise(when_everybody_died_the_producer_waits_and_nothing_is_dropped),
		promise(a_producer_that_sleeps_for_room_is_freed_by_a_death),
		promise(what_a_dead_producer_published_reaches_every_consumer),
		promise(expected_consumers_that_died_before_they_were_complete_leave_all_for_later),
	};

	return cmocka_run_group_tests_name("recovery: broadcast", tests, NULL, NULL);
}
