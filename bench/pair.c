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
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/error.h>

#include "case.h"
#include "ticks.h"

#define MEET_SPINS  10000   /* looks at the barrier before the CPU is offered to others */
#define AGREE_AHEAD 1000000 /* ns: every side has met by then */

struct pair_shared {
	_Alignas(PAIR_LINE) _Atomic uint32_t arrived;
	_Alignas(PAIR_LINE) _Atomic bool stopped;
	uint64_t warm_up;   /* repetitions before the measured ones */
	uint64_t total;     /* and all of them */
	uint64_t agreed_ns; /* written by the first side before a meeting, read after it */
	_Alignas(PAIR_LINE) struct side_result results[PAIR_MOST_SIDES];
	struct histogram histograms[PAIR_HISTOGRAMS];
	_Alignas(4096) unsigned char scratch[PAIR_SCRATCH_BYTES];
};

struct pair {
	struct pair_shared *shared;
	uint32_t runs;
	int signals[2];
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
	uint32_t sides = (uint32_t)side->sides;
	uint32_t target = (atomic_fetch_add(arrived, 1) / sides + 1) * sides; /* each meeting adds as many */

	for (uint32_t spins = 0; atomic_load(arrived) < target; spins++)
		if (spins > MEET_SPINS)
			sched_yield();
}

void side_start_clock(struct side *side)
{
	struct side_result *result = &side->shared->results[side->index];
	struct usage usage = usage_now();

	side->end_ns = usage.ns + side->most_ns;
	result->measured_ns = usage.ns;
	result->cpu_ns = usage.cpu_ns;
	result->waits = usage.waits;
	result->preemptions = usage.preemptions;
}

void side_stop_clock(struct side *side)
{
	struct side_result *result = &side->shared->results[side->index];
	struct usage usage = usage_now();

	result->measured_ns = usage.ns - result->measured_ns;
	result->cpu_ns = usage.cpu_ns - result->cpu_ns;
	result->waits = usage.waits - result->waits;
	result->preemptions = usage.preemptions - result->preemptions;
}

void side_start(struct side *side)
{
	side_meet(side);
	side_start_clock(side);
}

void side_finish(struct side *side)
{
	side_stop_clock(side);
	side_meet(side);
}

uint64_t side_agree(struct side *side)
{
	if (side->index == 0)
		side->shared->agreed_ns = ticks_monotonic_ns() + AGREE_AHEAD;
	side_meet(side);
	return side->shared->agreed_ns;
}

void side_check_time(struct side *side, uint64_t done, uint64_t step)
{
	uint64_t last = done + step;
	uint64_t warm_up = side_warm_up(side);

	if (ticks_monotonic_ns() < side->end_ns)
		return;
	if (last < warm_up) {
		__atomic_store_n(side->total, side_total(side) - (warm_up - last), __ATOMIC_RELAXED);
		__atomic_store_n(side->warm_up, last, __ATOMIC_RELAXED);
	} else if (done >= warm_up && last < side_total(side)) {
		__atomic_store_n(side->total, last, __ATOMIC_RELAXED);
	}
}

void side_stop(struct side *side)
{
	atomic_store(&side->shared->stopped, true);
}

bool side_stopped(const struct side *side)
{
	return atomic_load_explicit(&side->shared->stopped, memory_order_relaxed); /* nothing is read by it */
}

