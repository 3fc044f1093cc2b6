/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a member spins before it sleeps, learnt from how long it had to wait lately.
 *
 * Spinning for what will not come in time costs a core and gains nothing; sleeping where it comes at once costs a system
 * call at either end. A member whose waits take about g spins for up to twice g and not beyond the bound; if g is beyond the
 * bound, it goes to sleep after a few looks. But two members that answer each other make long waits of short ones by
 * sleeping, and neither would ever find out: so each spins for as long as it may now and then.
 *
 * Two on one CPU gain nothing by spinning however short their waits, since the other only runs when the first one sleeps. A
 * member that may use one CPU only cannot know where the others are: pinned apart they are best served by spinning. So it
 * is the outcome that counts. Who spun and had to sleep all the same several times in a row spins only now and then, and who
 * is pinned to one CPU begins like that. Belongs to one thread.
 */
#ifndef SLUICE_LIB_SPIN_H
#define SLUICE_LIB_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "waiter.h"

struct spin {
	int64_t most_ns; /* the bound; negative: none, INT64_MAX: never sleep */
	uint64_t gap_ns; /* moving average of the waits */
	uint32_t waits;
	uint32_t missed; /* waits in a row that spun and slept all the same */
	uint32_t hope;   /* one wait in so many spins whatever the others came to */
	bool learns;     /* false: the caller said how long */
};

/*
 * For an option `spin_ns`: 0 is up to the default, learnt, and none on a machine of one CPU; all else is as it says. Looks at
 * the CPUs that the calling thread may use.
 */
struct spin spin_for(int64_t option);

/* How long the next wait may spin, as struct waiter takes it. */
int64_t spin_budget(const struct spin *spin);

enum spin_outcome {
	SPIN_HIT,    /* what it waited for came before a sleep */
	SPIN_MISSED, /* it spun, and slept all the same */
	SPIN_UNTRIED /* it went to sleep after a few looks */
};

/* Tells how long a wait took, ns. Waits much longer than the bound all count the same, so that none is long remembered. */
void spin_learn(struct spin *spin, uint64_t waited_ns, enum spin_outcome outcome);

/* The same, of a wait that got what it waited for. Reads the clock if the wait did. */
void spin_learn_from(struct spin *spin, const struct waiter *waiter);

#endif
