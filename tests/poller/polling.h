/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of pollers share. Each program runs once for each backend, which its argument names. */
#ifndef TEST_POLLING_H
#define TEST_POLLING_H

#include "../support/exchange.h"
#include "../support/harness.h"

#define POLLER(...) (&(struct sluice_poller_options){.size = sizeof(struct sluice_poller_options), __VA_ARGS__})

/* So that only a wake-up ends a sleep, and one that is lost fails the test. */
#define NEVER (3600 * SECOND)

/* Longer than the self-wake of a sleeper and a look at liveness together, by far; less than anybody's patience. */
#define NOTICED (8 * SECOND)

/*
 * Runs the tests with the backend that the first argument names; 77 if the system has or allows no such backend. A
 * second argument is a number of rounds.
 */
int polling_main(int count, char **arguments, const char *name, int (*run)(void));

/* The rounds that were asked for, or else `count`, scaled. */
uint64_t rounds(uint64_t count);

/* The backend, and a poller that uses it, sleeps at once and up to `longest_sleep_ns` (0: as usual). */
uint32_t backend(void);
struct sluice_poller *new_poller(int64_t longest_sleep_ns);
void end_poller(struct sluice_poller *poller);

void poll_consumer(struct sluice_poller *poller, struct sluice_consumer *consumer, void *data);
void poll_producer(struct sluice_poller *poller, struct sluice_producer *producer, uint64_t bytes, void *data);

/* Waits for one event, which must be `events` with `data`. */
void expect_event(struct sluice_poller *poller, uint32_t events, const void *data, int error);
/* A look that finds nothing. */
void expect_nothing(struct sluice_poller *poller);

/* Whether the descriptor is readable now, or gets so in that time. */
bool is_readable(int descriptor, int64_t timeout_ns);

/* A process that sends 0 to `index` - 1 on channel "tokens" and leaves. */
void send_some(void *shared, unsigned index);

#endif
