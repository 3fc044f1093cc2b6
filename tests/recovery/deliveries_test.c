/* SPDX-License-Identifier: Apache-2.0 */
/* A message that kills its consumers is set aside in the end, and told; one held for too long goes to another. */
#include <errno.h>
#include <string.h>

#include "../support/process.h"
#include "deaths.h"

#define TAKE_BACK (200 * MILLISECOND)

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_producer(uint32_t max_deliveries)
{
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.max_deliveries = max_deliveries)));
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Receives the message with correlation id 77, in its `index`-th delivery, and stays with it. */
static void hold_the_poisoned(void *shared, unsigned index)
{
	const struct sluice_message *message = hold(join_consumer("tokens", NULL));

	check_equal(77, sluice_correlation_id(message));
	check_equal(index, sluice_delivery_count(message));
	stay(shared);
}

/* Lets `deaths` consumers die with the message; returns the pid of the last. */
static uint32_t die_with_it(unsigned deaths)
{
	struct scene *scene = new_scene();
	uint32_t pid = 0;

	for (unsigned i = 1; i <= deaths; i++) {
		unsigned process;

		if (i % 100 == 0)
			process_reset();
		process = start_ready(hold_the_poisoned, scene, i <= 63 ? i : 63 - (i - 63) % 2);
		pid = (uint32_t)process_pid(process);
		kill_hard(process);
	}
	return pid;
}

static void check_record(uint32_t deliveries, uint32_t killer)
{
	struct sluice_channel_stat *stat;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(1, stat->set_aside_messages);
	check_equal(1, stat->aside_count);
	check_equal(77, stat->aside[0].correlation_id);
	check_equal(0, stat->aside[0].sequence);
	check_equal(stat->lanes[0].slot, stat->aside[0].lane_slot);
	check_equal(stat->lanes[0].incarnation, stat->aside[0].lane_incarnation);
	check_equal(killer, stat->aside[0].killer_pid);
	check_equal(deliveries, stat->aside[0].deliveries);
	check(stat->aside[0].noticed_ns > stat->members[0].opened_ns);
	sluice_channel_stat_free(stat);
}

static void set_aside_after(uint32_t option, unsigned deaths)
{
	uint32_t killer;

	open_producer(option);
	send_bytes(producer, 77, 20000);
	send_number(producer, 1);
	killer = die_with_it(deaths);
	consumer = join_consumer("tokens", NULL);
	check_record(deaths, killer);
	take_again(consumer, 1, 1);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_full_capacity(producer, consumer, 8);
	for (int i = 0; i < 3; i++) { /* as for its bytes */
		send_bytes(producer, 2, 20000);
		send_bytes(producer, 3, 20000);
		check_result(0, sluice_release(hold(consumer)));
		check_result(0, sluice_release(hold(consumer)));
	}
	check_record(deaths, killer);
	close_both();
}

static void by_default_the_fifth_death_sets_a_message_aside(void **state)
{
	(void)state;
	set_aside_after(0, 5);
}

static void the_number_of_deliveries_is_an_option(void **state)
{
	(void)state;
	set_aside_after(1, 1);
	set_aside_after(2, 2);
	set_aside_after(63, 63);
}

static void an_unlimited_message_is_never_given_up(void **state)
{
	(void)state;
	open_producer(SLUICE_UNLIMITED);
	send_bytes(producer, 77, 100);
	die_with_it(70);
	consumer = join_consumer("tokens", NULL);
	check_equal(0, look().set_aside);
	check_result(0, sluice_release(hold(consumer)));
	close_both();
}

/* Holds the next message, gives it back by a clean close. */
static void hold_and_leave(void *shared, unsigned index)
{
	struct sluice_consumer *own = join_consumer("tokens", NULL);
	const struct sluice_message *message = hold(own);

	(void)shared;
	check_equal(77, sluice_correlation_id(message));
	check_equal(index, sluice_delivery_count(message));
	check_result(0, sluice_consumer_close(own));
}

static void a_clean_close_is_no_delivery(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *messages[2];

	(void)state;
	open_producer(3);
	send_bytes(producer, 77, 100);
	send_bytes(producer, 78, 100);
	for (unsigned deaths = 0; deaths < 3; deaths++) {
		for (int i = 0; i < 4; i++)
			finish(process_start(hold_and_leave, scene, deaths + 1));
		if (deaths < 2)
			kill_hard(start_ready(hold_the_poisoned, scene, deaths + 1));
	}
	check_equal(0, look().set_aside);
	consumer = join_consumer("tokens", NULL);
	check_result(1, sluice_receive_batch(consumer, 2, 0, 0, PATIENCE, messages));
	check_equal(3, sluice_delivery_count(messages[0]));
	check_result(0, sluice_release(messages[0]));
	check_result(0, sluice_release(hold(consumer)));
	close_both();
}

static void the_waiting_producer_itself_sets_aside_what_fills_its_lane(void **state)
{
	struct scene *scene = new_scene();
	unsigned dead;

	(void)state;
	open_producer(1);
	send_numbers(producer, 0, 8);
	dead = start_ready(hold_and_stay, scene, 8);
	check_result(-EAGAIN, try_to_send(producer, 8, 0));
	kill_hard(dead);
	check_result(0, try_to_send(producer, 8, NOTICED));
	check_equal(8, look().set_aside);
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 8, 1);
	close_both();
}

