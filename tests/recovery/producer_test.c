/* SPDX-License-Identifier: Apache-2.0 */
/* A producer dies: its reservation never was, what it published is delivered, its lane goes, the stream has not ended. */
#include <errno.h>
#include <string.h>

#include "deaths.h"

#define STREAM (CONSUMER(.flags = SLUICE_END_OF_STREAM, .channel = CHANNEL()))

static struct sluice_consumer *consumer;

static void close_consumer(void)
{
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Waits until the consumer, by looking for messages that do not come, has taken all lanes away. */
static void wait_until_no_lane(void)
{
	const uint64_t end = now_ns() + NOTICED;

	while (look().lanes > 0) {
		check_result(-ETIMEDOUT, nothing_within(consumer, 20 * MILLISECOND));
		check(now_ns() < end);
	}
	check_equal(1, sandbox_objects(NULL));
}

/* Publishes `index` messages, reserves one more, fills it, and stays. */
static void reserve_and_stay(void *shared, unsigned index)
{
	const struct sluice_tensor_spec spec = {.name = "bytes", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {20000}};
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_message *message;

	send_numbers(producer, 0, index);
	check_result(0, sluice_reserve(producer, &spec, 1, PATIENCE, &message));
	memset(sluice_data(message, 0), 0xee, 20000);
	stay(shared);
}

static void what_a_dead_producer_published_is_delivered_and_what_it_reserved_is_not(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	for (unsigned published = 0; published < 4; published++) {
		kill_hard(start_ready(reserve_and_stay, scene, published));
		take_numbers(consumer, 0, published);
		check_result(-EAGAIN, nothing_within(consumer, 0));
		wait_until_no_lane();
	}
	close_consumer();
}

static void a_backlog_of_the_dead_waits_for_a_consumer_and_its_lane_goes_with_it(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	kill_hard(start_ready(reserve_and_stay, scene, 3));
	kill_hard(start_ready(reserve_and_stay, scene, 3));
	check_equal(2, look().lanes);
	check_equal(6, look().waiting);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < 6; i++)
		check(take(consumer) < 3);
	close_consumer();
}

static void a_lane_stays_while_a_message_of_it_is_held(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *message;
	unsigned dead;

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	dead = start_ready(send_and_stay, scene, 2);
	message = hold_number(consumer, 0);
	take_numbers(consumer, 1, 1);
	kill_hard(dead);
	wait_for_dead(1);
	for (int i = 0; i < 50; i++)
		check_result(-ETIMEDOUT, nothing_within(consumer, 20 * MILLISECOND));
	check_equal(1, look().lanes);
	check_equal(0, number_of(message));
	check_result(0, sluice_release(message));
	wait_until_no_lane();
	close_consumer();
}

/* Every message says from which of its lives the producer sent it. */
static void send_of_life(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	send_numbers(producer, 10 * index, 4);
	stay(shared);
}

static void a_restarted_producer_gets_a_lane_of_its_own(void **state)
{
	struct scene *scene = new_scene();
	uint64_t origins[5];
	unsigned seen[5] = {0};

	(void)state;
	for (unsigned life = 0; life < 5; life++)
		kill_hard(start_ready(send_of_life, scene, life));
	check_equal(5, look().lanes);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < 20; i++) {
		const struct sluice_message *message = hold(consumer);
		const int64_t number = number_of(message);
		const unsigned life = (unsigned)(number / 10);

		check(life < 5);
		check_equal(seen[life], number % 10);
		check_equal(seen[life], sluice_sequence(message));
		if (seen[life]++ == 0)
			origins[life] = sluice_origin(message);
		check_equal(origins[life], sluice_origin(message));
		for (unsigned other = 0; other < 5; other++)
			check(other == life || !seen[other] || origins[other] != origins[life]);
		check_result(0, sluice_release(message));
	}
	close_consumer();
}

/* ---- end of stream ---- */

static void close_cleanly(void)
{
	check_result(0, sluice_producer_close(join_producer("tokens", NULL)));
}

