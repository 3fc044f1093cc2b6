/* SPDX-License-Identifier: Apache-2.0 */
/* Those who recover: several at once, stopped or killed in the middle of it, and never from somebody who lives. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "../support/process.h"
#include "deaths.h"

#define DEPTH 512
#define DEEP  CHANNEL(.depth = DEPTH, .max_deliveries = SLUICE_UNLIMITED)

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Work of some length that no clock measures. */
static void work(uint64_t amount)
{
	volatile uint64_t sum = 0;

	for (uint64_t i = 0; i < amount; i++)
		sum += i;
	(void)sum;
}

/* Messages that several processes receive, and how often each did. */
struct counts {
	struct scene scene;
	_Atomic uint32_t seen[DEPTH];
	_Atomic uint32_t total;
};

/* Receives until it is told that there is no more; releases at once; every message is in its second delivery. */
static void count_what_comes(void *shared, unsigned index)
{
	struct counts *counts = shared;
	struct sluice_consumer *own = join_consumer("tokens", CONSUMER(.spin_ns = index % 2 ? 0 : SLUICE_NO_SPIN));

	tally_add(&counts->scene.ready);
	while (!tally_read(&counts->scene.go)) {
		const struct sluice_message *message;

		if (sluice_receive(own, SECOND / 10, &message))
			continue;
		check_equal(2, sluice_delivery_count(message));
		counts->seen[number_of(message)]++;
		counts->total++;
		check_result(0, sluice_release(message));
		tally_add(&counts->scene.done);
	}
	check_result(0, sluice_consumer_close(own));
}

static void many_who_notice_at_once_give_every_message_back_once(void **state)
{
	struct counts *counts = shared_memory(sizeof *counts);
	unsigned waiting[6], dead;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = DEEP));
	send_numbers(producer, 0, DEPTH);
	dead = start_ready(hold_and_stay, &counts->scene, DEPTH);
	for (unsigned i = 0; i < 6; i++)
		waiting[i] = start_ready(count_what_comes, &counts->scene, i);
	kill_hard(dead);
	tally_wait(&counts->scene.done, DEPTH);
	tally_add(&counts->scene.go);
	for (unsigned i = 0; i < 6; i++)
		finish(waiting[i]);
	check_equal(DEPTH, counts->total);
	for (unsigned i = 0; i < DEPTH; i++)
		check_equal(1, counts->seen[i]);
	consumer = join_consumer("tokens", NULL);
	check_full_capacity(producer, consumer, DEPTH);
	close_both();
}

/* A producer without room notices the dead; several of them do at once. */
static void wait_for_room(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_SPIN_ONLY));

	send_numbers(own, 0, 8);
	tally_add(&scene->ready);
	for (unsigned round = 1; round <= index; round++) {
		send_numbers(own, 0, 8); /* each round the whole lane is set aside */
		tally_add(&scene->done);
	}
	check_result(0, sluice_producer_close(own));
}

static void many_who_notice_at_once_set_each_message_aside_once(void **state)
{
	struct scene *scene = new_scene();
	const unsigned rounds = (unsigned)scaled(20) + 1, producers = 4;
	unsigned waiting[4];

	(void)state;
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.max_deliveries = 1)));
	for (unsigned i = 0; i < producers; i++)
		waiting[i] = start_ready(wait_for_room, scene, rounds);
	check_result(0, sluice_consumer_close(consumer));
	for (unsigned round = 1; round <= rounds; round++) {
		kill_hard(start_ready(hold_and_stay, scene, 8 * producers));
		tally_wait(&scene->done, producers * round);
		check_equal(8 * producers * round, look().set_aside);
	}
	for (unsigned i = 0; i < producers; i++)
		finish(waiting[i]);
	clear_away();
}

/* Opens and closes: recovers before it has joined. */
static void open_and_close(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own;

	(void)index;
	tally_add(&scene->ready);
	own = join_consumer("tokens", CONSUMER(.channel = DEEP));
	check_result(0, sluice_consumer_close(own));
}

static void take_all_again(void)
{
	for (int i = 0; i < DEPTH; i++)
		take_again(consumer, i, 2);
	check_result(-EAGAIN, nothing_within(consumer, 0));
}

static void what_a_recoverer_killed_in_the_middle_left_undone_is_done_by_the_next(void **state)
{
	struct scene *scene = new_scene();
	uint64_t random = 5;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = DEEP));
	for (unsigned round = 0; round < scaled(60); round++) {
		unsigned recoverer;

		process_reset();
		send_numbers(producer, 0, DEPTH);
		kill_hard(start_ready(hold_and_stay, scene, DEPTH));
		recoverer = start_ready(open_and_close, scene, 0);
		work(random_next(&random) % 300000);
		kill(process_pid(recoverer), SIGKILL);
		process_status(recoverer);
		consumer = join_consumer("tokens", NULL);
		take_all_again();
		check_result(0, sluice_consumer_close(consumer));
	}
	consumer = join_consumer("tokens", NULL);
	check_full_capacity(producer, consumer, DEPTH);
	close_both();
}

