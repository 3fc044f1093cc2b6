/* SPDX-License-Identifier: Apache-2.0 */
/* The course of a wait: which decisions follow each other for which time-out and spin. How long they take is not told. */
#include "spin.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include <sluice/channel.h>

#include "../support/harness.h"
#include "corrupt.h"

#define STEPS 100000 /* more than pass between two readings of the clock, by far */

/* The first decision that is not to spin, if there is one within STEPS. */
static enum waiter_next first_other(struct waiter *waiter)
{
	for (unsigned i = 0; i < STEPS; i++) {
		const enum waiter_next next = waiter_step(waiter);

		if (next != WAITER_SPIN)
			return next;
	}
	return WAITER_SPIN;
}

/* The same, however long the spin takes. */
static enum waiter_next end_of_spin(struct waiter *waiter)
{
	const uint64_t end = now_ns() + (uint64_t)PATIENCE;
	enum waiter_next next;

	while ((next = first_other(waiter)) == WAITER_SPIN)
		check(now_ns() < end);
	return next;
}

static void a_wait_of_zero_is_over_at_once(void **state)
{
	static const int64_t spins[] = {SLUICE_NO_SPIN, 1, SECOND, SLUICE_SPIN_ONLY};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(spins); i++) {
		struct waiter waiter = waiter_for(0, spins[i]);

		check_equal(WAITER_OVER, waiter_step(&waiter));
		check_result(-EAGAIN, deadline_error(&waiter.deadline));
		check_equal(0, waiter_sleep_ns(&waiter));
	}
}

static void a_wait_that_is_past_is_over_at_once_and_says_so(void **state)
{
	static const int64_t timeouts[] = {-1, -SECOND, INT64_MIN};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(timeouts); i++) {
		struct waiter waiter = waiter_for(timeouts[i], SECOND);

		check_equal(WAITER_OVER, waiter_step(&waiter));
		check_result(-ETIMEDOUT, deadline_error(&waiter.deadline));
		check_equal(0, waiter_sleep_ns(&waiter));
	}
}

static void without_spin_it_sleeps_at_once_and_ends_by_the_sleep(void **state)
{
	struct waiter waiter = waiter_for(1, SLUICE_NO_SPIN);

	(void)state;
	check_equal(WAITER_SLEEP, waiter_step(&waiter));
	check_equal(1, waiter_sleep_ns(&waiter));
	for (unsigned i = 0; i < 3; i++) {
		check_equal(WAITER_SLEEP, waiter_step(&waiter));
		while (waiter_sleep_ns(&waiter) != 0)
			continue;
	}
	check_result(-ETIMEDOUT, deadline_error(&waiter.deadline));
}

static void a_wait_for_ever_sleeps_a_second_at_a_time_and_is_never_over(void **state)
{
	struct waiter waiter = waiter_for(SLUICE_FOREVER, SLUICE_NO_SPIN);

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		check_equal(WAITER_SLEEP, waiter_step(&waiter));
		check_equal(WAITER_LONGEST_SLEEP_NS, waiter_sleep_ns(&waiter));
	}
}

static void a_sleep_is_no_longer_than_what_is_left(void **state)
{
	struct waiter waiter = waiter_for(SECOND / 2, SLUICE_NO_SPIN);
	uint64_t last = SECOND / 2;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		const uint64_t left = waiter_sleep_ns(&waiter);

		check(left <= last);
		last = left;
	}
	waiter = waiter_for(100 * SECOND, SLUICE_NO_SPIN);
	check_equal(WAITER_LONGEST_SLEEP_NS, waiter_sleep_ns(&waiter));
}

static void who_only_spins_never_sleeps(void **state)
{
	struct waiter forever = waiter_for(SLUICE_FOREVER, SLUICE_SPIN_ONLY);
	struct waiter bounded = waiter_for(MILLISECOND, SLUICE_SPIN_ONLY);

	(void)state;
	check_equal(WAITER_SPIN, first_other(&forever));
	check_equal(WAITER_OVER, end_of_spin(&bounded));
	check_result(-ETIMEDOUT, deadline_error(&bounded.deadline));
}

