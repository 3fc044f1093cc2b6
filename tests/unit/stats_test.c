/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms whose figures are never too small and hardly too large, and the choice of messages that get stamps. */
#include "stats.h"

#include <string.h>

#include <sluice/producer.h>

#include "clock.h"

#include "../support/harness.h"
#include "corrupt.h"
#include "random.h"

#define LAST_OCTAVE_END (UINT64_C(1) << 38)

/* The bucket that a value falls into, and that bucket's end. */
static uint32_t bucket_of(uint64_t value, uint64_t *ret_end)
{
	struct layout_histogram histogram = {0};
	struct sluice_distribution distribution;
	uint32_t bucket = 0;

	stats_record(&histogram, value);
	stats_distribution(&histogram, &distribution);
	check_equal(1, distribution.count);
	while (histogram.buckets[bucket] == 0)
		bucket++;
	*ret_end = distribution.max_ns;
	return bucket;
}

static void check_value(uint64_t value)
{
	uint64_t end;
	const uint32_t bucket = bucket_of(value, &end);

	check(bucket < LAYOUT_BUCKETS);
	if (value >= LAST_OCTAVE_END) {
		check_equal(LAYOUT_BUCKETS - 1, bucket);
		check_equal(LAST_OCTAVE_END, end);
		return;
	}
	check(value < end);
	check(value < 128 ? end - value <= 16 : end - value <= value / 8);
}

static void a_value_is_below_its_buckets_end_by_an_eighth_at_most(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (uint64_t value = 0; value < 5000; value++)
		check_value(value);
	for (uint32_t octave = 0; octave < 64; octave++)
		for (unsigned i = 0; i < 200; i++)
			check_value((UINT64_C(1) << octave) + (random_number(&seed) & ((UINT64_C(1) << octave) - 1)));
	check_value(LAST_OCTAVE_END - 1);
	check_value(LAST_OCTAVE_END);
	check_value(UINT64_MAX);
}

static void buckets_rise_over_all_octaves_and_none_is_left_out(void **state)
{
	uint64_t end = 0, next_end;

	(void)state;
	for (uint32_t bucket = 0; bucket < LAYOUT_BUCKETS; bucket++, end = next_end) {
		uint64_t same_end;

		check_equal(bucket, bucket_of(end, &next_end)); /* each begins where the last one ends */
		check(next_end > end);
		check_equal(bucket, bucket_of(next_end - 1, &same_end));
		check_equal(next_end, same_end);
	}
	check_equal(LAST_OCTAVE_END, end);
}

/* ---- distributions ---- */

static void an_empty_histogram_has_no_figures(void **state)
{
	const struct layout_histogram histogram = {0};
	const struct sluice_distribution zero = {0};
	struct sluice_distribution distribution = {.count = 1, .max_ns = 1};

	(void)state;
	stats_distribution(&histogram, &distribution);
	check(memcmp(&zero, &distribution, sizeof zero) == 0);
}

static void check_near(uint64_t exact, uint64_t figure)
{
	check(figure >= exact && figure - exact <= exact / 8);
}

static void figures_of_known_values_are_right(void **state)
{
	struct layout_histogram histogram = {0};
	struct sluice_distribution distribution;

	(void)state;
	for (uint64_t i = 1; i <= 10000; i++)
		stats_record(&histogram, (i * 7919 % 10000 + 1) * 1000); /* in no order: 1 to 10000 us */
	stats_distribution(&histogram, &distribution);
	check_equal(10000, distribution.count);
	check_near(5000 * 1000, distribution.p50_ns);
	check_near(9500 * 1000, distribution.p95_ns);
	check_near(9900 * 1000, distribution.p99_ns);
	check_near(9990 * 1000, distribution.p999_ns);
	check_near(10000 * 1000, distribution.max_ns);
}

