/* SPDX-License-Identifier: Apache-2.0 */
/* The same as JSON: machine, cases with their rounds, and the targets. Times are nanoseconds. */
#include "report.h"

#include <errno.h>
#include <json-c/json.h>

#include <sluice/version.h>

#include "ticks.h"

/* Nine digits are more than any figure here has, and spare readers seventeen. */
static json_object *number(double value)
{
	char text[32];

	snprintf(text, sizeof text, "%.9g", value);
	return json_object_new_double_s(value, text);
}

static json_object *number_or_null(double value)
{
	return value > 0 ? number(value) : NULL;
}

static json_object *machine_object(const struct machine *machine)
{
	json_object *object = json_object_new_object();
	json_object *cpus = json_object_new_array();

	json_object_object_add(object, "cpu", json_object_new_string(machine->cpu));
	json_object_object_add(object, "architecture", json_object_new_string(machine->architecture));
	json_object_object_add(object, "kernel", json_object_new_string(machine->kernel));
	json_object_object_add(object, "cpus_online", json_object_new_int(machine->online));
	json_object_object_add(object, "cpus_allowed", json_object_new_int(machine->allowed));
	json_object_array_add(cpus, json_object_new_int(machine->pinned[0]));
	json_object_array_add(cpus, json_object_new_int(machine->pinned[1]));
	json_object_object_add(object, "pinned", cpus);
	json_object_object_add(
		object, "clock", json_object_new_string(ticks_clock.counter ? "counter" : "CLOCK_MONOTONIC"));
	json_object_object_add(object, "clock_read_ns", number(ticks_clock.read_ns));
	return object;
}

static json_object *settings_object(const struct schedule_options *options, uint32_t rounds)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "rounds", json_object_new_int((int)rounds));
	json_object_object_add(object, "seconds", number(options->seconds));
	json_object_object_add(object, "idle_seconds", number(options->idle_seconds));
	return object;
}

static void add_times(json_object *object, const struct figures *figures)
{
	json_object_object_add(object, "typical", number(figures->typical));
	json_object_object_add(object, "p50", number(figures->p50));
	json_object_object_add(object, "p99", number(figures->p99));
	json_object_object_add(object, "p999", number(figures->p999));
	json_object_object_add(object, "max", number(figures->max));
}

static void add_figures(json_object *object, const struct case_figures *figures)
{
	json_object *rounds = json_object_new_array();

	if (figures->of->kind == CASE_IDLE) {
		json_object_object_add(object, "cpu_share", number(figures->cpu_share));
		json_object_object_add(object, "wake_ups_per_second", number(figures->wake_ups));
		json_object_put(rounds);
		return;
	}
	add_times(object, &figures->all);
	json_object_object_add(object, "ratio", number_or_null(figures->ratio.median));
	json_object_object_add(object, "ratio_low", number_or_null(figures->ratio.low));
	json_object_object_add(object, "ratio_high", number_or_null(figures->ratio.high));
	for (uint32_t i = 0; i < figures->rounds; i++) {
		json_object *round = json_object_new_object();
		add_times(round, &figures->each[i]);
		json_object_array_add(rounds, round);
	}
	json_object_object_add(object, "rounds", rounds);
	json_object_object_add(object, "repetitions", json_object_new_int64((int64_t)figures->repetitions));
}

static json_object *case_object(const struct case_figures *figures)
{
	static const char *const kinds[] = {
		[CASE_ROUND_TRIP] = "round trip", [CASE_STREAM] = "one way", [CASE_IDLE] = "idle"};
	const struct bench_case *of = figures->of;
	json_object *object = json_object_new_object();

	json_object_object_add(object, "name", json_object_new_string(of->name));
	json_object_object_add(object, "what", json_object_new_string(of->what));
	json_object_object_add(object, "kind", json_object_new_string(kinds[of->kind]));
	json_object_object_add(object, "waits", json_object_new_string(report_waiting(of)));
	json_object_object_add(object, "bytes", json_object_new_int64((int64_t)of->bytes));
	json_object_object_add(object, "depth", json_object_new_int64(of->depth));
	json_object_object_add(object, "lane_bytes", json_object_new_int64((int64_t)of->lane_bytes));
	json_object_object_add(object, "limit", of->limit ? json_object_new_string(of->limit) : NULL);
	if (figures->skipped || figures->error || figures->rounds == 0) {
		json_object_object_add(
			object, figures->skipped ? "skipped" : "error", json_object_new_string(figures->reason));
		return object;
	}
	add_figures(object, figures);
	json_object_object_add(object, "sleeps", json_object_new_int64((int64_t)figures->waits));
	json_object_object_add(object, "preemptions", json_object_new_int64((int64_t)figures->preemptions));
	return object;
}

static json_object *target_object(const struct bench_target *target, const struct verdict *verdict)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "id", json_object_new_int(target->id));
	json_object_object_add(object, "what", json_object_new_string(target->what));
	json_object_object_add(object, "value", number(verdict->value));
	json_object_object_add(object, "limit", number_or_null(verdict->limit));
	json_object_object_add(object, "ratio", number_or_null(verdict->ratio));
	json_object_object_add(object, "target", number(target->most));
	json_object_object_add(object, "met", json_object_new_boolean(verdict->met));
	return object;
}

int report_json(const struct report *report, FILE *out)
{
	json_object *root = json_object_new_object();
	json_object *cases = json_object_new_array();
	json_object *targets = json_object_new_array();

	json_object_object_add(root, "version", json_object_new_string(sluice_version()));
	json_object_object_add(root, "machine", machine_object(report->machine));
	json_object_object_add(root, "settings", settings_object(report->options, schedule_rounds(report->cases)));
	for (size_t i = 0; i < bench_case_count; i++)
		if (report->cases[i].wanted)
			json_object_array_add(cases, case_object(&report->cases[i]));
	for (size_t i = 0; i < bench_target_count; i++) {
		struct verdict verdict = schedule_verdict(&bench_targets[i], report->cases);
		if (verdict.known)
			json_object_array_add(targets, target_object(&bench_targets[i], &verdict));
	}
	json_object_object_add(root, "cases", cases);
	json_object_object_add(root, "targets", targets);
	const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
	if (text)
		fprintf(out, "%s\n", text);
	json_object_put(root);
	return text ? 0 : -ENOMEM;
}