static void a_death_is_no_end_of_stream(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	consumer = join_consumer("tokens", STREAM);
	kill_hard(start_ready(send_and_stay, scene, 2));
	take_numbers(consumer, 0, 2);
	check_result(-ETIMEDOUT, nothing_within(consumer, 3 * SECOND));
	check_equal(1, look().dead);
	close_cleanly();
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	close_consumer();
}

static void a_clean_end_beside_a_death_is_no_end_of_stream(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer;
	unsigned dead;

	(void)state;
	consumer = join_consumer("tokens", STREAM);
	producer = join_producer("tokens", NULL);
	dead = start_ready(send_and_stay, scene, 0);
	check_result(0, sluice_producer_close(producer));
	kill_hard(dead);
	check_result(-ETIMEDOUT, nothing_within(consumer, 2 * SECOND));
	/* A slot of the roster that was left cleanly is free beside that of the dead. */
	close_cleanly();
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	close_consumer();
}

static void a_consumer_does_not_take_a_dead_producers_place_in_the_stream(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *other;

	(void)state;
	consumer = join_consumer("tokens", STREAM);
	close_cleanly();
	kill_hard(start_ready(send_and_stay, scene, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, 2 * SECOND));
	other = join_consumer("tokens", STREAM);
	check_result(-EAGAIN, nothing_within(other, 0));
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(0, sluice_consumer_close(other));
	check_result(-EAGAIN, nothing_within(consumer, 0));
	close_cleanly();
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	close_consumer();
}

static void every_death_wants_a_replacement(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead[3];

	(void)state;
	consumer = join_consumer("tokens", STREAM);
	for (int i = 0; i < 3; i++)
		dead[i] = start_ready(send_and_stay, scene, 1);
	for (int i = 0; i < 3; i++)
		kill_hard(dead[i]);
	take_numbers(consumer, 0, 1);
	take_numbers(consumer, 0, 1);
	take_numbers(consumer, 0, 1);
	wait_for_dead(3);
	for (int i = 0; i < 3; i++) {
		check_result(-ETIMEDOUT, nothing_within(consumer, SECOND / 2));
		close_cleanly();
	}
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	close_consumer();
}

static void the_stream_ends_only_when_what_the_dead_left_is_taken(void **state)
{
	struct scene *scene = new_scene();

	(void)state;
	consumer = join_consumer("tokens", STREAM);
	kill_hard(start_ready(send_and_stay, scene, 3));
	close_cleanly();
	take_numbers(consumer, 0, 3);
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	close_consumer();
}

static void receive_to_the_end(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", STREAM);

	(void)index;
	tally_add(&scene->ready);
	check_result(-ENODATA, nothing_within(own, SLUICE_FOREVER));
	check_result(0, sluice_consumer_close(own));
}

/* What another consumer holds may come back: the stream has not ended before it is released, and it does come back. */
static void the_stream_does_not_end_before_a_message_of_the_dead_is_done_with(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	unsigned dead, waiting;

	(void)state;
	send_number(producer, 0);
	dead = start_ready(hold_and_stay, scene, 1);
	check_result(0, sluice_producer_close(producer));
	consumer = join_consumer("tokens", STREAM);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	kill_hard(dead);
	take_again(consumer, 0, 2);
	waiting = start_ready(receive_to_the_end, scene, 0);
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	finish(waiting);
	close_consumer();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(what_a_dead_producer_published_is_delivered_and_what_it_reserved_is_not),
		promise(a_backlog_of_the_dead_waits_for_a_consumer_and_its_lane_goes_with_it),
		promise(a_lane_stays_while_a_message_of_it_is_held),
		promise(a_restarted_producer_gets_a_lane_of_its_own),
		promise(a_death_is_no_end_of_stream),
		promise(a_clean_end_beside_a_death_is_no_end_of_stream),
		promise(a_consumer_does_not_take_a_dead_producers_place_in_the_stream),
		promise(every_death_wants_a_replacement),
		promise(the_stream_ends_only_when_what_the_dead_left_is_taken),
		promise(the_stream_does_not_end_before_a_message_of_the_dead_is_done_with),
	};

	return cmocka_run_group_tests_name("recovery: producer", tests, NULL, NULL);
}
