/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the channels of a case. */
#include "link.h"

#include <stdio.h>

#include "case.h"

static int64_t spin_ns(const struct bench_case *of)
{
	switch (of->waiting) {
	case CASE_SPINS:
		return SLUICE_SPIN_ONLY;
	case CASE_SLEEPS:
		return SLUICE_NO_SPIN;
	default:
		return 0; /* the library's default */
	}
}

static int open_producer(struct link *link, const char *name, const struct sluice_channel_options *channel)
{
	struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = channel,
		.sample_rate_hz = link->side->of->sample_rate_hz,
		.spin_ns = spin_ns(link->side->of),
	};
	int error = sluice_producer_open(name, &options, &link->producer);

	return error ? side_fail(link->side, error, "sluice_producer_open") : 0;
}

static int open_consumer(struct link *link, const char *name, const struct sluice_channel_options *channel)
{
	struct sluice_consumer_options options = {
		.size = sizeof options,
		.channel = channel,
		.spin_ns = spin_ns(link->side->of),
	};

	/* A crowd's messages end when all its producers have left. */
	if (link->side->of->kind == CASE_CROWD) {
		options.flags = SLUICE_END_OF_STREAM;
		options.expected_producers = link->side->index == 0 ? (uint32_t)link->side->sides - 1 : 1;
	}
	int error = sluice_consumer_open(name, &options, &link->consumer);

	return error ? side_fail(link->side, error, "sluice_consumer_open") : 0;
}

int link_open(struct side *side, const char *out, const char *in, struct link *ret_link)
{
	const struct bench_case *of = side->of;
	struct sluice_channel_options channel = {
		.size = sizeof channel,
		.mode = of->mode ? of->mode : SLUICE_QUEUE,
		.depth = of->depth,
		.lane_bytes = of->lane_bytes,
	};
	char name[PAIR_CHANNEL_BYTES + 16];
	int error = 0;

	if (of->mode == SLUICE_BROADCAST)
		channel.expected_consumers = (uint32_t)side->sides - 1;
	*ret_link = (struct link){
		.side = side,
		.spec = {.name = "input_ids", .dtype = SLUICE_INT32, .ndim = 1},
		.count = of->bytes / sizeof(int32_t),
	};
	ret_link->spec.shape[0] = (int64_t)ret_link->count;
	if (out) {
		snprintf(name, sizeof name, "%s-%s", side->channel, out);
		error = open_producer(ret_link, name, &channel);
	}
	if (in && error == 0) {
		snprintf(name, sizeof name, "%s-%s", side->channel, in);
		error = open_consumer(ret_link, name, &channel);
	}
	return error;
}

void link_close(struct link *link)
{
	sluice_consumer_close(link->consumer);
	sluice_producer_close(link->producer);
}

void link_clean_up(const char *channel)
{
	const char *const ends[] = {"there", "back"};
	char name[PAIR_CHANNEL_BYTES + 8];

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		snprintf(name, sizeof name, "%s-%s", channel, ends[i]);
		(void)!sluice_channel_remove(name, NULL, SLUICE_REMOVE_FORCE);
	}
}
