/* SPDX-License-Identifier: Apache-2.0 */
/* sluice doctor: runs the checks in turn and says what they found and what to do about it. */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "doctor.h"
#include "output.h"
#include "units.h"

static const struct check checks[] = {
	{"kernel", check_kernel, false},
	{"directory", check_directory, false},
	{"space", check_space, true},
	{"unnamed files", check_unnamed_files, true},
	{"allocation", check_allocation, true},
	{"locks", check_locks, true},
	{"fork", check_fork, false},
	{"memory limit", check_memory, false},
	{"CPUs", check_cpus, false},
	{"open files", check_open_files, false},
	{"locked memory", check_locked_memory, false},
	{"file size", check_file_size, false},
	{"futex_waitv", check_futex_waitv, false},
	{"io_uring", check_io_uring, false},
	{"membarrier", check_membarrier, false},
	{"huge pages", check_huge_pages, true},
	{"NUMA", check_numa, false},
	{"container", check_container, false},
	{"NVIDIA driver", check_nvidia, false},
	{"leftovers", check_leftovers, true},
};

#define CHECKS (sizeof checks / sizeof *checks)

static const char *const status_names[] = {"ok", "note", "problem"};

static void find(struct finding *finding, enum status status, const char *format, va_list arguments)
{
	finding->status = status;
	vsnprintf(finding->found, sizeof finding->found, format, arguments);
}

void found_ok(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	find(finding, STATUS_OK, format, arguments);
	va_end(arguments);
}

void found_note(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	find(finding, STATUS_NOTE, format, arguments);
	va_end(arguments);
}

void found_problem(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	find(finding, STATUS_PROBLEM, format, arguments);
	va_end(arguments);
}

void advise(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(finding->advice, sizeof finding->advice, format, arguments);
	va_end(arguments);
}

static void examine(const struct request *request, struct finding *findings)
{
	struct patient patient = {
		.request = request, .directory = request->shown_directory, .container = machine_container()};

	/* A file size limit shall be an error of posix_fallocate, not the end of the doctor. */
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < CHECKS; i++) {
		if (checks[i].needs_directory && !patient.directory_usable)
			found_note(&findings[i], "not tried: the directory cannot be used");
		else
			checks[i].run(&patient, &findings[i]);
	}
}

static size_t count(const struct finding *findings, enum status status)
{
	size_t count = 0;

	for (size_t i = 0; i < CHECKS; i++)
		count += findings[i].status == status;
	return count;
}

static void print_text(const struct finding *findings)
{
	const int indent = 25;

	for (size_t i = 0; i < CHECKS; i++) {
		printf("%-8s %-14s  ", status_names[findings[i].status], checks[i].name);
		print_wrapped_after(stdout, indent, findings[i].found);
		if (!findings[i].advice[0])
			continue;
		printf("%*s-> ", indent, "");
		print_wrapped_after(stdout, indent + 3, findings[i].advice);
	}
	putchar('\n');
	size_t problems = count(findings, STATUS_PROBLEM), notes = count(findings, STATUS_NOTE);
	if (problems)
		printf("Sluice does not work here yet: %s to mend, %s.\n", units_count(problems, "problem").text,
			units_count(notes, "note").text);
	else
		printf("Sluice works here: no problems, %s.\n", units_count(notes, "note").text);
}

static void print_json(const struct finding *findings)
{
	struct json_object *document = json_array_need();

	for (size_t i = 0; i < CHECKS; i++) {
		struct json_object *object = json_object_need();
		json_put_text(object, "check", checks[i].name);
		json_put_text(object, "status", status_names[findings[i].status]);
		json_put_text(object, "found", findings[i].found);
		json_put_text(object, "advice", findings[i].advice[0] ? findings[i].advice : NULL);
		json_append(document, object);
	}
	json_print(document);
}

int run_doctor(const struct request *request)
{
	struct finding findings[CHECKS];

	memset(findings, 0, sizeof findings);
	examine(request, findings);
	(request->json ? print_json : print_text)(findings);
	return count(findings, STATUS_PROBLEM) ? EXIT_FAILED : EXIT_OK;
}
