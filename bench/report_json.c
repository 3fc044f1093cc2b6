/* SPDX-License-Identifier: Apache-2.0 */
/* The same as JSON: machine, cases with their rounds, and the targets. Times are nanoseconds. */
#include "report.h"

#include <errno.h>
#include <json-c/json.h>

#include <sluice/version.h>

#include "rival.h"
#include "target.h"
#include "ticks.h"

#define HISTOGRAM_STEP 8 /* of an entry of the output: as many buckets of ours, so 32 to an octave */

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
	for (int i = 0; i < machine->cpu_count; i++)
		json_object_array_add(cpus, json_object_new_int(machine->cpus[i]));
	json_object_object_add(object, "cpus", cpus);
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
	json_object_object_add(object, "some_rounds", json_object_new_int((int)options->some_rounds));
	json_object_object_add(object, "once_seconds", number(options->once_seconds));
	return object;
}

static json_object *rival_object(const struct rival *rival)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "name", json_object_new_string(rival->name));
	json_object_object_add(object, "version", rival->version ? json_object_new_string(rival->version) : NULL);
	json_object_object_add(object, "settings", rival->version ? json_object_new_string(rival->settings) : NULL);
	return object;
}

static json_object *rivals_array(void)
{
	json_object *array = json_object_new_array();

	for (int i = 0; i < rival_count; i++)
		json_object_array_add(array, rival_object(rivals[i]));
	return array;
}

static void add_times(json_object *object, const struct figures *figures, enum case_kind kind)
{
	json_object_object_add(object, "typical", number(figures->typical));
	if (kind == CASE_CROWD)
		json_object_object_add(object, "fastest_by_slowest", number_or_null(figures->unfairness));
	if (kind == CASE_CROWD || kind == CASE_SIZE)
		return;
	json_object_object_add(object, "p50", number(figures->p50));
	json_object_object_add(object, "p99", number_or_null(figures->p99));
	json_object_object_add(object, "p999", number_or_null(figures->p999));
	json_object_object_add(object, "max", number(figures->max));
}

/* An array of pairs on one line: the general layout would take three lines for each. */
static int print_pairs(json_object *array, struct printbuf *out, int level, int flags)
{
	size_t count = json_object_array_length(array);

	(void)level;
	(void)flags;
	for (size_t i = 0; i < count; i++) {
		json_object *pair = json_object_array_get_idx(array, i);

		sprintbuf(
			out, "%s%s", i == 0 ? "[" : ", ", json_object_to_json_string_ext(pair, JSON_C_TO_STRING_PLAIN));
	}
	return sprintbuf(out, count == 0 ? "[]" : "]");
}

/* Pairs of an upper bound in nanoseconds and the number of values below it and above the one before. */
static json_object *histogram_array(const struct case_figures *figures)
{
	json_object *array = json_object_new_array();
	double unit = figures_unit_ns(figures->of);

	for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket += HISTOGRAM_STEP) {
		json_object *pair;
		uint64_t values = 0;

		for (uint32_t i = bucket; i < bucket + HISTOGRAM_STEP; i++)
			values += figures->singles.buckets[i];
		if (values == 0)
			continue;
		pair = json_object_new_array();
		json_object_array_add(pair, number(histogram_bound(bucket + HISTOGRAM_STEP - 1) * unit));
		json_object_array_add(pair, json_object_new_int64((int64_t)values));
		json_object_array_add(array, pair);
	}
	json_object_set_serializer(array, print_pairs, NULL, NULL);
	return array;
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
	add_times(object, &figures->all, figures->of->kind);
	json_object_object_add(object, "ratio", number_or_null(figures->ratio.median));
	json_object_object_add(object, "ratio_low", number_or_null(figures->ratio.low));
	json_object_object_add(object, "ratio_high", number_or_null(figures->ratio.high));
	if (figures->of->beside) {
		json_object_object_add(object, "beside_ratio", number_or_null(figures->beside.median));
		json_object_object_add(object, "beside_ratio_low", number_or_null(figures->beside.low));
		json_object_object_add(object, "beside_ratio_high", number_or_null(figures->beside.high));
	}
	for (uint32_t i = 0; i < FIGURES_MOST_ROUNDS; i++) {
		if (figures->each[i].typical == 0)
			continue;
		json_object *round = json_object_new_object();
		json_object_object_add(round, "round", json_object_new_int((int)i + 1));
		add_times(round, &figures->each[i], figures->of->kind);
		json_object_array_add(rounds, round);
	}
	json_object_object_add(object, "rounds", rounds);
	json_object_object_add(object, "repetitions", json_object_new_int64((int64_t)figures->repetitions));
	if (figures->singles.count > 0)
		json_object_object_add(object, "histogram", histogram_array(figures));
}

