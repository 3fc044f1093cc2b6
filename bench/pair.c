/* SPDX-License-Identifier: Apache-2.0 */
/* Forking, pinning, the barrier, and a parent that never waits for ever. */
#include "pair.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/error.h>

#include "case.h"
#include "ticks.h"

#define MEET_SPINS 10000 /* looks at the barrier before the CPU is offered to others */

struct pair_shared {
	_Alignas(PAIR_LINE) _Atomic uint32_t arrived;
	_Alignas(PAIR_LINE) struct side_result results[2];
	struct histogram histograms[PAIR_HISTOGRAMS];
	_Alignas(4096) unsigned char scratch[PAIR_SCRATCH_BYTES];
};

struct pair {
	struct pair_shared *shared;
	uint32_t runs;
	char channel[PAIR_CHANNEL_BYTES];
};

struct usage {
	uint64_t ns;
	uint64_t cpu_ns;
	uint64_t waits;
	uint64_t preemptions;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

int pair_new(struct pair **ret_pair)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	struct pair *pair = calloc(1, sizeof *pair);

	if (!pair)
		return -ENOMEM;
	pair->shared = mmap(NULL, sizeof *pair->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pair->shared == MAP_FAILED) {
		int error = -errno;
		free(pair);
		return error;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	*ret_pair = pair;
	return 0;
}

void pair_free(struct pair *pair)
{
	if (!pair)
		return;
	munmap(pair->shared, sizeof *pair->shared);
	free(pair);
}

static struct usage usage_now(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (struct usage){
		.ns = ticks_monotonic_ns(),
		.cpu_ns = ((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec) * 1000000000u +
			  ((uint64_t)used.ru_utime.tv_usec + (uint64_t)used.ru_stime.tv_usec) * 1000u,
		.waits = (uint64_t)used.ru_nvcsw,
		.preemptions = (uint64_t)used.ru_nivcsw,
	};
}

void side_meet(struct side *side)
{
	_Atomic uint32_t *arrived = &side->shared->arrived;
	uint32_t target = (atomic_fetch_add(arrived, 1) / 2 + 1) * 2; /* each meeting adds two */

	for (uint32_t spins = 0; atomic_load(arrived) < target; spins++)
		if (spins > MEET_SPINS)
			sched_yield();
}

void side_start(struct side *side)
{
	struct side_result *result = &side->shared->results[side->index];

	side_meet(side);
	struct usage usage = usage_now();
	result->measured_ns = usage.ns;
	result->cpu_ns = usage.cpu_ns;
	result->waits = usage.waits;
	result->preemptions = usage.preemptions;
}

void side_finish(struct side *side)
{
	struct side_result *result = &side->shared->results[side->index];
	struct usage usage = usage_now();

	result->measured_ns = usage.ns - result->measured_ns;
	result->cpu_ns = usage.cpu_ns - result->cpu_ns;
	result->waits = usage.waits - result->waits;
	result->preemptions = usage.preemptions - result->preemptions;
	side_meet(side);
}

int side_fail(struct side *side, int error, const char *call)
{
	struct side_result *result = &side->shared->results[side->index];

	if (result->error != 0)
		return error;
	snprintf(result->reason, sizeof result->reason, "%s: %s", call, sluice_strerror(error));
	atomic_signal_fence(memory_order_seq_cst); /* a side may be killed between the two */
	result->error = error;
	return error;
}

static void run_side(const struct pair *pair, const struct pair_plan *plan, int index, pid_t parent)
{
	cpu_set_t set;
	struct side side = {
		.of = plan->of,
		.shared = pair->shared,
		.cpu = plan->cpus[index],
		.index = index,
		.warm_up = plan->warm_up,
		.repetitions = plan->repetitions,
		.idle_ns = plan->idle_ns,
		.channel = pair->channel,
		.scratch = pair->shared->scratch,
		.histograms = pair->shared->histograms,
	};

	signal(SIGINT, SIG_IGN); /* the parent ends its sides, and cleans up behind them */
	signal(SIGTERM, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	CPU_ZERO(&set);
	CPU_SET(plan->cpus[index], &set);
	int error = sched_setaffinity(0, sizeof set, &set) < 0 ? side_fail(&side, -errno, "sched_setaffinity")
							       : plan->of->run[index](&side);
	_exit(error ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Starts a side. Returns its process id, or a negative errno. */
static pid_t start_side(const struct pair *pair, const struct pair_plan *plan, int index, int *ret_fd)
{
	pid_t parent = getpid();
	pid_t child = fork();

	if (child == 0)
		run_side(pair, plan, index, parent);
	if (child < 0)
		return -errno;
	int fd = pidfd_open(child, 0);
	if (fd < 0) {
		int error = -errno;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		return error;
	}
	*ret_fd = fd;
	return child;
}

/* Waits for both sides to exit well, for one to end badly, for the limit or for an interrupt. */
static int watch(const int *fds, const pid_t *children, uint64_t limit_ns, bool *reaped)
{
	uint64_t end = ticks_monotonic_ns() + limit_ns;

	while (!reaped[0] || !reaped[1]) {
		struct pollfd polled[2];
		uint64_t now = ticks_monotonic_ns();

		for (int i = 0; i < 2; i++)
			polled[i] = (struct pollfd){.fd = reaped[i] ? -1 : fds[i], .events = POLLIN};
		if (interrupted)
			return -EINTR;
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(polled, 2, (int)((end - now) / 1000000 + 1)) < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < 2; i++) {
			int status;

			if (!(polled[i].revents & POLLIN) || waitpid(children[i], &status, 0) != children[i])
				continue;
			reaped[i] = true;
			if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
				return -ECHILD;
		}
	}
	return 0;
}

static int run_both(const struct pair *pair, const struct pair_plan *plan)
{
	int fds[2] = {-1, -1};
	pid_t children[2] = {-1, -1};
	bool reaped[2] = {false, false};
	int error = 0;

	for (int i = 0; i < 2 && error == 0; i++) {
		children[i] = start_side(pair, plan, i, &fds[i]);
		if (children[i] < 0)
			error = children[i];
	}
	if (error == 0)
		error = watch(fds, children, plan->limit_ns, reaped);
	for (int i = 0; i < 2; i++) {
		if (children[i] > 0 && !reaped[i]) {
			kill(children[i], SIGKILL);
			waitpid(children[i], NULL, 0);
		}
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return error;
}

static int explain(const struct pair *pair, int error, char *reason)
{
	for (int i = 0; i < 2; i++) {
		const struct side_result *result = &pair->shared->results[i];

		if (result->error != 0 && error == -ECHILD) {
			snprintf(reason, PAIR_REASON_BYTES, "%s", result->reason);
			return result->error;
		}
	}
	if (error == -ETIMEDOUT)
		snprintf(reason, PAIR_REASON_BYTES, "did not end within its time limit and was killed");
	else if (error == -ECHILD)
		snprintf(reason, PAIR_REASON_BYTES, "one of its processes died");
	else
		snprintf(reason, PAIR_REASON_BYTES, "%s", strerror(-error));
	return error;
}

int pair_run(struct pair *pair, const struct pair_plan *plan, struct pair_result *ret_result, char *reason)
{
	memset(pair->shared, 0, sizeof *pair->shared);
	snprintf(pair->channel, sizeof pair->channel, "bench-%d-%u", (int)getpid(), pair->runs++);
	int error = run_both(pair, plan);
	if (error != 0) {
		if (plan->of->clean_up)
			plan->of->clean_up(pair->channel);
		return explain(pair, error, reason);
	}
	ret_result->histograms = pair->shared->histograms;
	memcpy(ret_result->sides, pair->shared->results, sizeof ret_result->sides);
	return 0;
}
