/* SPDX-License-Identifier: Apache-2.0 */
/* A steady exchange in spin mode makes no system call: runs quiet_exchange under strace and reads what it did. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/harness.h"

#define MOST_PROCESSES 4

static const char *exchange;

/* Runs strace on a program; returns its wait status. */
static int trace(const char *output, const char *program)
{
	const pid_t child = fork();
	int status = -1;

	if (!child) {
		alarm(limit_seconds());
		/* The leak sanitizer needs to trace too, which only one can. */
		setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
		execlp("strace", "strace", "-f", "-qq", "-o", output, program, (char *)NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	return status;
}

/* What one process did between its marks. */
struct steady {
	long pid;
	unsigned marks;
	unsigned calls;
	unsigned looks; /* whether the other members live: a few times a second, whatever the number of messages */
};

/* Of all processes together, for over 100,000 messages that take some seconds at most. */
#define MOST_LOOKS 300

static struct steady *steady_of(struct steady *all, long pid)
{
	for (unsigned i = 0; i < MOST_PROCESSES; i++) {
		if (!all[i].pid)
			all[i].pid = pid;
		if (all[i].pid == pid)
			return &all[i];
	}
	check_failed("more processes than expected", __FILE__, __LINE__);
}

/* A look whether the others live: is this still the control object, and which of its locks are held? */
static bool is_look(const char *call)
{
	return strstr(call, "F_OFD_GETLK") || !strncmp(call, "fstat(", 6) || !strncmp(call, "newfstatat(", 11);
}

/* Lines look like: 4711 futex(...) = 0. Exits (+), signals (-) and ends of calls that began further up (<) are none. */
static void read_trace(const char *path, struct steady *all)
{
	FILE *file = fopen(path, "r");
	char line[1024];

	check(file != NULL);
	while (fgets(line, sizeof line, file)) {
		char *call;
		struct steady *steady = steady_of(all, strtol(line, &call, 10));

		call += strspn(call, " ");
		if (!strncmp(call, "write(-1,", 9)) {
			steady->marks++;
		} else if (steady->marks == 1 && is_look(call)) {
			steady->looks++;
		} else if (steady->marks == 1 && !strchr("+-<", *call)) {
			print_error("in the steady part: %s", line);
			steady->calls++;
		}
	}
	fclose(file);
}

static void a_steady_exchange_in_spin_mode_makes_no_system_call(void **state)
{
	struct steady all[MOST_PROCESSES] = {0};
	unsigned marked = 0, calls = 0, looks = 0;

	(void)state;
	if (trace(sandbox_path("trace"), "/bin/true")) {
		unlink(sandbox_path("trace"));
		skip_because("strace is not installed or may not trace here");
	}
	check_equal(0, trace(sandbox_path("trace"), exchange));
	read_trace(sandbox_path("trace"), all);
	check(!unlink(sandbox_path("trace")));
	for (unsigned i = 0; i < MOST_PROCESSES; i++) {
		check(all[i].marks == 0 || all[i].marks == 2);
		marked += all[i].marks == 2;
		calls += all[i].calls;
		looks += all[i].looks;
	}
	check_equal(2, marked);
	check_equal(0, calls);
	check(looks <= MOST_LOOKS);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		promise(a_steady_exchange_in_spin_mode_makes_no_system_call),
	};

	if (count != 2) {
		fprintf(stderr, "usage: quiet_test QUIET_EXCHANGE\n");
		return 2;
	}
	exchange = arguments[1];
	return cmocka_run_group_tests_name("quiet", tests, NULL, NULL);
}
