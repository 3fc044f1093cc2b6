/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>

#include "atomic.h"
#include "sandbox.h"

#define SECOND_NS       UINT64_C(1000000000)
#define MONOTONIC_START (UINT64_C(1000) * SECOND_NS)
#define REALTIME_START  (UINT64_C(1700000000) * SECOND_NS)
#define READING_NS      1000
#define HUNG_SECONDS    20 /* of the processor's time */

static uint64_t passed_ns;
static uint64_t last_random;
static volatile sig_atomic_t seconds;

/* ---- clocks ---- */

uint64_t __wrap_clock_monotonic_ns(void);
uint64_t __wrap_clock_monotonic_ns(void)
{
	passed_ns += READING_NS;
	return MONOTONIC_START + passed_ns;
}

uint64_t __wrap_clock_realtime_ns(void);
uint64_t __wrap_clock_realtime_ns(void)
{
	passed_ns += READING_NS;
	return REALTIME_START + passed_ns;
}

static void pass(const struct timespec *duration)
{
	passed_ns += (uint64_t)duration->tv_sec * SECOND_NS + (uint64_t)duration->tv_nsec;
}

int __wrap_nanosleep(const struct timespec *duration, struct timespec *left);
int __wrap_nanosleep(const struct timespec *duration, struct timespec *left)
{
	(void)left;
	pass(duration);
	return 0;
}

/* ---- futexes ---- */

static long wait_in_vain(const uint32_t *word, uint32_t expected, const struct timespec *timeout)
{
	if (timeout == NULL)
		fail("a wait without end");
	if (atomic_load_acquire(word) != expected) {
		errno = EAGAIN;
		return -1;
	}
	pass(timeout);
	errno = ETIMEDOUT;
	return -1;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	va_start(list, number);
	uint32_t *word = va_arg(list, uint32_t *);
	int operation = va_arg(list, int);
	uint32_t value = va_arg(list, uint32_t);
	const struct timespec *timeout = va_arg(list, const struct timespec *);
	va_end(list);
	if (number != SYS_futex || (operation != FUTEX_WAIT && operation != FUTEX_WAKE))
		fail("a system call that pace.c does not know");
	return operation == FUTEX_WAIT ? wait_in_vain(word, value, timeout) : 0;
}

void pace_wait(const uint32_t *word, uint32_t expected)
{
	(void)__real_syscall(SYS_futex, word, FUTEX_WAIT, expected, NULL, NULL, 0);
}

void pace_wake(uint32_t *word)
{
	(void)__real_syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- chance ---- */

ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags)
{
	(void)flags;
	if (count != sizeof last_random)
		fail("random numbers of another size");
	last_random = last_random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	*(uint64_t *)bytes = last_random;
	return (ssize_t)count;
}

/* ---- hangs ---- */

static void note_second(int number)
{
	(void)number;
	if (++seconds >= HUNG_SECONDS)
		fail("an execution that does not end");
}

void pace_start(void)
{
	const struct itimerval interval = {{1, 0}, {1, 0}};
	struct sigaction action = {.sa_handler = note_second, .sa_flags = SA_RESTART};
	if (sigaction(SIGPROF, &action, NULL) != 0 || setitimer(ITIMER_PROF, &interval, NULL) != 0)
		fail("no timer");
}

void pace_begin(void)
{
	passed_ns = 0;
	last_random = 1;
	seconds = 0;
}

void pace_end(void)
{
	seconds = INT_MIN; /* what the fuzzer itself does may take its time */
}
