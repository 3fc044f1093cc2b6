/* SPDX-License-Identifier: Apache-2.0 */
#include "waiter.h"

#include "atomic.h"

/* Steps between two readings of the clock. */
#define STEPS_PER_CLOCK 4

enum waiter_next waiter_step(struct waiter *waiter)
{
	waiter->now_ns = 0;
	if (waiter->deadline.timeout_ns <= 0)
		return WAITER_OVER;
	if (waiter->spin_ns < 0)
		return WAITER_SLEEP;
	if (++waiter->steps % STEPS_PER_CLOCK != 0)
		return WAITER_SPIN;
	uint64_t now_ns = clock_monotonic_ns();
	waiter->now_ns = now_ns;
	if (waiter->began_ns == 0)
		waiter->began_ns = now_ns;
	if (deadline_left_ns(&waiter->deadline, now_ns) == 0)
		return WAITER_OVER;
	if (waiter->spin_ns == INT64_MAX)
		return WAITER_SPIN;
	if (waiter->spin_end == 0)
		waiter->spin_end = now_ns + (uint64_t)waiter->spin_ns;
	return now_ns < waiter->spin_end ? WAITER_SPIN : WAITER_SLEEP;
}

uint64_t waiter_sleep_ns(struct waiter *waiter)
{
	waiter->sleeps++;
	waiter->now_ns = clock_monotonic_ns();
	waiter->spin_end = waiter->nap_ns != 0 ? waiter->now_ns : 0;
	if (waiter->began_ns == 0)
		waiter->began_ns = waiter->now_ns;
	uint64_t left_ns = deadline_left_ns(&waiter->deadline, waiter->now_ns);
	uint64_t longest_ns = waiter->nap_ns != 0 ? waiter->nap_ns : WAITER_LONGEST_SLEEP_NS;
	return left_ns < longest_ns ? left_ns : longest_ns;
}
