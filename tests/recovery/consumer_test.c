/* SPDX-License-Identifier: Apache-2.0 */
/* A consumer of a queue dies: what it held reaches another, and nobody else notices more than that. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "deaths.h"

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_producer(void)
{
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_dead_consumers_messages_reach_another_with_a_raised_count(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *held[5];
	uint64_t begin_ns;
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 8);
	dead = start_ready(hold_and_stay, scene, 3);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < 5; i++) {
		held[i] = hold_number(consumer, 3 + i);
		check_equal(1, sluice_delivery_count(held[i]));
	}
	kill_hard(dead);
	begin_ns = now_ns();
	for (int i = 0; i < 3; i++)
		take_again(consumer, i, 2);
	check(now_ns() - begin_ns < NOTICED);
	for (unsigned i = 0; i < 5; i++) {
		check_equal(3 + i, number_of(held[i]));
		check_result(0, sluice_release(held[i]));
	}
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void what_was_delivered_before_comes_alone_and_its_neighbours_together(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *messages[8];
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 8);
	dead = start_ready(hold_and_stay, scene, 3);
	kill_hard(dead);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < 3; i++) {
		check_result(1, sluice_receive_batch(consumer, 8, 0, 0, PATIENCE, messages));
		check_equal(i, number_of(messages[0]));
		check_equal(2, sluice_delivery_count(messages[0]));
		check_result(0, sluice_release(messages[0]));
	}
	check_result(5, sluice_receive_batch(consumer, 8, 0, 0, PATIENCE, messages));
	for (unsigned i = 0; i < 5; i++) {
		check_equal(3 + i, number_of(messages[i]));
		check_equal(1, sluice_delivery_count(messages[i]));
	}
	check_result(0, sluice_release_batch(messages, 5));
	close_both();
}

/* With lanes that hold returned messages and lanes that hold fresh ones, wherever the turn is when a batch begins. */
static void a_batch_that_has_begun_stops_before_what_was_delivered_before(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *messages[24];
	struct sluice_producer *other;
	unsigned dead, seen = 0, again = 0;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 8);
	dead = start_ready(hold_and_stay, scene, 8);
	kill_hard(dead);
	consumer = join_consumer("tokens", NULL);
	other = join_producer("tokens", NULL);
	send_numbers(other, 8, 8);
	while (seen < 16) {
		int count = sluice_receive_batch(consumer, 24, 0, 0, PATIENCE, messages);

		check(count > 0);
		for (int i = 0; i < count; i++) {
			check_equal(number_of(messages[i]) < 8 ? 2 : 1, sluice_delivery_count(messages[i]));
			check(count == 1 || number_of(messages[i]) >= 8);
			again += sluice_delivery_count(messages[i]) == 2;
		}
		seen += (unsigned)count;
		check_result(0, sluice_release_batch(messages, (size_t)count));
	}
	check_equal(16, seen);
	check_equal(8, again);
	check_result(0, sluice_producer_close(other));
	close_both();
}

static void messages_of_the_dead_stay_for_the_next_consumer_that_opens(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 4);
	dead = start_ready(hold_and_stay, scene, 3);
	kill_hard(dead);
	consumer = join_consumer("tokens", NULL);
	for (int i = 0; i < 4; i++) {
		const struct sluice_message *message = NULL;

		check_result(0, sluice_receive(consumer, 0, &message));
		check_equal(i, number_of(message));
		check_equal(i < 3 ? 2 : 1, sluice_delivery_count(message));
		check_result(0, sluice_release(message));
	}
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void receive_one_and_leave(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));

	take_again(own, index, 2);
	tally_add(&scene->done);
	check_result(0, sluice_consumer_close(own));
}

static void a_consumer_that_sleeps_gets_them_without_being_told(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead, waiting;

	(void)state;
	open_producer();
	send_number(producer, 5);
	dead = start_ready(hold_and_stay, scene, 1);
	waiting = process_start(receive_one_and_leave, scene, 5);
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	kill_hard(dead);
	check(tally_wait_for(&scene->done, 1, NOTICED));
	finish(waiting);
	consumer = join_consumer("tokens", NULL);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

/* Sends 100, 101 ... as fast as they are taken. */
static void send_without_end(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)index;
	for (int64_t number = 100; !tally_read(&scene->done); number++)
		send_number(own, number);
	check_result(0, sluice_producer_close(own));
}

static void a_consumer_that_is_never_idle_gets_them_too(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead, sender;
	uint64_t begin_ns;
	int64_t number = 100;

	(void)state;
	open_producer();
	send_number(producer, 5);
	dead = start_ready(hold_and_stay, scene, 1);
	consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_SPIN_ONLY));
	sender = process_start(send_without_end, scene, 0);
	check_equal(number++, take(consumer));
	kill_hard(dead);
	begin_ns = now_ns();
	for (bool found = false; !found;) {
		const struct sluice_message *message = hold(consumer);

		found = number_of(message) == 5;
		check_equal(found ? 2 : 1, sluice_delivery_count(message));
		check_equal(found ? 5 : number++, number_of(message));
		check_result(0, sluice_release(message));
		check(now_ns() - begin_ns < NOTICED);
	}
	tally_add(&scene->done);
	for (const struct sluice_message *message; sluice_receive(consumer, SECOND / 5, &message) == 0;)
		check_result(0, sluice_release(message));
	finish(sender);
	close_both();
}

