/* SPDX-License-Identifier: Apache-2.0 */
/* The table. */
#include "report.h"

#include <string.h>

#include <sluice/version.h>

#include "rival.h"
#include "target.h"
#include "ticks.h"

#define UNSTEADY 1.5 /* longest by shortest round of the same case */

static void print_head(const struct report *report, FILE *out)
{
	const struct machine *machine = report->machine;
	const struct schedule_options *options = report->options;

	fprintf(out, "Sluice %s, layout version %u\n", sluice_version(), sluice_layout_version());
	fprintf(out, "machine  %s, %s, %d CPUs online, %d allowed, %s\n", machine->cpu, machine->architecture,
		machine->online, machine->allowed, machine->kernel);
	if (machine->cpu_count < 2)
		fprintf(out, "pinning  all processes on CPU %d alone: cases that spin are left out\n",
			machine->cpus[0]);
	else
		fprintf(out, "pinning  one process on CPU %d, the other on CPU %d\n", machine->cpus[0],
			machine->cpus[1]);
	fprintf(out, "clock    %s, a reading costs %.0f ns: part of p50 to max of a round trip, not of typical\n",
		ticks_clock.counter ? "time stamp counter" : "CLOCK_MONOTONIC", ticks_clock.read_ns);
	fprintf(out,
		"rounds   %u, each with %.2g s of every case, or one in %u with half of that: rivals and what differs\n"
		"         by more than a few percent; typical and ratio: medians of rounds, p50 to max: of all\n",
		figures_rounds(report->cases), options->seconds, options->some_rounds);
}

static void print_rivals(const struct report *report, FILE *out)
{
	for (int i = 0; i < rival_count; i++) {
		const struct rival *rival = rivals[i];

		if (!rival->version)
			fprintf(out, "rival    %s: not there when this was built (%s)\n", rival->name, rival->package);
		else
			fprintf(out, "rival    %s %s: %s%s\n", rival->name, rival->version, rival->settings,
				rival->has_threads && report->machine->cpu_count < 4
					? "; its threads share the caller's CPU"
					: "");
	}
}

/* Not true of a debug build, which is easily taken for a slow library. */
static void print_build(FILE *out)
{
#ifndef __OPTIMIZE__
	fprintf(out, "build    NOT OPTIMIZED: these figures say nothing; ./dev bench builds for speed\n");
#else
	(void)out;
#endif
}

static void print_ratio(const struct case_figures *figures, FILE *out)
{
	const struct ratio *ratio = &figures->ratio;
	const struct ratio *beside = &figures->beside;

	if (ratio->median > 0)
		fprintf(out, "  %5.2f (%.2f to %.2f) x %s", ratio->median, ratio->low, ratio->high,
			figures->of->against);
	if (beside->median > 0)
		fprintf(out, ", %.2f (%.2f to %.2f) x %s", beside->median, beside->low, beside->high,
			figures->of->beside);
	fputc('\n', out);
}

/* A time, or a dash where there were too few values to know. */
static void print_time(double value, int width, int digits, FILE *out)
{
	if (value > 0)
		fprintf(out, " %*.*f", width, digits, value);
	else
		fprintf(out, " %*s", width, "-");
}

static void print_times(const struct case_figures *figures, FILE *out)
{
	const struct bench_case *of = figures->of;
	const struct figures *all = &figures->all;
	int digits = of->kind == CASE_STREAM ? 1 : 0;

	fprintf(out, " %5u", of->kind == CASE_OPEN ? figures->rate_hz : of->depth);
	print_time(all->typical, 8, digits, out);
	print_time(all->p50, 8, digits, out);
	print_time(all->p99, 8, digits, out);
	print_time(all->p999, 8, digits, out);
	print_time(all->max, 10, 0, out);
	print_ratio(figures, out);
}

static void print_crowd(const struct case_figures *figures, FILE *out)
{
	fprintf(out, " %5d", figures->members);
	print_time(figures->all.typical, 8, 1, out);
	print_time(figures->all.unfairness, 14, 2, out);
	print_ratio(figures, out);
}

