/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of the C library's clock_gettime for everything that is linked into this program. */
#include "clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS   UINT64_C(1000000000)
#define HELD_CLOCKS 2 /* CLOCK_REALTIME and CLOCK_MONOTONIC */

static uint64_t ahead_ns;
static uint64_t rush_ns;
static uint64_t hold_ns;
static struct timespec held[HELD_CLOCKS];

void clock_advance(uint64_t duration_ns)
{
	ahead_ns += duration_ns;
}

void clock_rush(uint64_t step_ns)
{
	rush_ns = step_ns;
}

void clock_hold(uint64_t step_ns)
{
	hold_ns = step_ns;
	for (clockid_t clock = 0; clock < HELD_CLOCKS; clock++)
		(void)syscall(SYS_clock_gettime, clock, &held[clock]);
}

static void read_clock(clockid_t clock, struct timespec *ret_time)
{
	if (hold_ns != 0 && clock < HELD_CLOCKS)
		*ret_time = held[clock];
	else
		(void)syscall(SYS_clock_gettime, clock, ret_time);
}

/* In a section of its own, which the tracer takes for the C library's. */
__attribute__((section("crash_clock"))) int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	read_clock(clock, ret_time);
	ahead_ns += rush_ns + hold_ns;
	uint64_t time_ns = (uint64_t)ret_time->tv_nsec + ahead_ns;
	ret_time->tv_sec += (time_t)(time_ns / SECOND_NS);
	ret_time->tv_nsec = (long)(time_ns % SECOND_NS);
	return 0;
}
