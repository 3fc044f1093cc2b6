/* SPDX-License-Identifier: Apache-2.0 */
/* After fork a child's inherited handles are dead, what it sees of received tensors lives, and its parent is not held back. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

/* Handles of the parent, as a child inherits them. */
struct inheritance {
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	struct sluice_message *reservation;
	const struct sluice_message *received[2]; /* beside the descriptor, and in it */
	const unsigned char *data[2];
	struct tally *steps; /* [0] the child's, [1] the parent's */
};

static struct inheritance bequeath(void)
{
	const struct sluice_tensor_spec spec = {.name = "a", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {100}};
	struct inheritance all = {.steps = shared_memory(2 * sizeof(struct tally))};

	all.producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	all.consumer = join_consumer("tokens", NULL);
	send_bytes(all.producer, 7, 10000);
	send_bytes(all.producer, 8, 10);
	for (unsigned i = 0; i < 2; i++) {
		all.received[i] = hold(all.consumer);
		all.data[i] = sluice_tensor(all.received[i], 0)->data;
	}
	check_result(0, sluice_reserve(all.producer, &spec, 1, 0, &all.reservation));
	return all;
}

static void call_everything_inherited(void *shared, unsigned index)
{
	const struct inheritance *all = shared;
	const struct sluice_tensor_spec spec = {.name = "b", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {1}};
	struct sluice_message *message = NULL;
	const struct sluice_message *received[2] = {NULL, NULL};
	struct sluice_geometry geometry;
	struct sluice_fault fault;

	(void)index;
	check_result(-ECHILD, sluice_reserve(all->producer, &spec, 1, SLUICE_FOREVER, &message));
	check_result(-ECHILD, sluice_publish(all->reservation));
	check_result(-ECHILD, sluice_publish_more(all->reservation));
	check_result(-ECHILD, sluice_flush(all->producer));
	check_result(-ECHILD, sluice_discard(all->reservation));
	check_result(-ECHILD, sluice_producer_wait(all->producer, 1, SLUICE_FOREVER));
	check_result(-ECHILD, sluice_producer_geometry(all->producer, &geometry));
	check_result(-ECHILD, sluice_receive(all->consumer, SLUICE_FOREVER, received));
	check_result(-ECHILD, sluice_receive_batch(all->consumer, 2, 0, 0, SLUICE_FOREVER, received));
	check_result(-ECHILD, sluice_release(all->received[0]));
	check_result(-ECHILD, sluice_release_batch(all->received, 2));
	check_result(-ECHILD, sluice_consumer_wait(all->consumer, 1, SLUICE_FOREVER));
	check_result(-ECHILD, sluice_consumer_geometry(all->consumer, &geometry));
	check_result(-ECHILD, sluice_consumer_fault(all->consumer, &fault));
	check_result(-ECHILD, sluice_producer_close(all->producer));
	check_result(-ECHILD, sluice_consumer_close(all->consumer));
	check(!message && !received[0] && !received[1]);
	_exit(0); /* the inherited mappings stay, as they should: no leak check */
}

static void check_parent_goes_on(struct inheritance *all)
{
	check_equal(7, sluice_correlation_id(all->received[0]));
	check_equal(7, all->data[0][9999]);
	check_result(0, sluice_publish(all->reservation));
	check_result(0, sluice_release(hold(all->consumer)));
	check_result(0, sluice_release_batch(all->received, 2));
	send_numbers(all->producer, 0, 8);
	take_numbers(all->consumer, 0, 8);
	check_result(0, sluice_producer_close(all->producer));
	check_result(0, sluice_consumer_close(all->consumer));
}

static void every_call_of_an_inherited_handle_says_so_and_changes_nothing(void **state)
{
	struct inheritance all = bequeath();

	(void)state;
	process_start(call_everything_inherited, &all, 0);
	processes_finish();
	check_parent_goes_on(&all);
}

