/* SPDX-License-Identifier: Apache-2.0 */
/* Finding out which clock to use, how long a tick is and what a reading costs. */
#include "ticks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define CALIBRATION_NS 30000000u
#define COST_READINGS  10000

struct ticks_clock ticks_clock = {.counter = false, .ns_per_tick = 1, .read_ns = 0};

static bool counter_is_invariant(void)
{
#if defined(__x86_64__)
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) || !(edx & 1u << 8))
		return false;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (edx & 1u << 27); /* rdtscp */
#else
	return false;
#endif
}

static double measure_tick(void)
{
	uint64_t begin_ns = ticks_monotonic_ns();
	uint64_t begin = ticks_now();
	uint64_t end_ns;

	do {
		end_ns = ticks_monotonic_ns();
	} while (end_ns - begin_ns < CALIBRATION_NS);
	return (double)(end_ns - begin_ns) / (double)(ticks_now() - begin);
}

static double measure_cost(void)
{
	uint64_t begin = ticks_now();
	uint64_t end = begin;

	for (int i = 0; i < COST_READINGS; i++)
		end = ticks_now();
	return (double)(end - begin) * ticks_clock.ns_per_tick / COST_READINGS;
}

void ticks_set_up(void)
{
	ticks_clock.counter = counter_is_invariant();
	if (ticks_clock.counter)
		ticks_clock.ns_per_tick = measure_tick();
	ticks_clock.read_ns = measure_cost();
}
