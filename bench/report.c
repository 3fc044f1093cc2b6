/* SPDX-License-Identifier: Apache-2.0 */
/* The table. */
#include "report.h"

#include <sluice/version.h>

#include "ticks.h"

#define UNSTEADY 1.5 /* longest by shortest round of the same case */

static void print_head(const struct report *report, FILE *out)
{
	const struct machine *machine = report->machine;
	const struct schedule_options *options = report->options;

	fprintf(out, "Sluice %s, layout version %u\n", sluice_version(), sluice_layout_version());
	fprintf(out, "machine  %s, %s, %d CPUs online, %d allowed, %s\n", machine->cpu, machine->architecture,
		machine->online, machine->allowed, machine->kernel);
	if (machine->pinned[0] == machine->pinned[1])
		fprintf(out, "pinning  both processes on CPU %d, the only one: cases that spin are left out\n",
			machine->pinned[0]);
	else
		fprintf(out, "pinning  one process on CPU %d, the other on CPU %d\n", machine->pinned[0],
			machine->pinned[1]);
	fprintf(out, "clock    %s, a reading costs %.0f ns: part of p50 to max of a round trip, not of typical\n",
		ticks_clock.counter ? "time stamp counter" : "CLOCK_MONOTONIC", ticks_clock.read_ns);
	fprintf(out,
		"rounds   %u, each with %.2g s of every case; typical and ratio: medians of rounds, p50 to max: of "
		"all\n",
		schedule_rounds(report->cases), options->seconds);
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

static void print_reason(const struct case_figures *figures, FILE *out)
{
	fprintf(out, "%-16s %-34s %s: %s\n", figures->of->name, figures->of->what,
		figures->skipped ? "left out" : "FAILED", figures->reason);
}

static void print_times(const struct case_figures *figures, FILE *out)
{
	const struct bench_case *of = figures->of;
	const struct figures *all = &figures->all;
	const char *digits =
		of->kind == CASE_STREAM ? " %8.1f %8.1f %8.1f %8.1f %10.0f" : " %8.0f %8.0f %8.0f %8.0f %10.0f";

	fprintf(out, "%-16s %-34s %-5s %5u", of->name, of->what, report_waiting(of), of->depth);
	fprintf(out, digits, all->typical, all->p50, all->p99, all->p999, all->max);
	if (figures->ratio.median > 0)
		fprintf(out, "  %5.2f (%.2f to %.2f) x %s", figures->ratio.median, figures->ratio.low,
			figures->ratio.high, of->limit);
	fputc('\n', out);
}

static void print_idle(const struct case_figures *figures, FILE *out)
{
	fprintf(out, "%-16s %-34s %-5s %5u   %.3f %% of a core, %.1f wake-ups a second\n", figures->of->name,
		figures->of->what, report_waiting(figures->of), figures->of->depth, figures->cpu_share * 100,
		figures->wake_ups);
}

static void print_columns(enum case_kind kind, const char *head, FILE *out)
{
	fprintf(out, "\n%-51s waits depth", head);
	if (kind != CASE_IDLE)
		fprintf(out, "  typical      p50      p99    p99.9        max  ratio (deciles of rounds)");
	fputc('\n', out);
}

static void print_kind(const struct report *report, enum case_kind kind, const char *head, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < bench_case_count; i++) {
		const struct case_figures *figures = &report->cases[i];

		if (!figures->wanted || figures->of->kind != kind)
			continue;
		if (!any)
			print_columns(kind, head, out);
		any = true;
		if (figures->skipped || figures->error || figures->rounds == 0)
			print_reason(figures, out);
		else if (kind == CASE_IDLE)
			print_idle(figures, out);
		else
			print_times(figures, out);
	}
}

static void print_target(const struct bench_target *target, const struct verdict *verdict, FILE *out)
{
	char figure[32];
	char most[32];

	if (target->figure == TARGET_RATIO) {
		snprintf(figure, sizeof figure, "%.3f x", verdict->ratio);
		snprintf(most, sizeof most, "%.3f x", target->most);
	} else if (target->figure == TARGET_CPU) {
		snprintf(figure, sizeof figure, "%.3f %%", verdict->value * 100);
		snprintf(most, sizeof most, "%.3f %%", target->most * 100);
	} else {
		snprintf(figure, sizeof figure, "%.1f", verdict->value);
		snprintf(most, sizeof most, "%.1f", target->most);
	}
	fprintf(out, "%3d  %-50s %10s %10s   %s\n", target->id, target->what, figure, most,
		verdict->met ? "met" : "missed");
}

static void print_targets(const struct report *report, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < bench_target_count; i++) {
		struct verdict verdict = schedule_verdict(&bench_targets[i], report->cases);

		if (!verdict.known)
			continue;
		if (!any)
			fprintf(out, "\ntarget%60s %10s\n", "measured", "at most");
		any = true;
		print_target(&bench_targets[i], &verdict, out);
	}
}

/* On a virtual machine the host may move a CPU to another core between rounds, and the distance of the two with it. */
static void print_unsteadiness(const struct report *report, FILE *out)
{
	const struct case_figures *line = schedule_figures(report->cases, "line");
	double least = line ? line->each[0].typical : 0;
	double most = least;

	for (uint32_t i = 0; line && i < line->rounds; i++) {
		double typical = line->each[i].typical;
		least = typical < least ? typical : least;
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
			"\nThe kernel gave a CPU to others %llu times while cases ran: p99.9 and max contain that.\n",
			(unsigned long long)preemptions);
}

void report_table(const struct report *report, FILE *out)
{
	print_head(report, out);
	print_build(out);
	print_kind(report, CASE_ROUND_TRIP, "round trip, ns", out);
	print_kind(report, CASE_STREAM, "one way, ns a message", out);
	print_kind(report, CASE_IDLE, "idle", out);
	print_targets(report, out);
	print_unsteadiness(report, out);
	print_disturbance(report, out);
}