void side_share(struct side *side, int index, uint64_t messages)
{
	side->shared->results[index].messages = messages;
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

static int pin(const struct pair_plan *plan, int index)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(plan->cpus[index], &set);
	if (index < 2 && plan->helper_cpus[index] >= 0)
		CPU_SET(plan->helper_cpus[index], &set);
	return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

static void run_side(const struct pair *pair, const struct pair_plan *plan, int index, pid_t parent)
{
	struct side side = {
		.of = plan->of,
		.shared = pair->shared,
		.index = index,
		.sides = plan->sides,
		.warm_up = &pair->shared->warm_up,
		.total = &pair->shared->total,
		.most_ns = plan->most_ns,
		.end_ns = ticks_monotonic_ns() + plan->most_ns,
		.idle_ns = plan->idle_ns,
		.interval_ns = plan->interval_ns,
		.channel = pair->channel,
		.scratch = pair->shared->scratch,
		.signals = {pair->signals[0], pair->signals[1]},
		.histograms = pair->shared->histograms,
	};

	signal(SIGINT, SIG_IGN); /* the parent ends its sides, and cleans up behind them */
	signal(SIGTERM, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	int error = pin(plan, index);
	if (error)
		side_fail(&side, error, "sched_setaffinity");
	else
		error = plan->of->run[index == 0 ? 0 : 1](&side);
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

/* The sides of one run, as the parent sees them. */
struct children {
	int count; /* that were started */
	pid_t ids[PAIR_MOST_SIDES];
	int fds[PAIR_MOST_SIDES];
	int living;
	bool reaped[PAIR_MOST_SIDES];
};

/* Reaps those that ended. Returns 0, or -ECHILD if one did not end well. */
static int reap(struct children *children, const struct pollfd *polled)
{
	for (int i = 0; i < children->count; i++) {
		int status;

		if (!(polled[i].revents & POLLIN) || waitpid(children->ids[i], &status, 0) != children->ids[i])
			continue;
		children->reaped[i] = true;
		children->living--;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
			return -ECHILD;
	}
	return 0;
}

/* Waits for all sides to exit well, for one to end badly, for the limit or for an interrupt. */
static int watch(struct children *children, uint64_t limit_ns)
{
	uint64_t end = ticks_monotonic_ns() + limit_ns;
	int error = 0;

	while (children->living > 0 && error == 0) {
		struct pollfd polled[PAIR_MOST_SIDES];
		uint64_t now = ticks_monotonic_ns();

		for (int i = 0; i < children->count; i++)
			polled[i] =
				(struct pollfd){.fd = children->reaped[i] ? -1 : children->fds[i], .events = POLLIN};
		if (interrupted)
			return -EINTR;
		if (now >= end)
			return -ETIMEDOUT;
		int ready = poll(polled, (nfds_t)children->count, (int)((end - now) / 1000000 + 1));
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (ready > 0)
			error = reap(children, polled);
	}
	return error;
}

static int run_all(const struct pair *pair, const struct pair_plan *plan)
{
	struct children children = {0};
	int error = 0;

	while (children.count < plan->sides && error == 0) {
		pid_t child = start_side(pair, plan, children.count, &children.fds[children.count]);

		if (child < 0)
			error = child;
		else
			children.ids[children.count++] = child;
	}
	children.living = children.count;
	if (error == 0)
		error = watch(&children, plan->limit_ns);
	for (int i = 0; i < children.count; i++) {
		if (!children.reaped[i]) {
			kill(children.ids[i], SIGKILL);
			waitpid(children.ids[i], NULL, 0);
		}
		close(children.fds[i]);
	}
	return error;
}

static int explain(const struct pair *pair, int error, char *reason)
{
	for (int i = 0; i < PAIR_MOST_SIDES; i++) {
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

/* New ones each time: a run that failed may have left them signalled. */
static int open_signals(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		pair->signals[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return pair->signals[0] < 0 || pair->signals[1] < 0 ? -errno : 0;
}

static void close_signals(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		if (pair->signals[i] >= 0)
			close(pair->signals[i]);
}

int pair_run(struct pair *pair, const struct pair_plan *plan, struct pair_result *ret_result, char *reason)
{
	memset(pair->shared, 0, sizeof *pair->shared);
	pair->shared->warm_up = plan->warm_up;
	pair->shared->total = plan->warm_up + plan->repetitions;
	snprintf(pair->channel, sizeof pair->channel, "bench-%d-%u", (int)getpid(), pair->runs++);
	int error = open_signals(pair);
	if (error == 0)
		error = run_all(pair, plan);
	close_signals(pair);
	if (error != 0) {
		if (plan->of->clean_up)
			plan->of->clean_up(pair->channel);
		return explain(pair, error, reason);
	}
	ret_result->histograms = pair->shared->histograms;
	ret_result->warm_up = pair->shared->warm_up;
	ret_result->repetitions = pair->shared->total - pair->shared->warm_up;
	memcpy(ret_result->sides, pair->shared->results, sizeof ret_result->sides);
	return 0;
}