/* What only cases of one kind have. */
static void add_kind(json_object *object, const struct case_figures *figures)
{
	if (figures->of->kind == CASE_OPEN)
		json_object_object_add(object, "rate_hz", json_object_new_int64(figures->rate_hz));
	if (figures->of->kind == CASE_CROWD)
		json_object_object_add(object, "members", json_object_new_int(figures->members));
	if (figures->of->kind == CASE_SIZE && figures->all.typical > 0)
		json_object_object_add(
			object, "bytes_per_ns", number((double)figures->of->bytes / figures->all.typical));
}

static json_object *case_object(const struct case_figures *figures)
{
	static const char *const kinds[CASE_KINDS] = {[CASE_ROUND_TRIP] = "round trip",
		[CASE_STREAM] = "one way",
		[CASE_OPEN] = "open loop",
		[CASE_SIZE] = "by size",
		[CASE_CROWD] = "one and several",
		[CASE_IDLE] = "idle"};
	const struct bench_case *of = figures->of;
	json_object *object = json_object_new_object();

	json_object_object_add(object, "name", json_object_new_string(of->name));
	json_object_object_add(object, "what", json_object_new_string(of->what));
	json_object_object_add(object, "kind", json_object_new_string(kinds[of->kind]));
	json_object_object_add(object, "waits", json_object_new_string(report_waiting(of)));
	json_object_object_add(object, "bytes", json_object_new_int64((int64_t)of->bytes));
	json_object_object_add(object, "depth", json_object_new_int64(of->depth));
	json_object_object_add(object, "lane_bytes", json_object_new_int64((int64_t)of->lane_bytes));
	json_object_object_add(object, "rival", of->rival ? json_object_new_string(of->rival) : NULL);
	json_object_object_add(object, "against", of->against ? json_object_new_string(of->against) : NULL);
	if (of->beside)
		json_object_object_add(object, "beside", json_object_new_string(of->beside));
	if (of->poller) {
		json_object_object_add(object, "poller", json_object_new_string(report_poller(of)));
		json_object_object_add(object, "entries", json_object_new_int64(of->entries ? of->entries : 1));
	}
	if (figures->skipped || figures->error || figures->rounds == 0) {
		json_object_object_add(
			object, figures->skipped ? "skipped" : "error", json_object_new_string(figures->reason));
		return object;
	}
	add_kind(object, figures);
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
	json_object_object_add(object, "target", number(target->bound));
	json_object_object_add(
		object, "bound", json_object_new_string(target_is_lower_bound(target) ? "at least" : "at most"));
	json_object_object_add(object, "met", verdict->judged ? json_object_new_boolean(verdict->met) : NULL);
	if (!verdict->judged) {
		char note[96];
		snprintf(note, sizeof note, "not judged: it is meant for %d CPUs", target->least_cpus);
		json_object_object_add(object, "note", json_object_new_string(note));
	}
	return object;
}

static json_object *instructions_object(const struct instructions *instructions)
{
	json_object *object = json_object_new_object();
	json_object *counts = json_object_new_array();

	json_object_object_add(object, "compiler", json_object_new_string(instructions->compiler));
	if (!instructions->known)
		json_object_object_add(object, "error", json_object_new_string(instructions->reason));
	for (int i = 0; instructions->known && i < INSTRUCTIONS_COUNTS; i++) {
		const struct instruction_count *count = &instructions->counts[i];
		json_object *one = json_object_new_object();

		json_object_object_add(one, "call", json_object_new_string(count->call));
		json_object_object_add(one, "kind", json_object_new_string(count->kind));
		json_object_object_add(one, "instructions", number(count->each));
		json_object_object_add(one, "expected", number_or_null(count->expected));
		json_object_object_add(one, "step", number(instructions_step(count)));
		json_object_array_add(counts, one);
	}
	json_object_object_add(object, "counts", counts);
	return object;
}

static json_object *targets_array(const struct report *report)
{
	json_object *targets = json_object_new_array();

	for (size_t i = 0; i < bench_target_count; i++) {
		struct verdict verdict = target_verdict(&bench_targets[i], report->machine, report->cases);

		if (verdict.known)
			json_object_array_add(targets, target_object(&bench_targets[i], &verdict));
	}
	return targets;
}

int report_json(const struct report *report, FILE *out)
{
	json_object *root = json_object_new_object();
	json_object *cases = json_object_new_array();

	json_object_object_add(root, "version", json_object_new_string(sluice_version()));
	json_object_object_add(root, "machine", machine_object(report->machine));
	json_object_object_add(root, "settings", settings_object(report->options, figures_rounds(report->cases)));
	json_object_object_add(root, "rivals", rivals_array());
	for (size_t i = 0; i < bench_case_count; i++)
		if (report->cases[i].wanted)
			json_object_array_add(cases, case_object(&report->cases[i]));
	json_object_object_add(root, "cases", cases);
	if (report->instructions)
		json_object_object_add(root, "instructions", instructions_object(report->instructions));
	json_object_object_add(root, "targets", targets_array(report));
	const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
	if (text)
		fprintf(out, "%s\n", text);
	json_object_put(root);
	return text ? 0 : -ENOMEM;
}
