/* SPDX-License-Identifier: Apache-2.0 */
/* Everybody is killed and started again, once and many times: nothing published is lost, nothing is used up. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "../support/process.h"
#include "deaths.h"

#define PRODUCERS 2
#define CONSUMERS 3
#define MESSAGES  4000 /* of all lives of a producer together */

/* What happened to each message, by number: written by whoever did it, right before and right after. */
struct journal {
	struct scene scene;
	struct tally received;
	_Atomic uint32_t next[PRODUCERS]; /* how many numbers are used */
	struct {
		_Atomic bool published;
		_Atomic bool released;
		_Atomic uint32_t deliveries; /* highest count seen */
	} messages[PRODUCERS * MESSAGES];
};

static void produce_until_killed(void *shared, unsigned index)
{
	struct journal *journal = shared;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	tally_add(&journal->scene.ready);
	while (journal->next[index] < MESSAGES) {
		const int64_t number = index * MESSAGES + journal->next[index]++;

		check_result(0, try_to_send(producer, number, SLUICE_FOREVER));
		journal->messages[number].published = true;
	}
	stay(&journal->scene);
}

/* One message of which this consumer knows that it came once more, or for the first time. */
static void note(struct journal *journal, const struct sluice_message *message)
{
	const int64_t number = number_of(message);
	const uint32_t count = sluice_delivery_count(message);

	check(number >= 0 && number < PRODUCERS * MESSAGES && number % MESSAGES < journal->next[number / MESSAGES]);
	check(!journal->messages[number].released);
	check(count > journal->messages[number].deliveries);
	journal->messages[number].deliveries = count;
}

static void release(struct journal *journal, const struct sluice_message *message)
{
	const int64_t number = number_of(message);

	check_result(0, sluice_release(message));
	journal->messages[number].released = true;
}

/* Holds three at a time and releases the middle one, so that a death always leaves some behind. */
static void consume_until_killed(void *shared, unsigned index)
{
	struct journal *journal = shared;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *held[3] = {NULL, NULL, NULL};

	(void)index;
	tally_add(&journal->scene.ready);
	for (unsigned turn = 0;; turn = (turn + 1) % 3) {
		const struct sluice_message *message;

		if (sluice_receive(consumer, held[turn] ? 0 : SLUICE_FOREVER, &message) == 0)
			note(journal, message);
		else
			message = NULL;
		if (held[turn])
			release(journal, held[turn]);
		held[turn] = message;
		if (message)
			tally_add(&journal->received);
	}
}

static void start_everybody(struct journal *journal, unsigned processes[PRODUCERS + CONSUMERS])
{
	const uint32_t ready = tally_read(&journal->scene.ready);

	process_reset();
	for (unsigned i = 0; i < PRODUCERS; i++)
		processes[i] = process_start(produce_until_killed, journal, i);
	for (unsigned i = 0; i < CONSUMERS; i++)
		processes[PRODUCERS + i] = process_start(consume_until_killed, journal, i);
	tally_wait(&journal->scene.ready, ready + PRODUCERS + CONSUMERS);
}

static void kill_everybody(const unsigned processes[PRODUCERS + CONSUMERS])
{
	for (unsigned i = 0; i < PRODUCERS + CONSUMERS; i++)
		kill(process_pid(processes[i]), SIGKILL);
	for (unsigned i = 0; i < PRODUCERS + CONSUMERS; i++)
		kill_hard(processes[i]);
}

/* Takes what is left, and looks whether anything that was surely published never came. */
static void drain_and_check(struct journal *journal)
{
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *message;
	uint64_t published = 0, again = 0;

	while (sluice_receive(consumer, 0, &message) == 0) {
		note(journal, message);
		release(journal, message);
	}
	check_result(0, sluice_consumer_close(consumer));
	for (unsigned i = 0; i < PRODUCERS * MESSAGES; i++) {
		/* Killed after the release and before the note: then it was delivered at least. */
		check(!journal->messages[i].published || journal->messages[i].deliveries > 0);
		published += journal->messages[i].published;
		again += journal->messages[i].deliveries > 1;
	}
	print_message("%llu messages published, %llu delivered again\n", (unsigned long long)published,
		(unsigned long long)again);
}

static void what_was_published_and_not_released_survives_the_death_of_everybody(void **state)
{
	struct journal *journal = shared_memory(sizeof *journal);
	unsigned processes[PRODUCERS + CONSUMERS];
	const unsigned rounds = (unsigned)scaled(40);

	(void)state;
	/* Unlimited: some message may be held by every round's dead. */
	check_result(0,
		sluice_producer_close(join_producer("tokens",
			PRODUCER(.channel = CHANNEL(.flags = SLUICE_PERSISTENT, .max_deliveries = SLUICE_UNLIMITED)))));
	for (unsigned round = 0; round < rounds; round++) {
		const uint32_t received = tally_read(&journal->received);

		start_everybody(journal, processes);
		tally_wait_for(&journal->received, received + 1 + round * 7 % 150, SECOND);
		kill_everybody(processes);
	}
	drain_and_check(journal);
	check_equal(0, look().waiting + look().held);
	clear_away();
}

