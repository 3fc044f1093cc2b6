/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever asks for it is told that the last counterpart is gone, by death or by leaving, while it waits. */
#include <errno.h>
#include <string.h>

#include "deaths.h"

static struct sluice_producer *open_full(uint32_t flags, int64_t spin_ns)
{
	struct sluice_producer *producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2), .flags = flags, .spin_ns = spin_ns));

	send_numbers(producer, 0, 2);
	return producer;
}

static struct sluice_consumer *open_consumer(uint32_t flags, int64_t spin_ns)
{
	return join_consumer("tokens", CONSUMER(.channel = CHANNEL(.depth = 2), .flags = flags, .spin_ns = spin_ns));
}

/* Waits for room in a full lane, `index` saying whether without sleeping; tells the result. */
static void produce_and_tell(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *producer = open_full(SLUICE_REPORT_GONE, index ? SLUICE_SPIN_ONLY : SLUICE_NO_SPIN);

	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	tally_add(&scene->ready);
	scene->result = try_to_send(producer, 2, SLUICE_FOREVER);
	tally_add(&scene->done);
	check_result(0, sluice_producer_close(producer));
}

static void consume_and_tell(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *consumer = open_consumer(SLUICE_REPORT_GONE, index ? SLUICE_SPIN_ONLY : SLUICE_NO_SPIN);

	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	tally_add(&scene->ready);
	scene->result = nothing_within(consumer, SLUICE_FOREVER);
	tally_add(&scene->done);
	check_result(0, sluice_consumer_close(consumer));
}

/* A counterpart that does nothing until it is told to leave, or is killed. */
static void be_a_consumer(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *consumer = open_consumer(0, 0);

	(void)index;
	tally_add(&scene->ready);
	tally_wait(&scene->go, 2);
	check_result(0, sluice_consumer_close(consumer));
}

static void be_a_producer(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2)));

	(void)index;
	tally_add(&scene->ready);
	tally_wait(&scene->go, 2);
	check_result(0, sluice_producer_close(producer));
}

/* One waits, the last of two counterparts goes: by death, or by leaving. */
static void tell_when_gone(process_body waiter, process_body counterpart, unsigned spin, bool by_death)
{
	struct scene *scene = new_scene();
	unsigned waiting = start_ready(waiter, scene, spin);
	unsigned first = start_ready(counterpart, scene, 0);
	unsigned last = start_ready(counterpart, scene, 0);
	uint64_t begin_ns;

	tally_add(&scene->go);
	tally_wait(&scene->ready, 4);
	kill_hard(first);
	wait_for_dead(1);
	check_equal(0, tally_read(&scene->done));
	begin_ns = now_ns();
	if (by_death) {
		kill_hard(last);
	} else {
		tally_add(&scene->go);
		finish(last);
	}
	check(tally_wait_for(&scene->done, 1, NOTICED));
	check(now_ns() - begin_ns < NOTICED);
	check_result(-EPIPE, scene->result);
	finish(waiting);
}

static void clear_if_left(void)
{
	if (sandbox_objects(NULL) > 0)
		clear_away();
}

static void a_producer_is_told_that_the_last_consumer_died(void **state)
{
	(void)state;
	tell_when_gone(produce_and_tell, be_a_consumer, 0, true);
	clear_if_left();
	tell_when_gone(produce_and_tell, be_a_consumer, 1, true);
	clear_if_left();
}

static void a_producer_is_told_that_the_last_consumer_left(void **state)
{
	(void)state;
	tell_when_gone(produce_and_tell, be_a_consumer, 0, false);
	clear_if_left();
	tell_when_gone(produce_and_tell, be_a_consumer, 1, false);
	clear_if_left();
}

static void a_consumer_is_told_that_the_last_producer_died(void **state)
{
	(void)state;
	tell_when_gone(consume_and_tell, be_a_producer, 0, true);
	tell_when_gone(consume_and_tell, be_a_producer, 1, true);
	clear_if_left();
}