static void a_bounded_spin_ends_in_a_sleep_and_starts_anew_after_it(void **state)
{
	struct waiter waiter = waiter_for(SLUICE_FOREVER, MILLISECOND / 10);

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		const uint64_t begin = now_ns();

		check_equal(WAITER_SPIN, waiter_step(&waiter));
		check_equal(WAITER_SLEEP, end_of_spin(&waiter));
		check(now_ns() - begin >= MILLISECOND / 10);     /* the whole spin, each time */
		check_equal(WAITER_SLEEP, end_of_spin(&waiter)); /* until it slept */
		check_equal(WAITER_LONGEST_SLEEP_NS, waiter_sleep_ns(&waiter));
	}
}

static void a_wait_shorter_than_its_spin_is_over_without_a_sleep(void **state)
{
	struct waiter waiter = waiter_for(MILLISECOND / 10, 10 * SECOND);

	(void)state;
	check_equal(WAITER_SPIN, waiter_step(&waiter));
	check_equal(WAITER_OVER, end_of_spin(&waiter));
	check_equal(WAITER_OVER, end_of_spin(&waiter));
}

/* ---- how long to spin ---- */

static void the_spin_asked_for_is_the_spin_used(void **state)
{
	static const int64_t options[] = {SLUICE_NO_SPIN, 1, SECOND, SLUICE_SPIN_ONLY, INT64_MIN};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(options); i++) {
		struct spin spin = spin_for(options[i]);

		for (unsigned k = 0; k < 100; k++)
			spin_learn(&spin, 100 * SECOND, SPIN_MISSED);
		check(spin_budget(&spin) == options[i]);
	}
}

static void learn_often(struct spin *spin, uint64_t waited_ns)
{
	for (unsigned i = 0; i < 40; i++)
		spin_learn(spin, waited_ns, SPIN_HIT);
}

static void the_default_spin_follows_the_waits_within_its_bound(void **state)
{
	struct spin spin = {.most_ns = 50000, .hope = 16, .learns = true};

	(void)state;
	check(spin_budget(&spin) > 0); /* hopeful at first */
	learn_often(&spin, 10000);
	check(spin_budget(&spin) >= 15000 && spin_budget(&spin) <= 20000);
	learn_often(&spin, 45000);
	check_equal(50000, spin_budget(&spin));
	learn_often(&spin, 1000);
	check(spin_budget(&spin) > 0 && spin_budget(&spin) <= 5000);
}

static void waits_beyond_the_bound_are_not_spun_for_but_now_and_then(void **state)
{
	struct spin spin = {.most_ns = 50000, .hope = 16, .learns = true};
	unsigned spun = 0;

	(void)state;
	learn_often(&spin, 10 * MILLISECOND);
	for (unsigned i = 0; i < 160; i++) {
		check(spin_budget(&spin) == 0 || spin_budget(&spin) == 50000);
		spun += spin_budget(&spin) != 0;
		spin_learn(&spin, 10 * MILLISECOND, SPIN_UNTRIED);
	}
	check_equal(10, spun);
}

static void one_long_wait_does_not_end_spinning(void **state)
{
	struct spin spin = {.most_ns = 50000, .hope = 16, .learns = true};

	(void)state;
	learn_often(&spin, 1000);
	spin_learn(&spin, 3600 * (uint64_t)SECOND, SPIN_MISSED);
	spin_learn(&spin, 1000, SPIN_HIT);
	spin_learn(&spin, 1000, SPIN_HIT);
	check(spin_budget(&spin) > 0);
}

static unsigned spins_in(struct spin *spin, unsigned waits, uint64_t waited_ns)
{
	unsigned spun = 0;

	for (unsigned i = 0; i < waits; i++) {
		bool spins = spin_budget(spin) > 0;

		spun += spins;
		spin_learn(spin, waited_ns, spins ? SPIN_MISSED : SPIN_UNTRIED);
	}
	return spun;
}

/* Two on one CPU: each waits a short while, but only ever asleep. */
static void spins_that_never_help_end_however_short_the_waits(void **state)
{
	struct spin spin = {.most_ns = 50000, .hope = 16, .learns = true};

	(void)state;
	spins_in(&spin, 16, 10000);
	check_equal(10, spins_in(&spin, 160, 10000));
	spin_learn(&spin, 10000, SPIN_HIT);
	check(spin_budget(&spin) > 0);
	check(spins_in(&spin, 4, 10000) == 4);
	/* Found after it had not run for long: that was not the spin's doing. */
	spins_in(&spin, 16, 10000);
	spin_learn(&spin, 10 * MILLISECOND, SPIN_HIT);
	check(spins_in(&spin, 15, 10000) <= 1);
}

