/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine can do at best, with nothing in between: one cache line there and one back, a buffer handed over
 * under a flag, a futex there and one back, an event descriptor and epoll, a copy by one process alone. Each direction
 * has a word of its own, PAIR_LINE away from the other.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "case.h"
#include "pace.h"
#include "payload.h"
#include "roundtrip.h"

#define BUFFER_OFFSET 4096

/* One side's view of two words and two buffers. */
struct wire {
	_Atomic uint32_t *out;
	_Atomic uint32_t *in;
	int32_t *out_buffer;
	const int32_t *in_buffer;
	size_t count;
	int out_signal;
	int in_signal;
	int loop;
};

static struct wire wire_open(const struct side *side)
{
	unsigned char *base = side->scratch;
	size_t there = side->index == 0 ? 0 : 1;
	size_t distance = (side->of->bytes + 4095) / 4096 * 4096;
	unsigned char *buffers = base + BUFFER_OFFSET;

	return (struct wire){
		.out = (_Atomic uint32_t *)(base + there * PAIR_LINE),
		.in = (_Atomic uint32_t *)(base + (1 - there) * PAIR_LINE),
		.out_buffer = (int32_t *)(buffers + there * distance),
		.in_buffer = (const int32_t *)(buffers + (1 - there) * distance),
		.count = side->of->bytes / sizeof(int32_t),
		.out_signal = side->signals[1 - there],
		.in_signal = side->signals[there],
	};
}

static inline int line_send(void *link, uint32_t number)
{
	const struct wire *wire = link;

	atomic_store_explicit(wire->out, number, memory_order_release);
	return 0;
}

static inline int line_receive(void *link, uint32_t number)
{
	const struct wire *wire = link;

	while (atomic_load_explicit(wire->in, memory_order_acquire) != number)
		;
	return 0;
}

static inline int buffer_send(void *link, uint32_t number)
{
	const struct wire *wire = link;

	payload_fill(wire->out_buffer, wire->count, number);
	return line_send(link, number);
}

static inline int buffer_receive(void *link, uint32_t number)
{
	const struct wire *wire = link;

	line_receive(link, number);
	return payload_sum(wire->in_buffer, wire->count) == payload_expected(wire->count, number) ? 0 : -EBADMSG;
}

static inline int futex_send(void *link, uint32_t number)
{
	const struct wire *wire = link;

	atomic_store(wire->out, number);
	return syscall(SYS_futex, wire->out, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 ? -errno : 0;
}

static inline int futex_receive(void *link, uint32_t number)
{
	const struct wire *wire = link;
	uint32_t seen;

	/* In an open loop the sender may be ahead. */
	while ((int32_t)((seen = atomic_load(wire->in)) - number) < 0)
		if (syscall(SYS_futex, wire->in, FUTEX_WAIT, seen, NULL, NULL, 0) < 0 && errno != EAGAIN &&
			errno != EINTR)
			return -errno;
	return 0;
}

static inline int epoll_send(void *link, uint32_t number)
{
	const struct wire *wire = link;
	const uint64_t one = 1;

	line_send(link, number);
	return write(wire->out_signal, &one, sizeof one) < 0 ? -errno : 0;
}

static inline int epoll_receive(void *link, uint32_t number)
{
	const struct wire *wire = link;
	struct epoll_event fired;
	uint64_t count;

	while (epoll_wait(wire->loop, &fired, 1, -1) != 1)
		if (errno != EINTR)
			return -errno;
	if (read(fired.data.fd, &count, sizeof count) < 0)
		return -errno;
	return line_receive(link, number);
}

static int checked(struct side *side, int error, const char *call)
{
	return error ? side_fail(side, error, call) : 0;
}

int limit_line_first(struct side *side)
{
	struct wire wire = wire_open(side);

	return checked(side, roundtrip_first(side, &wire, line_send, line_receive), "cache line");
}

int limit_line_second(struct side *side)
{
	struct wire wire = wire_open(side);

	return checked(side, roundtrip_second(side, &wire, line_send, line_receive, NULL), "cache line");
}

int limit_buffer_first(struct side *side)
{
	struct wire wire = wire_open(side);

	return checked(side, roundtrip_first(side, &wire, buffer_send, buffer_receive), "buffer");
}

int limit_buffer_second(struct side *side)
{
	struct wire wire = wire_open(side);

	return checked(side, roundtrip_second(side, &wire, buffer_send, buffer_receive, NULL), "buffer");
}

int limit_futex_first(struct side *side)
{
	struct wire wire = wire_open(side);

	if (side->of->kind == CASE_OPEN)
		return checked(side, pace_first(side, &wire, futex_send), "futex");
	return checked(side, roundtrip_first(side, &wire, futex_send, futex_receive), "futex");
}

int limit_futex_second(struct side *side)
{
	struct wire wire = wire_open(side);

	if (side->of->kind == CASE_OPEN)
		return checked(side, pace_second(side, &wire, futex_receive), "futex");
	return checked(side, roundtrip_second(side, &wire, futex_send, futex_receive, NULL), "futex");
}

static int watch_signal(struct wire *wire)
{
	struct epoll_event wanted = {.events = EPOLLIN, .data.fd = wire->in_signal};

	wire->loop = epoll_create1(EPOLL_CLOEXEC);
	if (wire->loop < 0 || epoll_ctl(wire->loop, EPOLL_CTL_ADD, wire->in_signal, &wanted) < 0)
		return -errno;
	return 0;
}

int limit_epoll_first(struct side *side)
{
	struct wire wire = wire_open(side);
	int error = watch_signal(&wire);

	if (error == 0)
		error = roundtrip_first(side, &wire, epoll_send, epoll_receive);
	return checked(side, error, "eventfd and epoll");
}

int limit_epoll_second(struct side *side)
{
	struct wire wire = wire_open(side);
	int error = watch_signal(&wire);

	if (error == 0)
		error = roundtrip_second(side, &wire, epoll_send, epoll_receive, NULL);
	return checked(side, error, "eventfd and epoll");
}

/* The other process has nothing to do: it only takes part in the meetings. */
int limit_copy_first(struct side *side)
{
	side_meet(side);
	side_start(side);
	side_finish(side);
	return 0;
}

/* What no copying transport can beat: the copy alone, of warm buffers. */
int limit_copy_second(struct side *side)
{
	size_t bytes = side->of->bytes;
	size_t count = bytes / sizeof(int32_t);
	uint64_t step = side_step(bytes);
	int32_t *from = malloc(bytes);
	int32_t *to = malloc(bytes);
	int error = from && to ? 0 : -ENOMEM;

	side_meet(side);
	if (error == 0) {
		payload_fill(from, count, 1);
		memcpy(to, from, bytes);
		side_start(side);
		for (uint64_t i = side_warm_up(side); i < side_total(side); i++) {
			if (i % step == 0)
				side_check_time(side, i, step);
			memcpy(to, from, bytes);
			__asm__ volatile("" : : "r"(to) : "memory"); /* so that each copy is made */
		}
		side_finish(side);
		error = payload_sum(to, count) == payload_expected(count, 1) ? 0 : -EBADMSG;
	}
	free(from);
	free(to);
	return checked(side, error, "memcpy");
}
