/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members whose descriptors were closed behind the library's back, as programs do that become daemons: their locks are gone,
 * so that they are dead to the others, and live.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deaths.h"

/* Closes all that the process did not open itself, as it thinks. */
static void become_a_daemon(void)
{
	check_result(0, close_range(3, ~0U, 0));
}

/* ---- leaving ---- */

/* Leaves with files of its own where the library's descriptors were, in which no byte is locked. */
static void leave_with_other_files(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);

	become_a_daemon();
	for (unsigned i = 0; i < index; i++)
		check(memfd_create("log", MFD_CLOEXEC) >= 0);
	scene->result = sluice_consumer_close(own);
	tally_add(&scene->ready);
	_exit(0);
}

static void who_lost_its_descriptors_declares_nobody_dead_as_it_leaves(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	const struct sluice_message *message;

	(void)state;
	send_number(producer, 1);
	message = hold_number(consumer, 1);
	finish(start_ready(leave_with_other_files, scene, 20));
	check_equal(0, look().dead);
	check_equal(2, look().alive);
	check_equal(1, look().held);
	check_result(-ESTALE, scene->result);
	check_result(0, sluice_release(message));
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* ---- staying ---- */

/* Takes one message, loses its locks, and once it was declared dead takes another at once and stays with it. */
static void hold_one_more(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own = join_consumer("tokens", NULL);

	(void)index;
	check_result(0, sluice_release(hold_number(own, 0)));
	become_a_daemon();
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	hold_number(own, 1);
	stay(scene);
}

static void what_one_takes_who_is_dead_to_the_others_is_not_lost(void **state)
{
	struct scene *scene = new_scene();
	/* Messages of one kind, of which the second is taken by the shortest way. */
	struct sluice_producer *producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(), .sample_rate_hz = SLUICE_STAMP_NONE));
	struct sluice_consumer *consumer;
	unsigned holder;

	(void)state;
	send_numbers(producer, 0, 4);
	holder = start_ready(hold_one_more, scene, 0);
	consumer = join_consumer("tokens", NULL); /* declares it dead before it enters, in that very slot */
	tally_add(&scene->go);
	tally_wait(&scene->ready, 2);
	kill_hard(holder);
	take_again(consumer, 1, 2);
	take_again(consumer, 2, 1);
	take_again(consumer, 3, 1);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

/* Never sleeps: there is always something to receive, or room. Stores what a call says that does not succeed. */
static void receive_without_end(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_consumer *own =
		join_consumer("tokens", CONSUMER(.spin_ns = index ? SLUICE_SPIN_ONLY : SLUICE_NO_SPIN));
	const struct sluice_message *message;
	int result;

	become_a_daemon();
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	do
		result = sluice_receive(own, index ? PATIENCE : 0, &message);
	while (result == -EAGAIN || (result == 0 && sluice_release(message) == 0));
	scene->result = result;
	tally_add(&scene->done);
	_exit(0);
}

static void send_without_end(void *shared, unsigned index)
{
	struct scene *scene = shared;
	struct sluice_producer *own =
		join_producer("tokens", PRODUCER(.spin_ns = index ? SLUICE_SPIN_ONLY : SLUICE_NO_SPIN));
	int result;

	become_a_daemon();
	tally_add(&scene->ready);
	tally_wait(&scene->go, 1);
	do
		result = try_to_send(own, 1, index ? PATIENCE : 0);
	while (result == -EAGAIN || result == 0);
	scene->result = result;
	tally_add(&scene->done);
	_exit(0);
}

static void is_told(process_body body, unsigned index)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	const unsigned member = start_ready(body, scene, index);
	struct sluice_consumer *consumer = join_consumer("tokens", NULL); /* declares it dead before it enters */

	tally_add(&scene->go);
	tally_wait(&scene->done, 1);
	check_result(-ESTALE, scene->result);
	finish(member);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	if (sandbox_objects(NULL) != 0)
		clear_away(); /* what a producer sent that had lost its lane */
}

static void a_consumer_that_never_sleeps_is_told_that_it_is_dead_to_the_others(void **state)
{
	(void)state;
	is_told(receive_without_end, 0);
	is_told(receive_without_end, 1);
}

static void a_producer_that_never_sleeps_is_told_that_it_is_dead_to_the_others(void **state)
{
	(void)state;
	is_told(send_without_end, 0);
	is_told(send_without_end, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(who_lost_its_descriptors_declares_nobody_dead_as_it_leaves),
		promise(what_one_takes_who_is_dead_to_the_others_is_not_lost),
		promise(a_consumer_that_never_sleeps_is_told_that_it_is_dead_to_the_others),
		promise(a_producer_that_never_sleeps_is_told_that_it_is_dead_to_the_others),
	};

	return cmocka_run_group_tests_name("recovery: unlocked", tests, NULL, NULL);
}
