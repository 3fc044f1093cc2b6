/* SPDX-License-Identifier: Apache-2.0 */
#include "spin.h"

#include "sys.h"

/* A sleep and its wake-up cost the waker about 2 us and the sleeper 16 us: three of those are worth spinning for. */
#define DEFAULT_SPIN_NS 50000

/* What a wait counts as that ended before it first read the clock. */
#define SHORT_WAIT_NS 2000

/* The newest wait's part in the average is one in so many: a change of habit shows after about as many waits. */
#define MEMORY 8

/* One wait in so many spins for as long as it may, however long they were lately. */
#define HOPE 16

/* The same where spinning may well be in the way of whom one waits for. */
#define HOPE_IF_PINNED 64

/* Spins in vain, one after another, that are no accident. */
#define MISSED_OFTEN 8

struct spin spin_for(int64_t option)
{
	if (option != 0)
		return (struct spin){.most_ns = option};
	if (sys_cpus_online() == 1)
		return (struct spin){.most_ns = -1};
	bool pinned = sys_cpu_count() == 1;
	return (struct spin){
		.most_ns = DEFAULT_SPIN_NS,
		.missed = pinned ? MISSED_OFTEN : 0,
		.hope = pinned ? HOPE_IF_PINNED : HOPE,
		.learns = true,
	};
}

int64_t spin_budget(const struct spin *spin)
{
	if (!spin->learns)
		return spin->most_ns;
	if (spin->gap_ns > (uint64_t)spin->most_ns || spin->missed >= MISSED_OFTEN)
		return spin->waits % spin->hope == 0 ? spin->most_ns : 0;
	int64_t budget = 2 * (int64_t)spin->gap_ns;
	if (budget < SHORT_WAIT_NS)
		return SHORT_WAIT_NS;
	return budget < spin->most_ns ? budget : spin->most_ns;
}

void spin_learn(struct spin *spin, uint64_t waited_ns, enum spin_outcome outcome)
{
	if (!spin->learns)
		return;
	spin->waits++;
	if (outcome == SPIN_MISSED && spin->missed < MISSED_OFTEN)
		spin->missed++;
	/* Whoever was gone for longer than any spin was not spinning then: the other had its CPU. */
	if (outcome == SPIN_HIT && waited_ns <= (uint64_t)spin->most_ns)
		spin->missed = 0;
	uint64_t most = 4 * (uint64_t)spin->most_ns;
	uint64_t counted = waited_ns < most ? waited_ns : most;
	spin->gap_ns = spin->gap_ns - spin->gap_ns / MEMORY + counted / MEMORY;
}

void spin_learn_from(struct spin *spin, const struct waiter *waiter)
{
	if (!spin->learns)
		return;
	enum spin_outcome outcome = waiter->sleeps == 0 ? SPIN_HIT : waiter->spin_ns > 0 ? SPIN_MISSED : SPIN_UNTRIED;
	spin_learn(spin, waiter->began_ns != 0 ? clock_monotonic_ns() - waiter->began_ns : SHORT_WAIT_NS, outcome);
}