static void read_what_was_inherited(void *shared, unsigned index)
{
	const struct inheritance *all = shared;

	(void)index;
	for (uint32_t step = 1; step <= 3; step++) {
		for (unsigned byte = 0; byte < 10000; byte++)
			check_equal(7, all->data[0][byte]);
		for (unsigned byte = 0; byte < 10; byte++)
			check_equal(8, all->data[1][byte]);
		tally_add(&all->steps[0]);
		tally_wait(&all->steps[1], step);
	}
	/* Released by the parent, its room in use again: what it holds is anything, but reading it must not fault. */
	for (unsigned byte = 0; byte < 10000; byte++)
		*(volatile const unsigned char *)&all->data[0][byte];
	_exit(0);
}

static void an_inherited_tensor_stays_readable_while_the_parent_goes_on(void **state)
{
	struct inheritance all = bequeath();

	(void)state;
	process_start(read_what_was_inherited, &all, 0);
	tally_wait(&all.steps[0], 1);
	check_result(0, sluice_publish(all.reservation));
	check_result(0, sluice_release(hold(all.consumer)));
	tally_add(&all.steps[1]);
	tally_wait(&all.steps[0], 2);
	for (unsigned i = 0; i < 5; i++) {
		send_bytes(all.producer, 99, 5000);
		check_result(0, sluice_release(hold(all.consumer)));
	}
	tally_add(&all.steps[1]);
	tally_wait(&all.steps[0], 3);
	check_result(0, sluice_release_batch(all.received, 2));
	for (unsigned i = 0; i < 20; i++) {
		send_bytes(all.producer, 99, 20000);
		check_result(0, sluice_release(hold(all.consumer)));
	}
	check_result(0, sluice_producer_close(all.producer));
	check_result(0, sluice_consumer_close(all.consumer));
	tally_add(&all.steps[1]);
	processes_finish();
}

static void join_anew(void *shared, unsigned index)
{
	const struct inheritance *all = shared;
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	struct sluice_producer *producer = join_producer("tokens", NULL);
	int64_t sum = 0;

	(void)index;
	send_number(producer, 40);
	tally_add(&all->steps[0]);
	tally_wait(&all->steps[1], 1);
	for (unsigned i = 0; i < 2; i++)
		sum += take(consumer);
	check_equal(42, sum);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	_exit(0);
}

static void a_child_joins_with_handles_of_its_own(void **state)
{
	struct inheritance all = bequeath();

	(void)state;
	process_start(join_anew, &all, 0);
	tally_wait(&all.steps[0], 1);
	check_result(0, sluice_discard(all.reservation));
	send_number(all.producer, 2);
	tally_add(&all.steps[1]);
	processes_finish();
	check_result(0, sluice_release_batch(all.received, 2));
	check_result(0, sluice_producer_close(all.producer));
	check_result(0, sluice_consumer_close(all.consumer));
}

/* A member that forks and is killed while its child lives on. */
static void die_with_a_child_alive(void *shared, unsigned index)
{
	struct tally *steps = shared;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));

	(void)index;
	check(consumer != NULL);
	if (!fork()) {
		alarm(limit_seconds());
		tally_add(&steps[0]);
		tally_wait(&steps[1], 1);
		tally_add(&steps[2]);
		_exit(0);
	}
	tally_wait(&steps[0], 1);
	raise(SIGKILL);
}

static void a_child_does_not_keep_its_dead_parent_in_the_channel(void **state)
{
	struct tally *steps = shared_memory(3 * sizeof *steps);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_channel_stat *stat = NULL;
	int status;

	(void)state;
	status = process_status(process_start(die_with_a_child_alive, steps, 0));
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	check_result(-EAGAIN, sluice_producer_wait(producer, 1, 0));
	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	for (uint32_t i = 0; i < stat->member_count; i++)
		check_equal(stat->members[i].role == SLUICE_ROLE_PRODUCER, stat->members[i].alive);
	sluice_channel_stat_free(stat);
	tally_add(&steps[1]);
	tally_wait(&steps[2], 1);
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(every_call_of_an_inherited_handle_says_so_and_changes_nothing),
		promise(an_inherited_tensor_stays_readable_while_the_parent_goes_on),
		promise(a_child_joins_with_handles_of_its_own),
		promise(a_child_does_not_keep_its_dead_parent_in_the_channel),
	};

	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