static void a_consumer_is_told_that_the_last_producer_left(void **state)
{
	(void)state;
	tell_when_gone(consume_and_tell, be_a_producer, 0, false);
	tell_when_gone(consume_and_tell, be_a_producer, 1, false);
	clear_if_left();
}

static void nobody_is_gone_who_was_never_there(void **state)
{
	struct sluice_producer *producer = open_full(SLUICE_REPORT_GONE, 0);
	struct sluice_consumer *consumer;

	(void)state;
	check_result(-EAGAIN, try_to_send(producer, 2, 0));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, SECOND / 2));
	check_result(0, sluice_producer_close(producer));
	clear_away();
	consumer = open_consumer(SLUICE_REPORT_GONE, 0);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, SECOND / 2));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Those who went before one joined are not one's counterparts. */
static void those_who_died_before_one_came_are_not_reported(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *consumer;

	(void)state;
	kill_hard(start_ready(be_a_producer, scene, 0));
	consumer = open_consumer(SLUICE_REPORT_GONE, 0);
	check_result(-ETIMEDOUT, nothing_within(consumer, SECOND / 2));
	kill_hard(start_ready(be_a_producer, scene, 0));
	check_result(-EPIPE, nothing_within(consumer, PATIENCE));
	check_result(0, sluice_consumer_close(consumer));
	clear_if_left();
}

static void who_does_not_ask_waits_for_the_next_counterpart(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = open_full(0, 0);
	struct sluice_consumer *consumer;

	(void)state;
	kill_hard(start_ready(hold_and_stay, scene, 2));
	check_result(-ETIMEDOUT, try_to_send(producer, 2, 2 * SECOND));
	consumer = open_consumer(0, 0);
	take_again(consumer, 0, 2);
	take_again(consumer, 1, 2);
	check_result(0, sluice_producer_close(producer));
	kill_hard(start_ready(be_a_producer, scene, 0));
	check_result(-ETIMEDOUT, nothing_within(consumer, 2 * SECOND));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* What there is comes first: nothing is held back from a consumer whose producers are gone. */
static void what_the_gone_left_is_received_before_it_is_told(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *consumer;
	unsigned dead;

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_REPORT_GONE));
	dead = start_ready(send_and_stay, scene, 3);
	kill_hard(dead);
	take_numbers(consumer, 0, 3);
	check_result(-EPIPE, nothing_within(consumer, PATIENCE));
	check_result(-EPIPE, nothing_within(consumer, 0));
	dead = start_ready(send_and_stay, scene, 1);
	take_numbers(consumer, 0, 1);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	kill_hard(dead);
	check_result(-EPIPE, nothing_within(consumer, PATIENCE));
	check_result(0, sluice_consumer_close(consumer));
	clear_if_left();
}

static void a_new_counterpart_is_waited_for_again(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = open_full(SLUICE_REPORT_GONE, 0);
	struct sluice_consumer *consumer;

	(void)state;
	kill_hard(start_ready(be_a_consumer, scene, 0));
	check_result(-EPIPE, try_to_send(producer, 2, PATIENCE));
	consumer = open_consumer(0, 0);
	check_result(-EAGAIN, try_to_send(producer, 2, 0));
	take_numbers(consumer, 0, 2);
	check_result(0, try_to_send(producer, 2, 0));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, try_to_send(producer, 3, 0)); /* there is room: nothing to wait for, nothing to tell */
	check_result(-EPIPE, try_to_send(producer, 4, PATIENCE));
	check_result(0, sluice_producer_close(producer));
	clear_away();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_producer_is_told_that_the_last_consumer_died),
		promise(a_producer_is_told_that_the_last_consumer_left),
		promise(a_consumer_is_told_that_the_last_producer_died),
		promise(a_consumer_is_told_that_the_last_producer_left),
		promise(nobody_is_gone_who_was_never_there),
		promise(those_who_died_before_one_came_are_not_reported),
		promise(who_does_not_ask_waits_for_the_next_counterpart),
		promise(what_the_gone_left_is_received_before_it_is_told),
		promise(a_new_counterpart_is_waited_for_again),
	};

	return cmocka_run_group_tests_name("recovery: gone", tests, NULL, NULL);
}
