/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receivers that wait in a poller: round trips and streams. Producers are the same as elsewhere and know nothing of it.
 *
 * In a wait: sluice_poller_wait sleeps, and says which channel has something. In a loop: epoll_wait sleeps on the
 * poller's descriptor, and whenever that fires, sluice_poller_wait is asked without waiting, as an event loop does.
 *
 * With several entries the first side has as many producers and sends by one after another.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "case.h"
#include "exchange.h"
#include "roundtrip.h"
#include "stream.h"

#define POLLED_MOST 64

struct polled {
	struct side *side;
	struct link links[POLLED_MOST]; /* the first one has the way back as well */
	uint32_t count;                 /* of those that are open */
	struct link *ready;             /* what the last wait found */
	struct sluice_poller *poller;
	int loop; /* an epoll, or -1 */
};

static int64_t spin_ns(const struct bench_case *of)
{
	return of->waiting == CASE_SPINS ? SLUICE_SPIN_ONLY : of->waiting == CASE_SLEEPS ? SLUICE_NO_SPIN : 0;
}

static int open_links(struct polled *polled)
{
	struct side *side = polled->side;
	uint32_t wanted = side->of->entries ? side->of->entries : 1;
	const char *back = side->of->kind == CASE_ROUND_TRIP ? "back" : NULL;
	char there[16] = "there"; /* as stream_first has it */
	int error = 0;

	while (polled->count < wanted && error == 0) {
		struct link *link = &polled->links[polled->count++];

		if (polled->count > 1)
			snprintf(there, sizeof there, "there%u", polled->count - 1);
		error = side->index == 0 ? link_open(side, there, back, link) : link_open(side, back, there, link);
		back = NULL;
	}
	return error;
}

static int add_entries(struct polled *polled)
{
	for (uint32_t i = 0; i < polled->count; i++) {
		struct link *link = &polled->links[i];
		struct sluice_poller_entry entry = {.consumer = link->consumer, .data = link};
		int error = link->consumer ? sluice_poller_add(polled->poller, &entry) : 0;

		if (error)
			return side_fail(polled->side, error, "sluice_poller_add");
	}
	return 0;
}

static int open_loop(struct polled *polled)
{
	struct epoll_event wanted = {.events = EPOLLIN};
	int fd = sluice_poller_fd(polled->poller);

	if (fd < 0)
		return side_fail(polled->side, fd, "sluice_poller_fd");
	polled->loop = epoll_create1(EPOLL_CLOEXEC);
	if (polled->loop < 0 || epoll_ctl(polled->loop, EPOLL_CTL_ADD, fd, &wanted) < 0)
		return side_fail(polled->side, -errno, "epoll_ctl");
	return 0;
}

static int polled_open(struct side *side, struct polled *ret_polled)
{
	struct sluice_poller_options options = {
		.size = sizeof options,
		.backend = side->of->poller,
		.spin_ns = spin_ns(side->of),
	};

	*ret_polled = (struct polled){.side = side, .loop = -1};
	int error = open_links(ret_polled);
	if (error)
		return error;
	error = sluice_poller_create(&options, &ret_polled->poller);
	if (error)
		return side_fail(side, error, "sluice_poller_create");
	error = add_entries(ret_polled);
	if (error == 0 && side->of->in_loop)
		error = open_loop(ret_polled);
	return error;
}

static void polled_close(struct polled *polled)
{
	sluice_poller_destroy(polled->poller);
	if (polled->loop >= 0)
		close(polled->loop);
	for (uint32_t i = 0; i < polled->count; i++)
		link_close(&polled->links[i]);
}

static inline int wait_in_loop(struct polled *polled, struct sluice_poller_event *event)
{
	for (;;) {
		struct epoll_event fired;
		int count = epoll_wait(polled->loop, &fired, 1, -1);

		if (count < 0 && errno != EINTR)
			return -errno;
		if (count > 0)
			count = sluice_poller_wait(polled->poller, event, 1, 0);
		if (count != 0)
			return count;
	}
}

/* Waits until a channel has something: then it is `ready`. */
static inline int await(struct polled *polled)
{
	struct sluice_poller_event event = {0};
	int count = polled->loop >= 0 ? wait_in_loop(polled, &event)
				      : sluice_poller_wait(polled->poller, &event, 1, SLUICE_FOREVER);

	if (count == 1 && event.events == SLUICE_POLL_RECEIVE) {
		polled->ready = event.data;
		return 0;
	}
	return side_fail(polled->side, count < 0 ? count : count > 0 ? event.error : -ETIMEDOUT, "sluice_poller_wait");
}

static inline int send_one(void *context, uint32_t number)
{
	struct polled *polled = context;

	return send_filled(&polled->links[polled->side->index == 0 ? number % polled->count : 0], number);
}

static inline int receive_one(void *context, uint32_t number)
{
	struct polled *polled = context;
	int error = await(polled);

	if (error == 0)
		error = exchange_receive(polled->ready, number, 0);
	return error ? error : release_held(polled->ready, number);
}

static int run_polled(struct side *side, int (*loop)(struct side *side, struct polled *polled))
{
	struct polled polled;
	int error = polled_open(side, &polled);

	if (error == 0) {
		side_meet(side);
		error = loop(side, &polled);
	}
	polled_close(&polled);
	return error;
}

static int trip_first(struct side *side, struct polled *polled)
{
	return roundtrip_first(side, polled, send_one, receive_one);
}

static int trip_second(struct side *side, struct polled *polled)
{
	return roundtrip_second(side, polled, send_one, receive_one, NULL);
}

/* Takes what is there after one wait, but no more than the case's batch. */
static int take(struct polled *polled, struct stream_meter *meter)
{
	const uint32_t most = polled->side->of->batch;
	int error = await(polled);

	for (uint32_t taken = 0; error == 0; taken++) {
		if (taken == most || meter->seen >= side_total(polled->side))
			return 0;
		struct link *link = polled->ready;

		error = sluice_receive(link->consumer, 0, &link->held);
		if (error == -EAGAIN)
			return 0;
		if (error)
			return side_fail(polled->side, error, "sluice_receive");
		error = exchange_check(link, (uint32_t)meter->seen);
		if (error == 0)
			error = release_held(link, 0);
		stream_count(meter, 1);
		stream_tick(meter); /* before the next, and once for each: a receive may find nothing */
	}
	return error;
}

static int consume(struct side *side, struct polled *polled)
{
	struct stream_meter meter = {.side = side};
	int error = 0;

	while (meter.seen < side_total(side) && error == 0)
		error = take(polled, &meter);
	if (error == 0)
		side_finish(side);
	return error;
}

int polled_exchange_first(struct side *side)
{
	return run_polled(side, trip_first);
}

int polled_exchange_second(struct side *side)
{
	return run_polled(side, trip_second);
}

int polled_stream_second(struct side *side)
{
	return run_polled(side, consume);
}

void polled_clean_up(const char *channel)
{
	char name[PAIR_CHANNEL_BYTES + 16];

	for (uint32_t i = 1; i < POLLED_MOST; i++) {
		snprintf(name, sizeof name, "%s-there%u", channel, i);
		(void)!sluice_channel_remove(name, NULL, SLUICE_REMOVE_FORCE);
	}
	link_clean_up(channel);
}
