/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a poller gets: what was asked for, or what the system has and allows. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>

#include "filter.h"
#include "polling.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* What a poller of this kind would be here: its backend, or the error. */
static int backend_for(uint32_t asked)
{
	struct sluice_poller *poller = NULL;
	int result = sluice_poller_create(POLLER(.backend = asked), &poller);

	if (result)
		return result;
	result = sluice_poller_backend(poller);
	check_result(0, sluice_poller_destroy(poller));
	return result;
}

/* A poller of any kind works. */
static void try_it(void)
{
	struct sluice_poller *poller = NULL;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);
	int descriptor;

	check_result(0, sluice_poller_create(NULL, &poller));
	poll_consumer(poller, consumer, consumer);
	expect_nothing(poller);
	send_number(producer, 1);
	expect_event(poller, SLUICE_POLL_RECEIVE, consumer, 0);
	take_numbers(consumer, 1, 1);
	descriptor = sluice_poller_fd(poller);
	while (is_readable(descriptor, 0))
		expect_nothing(poller);
	send_number(producer, 2);
	check(is_readable(descriptor, PATIENCE));
	take_numbers(consumer, 2, 1);
	check_result(0, sluice_poller_destroy(poller));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void without_io_uring(void *shared, unsigned error)
{
	(void)shared;
	refuse_call(SYS_io_uring_setup, (int)error);
	check_result(SLUICE_POLLER_THREAD, backend_for(SLUICE_POLLER_AUTO));
	check_result(SLUICE_POLLER_THREAD, backend_for(SLUICE_POLLER_THREAD));
	check_result(-ENOTSUP, backend_for(SLUICE_POLLER_IO_URING));
	try_it();
}

static void threads_do_it_where_io_uring_is_denied(void **state)
{
	(void)state;
	if (backend_for(SLUICE_POLLER_THREAD) != SLUICE_POLLER_THREAD)
		skip_because("this system has or allows no futex_waitv");
	process_start(without_io_uring, NULL, EPERM);
	processes_finish();
	process_start(without_io_uring, NULL, ENOSYS);
	processes_finish();
}

static void without_entering(void *shared, unsigned error)
{
	(void)shared;
	refuse_call(SYS_io_uring_enter, (int)error);
	check_result(-ENOTSUP, backend_for(SLUICE_POLLER_IO_URING));
	check_result(SLUICE_POLLER_THREAD, backend_for(SLUICE_POLLER_AUTO));
	try_it();
}

static void threads_do_it_where_half_of_io_uring_is_denied(void **state)
{
	(void)state;
	if (backend_for(SLUICE_POLLER_THREAD) != SLUICE_POLLER_THREAD)
		skip_because("this system has or allows no futex_waitv");
	process_start(without_entering, NULL, EPERM);
	processes_finish();
}

/* A process that forbids itself io_uring once it has a poller; then another thread waits, which takes a ring of its own. */
struct late {
	struct sluice_poller *poller;
	struct sluice_consumer *consumer;
	int result;
};

static void *wait_for_a_message(void *context)
{
	struct late *late = context;
	struct sluice_poller_event event = {0};

	late->result = sluice_poller_wait(late->poller, &event, 1, PATIENCE);
	check(late->result < 0 || event.events == SLUICE_POLL_RECEIVE);
	return NULL;
}

static int wait_in_a_thread(struct late *late)
{
	pthread_t thread;

	check(!pthread_create(&thread, NULL, wait_for_a_message, late));
	check(!pthread_join(thread, NULL));
	return late->result;
}

static void send_to_a_sleeper(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", NULL);

	(void)shared;
	(void)index;
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	send_number(producer, 1);
	check_result(0, sluice_producer_close(producer));
}

static void forbidden_later(void *shared, unsigned call)
{
	struct late late = {.consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()))};

	(void)shared;
	check_result(0, sluice_poller_create(
				POLLER(.backend = SLUICE_POLLER_IO_URING, .spin_ns = SLUICE_NO_SPIN), &late.poller));
	poll_consumer(late.poller, late.consumer, NULL);
	expect_nothing(late.poller);
	refuse_call(call, EPERM);
	check_result(-ENOTSUP, wait_in_a_thread(&late)); /* it was to be io_uring */
	check_result(0, sluice_poller_destroy(late.poller));
	check_result(0, sluice_consumer_close(late.consumer));
}

static void forbidden_later_and_replaced(void *shared, unsigned call)
{
	struct late late = {.consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()))};

	(void)shared;
	check_result(0, sluice_poller_create(POLLER(.spin_ns = SLUICE_NO_SPIN), &late.poller));
	check_result(SLUICE_POLLER_IO_URING, sluice_poller_backend(late.poller));
	poll_consumer(late.poller, late.consumer, NULL);
	expect_nothing(late.poller);
	refuse_call(call, EPERM);
	check_result(1, wait_in_a_thread(&late));
	check_result(SLUICE_POLLER_THREAD, sluice_poller_backend(late.poller));
	take_numbers(late.consumer, 1, 1);
	check_result(0, sluice_poller_destroy(late.poller));
	check_result(0, sluice_consumer_close(late.consumer));
}

static void threads_take_over_when_io_uring_is_forbidden_later(void **state)
{
	static const unsigned calls[] = {SYS_io_uring_setup, SYS_io_uring_enter};

	(void)state;
	if (backend_for(SLUICE_POLLER_AUTO) != SLUICE_POLLER_IO_URING || backend_for(SLUICE_POLLER_THREAD) < 0)
		skip_because("this system lacks or forbids one of the two");
	for (unsigned i = 0; i < 2; i++) {
		process_start(forbidden_later, NULL, calls[i]);
		processes_finish();
		process_start(forbidden_later_and_replaced, NULL, calls[i]);
		process_start(send_to_a_sleeper, NULL, 0);
		processes_finish();
	}
}

static void with_nothing(void *shared, unsigned error)
{
	struct sluice_poller *poller = NULL;

	(void)shared;
	refuse_call(SYS_io_uring_setup, (int)error);
	refuse_call(SYS_futex_waitv, (int)error);
	for (uint32_t asked = SLUICE_POLLER_AUTO; asked <= SLUICE_POLLER_THREAD; asked++)
		check_result(-ENOTSUP, sluice_poller_create(POLLER(.backend = asked), &poller));
	check(poller == NULL);
}

static void where_neither_is_allowed_there_is_no_poller(void **state)
{
	(void)state;
	process_start(with_nothing, NULL, EPERM);
	process_start(with_nothing, NULL, ENOSYS);
	processes_finish();
}

/* What the build has shows in what is chosen, unless the system lacks it. */
static void what_was_not_compiled_in_is_not_chosen(void **state)
{
	(void)state;
	if (strstr(sluice_features(), "liburing")) {
		int result = backend_for(SLUICE_POLLER_IO_URING);

		check(result == SLUICE_POLLER_IO_URING || result == -ENOTSUP);
		check(result < 0 || backend_for(SLUICE_POLLER_AUTO) == SLUICE_POLLER_IO_URING);
	} else {
		check_result(-ENOTSUP, backend_for(SLUICE_POLLER_IO_URING));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(threads_do_it_where_io_uring_is_denied),
		promise(threads_do_it_where_half_of_io_uring_is_denied),
		promise(threads_take_over_when_io_uring_is_forbidden_later),
		promise(where_neither_is_allowed_there_is_no_poller),
		promise(what_was_not_compiled_in_is_not_chosen),
	};

	return cmocka_run_group_tests_name("poller: fallback", tests, NULL, NULL);
}
