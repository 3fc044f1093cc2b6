/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-bench: measures Sluice and, in the same run, what the machine could do at best. See docs/benchmarks.md. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/version.h>

#include "report.h"
#include "ticks.h"

enum option_key {
	KEY_QUICK = 'q',
	KEY_ONLY = 'o',
	KEY_LIST = 'l',
	KEY_JSON = 'j',
	KEY_CPUS = 'c',
	KEY_ROUNDS = 256,
	KEY_SECONDS
};

#define HOUR 3600

struct settings {
	struct machine machine;
	struct schedule_options schedule;
	struct case_figures *cases;
	bool quick;
	bool only; /* some cases were named */
	bool list;
	bool json;
};

static const struct argp_option option_table[] = {
	{"quick", KEY_QUICK, NULL, 0, "Short rounds: done in under 40 seconds", 0},
	{"only", KEY_ONLY, "CASE", 0, "Run this case and the limit it is compared with; may be given again", 0},
	{"list", KEY_LIST, NULL, 0, "List the cases and run nothing", 0},
	{"json", KEY_JSON, NULL, 0, "Print JSON instead of a table", 0},
	{"cpus", KEY_CPUS, "A,B", 0, "Pin the two processes to these CPUs", 0},
	{"rounds", KEY_ROUNDS, "N", 0, "Number of rounds (1 to 64; default 25, quick 15)", 0},
	{"seconds", KEY_SECONDS, "S", 0, "Time of each case in each round (default 0.25, quick 0.08)", 0},
	{0},
};

/* A case is compared with its limit, so the limit runs too. */
static void want_case(struct argp_state *state, struct settings *settings, const char *name)
{
	const struct bench_case *of = case_find(name);

	if (!of) {
		argp_error(state, "there is no case '%s'; --list shows them", name);
		return;
	}
	settings->only = true;
	settings->cases[of - bench_cases].wanted = true;
	if (of->limit)
		settings->cases[case_find(of->limit) - bench_cases].wanted = true;
}

static void set_cpus(struct argp_state *state, struct settings *settings, const char *text)
{
	int error = machine_pin(&settings->machine, text);

	if (error == -EPERM)
		argp_error(state, "this process may not use CPUs %s (see taskset -p $$)", text);
	else if (error)
		argp_error(state, "'%s' is not a pair of CPUs such as 0,1", text);
}

static void set_rounds(struct argp_state *state, struct settings *settings, const char *text)
{
	char *end;
	long rounds = strtol(text, &end, 10);

	if (*end || rounds < 1 || rounds > SCHEDULE_MOST_ROUNDS)
		argp_error(state, "'%s' is not a number of rounds from 1 to %d", text, SCHEDULE_MOST_ROUNDS);
	settings->schedule.rounds = (uint32_t)rounds;
}

static void set_seconds(struct argp_state *state, struct settings *settings, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (*end || !(seconds > 0 && seconds <= 60))
		argp_error(state, "'%s' is not a time in seconds, above 0 and up to 60", text);
	settings->schedule.seconds = seconds;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct settings *settings = state->input;

	switch (key) {
	case KEY_QUICK:
		settings->quick = true;
		return 0;
	case KEY_ONLY:
		want_case(state, settings, text);
		return 0;
	case KEY_LIST:
		settings->list = true;
		return 0;
	case KEY_JSON:
		settings->json = true;
		return 0;
	case KEY_CPUS:
		set_cpus(state, settings, text);
		return 0;
	case KEY_ROUNDS:
		set_rounds(state, settings, text);
		return 0;
	case KEY_SECONDS:
		set_seconds(state, settings, text);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* What was not given: quick or not. */
static void fill_in(struct settings *settings)
{
	struct schedule_options *schedule = &settings->schedule;

	if (schedule->rounds == 0)
		schedule->rounds = settings->quick ? 15 : 25;
	if (schedule->seconds == 0)
		schedule->seconds = settings->quick ? 0.08 : 0.25;
	schedule->idle_seconds = settings->quick ? 3 : 5;
	schedule->most_seconds = settings->quick ? 30 : HOUR;
}

static void list_cases(void)
{
	for (size_t i = 0; i < bench_case_count; i++) {
		const struct bench_case *of = &bench_cases[i];

		printf("%-16s %s, %s", of->name, of->what, report_waiting(of));
		printf(of->limit ? ", against %s\n" : "\n", of->limit);
	}
}

static int any_failure(const struct case_figures *cases)
{
	for (size_t i = 0; i < bench_case_count; i++)
		if (cases[i].error)
			return EXIT_FAILURE;
	return EXIT_SUCCESS;
}

static int fail(int error)
{
	fprintf(stderr, "sluice-bench: %s\n", error == -EINTR ? "interrupted" : strerror(-error));
	return EXIT_FAILURE;
}

static int run(struct settings *settings)
{
	struct report report = {&settings->machine, &settings->schedule, settings->cases};

	for (size_t i = 0; i < bench_case_count && !settings->only; i++)
		settings->cases[i].wanted = true;
	fill_in(settings);
	settings->schedule.progress = isatty(STDERR_FILENO);
	ticks_set_up();
	int error = schedule_run(&settings->schedule, &settings->machine, settings->cases);
	if (error == 0 && settings->json)
		error = report_json(&report, stdout);
	else if (error == 0)
		report_table(&report, stdout);
	return error ? fail(error) : any_failure(settings->cases);
}

int main(int count, char **arguments)
{
	static const struct argp parser = {option_table, parse, NULL,
		"Measures Sluice between two pinned processes, and in the same run what the machine could do at best.\v"
		"Exit status: 0 when every case ran, whatever the verdicts; 1 when one failed.\n"
		"Example: sluice-bench --quick --only roundtrip-64",
		NULL, NULL, NULL};
	struct settings settings = {0};
	int error = machine_look(&settings.machine);

	if (error)
		return fail(error);
	settings.cases = calloc(bench_case_count, sizeof *settings.cases);
	if (!settings.cases)
		return fail(-ENOMEM);
	for (size_t i = 0; i < bench_case_count; i++)
		settings.cases[i].of = &bench_cases[i];
	argp_parse(&parser, count, arguments, 0, NULL, &settings);
	int status = EXIT_SUCCESS;
	if (settings.list)
		list_cases();
	else
		status = run(&settings);
	free(settings.cases);
	return status;
}
