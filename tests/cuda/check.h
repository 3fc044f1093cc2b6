/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runner for tests that are run on machines with a GPU, which need not have cmocka. Each case is a process of its
 * own, because CUDA does not survive fork; the runner itself never touches it. Each case has a directory for shared
 * memory to itself and a time limit, and may leave nothing behind.
 */
#ifndef TEST_CUDA_CHECK_H
#define TEST_CUDA_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <sluice/sluice.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND      INT64_C(1000000000)
#define PATIENCE    (30 * SECOND) /* what must happen happens within this time, however slow the machine */

/* Ends the process with a message that names the place if a condition does not hold. */
#define check(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))
/* The same for numbers, which it prints; results of Sluice's calls it names. */
#define check_equal(expected, actual)                                                                                  \
	check_equal_at((int64_t)(expected), (int64_t)(actual), #actual, __FILE__, __LINE__)
#define check_result(expected, actual) check_result_at((expected), (actual), #actual, __FILE__, __LINE__)

void check_failed(const char *what, const char *file, int line) __attribute__((noreturn));
void check_equal_at(int64_t expected, int64_t actual, const char *what, const char *file, int line);
void check_result_at(int expected, int actual, const char *what, const char *file, int line);

struct check_case {
	const char *name;
	void (*run)(void);
	bool standin_only; /* needs what only the stand-in driver can be told */
};

#define CASE(function)                                                                                                 \
	{                                                                                                              \
#function, function, false                                                                             \
	}
#define STANDIN(function)                                                                                              \
	{                                                                                                              \
#function, function, true                                                                              \
	}

/*
 * Runs the cases, those named in the arguments only if any are. Returns the program's exit status: 77 if all were left
 * out.
 */
int check_main(int count, char **arguments, const struct check_case *cases, unsigned case_count);

/* ---- processes ---- */

/* Starts a process. Before CUDA is used in this one. Returns its number. */
unsigned start_process(void (*run)(void *argument), void *argument);
pid_t process_id(unsigned process);
/* Waits until it has ended, which it must have done well. */
void finish_process(unsigned process);
/* Kills it and waits. */
void kill_process(unsigned process);

/* Memory that is shared with processes started later, zeroed. */
void *shared_memory(size_t bytes);

/* A number that processes wait for. */
struct gauge {
	_Atomic uint32_t value;
};
void gauge_set(struct gauge *gauge, uint32_t value);
/* Waits until it is at least `value`. */
void gauge_wait(struct gauge *gauge, uint32_t value);
/* The same for a given time; false if that passed. */
bool gauge_reaches(struct gauge *gauge, uint32_t value, int64_t timeout_ns);

uint64_t now_ns(void);

/* Waits until a condition holds, which it does within PATIENCE. */
#define eventually(condition)                                                                                          \
	for (uint64_t eventually_end = now_ns() + PATIENCE; !(condition); check_pause())                               \
	check(now_ns() < eventually_end)
void check_pause(void);

/* ---- channels ---- */

#define CHANNEL(...)                                                                                                   \
	(&(struct sluice_channel_options){                                                                             \
		.size = sizeof(struct sluice_channel_options), .lane_bytes = 65536, .depth = 8, __VA_ARGS__})
#define PRODUCER(...) (&(struct sluice_producer_options){.size = sizeof(struct sluice_producer_options), __VA_ARGS__})
#define CONSUMER(...) (&(struct sluice_consumer_options){.size = sizeof(struct sluice_consumer_options), __VA_ARGS__})

struct sluice_producer *join_producer(const struct sluice_producer_options *options);
struct sluice_consumer *join_consumer(const struct sluice_consumer_options *options);

/*
 * Publishes `bytes` bytes that follow from `seed`, with that as correlation id. Returns what reserve or publish said.
 */
int send_pattern(struct sluice_producer *producer, uint64_t seed, uint64_t bytes, int64_t timeout_ns);
/* True if these are the bytes of that seed. */
bool is_pattern(const void *data, uint64_t seed, uint64_t bytes);
/* Receives, which must succeed. */
const struct sluice_message *hold(struct sluice_consumer *consumer);
/* Messages that are held, of the lane at `index`, and bytes of it that wait; as seen from outside. */
uint64_t held_messages(void);

#endif
