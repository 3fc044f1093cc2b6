/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes that exchange messages without ever sleeping, to be run under strace by quiet_test. Each marks the steady
 * part of its life by two calls that nothing else makes: a failing write of a known length. They meet before and after by
 * spinning, so that what lies between the marks is the library's alone.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/sluice.h>

#define STREAMED 100000
#define ECHOED   2000
#define REFUSED  1000
/* Before the first mark, so that lanes are mapped, schemas known and every page touched: more than a lane holds. */
#define WARM 6000

#define must(condition) ((condition) ? (void)0 : broken(#condition, __LINE__))

static _Atomic unsigned *met;

static void broken(const char *what, int line)
{
	fprintf(stderr, "quiet_exchange.c:%d: %s\n", line, what);
	_exit(1);
}

static void meet(unsigned count)
{
	atomic_fetch_add(met, 1);
	while (atomic_load(met) < count)
		continue;
}

static void mark(void)
{
	must(write(-1, "mark", 4) == -1);
}

static const struct sluice_channel_options *channel(void)
{
	static const struct sluice_channel_options options = {
		.size = sizeof options, .depth = 1024, .lane_bytes = 1 << 20};

	return &options;
}

static struct sluice_producer *spinning_producer(const char *name)
{
	const struct sluice_producer_options options = {
		.size = sizeof options, .channel = channel(), .spin_ns = SLUICE_SPIN_ONLY};
	struct sluice_producer *producer = NULL;

	must(!sluice_producer_open(name, &options, &producer));
	return producer;
}

static struct sluice_consumer *spinning_consumer(const char *name)
{
	const struct sluice_consumer_options options = {
		.size = sizeof options, .channel = channel(), .spin_ns = SLUICE_SPIN_ONLY};
	struct sluice_consumer *consumer = NULL;

	must(!sluice_consumer_open(name, &options, &consumer));
	return consumer;
}

/* Small messages lie in the descriptor, every third one beside it. */
static void send(struct sluice_producer *producer, uint32_t number)
{
	struct sluice_tensor_spec spec = {
		.name = "a", .dtype = SLUICE_UINT32, .ndim = 1, .shape = {number % 3 ? 16 : 500}};
	struct sluice_message *message = NULL;

	must(!sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message));
	memcpy(sluice_data(message, 0), &number, sizeof number);
	must(!sluice_publish(message));
}

static void receive(struct sluice_consumer *consumer, uint32_t number)
{
	const struct sluice_message *message = NULL;

	must(!sluice_receive(consumer, SLUICE_FOREVER, &message));
	must(!memcmp(sluice_tensor(message, 0)->data, &number, sizeof number));
	must(!sluice_release(message));
}

/* A lane that is full refuses at once, without asking the system for anything. */
static void be_refused(struct sluice_producer *producer)
{
	const struct sluice_tensor_spec spec = {.name = "a", .dtype = SLUICE_UINT32};
	struct sluice_message *message = NULL;

	for (uint32_t i = 0; i < REFUSED; i++)
		must(sluice_reserve(producer, &spec, 1, 0, &message) == -EAGAIN);
}

static void send_side(void)
{
	struct sluice_producer *there = spinning_producer("there"), *full = spinning_producer("full");
	struct sluice_consumer *back;

	meet(2);
	back = spinning_consumer("back");
	for (uint32_t i = 0; i < 1024; i++)
		send(full, i);
	for (uint32_t i = 0; i < WARM; i++) {
		send(there, i);
		receive(back, i);
	}
	meet(4);
	mark();
	for (uint32_t i = 0; i < STREAMED; i++)
		send(there, i);
	for (uint32_t i = 0; i < ECHOED; i++) {
		send(there, i);
		receive(back, i);
	}
	be_refused(full);
	mark();
	meet(6);
	must(!sluice_consumer_close(back));
	must(!sluice_producer_close(there));
	must(!sluice_producer_close(full));
	must(!sluice_channel_remove("full", NULL, 0));
}

static void echo_side(void)
{
	struct sluice_producer *back;
	struct sluice_consumer *there;

	meet(2);
	there = spinning_consumer("there");
	back = spinning_producer("back");
	for (uint32_t i = 0; i < WARM; i++) {
		receive(there, i);
		send(back, i);
	}
	meet(4);
	mark();
	for (uint32_t i = 0; i < STREAMED; i++)
		receive(there, i);
	for (uint32_t i = 0; i < ECHOED; i++) {
		receive(there, i);
		send(back, i);
	}
	mark();
	meet(6);
	must(!sluice_producer_close(back));
	must(!sluice_consumer_close(there));
}

int main(void)
{
	int status = 0;
	pid_t child;

	met = mmap(NULL, sizeof *met, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(met != MAP_FAILED);
	child = fork();
	must(child >= 0);
	if (!child) {
		echo_side();
		_exit(0);
	}
	send_side();
	must(waitpid(child, &status, 0) == child);
	return status != 0;
}
