/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of a test: forked, limited in time by an alarm of their own and by the parent's clock, collected with status. */
#include "process.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define MOST_PROCESSES 160

static struct {
	struct {
		pid_t pid;
		int descriptor; /* its pidfd; -1 once it was reaped */
		int status;
	} processes[MOST_PROCESSES];
	unsigned count;
	uint64_t deadline_ns;
	bool child;
	unsigned index;
} crew;

/* Of the leak sanitizer, if the program was built with it. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

bool process_is_child(void)
{
	return crew.child;
}

unsigned process_index(void)
{
	return crew.index;
}

pid_t process_pid(unsigned process)
{
	return crew.processes[process].pid;
}

void process_reset(void)
{
	crew.count = 0;
	crew.deadline_ns = now_ns() + limit_seconds() * (uint64_t)SECOND;
}

static void run(process_body body, void *shared, unsigned index) __attribute__((noreturn));

static void run(process_body body, void *shared, unsigned index)
{
	const struct rlimit no_core = {0};
	const uid_t user = geteuid();
	unsigned descriptors, mappings;

	crew.child = true;
	crew.index = index;
	crew.count = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGALRM, SIG_DFL);
	alarm(limit_seconds());
	descriptors = open_descriptors();
	mappings = sandbox_mappings(); /* those of handles of the parent, which stay */
	body(shared, index);
	check_equal(descriptors, open_descriptors());
	check_equal(mappings, sandbox_mappings());
	if (__lsan_do_recoverable_leak_check && geteuid() == user)
		check_result(0, __lsan_do_recoverable_leak_check());
	_exit(0);
}

unsigned process_start(process_body body, void *shared, unsigned index)
{
	const unsigned process = crew.count;
	pid_t pid;

	check(crew.count < MOST_PROCESSES);
	fflush(NULL);
	pid = fork();
	check(pid >= 0);
	if (!pid)
		run(body, shared, index);
	crew.processes[process].pid = pid;
	crew.processes[process].descriptor = pidfd_open(pid, 0);
	check(crew.processes[process].descriptor >= 0);
	crew.count++;
	return process;
}

static void reap(unsigned process)
{
	close(crew.processes[process].descriptor);
	crew.processes[process].descriptor = -1;
	waitpid(crew.processes[process].pid, &crew.processes[process].status, 0);
}

int process_status(unsigned process)
{
	struct pollfd ready = {.fd = crew.processes[process].descriptor, .events = POLLIN};
	const uint64_t now = now_ns();
	const int left_ms = now < crew.deadline_ns ? (int)((crew.deadline_ns - now) / MILLISECOND) : 0;

	if (crew.processes[process].descriptor < 0)
		return crew.processes[process].status;
	if (poll(&ready, 1, left_ms) <= 0) {
		print_error("process %u outlives the limit\n", process);
		kill(crew.processes[process].pid, SIGKILL);
	}
	reap(process);
	return crew.processes[process].status;
}

static bool ended_well(unsigned process)
{
	const int status = process_status(process);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFSIGNALED(status))
		print_error("process %u was ended by %s\n", process, strsignal(WTERMSIG(status)));
	else
		print_error("process %u ended with %d\n", process, WEXITSTATUS(status));
	return false;
}

/* The next process to end, or any that runs once time is up, or MOST_PROCESSES if all were reaped. */
static unsigned next_to_end(void)
{
	struct pollfd ready[MOST_PROCESSES];
	unsigned numbers[MOST_PROCESSES], waiting = 0;
	const uint64_t now = now_ns();
	const int left_ms = now < crew.deadline_ns ? (int)((crew.deadline_ns - now) / MILLISECOND) : 0;

	for (unsigned i = 0; i < crew.count; i++) {
		if (crew.processes[i].descriptor < 0)
			continue;
		ready[waiting] = (struct pollfd){.fd = crew.processes[i].descriptor, .events = POLLIN};
		numbers[waiting++] = i;
	}
	if (!waiting)
		return MOST_PROCESSES;
	poll(ready, waiting, left_ms);
	for (unsigned i = 0; i < waiting; i++)
		if (ready[i].revents)
			return numbers[i];
	return numbers[0];
}

void processes_finish(void)
{
	bool well = true;
	unsigned process;

	/* In the order in which they end: one that failed ends the wait for those that hang because of it. */
	while ((process = next_to_end()) != MOST_PROCESSES) {
		well = ended_well(process) && well;
		if (!well) {
			process_sweep();
			break;
		}
	}
	for (process = 0; process < crew.count; process++)
		well = ended_well(process) && well;
	check(well);
}

unsigned process_sweep(void)
{
	unsigned running = 0;

	for (unsigned i = 0; i < crew.count; i++) {
		if (crew.processes[i].descriptor < 0)
			continue;
		running++;
		kill(crew.processes[i].pid, SIGKILL);
		reap(i);
	}
	return running;
}