static void a_wait_says_whether_its_spin_was_in_vain(void **state)
{
	struct spin spin = {.most_ns = 50000, .hope = 16, .learns = true};

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct waiter waiter = waiter_for(SLUICE_FOREVER, spin_budget(&spin));

		(void)waiter_sleep_ns(&waiter);
		spin_learn_from(&spin, &waiter);
	}
	spin.waits = 17;
	check_equal(0, spin_budget(&spin));
	struct waiter waiter = waiter_for(SLUICE_FOREVER, 0);

	spin_learn_from(&spin, &waiter);
	check(spin_budget(&spin) > 0);
}

static void one_cpu_is_no_place_to_spin(void **state)
{
	cpu_set_t before, one;
	int cpu;

	(void)state;
	check_result(0, sched_getaffinity(0, sizeof before, &before));
	for (cpu = 0; !CPU_ISSET(cpu, &before);)
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	check_result(0, sched_setaffinity(0, sizeof one, &one));
	struct spin spin = spin_for(0);

	check_result(0, sched_setaffinity(0, sizeof before, &before));
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1) {
		check(spin_budget(&spin) < 0);
		return;
	}
	/* The others may be on another: it is tried now and then, and kept to if it helps. */
	check_equal(10, spins_in(&spin, 640, 10000));
	spin_learn(&spin, 10000, SPIN_HIT);
	check(spins_in(&spin, 4, 10000) == 4);
}

/* ---- deadlines, on a clock of their own ---- */

static void a_deadline_counts_from_the_first_look(void **state)
{
	struct deadline deadline = deadline_in(100);

	(void)state;
	check_equal(100, deadline_left_ns(&deadline, 5000));
	check_equal(60, deadline_left_ns(&deadline, 5040));
	check_equal(1, deadline_left_ns(&deadline, 5099));
	check_equal(0, deadline_left_ns(&deadline, 5100));
	check_equal(0, deadline_left_ns(&deadline, 999999));
}

static void a_deadline_beyond_all_time_does_not_wrap(void **state)
{
	struct deadline forever = deadline_in(SLUICE_FOREVER);
	struct deadline nearly = deadline_in(SLUICE_FOREVER - 1);

	(void)state;
	check_equal(UINT64_MAX, deadline_left_ns(&forever, 5000));
	check_equal(UINT64_MAX, deadline_left_ns(&forever, INT64_MAX));
	check_equal(INT64_MAX - 1, deadline_left_ns(&nearly, INT64_MAX));
	check_equal(INT64_MAX - 2, deadline_left_ns(&nearly, (uint64_t)INT64_MAX + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_wait_of_zero_is_over_at_once),
		promise(a_wait_that_is_past_is_over_at_once_and_says_so),
		promise(without_spin_it_sleeps_at_once_and_ends_by_the_sleep),
		promise(a_wait_for_ever_sleeps_a_second_at_a_time_and_is_never_over),
		promise(a_sleep_is_no_longer_than_what_is_left),
		promise(who_only_spins_never_sleeps),
		promise(a_bounded_spin_ends_in_a_sleep_and_starts_anew_after_it),
		promise(a_wait_shorter_than_its_spin_is_over_without_a_sleep),
		promise(the_spin_asked_for_is_the_spin_used),
		promise(the_default_spin_follows_the_waits_within_its_bound),
		promise(waits_beyond_the_bound_are_not_spun_for_but_now_and_then),
		promise(one_long_wait_does_not_end_spinning),
		promise(spins_that_never_help_end_however_short_the_waits),
		promise(a_wait_says_whether_its_spin_was_in_vain),
		promise(one_cpu_is_no_place_to_spin),
		promise(a_deadline_counts_from_the_first_look),
		promise(a_deadline_beyond_all_time_does_not_wrap),
	};

	return cmocka_run_group_tests_name("waiter", tests, NULL, NULL);
}
