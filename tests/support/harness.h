/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every test stands on: checks that also work in child processes, processes with a time limit, memory and tallies
 * that processes share, and a directory of shared memory for each test that must be empty again when it ends.
 */
#ifndef TEST_HARNESS_H
#define TEST_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include <sluice/sluice.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND      INT64_C(1000000000)
/* Longer than anything here takes, shorter than a test's limit: a wait that ends by it is a failure with a line number. */
#define PATIENCE (20 * SECOND)

/* A test with the directory, limit and leak check of this harness. */
#define promise(function) cmocka_unit_test_setup_teardown(function, sandbox_setup, sandbox_teardown)

/* Checks: in a child process a failed one ends that process with status 1, in the test itself it fails the test. */
#define check(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))
#define check_equal(expected, actual)                                                                                  \
	check_equal_at((uint64_t)(expected), (uint64_t)(actual), #actual, __FILE__, __LINE__)
/* A result of the library against 0, a count or a negative errno value; named in the message. */
#define check_result(expected, call) check_result_at((expected), (call), #call, __FILE__, __LINE__)

void check_failed(const char *what, const char *file, int line) __attribute__((noreturn));
void check_equal_at(uint64_t expected, uint64_t actual, const char *what, const char *file, int line);
void check_result_at(int expected, int actual, const char *what, const char *file, int line);

/* Prints why, then skips the test. */
#define skip_because(reason)                                                                                           \
	do {                                                                                                           \
		print_message("skipped: %s\n", reason);                                                                \
		skip();                                                                                                \
	} while (0)

/* Setup: a fresh directory, named by SLUICE_DIR. Teardown: fails if a file, descriptor, mapping or child is left. */
int sandbox_setup(void **state);
int sandbox_teardown(void **state);
const char *sandbox_directory(void);
/* Files in a directory; their names, sorted, go to `names` if that is not NULL. */
#define SANDBOX_NAMES 1024
typedef char sandbox_name[256];
unsigned directory_objects(const char *directory, sandbox_name *names);
/* The same for the sandbox. */
unsigned sandbox_objects(sandbox_name *names);
/* The path of `name` in the sandbox: in a static buffer of which there are four. */
const char *sandbox_path(const char *name);
/* Mappings of this process that show objects of the sandbox. */
unsigned sandbox_mappings(void);
unsigned open_descriptors(void);

/* Zeroed memory that processes started afterwards share; teardown frees it. */
void *shared_memory(size_t bytes);

/* A count that only grows, and that other processes can wait for. */
struct tally {
	_Atomic uint32_t count;
};
void tally_add(struct tally *tally);
uint32_t tally_read(struct tally *tally);
void tally_wait(struct tally *tally, uint32_t count);
/* Waits for so long at most; whether the count was reached. */
bool tally_wait_for(struct tally *tally, uint32_t count, int64_t timeout_ns);
/* Adds one and waits until `parties` have: the n-th use of a tally that starts at 0 passes `parties` times n. */
void tally_meet(struct tally *tally, uint32_t count);

typedef void (*process_body)(void *shared, unsigned index);
/* Starts a process that runs `body` and ends with 0, or with 1 if it left a descriptor or mapping. Returns a number. */
unsigned process_start(process_body body, void *shared, unsigned index);
pid_t process_pid(unsigned process);
/* Waits for one process; returns its wait status. One that outlives the limit is killed and fails the test. */
int process_status(unsigned process);
/* Waits for all that were started; each must have ended with 0. */
void processes_finish(void);

/* Seconds that a test may take. */
unsigned limit_seconds(void);
/*
 * A number of repetitions, smaller in slow builds: divided by SLUICE_TEST_DIVISOR if that is set, else by 20 under a
 * sanitizer, else as it is; at least 1.
 */
uint64_t scaled(uint64_t count);
uint64_t now_ns(void);

#endif
