/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <errno.h>
#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * CLOCK_SECOND_NS + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

uint64_t deadline_left_ns(struct deadline *deadline, uint64_t now_ns)
{
	if (deadline->timeout_ns <= 0)
		return 0;
	if (deadline->timeout_ns == INT64_MAX)
		return UINT64_MAX;
	if (deadline->end_ns == 0)
		deadline->end_ns = now_ns + (uint64_t)deadline->timeout_ns;
	return now_ns < deadline->end_ns ? deadline->end_ns - now_ns : 0;
}

int deadline_error(const struct deadline *deadline)
{
	return deadline->timeout_ns == 0 ? -EAGAIN : -ETIMEDOUT;
}