static void one_outlier_in_a_thousand_shows_in_the_maximum_only(void **state)
{
	struct layout_histogram histogram = {0};
	struct sluice_distribution distribution;

	(void)state;
	for (unsigned i = 0; i < 999; i++)
		stats_record(&histogram, 1000);
	stats_record(&histogram, 1000000);
	stats_distribution(&histogram, &distribution);
	check_near(1000, distribution.p50_ns);
	check_near(1000, distribution.p999_ns);
	check_near(1000000, distribution.max_ns);
	stats_record(&histogram, 1000000);
	stats_distribution(&histogram, &distribution);
	check_near(1000, distribution.p99_ns);
	check_near(1000000, distribution.p999_ns);
}

static void figures_of_one_value_are_all_the_same(void **state)
{
	struct layout_histogram histogram = {0};
	struct sluice_distribution distribution;

	(void)state;
	stats_record(&histogram, 4711);
	stats_distribution(&histogram, &distribution);
	check_near(4711, distribution.max_ns);
	check(distribution.p50_ns == distribution.max_ns && distribution.p95_ns == distribution.max_ns);
	check(distribution.p99_ns == distribution.max_ns && distribution.p999_ns == distribution.max_ns);
}

static void figures_rise_whatever_the_buckets_hold(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct layout_histogram histogram;
		struct sluice_distribution distribution;

		/* Sums that wrap, too: other processes write these. */
		for (unsigned k = 0; k < LAYOUT_BUCKETS; k++)
			histogram.buckets[k] = random_number(&seed) >> random_below(&seed, 64);
		stats_distribution(&histogram, &distribution);
		check(distribution.p50_ns <= distribution.p95_ns && distribution.p95_ns <= distribution.p99_ns);
		check(distribution.p99_ns <= distribution.p999_ns && distribution.p999_ns <= distribution.max_ns);
		check(distribution.max_ns <= LAST_OCTAVE_END);
	}
}

static void a_counter_adds_up(void **state)
{
	uint64_t counter = 5;

	(void)state;
	stats_add(&counter, 7);
	check_equal(12, counter);
}

/* ---- sampling ---- */

/* Lets `count` messages pass, `gap_ns` apart on a clock of its own; returns how many were stamped. */
static uint64_t stamped_of(struct sampler *sampler, uint64_t *clock_ns, uint64_t count, uint64_t gap_ns)
{
	uint64_t stamped = 0;

	for (uint64_t i = 0; i < count; i++) {
		*clock_ns += gap_ns;
		if (!sampler_is_due(sampler))
			continue;
		sampler_stamped(sampler, *clock_ns);
		stamped++;
	}
	return stamped;
}

static void all_are_stamped_when_all_are_wanted(void **state)
{
	struct sampler sampler = sampler_at_rate(SLUICE_STAMP_ALL);
	uint64_t clock_ns = CLOCK_SECOND_NS;

	(void)state;
	check_equal(1000, stamped_of(&sampler, &clock_ns, 1000, 100));
	check_equal(1000, stamped_of(&sampler, &clock_ns, 1000, 0));
	check_equal(1000, stamped_of(&sampler, &clock_ns, 1000, CLOCK_SECOND_NS));
}

static void none_is_stamped_when_none_is_wanted(void **state)
{
	struct sampler sampler = sampler_at_rate(SLUICE_STAMP_NONE);
	uint64_t clock_ns = CLOCK_SECOND_NS;

	(void)state;
	check_equal(0, stamped_of(&sampler, &clock_ns, 100000, CLOCK_SECOND_NS));
}

static void the_first_message_is_stamped_at_any_rate(void **state)
{
	static const uint32_t rates[] = {0, 1, 1000, 1000000000, UINT32_MAX - 2};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(rates); i++) {
		struct sampler sampler = sampler_at_rate(rates[i]);

		check(sampler_is_due(&sampler));
	}
}

static void a_rate_of_zero_is_the_default_of_a_thousand(void **state)
{
	(void)state;
	check_equal(sampler_at_rate(1000).interval_ns, sampler_at_rate(0).interval_ns);
	check_equal(CLOCK_MILLISECOND_NS, sampler_at_rate(0).interval_ns);
}