static void print_idle(const struct case_figures *figures, FILE *out)
{
	fprintf(out, " %5u   %.3f %% of a core, %.1f wake-ups a second\n", figures->of->depth, figures->cpu_share * 100,
		figures->wake_ups);
}

static void print_case(const struct case_figures *figures, FILE *out)
{
	const struct bench_case *of = figures->of;

	fprintf(out, "%-18s %-38s %-5s", of->name, of->what, report_waiting(of));
	if (figures->skipped || figures->error || figures->rounds == 0)
		fprintf(out, "       %s: %s\n", figures->skipped ? "left out" : "FAILED", figures->reason);
	else if (of->kind == CASE_IDLE)
		print_idle(figures, out);
	else if (of->kind == CASE_CROWD)
		print_crowd(figures, out);
	else
		print_times(figures, out);
}

#define TIMES "  typical      p50      p99    p99.9        max  ratio (deciles of rounds)"

static const struct section {
	enum case_kind kind;
	int waiting; /* enum case_waiting, or -1: any */
	const char *head;
	const char *columns;
} sections[] = {
	{CASE_ROUND_TRIP, CASE_SPINS, "round trip, spinning, ns", "depth" TIMES},
	{CASE_ROUND_TRIP, CASE_SLEEPS, "round trip, sleeping, ns", "depth" TIMES},
	{CASE_STREAM, -1, "one way, ns a message", "depth" TIMES},
	{CASE_OPEN, CASE_SPINS, "open loop, spinning, ns from when a message was due", "  a s" TIMES},
	{CASE_OPEN, CASE_SLEEPS, "open loop, sleeping, ns from when a message was due", "  a s" TIMES},
	{CASE_CROWD, -1, "one and several, ns a message", " many  typical  fastest/slowest  ratio (deciles of rounds)"},
	{CASE_IDLE, -1, "idle", "depth"},
};

static void print_section(const struct report *report, const struct section *section, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < bench_case_count; i++) {
		const struct case_figures *figures = &report->cases[i];
		const struct bench_case *of = figures->of;

		if (!figures->wanted || of->kind != section->kind ||
			(section->waiting >= 0 && (int)of->waiting != section->waiting))
			continue;
		if (!any)
			fprintf(out, "\n%-57s waits %s\n", section->head, section->columns);
		any = true;
		print_case(figures, out);
	}
}

/* Whether a row for that transport belongs to the table by size; `like`, if given, is the case whose row it is. */
static bool is_sized(const struct case_figures *figures, const struct bench_case *like)
{
	return figures->wanted && figures->of->kind == CASE_SIZE &&
	       (!like || strcmp(figures->of->what, like->what) == 0);
}

static void print_size_row(const struct report *report, const struct bench_case *like, bool head, FILE *out)
{
	fprintf(out, head ? "\n%-16s" : "%-16s", head ? "by size, GB/s" : like->what);
	for (size_t i = 0; i < bench_case_count; i++) {
		const struct case_figures *figures = &report->cases[i];

		if (!is_sized(figures, like))
			continue;
		if (head)
			fprintf(out, " %9s", strstr(figures->of->name, "-size-") + strlen("-size-"));
		else if (figures->all.typical > 0)
			fprintf(out, " %9.3f", (double)figures->of->bytes / figures->all.typical);
		else
			fprintf(out, " %9s", figures->error ? "FAILED" : "-");
	}
	fputc('\n', out);
}

/* A row for each transport, a column for each size. The first size's cases are the first of their rows. */
static void print_sizes(const struct report *report, FILE *out)
{
	size_t first_bytes = 0;

	for (size_t i = 0; i < bench_case_count; i++) {
		const struct case_figures *figures = &report->cases[i];

		if (!is_sized(figures, NULL) || (first_bytes != 0 && figures->of->bytes != first_bytes))
			continue;
		if (first_bytes == 0)
			print_size_row(report, figures->of, true, out);
		first_bytes = figures->of->bytes;
		print_size_row(report, figures->of, false, out);
	}
}

