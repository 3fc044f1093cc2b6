/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stage on which one call is cut short: a small channel, the members that the harness itself plays, and those that play
 * in processes of their own and die. Everything that is sent and received goes through here and into the ledger; whatever
 * does not go as it must ends the process with a violation.
 */
#ifndef CRASH_STAGE_H
#define CRASH_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <sluice/sluice.h>

#include "ledger.h"
#include "tracer.h"

#define STAGE_CHANNEL "crash"
#define STAGE_DEPTH   4
#define STAGE_PATIENT 0 /* the default time-out of opens, longer than anything here takes */
#define STAGE_HASTY   2000000
#define STAGE_HELD    32

struct stage_reader {
	struct sluice_consumer *handle;
	const struct sluice_message *held[STAGE_HELD];
	unsigned count;
	unsigned kept;                         /* of these so many are not released by stage_drain */
	struct ledger_entry *left[STAGE_HELD]; /* released behind a device's work */
	unsigned left_count;
};

struct stage {
	struct ledger *ledger;
	bool broadcast;
	bool inside; /* messages lie in their descriptors */
	bool ordered;
	uint32_t expected; /* consumers that a broadcast waits for; 0: none */
	int64_t take_back_ns;
	struct sluice_producer *producers[AUTHORS];
	struct stage_reader readers[READERS];
	struct sluice_message *reservation; /* the subject's */
	bool subject_reads;                 /* the subject is a living consumer, seen from the harness */
	pid_t dead_producer;                /* processes about to be killed; 0: none */
	pid_t dead_reader;
};

#define must(call) stage_must((call), #call)
void stage_must(int result, const char *call);

/* An empty stage in the manner of `like`: broadcast, inside, ordered, expected. */
void stage_reset(struct stage *stage, struct ledger *ledger, const struct stage *like);

int stage_open_producer(struct stage *stage, enum author author, int64_t timeout_ns);
int stage_open_reader(struct stage *stage, enum reader reader, int64_t timeout_ns);
void stage_close_producer(struct stage *stage, enum author author);
/* Closes with whatever it holds. */
void stage_close_reader(struct stage *stage, enum reader reader);

int stage_reserve(struct stage *stage, enum author author, int64_t timeout_ns, struct sluice_message **ret_message);
/* Fills, notes and publishes a reservation. */
void stage_publish(struct stage *stage, enum author author, struct sluice_message *message);
/* The same by `publish`: sluice_publish or sluice_publish_more. */
void stage_publish_by(struct stage *stage, enum author author, struct sluice_message *message,
	int (*publish)(struct sluice_message *));
/* Reserves without waiting and publishes. Returns 0 or -EAGAIN. */
int stage_send(struct stage *stage, enum author author);
void stage_send_many(struct stage *stage, enum author author, unsigned count);

/* Receives and keeps. Returns 0, -EAGAIN or -ETIMEDOUT. */
int stage_receive(struct stage *stage, enum reader reader, int64_t timeout_ns);
void stage_receive_many(struct stage *stage, enum reader reader, unsigned count);
/* Notes messages that were received by other means. */
void stage_take_over(struct stage *stage, enum reader reader, unsigned count);
/* Checks and releases the message at `index` of those held. */
void stage_release(struct stage *stage, enum reader reader, unsigned index);
/* The harness's own readers receive all there is and release it, except what they keep. */
void stage_drain(struct stage *stage);
/* What was kept is kept no longer. */
void stage_let_go(struct stage *stage);
/* The harness's own readers that are open, as bits. */
unsigned stage_open_readers(const struct stage *stage);

/* Processes that join, send or receive, and then wait for their death. */
void stage_start_dead_producer(struct stage *stage, unsigned send);
void stage_start_dead_reader(struct stage *stage, unsigned receive, unsigned release);
/* The same, doing something else with what it received. */
void stage_start_dead_reader_that(struct stage *stage, unsigned receive, void (*then)(struct stage *stage));
void stage_kill_dead(struct stage *stage);

/* Files in the directory of the channel. */
unsigned stage_files(void);

#endif
