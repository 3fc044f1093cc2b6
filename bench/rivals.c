/* SPDX-License-Identifier: Apache-2.0 */
/* The table of rivals, and what they do in every case: the loops that Sluice and the bare limits run too. */
#include "rival.h"

#include <string.h>

#include "case.h"
#include "pace.h"
#include "roundtrip.h"
#include "stream.h"

/* What was not there at build time is in the table all the same, so that the report can say so. */
#if !BENCH_HAVE_ZEROMQ
const struct rival rival_zeromq = {.name = "zeromq", .package = "libzmq3-dev"};
#endif
#if !BENCH_HAVE_NNG
const struct rival rival_nng = {.name = "nng", .package = "libnng-dev"};
#endif
#if !BENCH_HAVE_BOOST
const struct rival rival_boost = {.name = "boost", .package = "libboost-dev"};
#endif

const struct rival *const rivals[] = {&rival_pipe, &rival_socket, &rival_zeromq, &rival_nng, &rival_boost};
const int rival_count = sizeof rivals / sizeof *rivals;

const struct rival *rival_find(const char *name)
{
	for (int i = 0; i < rival_count; i++)
		if (strcmp(rivals[i]->name, name) == 0)
			return rivals[i];
	return NULL;
}

/* One side's end of a rival: a call through a pointer costs a nanosecond, where rivals take a hundred and more. */
struct rival_end {
	const struct rival *rival;
	struct side *side;
	void *line;
};

/* The schedule leaves out what was not there at build time. */
static int end_open(struct side *side, struct rival_end *ret_end)
{
	*ret_end = (struct rival_end){.rival = rival_find(side->of->rival), .side = side};
	return ret_end->rival->open(side, &ret_end->line);
}

static void end_close(struct rival_end *end)
{
	end->rival->close(end->line);
}

static inline int end_send(void *context, uint32_t number)
{
	struct rival_end *end = context;
	int error = end->rival->send(end->line, number);

	return error ? side_fail(end->side, error, "send") : 0;
}

static inline int end_receive(void *context, uint32_t number)
{
	struct rival_end *end = context;
	int error = end->rival->receive(end->line, number);

	return error ? side_fail(end->side, error, "receive") : 0;
}

static int send_stream(struct side *side, struct rival_end *end)
{
	uint64_t step = side_step(side->of->bytes);
	int error = 0;

	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		if (i == side_warm_up(side))
			side_start(side);
		if (i % step == 0)
			side_check_time(side, i, step);
		error = end_send(end, (uint32_t)i);
	}
	if (error == 0)
		side_finish(side);
	return error;
}

static int receive_stream(struct side *side, struct rival_end *end)
{
	struct stream_meter meter = {.side = side};
	int error = 0;

	for (uint64_t i = 0; i < side_total(side) && error == 0; i++) {
		stream_tick(&meter);
		error = end_receive(end, (uint32_t)i);
		stream_count(&meter, 1);
	}
	if (error == 0)
		side_finish(side);
	return error;
}

static int trip_first(struct side *side, struct rival_end *end)
{
	return roundtrip_first(side, end, end_send, end_receive);
}

static int trip_second(struct side *side, struct rival_end *end)
{
	return roundtrip_second(side, end, end_send, end_receive, NULL);
}

static int paced_first(struct side *side, struct rival_end *end)
{
	return pace_first(side, end, end_send);
}

static int paced_second(struct side *side, struct rival_end *end)
{
	return pace_second(side, end, end_receive);
}

static int run_end(struct side *side, int (*loop)(struct side *side, struct rival_end *end))
{
	struct rival_end end;
	int error = end_open(side, &end);

	if (error)
		return error;
	side_meet(side);
	error = loop(side, &end);
	end_close(&end);
	return error;
}

int rival_exchange_first(struct side *side)
{
	return run_end(side, trip_first);
}

int rival_exchange_second(struct side *side)
{
	return run_end(side, trip_second);
}

int rival_stream_first(struct side *side)
{
	return run_end(side, send_stream);
}

int rival_stream_second(struct side *side)
{
	return run_end(side, receive_stream);
}

int rival_open_first(struct side *side)
{
	return run_end(side, paced_first);
}

int rival_open_second(struct side *side)
{
	return run_end(side, paced_second);
}

void rival_clean_up(const char *channel)
{
	for (int i = 0; i < rival_count; i++)
		if (rivals[i]->clean_up)
			rivals[i]->clean_up(channel);
}