static void a_waiting_consumer_finishes_what_a_killed_recoverer_began(void **state)
{
	struct scene *scene = new_scene();
	uint64_t random = 6;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = DEEP));
	consumer = join_consumer("tokens", NULL);
	for (unsigned round = 0; round < scaled(20); round++) {
		unsigned recoverer;

		process_reset();
		send_numbers(producer, 0, DEPTH);
		kill_hard(start_ready(hold_and_stay, scene, DEPTH));
		recoverer = start_ready(open_and_close, scene, 0);
		work(random_next(&random) % 300000);
		kill(process_pid(recoverer), SIGKILL);
		process_status(recoverer);
		take_all_again();
	}
	check_full_capacity(producer, consumer, DEPTH);
	close_both();
}

static void a_stopped_recoverer_holds_nobody_up_and_spoils_nothing_later(void **state)
{
	struct scene *scene = new_scene();
	uint64_t random = 7;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = DEEP));
	consumer = join_consumer("tokens", NULL);
	for (unsigned round = 0; round < scaled(20); round++) {
		unsigned recoverer;

		process_reset();
		send_numbers(producer, 0, DEPTH);
		kill_hard(start_ready(hold_and_stay, scene, DEPTH));
		recoverer = start_ready(open_and_close, scene, 0);
		work(random_next(&random) % 300000);
		kill(process_pid(recoverer), SIGSTOP);
		take_all_again();
		check_full_capacity(producer, consumer, DEPTH); /* more than a lap meanwhile */
		send_numbers(producer, 0, DEPTH / 2);
		for (unsigned i = 0; i < DEPTH / 2; i++)
			take_again(consumer, i, 1);
		kill(process_pid(recoverer), SIGCONT);
		finish(recoverer);
		check_full_capacity(producer, consumer, DEPTH);
	}
	close_both();
}

/* ---- stopped, not dead ---- */

static void hold_three_until_told(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);
	const struct sluice_message *held[3];

	(void)index;
	for (unsigned i = 0; i < 3; i++)
		held[i] = hold_number(own, i);
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	for (unsigned i = 0; i < 3; i++) {
		check_equal(i, number_of(held[i]));
		check_result(0, sluice_release(held[i]));
	}
	take_numbers(own, 3, 1);
	check_result(0, sluice_consumer_close(own));
}

static void a_stopped_consumer_is_not_dead_and_goes_on(void **state)
{
	struct scene *scene = new_scene();
	unsigned stopped;

	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_numbers(producer, 0, 3);
	stopped = start_ready(hold_three_until_told, scene, 0);
	consumer = join_consumer("tokens", NULL);
	stop(stopped);
	check_result(-ETIMEDOUT, nothing_within(consumer, 5 * SECOND / 2));
	check_equal(0, look().dead);
	check_equal(3, look().alive);
	check_equal(3, look().held);
	check_result(0, sluice_consumer_close(consumer));
	send_number(producer, 3);
	tally_add(&scene->go);
	resume(stopped);
	finish(stopped);
	consumer = join_consumer("tokens", NULL);
	check_full_capacity(producer, consumer, 8);
	close_both();
}

static void send_until_told(void *shared, unsigned index)
{
	const struct sluice_tensor_spec spec = {.name = "number", .dtype = SLUICE_INT64};
	struct scene *scene = shared;
	struct sluice_producer *own = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_message *message;
	int64_t number = index;

	check_result(0, sluice_reserve(own, &spec, 1, PATIENCE, &message));
	memcpy(sluice_data(message, 0), &number, sizeof number);
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	check_result(0, sluice_publish(message));
	send_number(own, index + 1);
	check_result(0, sluice_producer_close(own));
}

static void a_stopped_producer_is_not_gone_and_publishes_when_it_goes_on(void **state)
{
	struct scene *scene = new_scene();
	unsigned stopped;

	(void)state;
	consumer = join_consumer(
		"tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_REPORT_GONE | SLUICE_END_OF_STREAM));
	stopped = start_ready(send_until_told, scene, 40);
	stop(stopped);
	check_result(-ETIMEDOUT, nothing_within(consumer, 5 * SECOND / 2));
	check_equal(1, look().lanes);
	check_equal(0, look().dead);
	tally_add(&scene->go);
	resume(stopped);
	take_numbers(consumer, 40, 2);
	finish(stopped);
	check_result(-ENODATA, nothing_within(consumer, PATIENCE));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(many_who_notice_at_once_give_every_message_back_once),
		promise(many_who_notice_at_once_set_each_message_aside_once),
		promise(what_a_recoverer_killed_in_the_middle_left_undone_is_done_by_the_next),
		promise(a_waiting_consumer_finishes_what_a_killed_recoverer_began),
		promise(a_stopped_recoverer_holds_nobody_up_and_spoils_nothing_later),
		promise(a_stopped_consumer_is_not_dead_and_goes_on),
		promise(a_stopped_producer_is_not_gone_and_publishes_when_it_goes_on),
	};

	return cmocka_run_group_tests_name("recovery: recoverers", tests, NULL, NULL);
}