static void fast_messages_are_stamped_at_about_the_rate(void **state)
{
	static const uint64_t gaps_ns[] = {300, 1000, 10000, 100000, 900000};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(gaps_ns); i++) {
		struct sampler sampler = sampler_at_rate(1000);
		uint64_t clock_ns = CLOCK_SECOND_NS;
		uint64_t stamped;

		stamped_of(&sampler, &clock_ns, 20000, gaps_ns[i]); /* to learn */
		stamped = stamped_of(&sampler, &clock_ns, CLOCK_SECOND_NS / gaps_ns[i], gaps_ns[i]);
		check(stamped >= 400 && stamped <= 1010);
	}
}

static void slow_messages_are_all_stamped(void **state)
{
	struct sampler sampler = sampler_at_rate(1000);
	uint64_t clock_ns = CLOCK_SECOND_NS;

	(void)state;
	check_equal(1000, stamped_of(&sampler, &clock_ns, 1000, 2 * CLOCK_MILLISECOND_NS));
}

static void the_sampler_learns_anew_when_messages_become_rare(void **state)
{
	struct sampler sampler = sampler_at_rate(1000);
	uint64_t clock_ns = CLOCK_SECOND_NS;
	uint64_t stamped;

	(void)state;
	stamped_of(&sampler, &clock_ns, 1000000, 100);
	check(stamped_of(&sampler, &clock_ns, 8192, CLOCK_SECOND_NS) >= 2);
	stamped = stamped_of(&sampler, &clock_ns, 1000, CLOCK_SECOND_NS);
	check_equal(1000, stamped);
	stamped_of(&sampler, &clock_ns, 1000000, 1000);
	check(stamped_of(&sampler, &clock_ns, 1000000, 1000) <= 1010);
}

static void no_more_than_4095_messages_pass_between_two_stamps(void **state)
{
	struct sampler sampler = sampler_at_rate(1);
	uint64_t clock_ns = CLOCK_SECOND_NS;
	uint64_t longest = 0;

	(void)state;
	for (uint64_t i = 0, passed = 0; i < 100000; i++) {
		passed = stamped_of(&sampler, &clock_ns, 1, 1) ? 0 : passed + 1;
		longest = passed > longest ? passed : longest;
	}
	check_equal(4095, longest);
}

static void a_clock_that_stands_or_jumps_does_no_harm(void **state)
{
	struct sampler sampler = sampler_at_rate(1000);
	uint64_t clock_ns = 0;

	(void)state;
	check(stamped_of(&sampler, &clock_ns, 100000, 0) >= 20);
	clock_ns = UINT64_MAX - 1000;
	check(stamped_of(&sampler, &clock_ns, 100000, 1) >= 20);
	clock_ns = 0;
	check(stamped_of(&sampler, &clock_ns, 100000, 1) >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_value_is_below_its_buckets_end_by_an_eighth_at_most),
		promise(buckets_rise_over_all_octaves_and_none_is_left_out),
		promise(an_empty_histogram_has_no_figures),
		promise(figures_of_known_values_are_right),
		promise(one_outlier_in_a_thousand_shows_in_the_maximum_only),
		promise(figures_of_one_value_are_all_the_same),
		promise(figures_rise_whatever_the_buckets_hold),
		promise(a_counter_adds_up),
		promise(all_are_stamped_when_all_are_wanted),
		promise(none_is_stamped_when_none_is_wanted),
		promise(the_first_message_is_stamped_at_any_rate),
		promise(a_rate_of_zero_is_the_default_of_a_thousand),
		promise(fast_messages_are_stamped_at_about_the_rate),
		promise(slow_messages_are_all_stamped),
		promise(the_sampler_learns_anew_when_messages_become_rare),
		promise(no_more_than_4095_messages_pass_between_two_stamps),
		promise(a_clock_that_stands_or_jumps_does_no_harm),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