void report_instructions(const struct instructions *instructions, FILE *out)
{
	fprintf(out, "\ninstructions a message, payload untouched (%s)\n", instructions->compiler);
	if (!instructions->known) {
		fprintf(out, "not counted: %s\n", instructions->reason);
		return;
	}
	for (int i = 0; i < INSTRUCTIONS_COUNTS; i++) {
		const struct instruction_count *count = &instructions->counts[i];
		double step = instructions_step(count);

		fprintf(out, "%-16s %-16s %7.1f", count->kind, count->call, count->each);
		if (count->expected == 0)
			fprintf(out, "  nothing on record for this compiler");
		else if (step != 0)
			fprintf(out, "  was %.1f: %+.1f %%%s", count->expected, step * 100,
				step > 0 ? ", MORE than on record" : "; record it with --update");
		fputc('\n', out);
	}
}

static void print_target(const struct bench_target *target, const struct verdict *verdict, FILE *out)
{
	const char *word = target_is_lower_bound(target) ? "at least" : "at most";
	const char *outcome = !verdict->judged ? "not judged" : verdict->met ? "met" : "missed";
	char figure[32];
	char bound[32];

	if (target->figure == TARGET_CPU) {
		snprintf(figure, sizeof figure, "%.3f %%", verdict->value * 100);
		snprintf(bound, sizeof bound, "%.3f %%", target->bound * 100);
	} else if (target->figure == TARGET_WAKE_UPS) {
		snprintf(figure, sizeof figure, "%.1f", verdict->value);
		snprintf(bound, sizeof bound, "%.1f", target->bound);
	} else {
		snprintf(figure, sizeof figure, "%.3f x", verdict->ratio > 0 ? verdict->ratio : verdict->value);
		snprintf(bound, sizeof bound, "%.3f x", target->bound);
	}
	fprintf(out, "%3d     %-52s %10s  %8s %9s   %s", target->id, target->what, figure, word, bound, outcome);
	if (!verdict->judged)
		fprintf(out, ": it is meant for %d CPUs", target->least_cpus);
	fputc('\n', out);
}

static void print_targets(const struct report *report, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < bench_target_count; i++) {
		struct verdict verdict = target_verdict(&bench_targets[i], report->machine, report->cases);

		if (!verdict.known)
			continue;
		if (!any)
			fprintf(out, "\ntarget %64s\n", "measured");
		any = true;
		print_target(&bench_targets[i], &verdict, out);
	}
}

/* On a virtual machine the host may move a CPU to another core between rounds, and the distance of the two with it. */
static void print_unsteadiness(const struct report *report, FILE *out)
{
	const struct case_figures *line = figures_find(report->cases, "line");
	double least = line ? line->all.typical : 0;
	double most = least;

	for (uint32_t i = 0; line && i < FIGURES_MOST_ROUNDS; i++) {
		double typical = line->each[i].typical;
		least = typical > 0 && typical < least ? typical : least;
		most = typical > most ? typical : most;
	}
	if (most > least * UNSTEADY)
		fprintf(out,
			"\nUnsteady: a cache line took %.0f ns there and back in one round and %.0f in another, as "
			"when\n"
			"a host moves virtual CPUs. Look at the deciles: a ratio depends on how far the CPUs are "
			"apart.\n",
			least, most);
}

static void print_disturbance(const struct report *report, FILE *out)
{
	uint64_t preemptions = 0;

	for (size_t i = 0; i < bench_case_count; i++)
		preemptions += report->cases[i].preemptions;
	if (preemptions > 0)
		fprintf(out,
			"\nThe kernel gave a CPU to others %llu time%s while cases ran: p99.9 and max contain that.\n",
			(unsigned long long)preemptions, preemptions == 1 ? "" : "s");
}

void report_table(const struct report *report, FILE *out)
{
	print_head(report, out);
	print_rivals(report, out);
	print_build(out);
	for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
		print_section(report, &sections[i], out);
	print_sizes(report, out);
	if (report->instructions)
		report_instructions(report->instructions, out);
	print_targets(report, out);
	print_unsteadiness(report, out);
	print_disturbance(report, out);
}