static void a_consumer_that_is_never_idle_and_takes_batches_gets_them_too(void **state)
{
	const struct timespec work = {.tv_nsec = MILLISECOND};
	struct scene *scene = new_scene();
	const struct sluice_message *messages[8];
	unsigned dead;
	uint64_t begin_ns;
	int64_t number = 100;
	bool found = false;

	(void)state;
	/* So deep that it is never full: a producer that waits for room because of the dead looks after them itself. */
	producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.depth = 1 << 17), .sample_rate_hz = SLUICE_STAMP_NONE));
	send_number(producer, 5);
	dead = start_ready(hold_and_stay, scene, 1);
	consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_SPIN_ONLY));
	send_numbers(producer, number, 64);
	/* Its first look, which also looks after others, is over before anybody dies. */
	check_result(8, sluice_receive_batch(consumer, 8, 0, 0, 0, messages));
	check_result(0, sluice_release_batch(messages, 8));
	kill_hard(dead);
	begin_ns = now_ns();
	while (!found) {
		int count = sluice_receive_batch(consumer, 8, 0, 0, 0, messages);

		check(count > 0);
		for (int i = 0; i < count; i++)
			found |= number_of(messages[i]) == 5 && sluice_delivery_count(messages[i]) == 2;
		check_result(0, sluice_release_batch(messages, (size_t)count));
		send_numbers(producer, 64 + number, 8);
		number += 8;
		check(now_ns() - begin_ns < NOTICED);
		nanosleep(&work, NULL);
	}
	while (sluice_receive_batch(consumer, 1, 0, 0, 0, messages) == 1)
		check_result(0, sluice_release(messages[0]));
	close_both();
}

static void send_ninth(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));

	(void)index;
	send_numbers(own, 0, 8);
	tally_add(&scene->ready);
	send_number(own, 8);
	tally_add(&scene->done);
	check_result(0, sluice_producer_close(own));
}

static void a_producer_that_waits_for_room_goes_on_when_another_took_what_the_dead_held(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead, sender;

	(void)state;
	sender = start_ready(send_ninth, scene, 0);
	dead = start_ready(hold_and_stay, scene, 8);
	wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
	consumer = join_consumer("tokens", NULL);
	kill_hard(dead);
	for (int i = 0; i < 8; i++)
		take_again(consumer, i, 2);
	take_again(consumer, 8, 1);
	check(tally_wait_for(&scene->done, 1, NOTICED));
	finish(sender);
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void fill_with_bytes(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		send_bytes(producer, i, 16000);
}

static void payload_memory_that_the_dead_held_is_whole_again(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_tensor_spec spec = {.name = "bytes", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {16000}};
	struct sluice_message *reservation;

	(void)state;
	open_producer();
	for (int round = 0; round < 3; round++) {
		fill_with_bytes(4); /* of 64 KiB */
		check_result(-EAGAIN, sluice_reserve(producer, &spec, 1, 0, &reservation));
		kill_hard(start_ready(hold_and_stay, scene, 1 + (unsigned)round));
		consumer = join_consumer("tokens", NULL);
		for (unsigned i = 0; i < 4; i++) {
			const struct sluice_message *message = hold(consumer);
			const unsigned char *data = sluice_tensor(message, 0)->data;

			check_equal(i, sluice_correlation_id(message));
			check(data[0] == i && data[15999] == i);
			check_result(0, sluice_release(message));
		}
		check_result(0, sluice_consumer_close(consumer));
	}
	check_result(0, sluice_producer_close(producer));
}

static void take_and_tell(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);

	(void)index;
	hold_number(own, 0);
	check_result(0, sluice_release(hold_number(own, 1)));
	tally_add(&scene->ready);
	hold_number(own, 2);
	stay(scene);
}

static void what_was_released_before_a_death_does_not_come_again(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	open_producer();
	send_numbers(producer, 0, 3);
	dead = start_ready(take_and_tell, scene, 0);
	tally_wait(&scene->ready, 2);
	kill_hard(dead);
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 0, 2);
	take_again(consumer, 2, 2);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	close_both();
}

static void an_ordered_queue_hands_out_what_the_dead_held_as_well(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.flags = SLUICE_ORDERED)));
	send_numbers(producer, 0, 5);
	dead = start_ready(hold_and_stay, scene, 3);
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 3, 1);
	kill_hard(dead);
	wait_for_dead(1);
	take_again(consumer, 4, 1);
	for (int i = 0; i < 3; i++)
		take_again(consumer, i, 2);
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_dead_consumers_messages_reach_another_with_a_raised_count),
		promise(what_was_delivered_before_comes_alone_and_its_neighbours_together),
		promise(a_batch_that_has_begun_stops_before_what_was_delivered_before),
		promise(messages_of_the_dead_stay_for_the_next_consumer_that_opens),
		promise(a_consumer_that_sleeps_gets_them_without_being_told),
		promise(a_consumer_that_is_never_idle_gets_them_too),
		promise(a_consumer_that_is_never_idle_and_takes_batches_gets_them_too),
		promise(a_producer_that_waits_for_room_goes_on_when_another_took_what_the_dead_held),
		promise(payload_memory_that_the_dead_held_is_whole_again),
		promise(what_was_released_before_a_death_does_not_come_again),
		promise(an_ordered_queue_hands_out_what_the_dead_held_as_well),
	};

	return cmocka_run_group_tests_name("recovery: consumer", tests, NULL, NULL);
}