static void publish_and_leave(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)shared;
	send_numbers(producer, index, 4);
	check_result(0, sluice_producer_close(producer));
}

static void hold_and_leave(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)shared;
	for (unsigned i = 0; i < index; i++)
		hold(consumer);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_backlog_survives_clean_exits_and_deaths_in_any_mixture(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_consumer *consumer;

	(void)state;
	finish(process_start(publish_and_leave, scene, 0));
	kill_hard(start_ready(hold_and_stay, scene, 2));
	finish(process_start(hold_and_leave, scene, 4));
	finish(process_start(publish_and_leave, scene, 4));
	kill_hard(start_ready(hold_and_stay, scene, 1));
	consumer = join_consumer("tokens", NULL);
	take_again(consumer, 0, 3);
	take_again(consumer, 1, 2);
	take_numbers(consumer, 2, 6);
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* ---- nothing is used up ---- */

#define TINY CHANNEL(.lane_bytes = 4096, .depth = 2, .max_deliveries = SLUICE_UNLIMITED)

static void join_and_stay(void *shared, unsigned index)
{
	struct scene *scene = shared;

	if (index % 2)
		join_consumer("tokens", CONSUMER(.channel = TINY));
	else
		join_producer("tokens", PRODUCER(.channel = TINY));
	stay(scene);
}

static void slots_and_lanes_of_the_dead_serve_again(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = TINY));
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = TINY));
	const unsigned rounds = 1 + (unsigned)scaled(400);

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		if (round % 100 == 0)
			process_reset();
		kill_hard(start_ready(join_and_stay, scene, round));
		send_numbers(producer, round, 2);
		take_numbers(consumer, round, 2);
	}
	check(look().dead <= 3);
	check_full_capacity(producer, consumer, 2);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_roster_full_of_the_dead_has_room_for_as_many(void **state)
{
	struct scene *scene = new_scene();
	unsigned processes[SLUICE_MAX_MEMBERS];

	(void)state;
	for (int round = 0; round < 3; round++) {
		struct sluice_consumer *consumer = NULL;
		const uint32_t ready = tally_read(&scene->ready);

		process_reset();
		for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++)
			processes[i] = process_start(join_and_stay, scene, i);
		tally_wait(&scene->ready, ready + SLUICE_MAX_MEMBERS);
		check_result(-EUSERS, sluice_consumer_open("tokens", NULL, &consumer));
		check_equal(SLUICE_MAX_MEMBERS, look().alive);
		for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++)
			kill_hard(processes[i]);
		check_equal(0, look().alive);
	}
	check_result(0, sluice_consumer_close(join_consumer("tokens", NULL)));
	check_equal(0, sandbox_objects(NULL));
}

/* Killed at any moment of opening, of a first message and of closing. */
static void open_use_and_close(void *shared, unsigned index)
{
	struct scene *scene = shared;

	tally_add(&scene->ready);
	for (;;) {
		struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = TINY));
		struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = TINY));
		const struct sluice_message *message;

		send_number(producer, index);
		while (sluice_receive(consumer, 0, &message) == 0)
			check_result(0, sluice_release(message));
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
		tally_add(&scene->done);
	}
}

static void send_two_and_stay(void *shared, unsigned index)
{
	send_numbers(join_producer("tokens", PRODUCER(.channel = TINY)), index, 2);
	stay(shared);
}

static void work(uint64_t amount)
{
	volatile uint64_t sum = 0;

	for (uint64_t i = 0; i < amount; i++)
		sum += i;
	(void)sum;
}

static void whoever_dies_while_opening_or_closing_leaves_a_channel_that_opens(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_collected collected;
	uint64_t random = 11;
	const unsigned rounds = (unsigned)scaled(400);

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		unsigned process;

		if (round % 100 == 0)
			process_reset();
		process = start_ready(open_use_and_close, scene, round);
		work(random_next(&random) % 400000);
		kill_hard(process);
	}
	process_reset();
	kill_hard(start_ready(send_two_and_stay, scene, 0));
	/* What lies about is garbage for the collector, and a backlog. */
	check_result(0, sluice_channel_collect("tokens", NULL, SLUICE_COLLECT_DROP, &collected));
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(what_was_published_and_not_released_survives_the_death_of_everybody),
		promise(a_backlog_survives_clean_exits_and_deaths_in_any_mixture),
		promise(slots_and_lanes_of_the_dead_serve_again),
		promise(a_roster_full_of_the_dead_has_room_for_as_many),
		promise(whoever_dies_while_opening_or_closing_leaves_a_channel_that_opens),
	};

	return cmocka_run_group_tests_name("recovery: restart", tests, NULL, NULL);
}
