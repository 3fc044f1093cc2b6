/* SPDX-License-Identifier: Apache-2.0 */
#include "polling.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "poller.h"

static uint32_t chosen;
static uint64_t asked_rounds;

int polling_main(int count, char **arguments, const char *name, int (*run)(void))
{
	struct sluice_poller *poller = NULL;
	struct rlimit files;
	int error;

	if (count >= 2 && !strcmp(arguments[1], "io_uring"))
		chosen = SLUICE_POLLER_IO_URING;
	else if (count >= 2 && !strcmp(arguments[1], "thread"))
		chosen = SLUICE_POLLER_THREAD;
	else
		return fprintf(stderr, "usage: %s io_uring|thread [ROUNDS]\n", name), 2;
	if (count >= 3)
		asked_rounds = strtoull(arguments[2], NULL, 10);
	error = sluice_poller_create(POLLER(.backend = chosen), &poller);
	if (error == -ENOTSUP) {
		printf("skipped: this system has or allows no %s for pollers\n", arguments[1]);
		return 77;
	}
	if (error || sluice_poller_destroy(poller))
		return fprintf(stderr, "no poller: %s\n", strerror(-error)), 1;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return run();
}

uint64_t rounds(uint64_t count)
{
	return asked_rounds ? asked_rounds : scaled(count);
}

uint32_t backend(void)
{
	return chosen;
}

struct sluice_poller *new_poller(int64_t longest_sleep_ns)
{
	struct sluice_poller *poller = NULL;

	check_result(0, sluice_poller_create(POLLER(.backend = chosen, .spin_ns = SLUICE_NO_SPIN), &poller));
	check_equal(chosen, sluice_poller_backend(poller));
	if (longest_sleep_ns)
		poller_set_longest_sleep(poller, (uint64_t)longest_sleep_ns);
	return poller;
}

void end_poller(struct sluice_poller *poller)
{
	check_result(0, sluice_poller_destroy(poller));
}

void poll_consumer(struct sluice_poller *poller, struct sluice_consumer *consumer, void *data)
{
	check_result(0, sluice_poller_add(poller, &(struct sluice_poller_entry){.consumer = consumer, .data = data}));
}

void poll_producer(struct sluice_poller *poller, struct sluice_producer *producer, uint64_t bytes, void *data)
{
	check_result(0, sluice_poller_add(poller, &(struct sluice_poller_entry){
							  .producer = producer, .room_bytes = bytes, .data = data}));
}

void expect_event(struct sluice_poller *poller, uint32_t events, const void *data, int error)
{
	struct sluice_poller_event event = {0};

	check_result(1, sluice_poller_wait(poller, &event, 1, PATIENCE));
	check_equal(events, event.events);
	check_result(error, event.error);
	check(event.data == data);
}

void expect_nothing(struct sluice_poller *poller)
{
	struct sluice_poller_event event;

	check_result(0, sluice_poller_wait(poller, &event, 1, 0));
}

bool is_readable(int descriptor, int64_t timeout_ns)
{
	struct pollfd ready = {.fd = descriptor, .events = POLLIN};
	int result;

	do
		result = poll(&ready, 1, (int)(timeout_ns / MILLISECOND));
	while (result < 0 && errno == EINTR);
	return result == 1;
}

void send_some(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)shared;
	send_numbers(producer, 0, index);
	check_result(0, sluice_producer_close(producer));
}
