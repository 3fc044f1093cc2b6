/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A case: what two or more processes do together, with which sizes. The table of them is in cases.c; a new case is a
 * pair of functions and a line there. Targets are in target.h.
 */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/channel.h>
#include <sluice/poller.h>

struct side;

enum case_kind {
	CASE_ROUND_TRIP, /* a repetition is there and back */
	CASE_STREAM,     /* a repetition is one message; a sample is the mean of CASE_STREAM_BLOCK of them */
	CASE_OPEN,       /* messages are sent at a fixed rate; a sample is the time from when one was due */
	CASE_SIZE,       /* as a stream, of any size: only the time of the whole */
	CASE_CROWD,      /* one process on one side, several on the other: the time of the whole, and their shares */
	CASE_IDLE,       /* nothing is sent; CPU time and wake-ups count */
	CASE_KINDS
};

#define CASE_STREAM_BLOCK 256 /* too short a time to stamp each message */

enum case_waiting {
	CASE_SPINS,  /* neither process ever sleeps */
	CASE_SLEEPS, /* who waits sleeps at once */
	CASE_BLOCKS  /* as a blocking call does it by default: what spins first spins, what does not does not */
};

/* How often a case runs. */
enum case_turns {
	CASE_EVERY_ROUND,
	CASE_SOME_ROUNDS, /* in one of several rounds, for half the time: for what differs by more than a few percent */
	CASE_ONE_ROUND    /* once, for longer: for what happens rarely */
};

struct bench_case {
	const char *name;
	const char *what;
	const char *against; /* name of the case that this one is compared with; NULL if none is */
	const char *beside;  /* another that it is compared with, beside that one; or NULL */
	const char *rival;   /* the transport, if it is neither Sluice nor bare: see rival.h */
	enum case_kind kind;
	enum case_waiting waiting;
	enum case_turns turns;
	uint64_t pause_ns; /* of the first side before it sends: time for the other to fall asleep */
	uint32_t rate_hz;  /* open: messages a second, unless the user says otherwise */
	size_t bytes;
	uint32_t depth; /* messages that can be under way in one direction */
	uint64_t lane_bytes;
	enum sluice_mode mode;                 /* 0: queue */
	uint32_t sample_rate_hz;               /* of Sluice's time stamps; 0: its default */
	uint32_t batch;                        /* messages of one receive */
	enum sluice_poller_backends poller;    /* whose receivers wait in a poller: how it sleeps */
	bool in_loop;                          /* that poller's descriptor is in an epoll, as in an event loop */
	uint32_t entries;                      /* channels from the first side to the second, all in one poller */
	bool alone;                            /* crowd: one member on the side of the many, for comparison */
	bool untouched;                        /* the payload is neither written nor read */
	bool release_late;                     /* the second side answers first and then releases */
	int (*run[2])(struct side *side);      /* of the first side, and of the others */
	void (*clean_up)(const char *channel); /* after a run that failed; may be NULL */
};

extern const struct bench_case bench_cases[];
extern const size_t bench_case_count;

/* The case of that name, or NULL. */
const struct bench_case *case_find(const char *name);

/* Limits: no library, memory shared by fork. */
int limit_line_first(struct side *side);
int limit_line_second(struct side *side);
int limit_buffer_first(struct side *side);
int limit_buffer_second(struct side *side);
int limit_futex_first(struct side *side);
int limit_futex_second(struct side *side);
int limit_epoll_first(struct side *side);
int limit_epoll_second(struct side *side);
int limit_ring_first(struct side *side);
int limit_ring_second(struct side *side);
int limit_copy_first(struct side *side);
int limit_copy_second(struct side *side);

/* Sluice. */
int exchange_first(struct side *side);
int exchange_second(struct side *side);
int stream_first(struct side *side);
int stream_second(struct side *side);
int open_first(struct side *side);
int open_second(struct side *side);
int gather_consumer(struct side *side);
int gather_producer(struct side *side);
int spread_producer(struct side *side);
int spread_consumer(struct side *side);
int idle_first(struct side *side);
int idle_second(struct side *side);
int polled_exchange_first(struct side *side);
int polled_exchange_second(struct side *side);
int polled_stream_second(struct side *side);
void polled_clean_up(const char *channel);
void link_clean_up(const char *channel);
void idle_clean_up(const char *channel);

/* Others, by the case's `rival`. */
int rival_exchange_first(struct side *side);
int rival_exchange_second(struct side *side);
int rival_stream_first(struct side *side);
int rival_stream_second(struct side *side);
int rival_open_first(struct side *side);
int rival_open_second(struct side *side);
void rival_clean_up(const char *channel);

#endif