static void the_last_records_are_kept(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_channel_stat *stat;
	uint64_t seen = 0;

	(void)state;
	open_producer(1);
	for (unsigned i = 0; i < 5; i++) {
		send_numbers(producer, 0, 8);
		kill_hard(start_ready(hold_and_stay, scene, 8));
		consumer = join_consumer("tokens", NULL);
		check_result(-EAGAIN, nothing_within(consumer, 0));
		check_result(0, sluice_consumer_close(consumer));
	}
	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(40, stat->set_aside_messages);
	check_equal(32, stat->aside_count);
	for (uint32_t i = 0; i < stat->aside_count; i++) {
		check(stat->aside[i].sequence >= 8 && stat->aside[i].sequence < 40);
		seen |= UINT64_C(1) << stat->aside[i].sequence;
	}
	check_equal(UINT64_C(0xffffffff00), seen);
	sluice_channel_stat_free(stat);
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

/* ---- held for too long ---- */

/* Holds one message until it is told to go on; what it then learns of its release is the result. */
static void hold_for_too_long(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);
	const struct sluice_message *message = hold_number(own, index);

	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	scene->result = sluice_release(message);
	tally_add(&scene->done);
	check_result(0, sluice_consumer_close(own));
}

static void open_with_take_back(uint32_t max_deliveries)
{
	producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.take_back_ns = TAKE_BACK, .max_deliveries = max_deliveries)));
}

static void a_message_held_for_too_long_goes_to_another_and_its_holder_learns_it(void **state)
{
	struct scene *scene = new_scene();
	const struct sluice_message *message;
	unsigned slow;

	(void)state;
	open_with_take_back(0);
	send_numbers(producer, 0, 2);
	slow = start_ready(hold_for_too_long, scene, 0);
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 1, 1);
	message = hold_number(consumer, 0);
	check_equal(2, sluice_delivery_count(message));
	tally_add(&scene->go);
	tally_wait(&scene->done, 1);
	check_result(-ESTALE, scene->result);
	finish(slow);
	check_result(0, sluice_release(message));
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void what_is_released_in_time_is_not_taken_back(void **state)
{
	struct scene *scene = new_scene();
	unsigned quick;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.take_back_ns = 1000 * SECOND)));
	send_numbers(producer, 0, 1);
	quick = start_ready(hold_for_too_long, scene, 0);
	consumer = join_consumer("tokens", NULL);
	check_result(-ETIMEDOUT, nothing_within(consumer, 2 * SECOND));
	tally_add(&scene->go);
	tally_wait(&scene->done, 1);
	check_result(0, scene->result);
	finish(quick);
	close_both();
}

static void a_holder_can_get_its_own_message_again(void **state)
{
	const struct sluice_message *first, *second;

	(void)state;
	open_with_take_back(0);
	send_number(producer, 0);
	consumer = join_consumer("tokens", NULL);
	first = hold_number(consumer, 0);
	second = hold_number(consumer, 0);
	check_equal(2, sluice_delivery_count(second));
	check_result(-ESTALE, sluice_release(first));
	check_result(0, sluice_release(second));
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void a_producer_short_of_room_takes_back_too(void **state)
{
	const struct sluice_message *messages[8];

	(void)state;
	open_with_take_back(1);
	send_numbers(producer, 0, 8);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < 8; i++)
		messages[i] = hold_number(consumer, i);
	check_result(
		0, try_to_send(producer, 8, NOTICED)); /* one delivery is the limit: set aside, and there is room */
	check_equal(8, look().set_aside);
	for (unsigned i = 0; i < 8; i++)
		check_result(-ESTALE, sluice_release(messages[i]));
	take_again(consumer, 8, 1);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void a_stopped_holder_loses_it_as_well(void **state)
{
	struct scene *scene = new_scene();
	unsigned slow;

	(void)state;
	open_with_take_back(0);
	send_number(producer, 0);
	slow = start_ready(hold_for_too_long, scene, 0);
	stop(slow);
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 0, 2);
	check_full_capacity(producer, consumer, 8);
	tally_add(&scene->go);
	resume(slow);
	tally_wait(&scene->done, 1);
	check_result(-ESTALE, scene->result);
	finish(slow);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(by_default_the_fifth_death_sets_a_message_aside),
		promise(the_number_of_deliveries_is_an_option),
		promise(an_unlimited_message_is_never_given_up),
		promise(a_clean_close_is_no_delivery),
		promise(the_waiting_producer_itself_sets_aside_what_fills_its_lane),
		promise(the_last_records_are_kept),
		promise(a_message_held_for_too_long_goes_to_another_and_its_holder_learns_it),
		promise(what_is_released_in_time_is_not_taken_back),
		promise(a_holder_can_get_its_own_message_again),
		promise(a_producer_short_of_room_takes_back_too),
		promise(a_stopped_holder_loses_it_as_well),
	};

	return cmocka_run_group_tests_name("recovery: deliveries", tests, NULL, NULL);
}
