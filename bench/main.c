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
	KEY_RATE = 'r',
	KEY_ROUNDS = 256,
	KEY_SECONDS,
	KEY_SAVE,
	KEY_COUNT,
	KEY_EXPECTED,
	KEY_UPDATE
};

#define HOUR          3600
#define QUICK_SECONDS 36 /* in all, less what reporting takes */
#define MOST_RATE_HZ  10000000

struct settings {
	struct machine machine;
	struct schedule_options schedule;
	struct case_figures *cases;
	bool quick;
	bool only; /* some cases were named */
	bool list;
	bool json;
	bool count;  /* instructions and nothing else */
	bool update; /* of expected counts */
	const char *save;
	const char *expected;
};

static const struct argp_option option_table[] = {
	{"quick", KEY_QUICK, NULL, 0, "Short rounds: done in under 40 seconds", 0},
	{"only", KEY_ONLY, "CASE", 0, "Run this case and what it is compared with; may be given again", 0},
	{"list", KEY_LIST, NULL, 0, "List the cases and run nothing", 0},
	{"json", KEY_JSON, NULL, 0, "Print JSON instead of a table", 0},
	{"save", KEY_SAVE, "FILE", 0, "Write JSON to a file as well", 0},
	{"cpus", KEY_CPUS, "A,B", 0, "Pin the two processes to these CPUs", 0},
	{"rate", KEY_RATE, "N", 0, "Run the open loops only, with so many messages a second", 0},
	{"rounds", KEY_ROUNDS, "N", 0, "Number of rounds (1 to 64; default 25, quick 12)", 0},
	{"seconds", KEY_SECONDS, "S", 0, "Time of each case in each round (default 0.25, quick 0.06)", 0},
	{"count", KEY_COUNT, NULL, 0, "Count the instructions of publish and receive and run nothing else", 0},
	{"expected", KEY_EXPECTED, "FILE", 0, "Compare instruction counts with this file", 0},
	{"update", KEY_UPDATE, NULL, 0, "Record the instruction counts in the file of expected ones", 0},
	{0},
};

/* What a case is compared with runs too. */
static void want_case(struct argp_state *state, struct settings *settings, const char *name)
{
	const struct bench_case *of = case_find(name);

	if (!of) {
		argp_error(state, "there is no case '%s'; --list shows them", name);
		return;
	}
	settings->only = true;
	settings->cases[of - bench_cases].wanted = true;
	if (of->against)
		settings->cases[case_find(of->against) - bench_cases].wanted = true;
	if (of->beside)
		settings->cases[case_find(of->beside) - bench_cases].wanted = true;
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

	if (*end || rounds < 1 || rounds > FIGURES_MOST_ROUNDS)
		argp_error(state, "'%s' is not a number of rounds from 1 to %d", text, FIGURES_MOST_ROUNDS);
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

static void set_rate(struct argp_state *state, struct settings *settings, const char *text)
{
	char *end;
	long rate = strtol(text, &end, 10);

	if (*end || rate < 1 || rate > MOST_RATE_HZ)
		argp_error(state, "'%s' is not a number of messages a second from 1 to %d", text, MOST_RATE_HZ);
	settings->schedule.rate_hz = (uint32_t)rate;
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
	case KEY_RATE:
		set_rate(state, settings, text);
		return 0;
	case KEY_SAVE:
		settings->save = text;
		return 0;
	case KEY_COUNT:
		settings->count = true;
		return 0;
	case KEY_EXPECTED:
		settings->expected = text;
		return 0;
	case KEY_UPDATE:
		settings->update = true;
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

/* What was not given: quick or not. A few cases alone have all the time, and take part in every round. */
static void fill_in(struct settings *settings)
{
	struct schedule_options *schedule = &settings->schedule;

	if (schedule->rounds == 0)
		schedule->rounds = settings->quick ? 12 : 25;
	if (schedule->seconds == 0)
		schedule->seconds = settings->quick ? 0.06 : 0.25;
	schedule->some_rounds = settings->only ? 1 : settings->quick ? 6 : 4;
	schedule->once_seconds = settings->quick ? 1.2 : 5;
	schedule->progress = isatty(STDERR_FILENO);
}

static void choose_cases(struct settings *settings)
{
	bool open_only = settings->schedule.rate_hz != 0;

	for (size_t i = 0; i < bench_case_count && !settings->only; i++)
		settings->cases[i].wanted = !open_only || bench_cases[i].kind == CASE_OPEN;
	settings->only |= open_only;
}

static void list_cases(void)
{
	for (size_t i = 0; i < bench_case_count; i++) {
		const struct bench_case *of = &bench_cases[i];

		printf("%-18s %s, %s", of->name, of->what, report_waiting(of));
		if (of->against)
			printf(", against %s", of->against);
		if (of->beside)
			printf(" and %s", of->beside);
		putchar('\n');
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

static int save(const struct report *report, const char *path)
{
	FILE *file = fopen(path, "we");
	int error = file ? report_json(report, file) : -errno;

	if (file && fclose(file) != 0 && error == 0)
		error = -errno;
	if (error)
		fprintf(stderr, "sluice-bench: %s: %s\n", path, strerror(-error));
	return error;
}

/* Counts; the time that this takes is the same whatever else runs. */
static int count(const struct settings *settings, struct instructions *ret_instructions)
{
	instructions_count(settings->expected, ret_instructions);
	if (!settings->update)
		return 0;
	if (!settings->expected || !ret_instructions->known) {
		fprintf(stderr, "sluice-bench: nothing to record: %s\n",
			ret_instructions->known ? "--update needs --expected FILE" : ret_instructions->reason);
		return -EINVAL;
	}
	return instructions_record(ret_instructions, settings->expected);
}

static int show(const struct settings *settings, const struct report *report)
{
	int error = settings->save ? save(report, settings->save) : 0;

	if (settings->json)
		return error ? error : report_json(report, stdout);
	report_table(report, stdout);
	return error;
}

static int run(struct settings *settings)
{
	struct instructions instructions;
	struct report report = {&settings->machine, &settings->schedule, settings->cases, NULL};
	uint64_t begin_ns = ticks_monotonic_ns();
	int error = 0;

	choose_cases(settings);
	fill_in(settings);
	if (!settings->only || settings->update) {
		error = count(settings, &instructions);
		report.instructions = &instructions;
	}
	settings->schedule.most_seconds =
		settings->quick ? QUICK_SECONDS - (double)(ticks_monotonic_ns() - begin_ns) / 1e9 : HOUR;
	ticks_set_up();
	if (error == 0)
		error = schedule_run(&settings->schedule, &settings->machine, settings->cases);
	if (error == 0)
		error = show(settings, &report);
	return error ? fail(error) : any_failure(settings->cases);
}

static int run_count(const struct settings *settings)
{
	struct instructions instructions;
	struct report report = {&settings->machine, &settings->schedule, settings->cases, &instructions};
	int error = count(settings, &instructions);

	if (error == 0 && settings->json)
		error = report_json(&report, stdout);
	else if (error == 0)
		report_instructions(&instructions, stdout);
	if (error)
		return fail(error);
	return instructions.known ? EXIT_SUCCESS : EXIT_FAILURE;
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
	else if (settings.count)
		status = run_count(&settings);
	else
		status = run(&settings);
	free(settings.cases);
	return status;
}
