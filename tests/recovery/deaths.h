/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests about death share: processes that do something and then stay until they are killed, killing them, and what a
 * look at the channel from outside tells.
 */
#ifndef TEST_DEATHS_H
#define TEST_DEATHS_H

#include "../support/exchange.h"
#include "../support/harness.h"

/* What a test and its processes share; zero to begin with. */
struct scene {
	struct tally ready; /* processes that have done what they came for */
	struct tally go;    /* of the test, for processes that wait for it */
	struct tally done;
	_Atomic int64_t number; /* anything that a process has to tell */
	_Atomic int result;
	_Atomic int pid;
};

struct scene *new_scene(void);

/* Longer than the self-wake of a sleeper and a look at liveness together, by far; less than anybody's patience. */
#define NOTICED (8 * SECOND)

/* Says that one is ready, and waits to be killed. */
void stay(struct scene *scene) __attribute__((noreturn));

/* Starts a process and waits until it says that it is ready. */
unsigned start_ready(process_body body, struct scene *scene, unsigned index);
/* Ends a process by SIGKILL and collects it. */
void kill_hard(unsigned process);
/* Waits for a process that must end well. */
void finish(unsigned process);
/* Stops a process, and waits until it has stopped; lets it go on. */
void stop(unsigned process);
void resume(unsigned process);

/* Joins channel "tokens" as a consumer, receives `index` messages, and stays. */
void hold_and_stay(void *scene, unsigned index);
/* Joins channel "tokens" as a producer with few options, sends 0 to `index` - 1, and stays. */
void send_and_stay(void *scene, unsigned index);

/* Receives a message that must be `number`, delivered for the `deliveries`-th time, and releases it. */
void take_again(struct sluice_consumer *consumer, int64_t number, uint32_t deliveries);
/* Messages of the producer's whole depth go through, and one more does not fit: nothing is missing of the lane. */
void check_full_capacity(struct sluice_producer *producer, struct sluice_consumer *consumer, unsigned depth);

/* A look at channel "tokens". */
struct view {
	unsigned alive; /* members */
	unsigned dead;
	unsigned lanes;
	uint64_t waiting; /* messages */
	uint64_t held;
	uint64_t set_aside;
};
struct view look(void);
/* Looks until so many members are known or seen to be dead, or until so many lanes are there. */
void wait_for_dead(unsigned count);

/* Removes channel "tokens" with all that is in it, used or not. */
void clear_away(void);

#endif
