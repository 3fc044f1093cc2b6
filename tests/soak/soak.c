/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills, stops and restarts producers and consumers at random under load, and accounts for every message by its number.
 *
 *     sluice-soak --seconds N | --messages N [--seed S] [--mode queue|broadcast|both] [--scaled]
 *
 * Ends with 0 if every message that was surely published was delivered and released, none twice without a raised delivery
 * count, none changed, none invented, and nothing is left of the channel; else with 1, telling the seed. --scaled shortens
 * the time as SLUICE_TEST_DIVISOR and sanitizer builds shorten tests.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "../support/exchange.h"
#include "../support/harness.h"
#include "journal.h"
#include "member.h"

#define MOST_MESSAGES (UINT64_C(1) << 28)
#define STALL_NS      (60 * (uint64_t)SECOND) /* without one message: a hang */

struct plan {
	uint64_t messages; /* 0: as many as there is time for */
	uint64_t seconds;  /* 0: as long as it takes */
	uint64_t seed;
	uint32_t modes[2];
	unsigned mode_count;
};

/* One member of the crew, and what is being done to it. */
struct place {
	pid_t pid;       /* 0: nobody is there */
	uint64_t due_ns; /* when somebody comes again, or a stopped one goes on */
	bool stopped;
};

static struct {
	struct journal *journal;
	struct place places[SOAK_MEMBERS];
	uint64_t random;
	uint64_t lives;
	uint64_t kills;
	uint64_t stops;
	uint64_t leaves;
	uint64_t collections;
	uint64_t set_aside;
	bool failed;
} soak;

static uint64_t below(uint64_t limit)
{
	return random_next(&soak.random) % limit;
}

static uint64_t milliseconds(uint64_t count)
{
	return count * (uint64_t)MILLISECOND;
}

/* ---- members ---- */

static void start(unsigned member)
{
	struct place *place = &soak.places[member];
	const uint64_t life = ++soak.lives;

	soak.journal->leave[member] = 0;
	fflush(NULL);
	place->pid = fork();
	if (place->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (member < SOAK_PRODUCERS)
			member_produce(soak.journal, member, life);
		member_consume(soak.journal, member, life);
	}
	if (place->pid < 0) {
		perror("fork");
		exit(1);
	}
	place->stopped = false;
}

/* Collects a process that ended or was killed. */
static void collect(unsigned member, bool killed)
{
	struct place *place = &soak.places[member];
	int status;

	waitpid(place->pid, &status, 0);
	place->pid = 0;
	place->stopped = false;
	/* Most are replaced at once; now and then others have to notice by themselves. */
	place->due_ns = now_ns() + (below(4) ? 0 : milliseconds(below(1500)));
	if ((killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
		(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	fprintf(stderr, "member %u ended with status %#x\n", member, (unsigned)status);
	soak.failed = true;
}

static void collect_ended(void)
{
	for (unsigned member = 0; member < SOAK_MEMBERS; member++) {
		siginfo_t info = {0};
		pid_t pid = soak.places[member].pid;

		if (pid && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
			collect(member, false);
	}
}

static void kill_one(unsigned member)
{
	if (!soak.places[member].pid)
		return;
	kill(soak.places[member].pid, SIGKILL);
	soak.kills++;
	collect(member, true);
}

static void stop_one(unsigned member)
{
	struct place *place = &soak.places[member];

	if (!place->pid || place->stopped)
		return;
	kill(place->pid, SIGSTOP);
	soak.stops++;
	place->stopped = true;
	place->due_ns = now_ns() + milliseconds(below(20) ? below(30) : below(2000));
}

/* Those whose time has come start, or go on. */
static void look_after(void)
{
	const uint64_t now = now_ns();

	for (unsigned member = 0; member < SOAK_MEMBERS; member++) {
		struct place *place = &soak.places[member];

		if (now < place->due_ns)
			continue;
		if (!place->pid)
			start(member);
		else if (place->stopped)
			kill(place->pid, SIGCONT);
		if (place->pid)
			place->stopped = false;
	}
}

/* ---- what happens to them ---- */

static void collect_garbage(void)
{
	struct sluice_collected collected;
	int error = sluice_channel_collect(SOAK_CHANNEL, NULL, 0, &collected);

	soak.collections++;
	if (error && error != -ENOENT && error != -ETIMEDOUT) {
		fprintf(stderr, "collect: %s\n", strerrorname_np(-error));
		soak.failed = true;
	}
	if (collected.dropped_messages && !error) {
		fprintf(stderr, "collect dropped messages\n");
		soak.failed = true;
	}
}

static void kill_all(void)
{
	for (unsigned member = 0; member < SOAK_MEMBERS; member++)
		kill_one(member);
}

static void do_something(void)
{
	const unsigned member = (unsigned)below(SOAK_MEMBERS), what = (unsigned)below(1000);

	if (what < 550) {
		kill_one(member);
	} else if (what < 800) {
		stop_one(member);
	} else if (what < 950) {
		soak.leaves += soak.places[member].pid != 0;
		soak.journal->leave[member] = 1;
	} else if (what < 995) {
		collect_garbage();
	} else {
		kill_all();
	}
}

/* ---- telling ---- */

static void look_at_channel(void)
{
	struct sluice_channel_stat *stat;

	if (sluice_channel_stat(SOAK_CHANNEL, NULL, &stat))
		return;
	soak.set_aside = stat->set_aside_messages;
	sluice_channel_stat_free(stat);
}

static void tell(const char *when)
{
	look_at_channel();
	printf("%s %s: %" PRIu64 " messages, %" PRIu64 " received, %" PRIu64 " again, %" PRIu64 " returned, %" PRIu64
	       " set aside; %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64 " left, %" PRIu64 " collections\n",
		soak.journal->mode == SLUICE_BROADCAST ? "broadcast" : "queue", when, soak.journal->next,
		soak.journal->received, soak.journal->again, soak.journal->returned, soak.set_aside, soak.kills,
		soak.stops, soak.leaves, soak.collections);
	fflush(stdout);
}

/* True while messages come; else tells that they do not. */
static bool moves(uint64_t now)
{
	static uint64_t seen, since_ns;

	if (soak.journal->received != seen || since_ns == 0) {
		seen = soak.journal->received;
		since_ns = now;
	}
	if (now - since_ns < STALL_NS)
		return true;
	fprintf(stderr, "nothing was received for a minute\n");
	return false;
}

/* ---- a run ---- */

static void torment(const struct plan *plan)
{
	const uint64_t begin = now_ns(), end = begin + plan->seconds / plan->mode_count * (uint64_t)SECOND;
	uint64_t now, told = begin, next = begin;

	while (!soak.failed && soak.journal->next < soak.journal->wanted) {
		now = now_ns();
		if (plan->seconds && now >= end)
			break;
		if (!moves(now))
			soak.failed = true;
		if (now - told >= 5 * (uint64_t)SECOND) {
			tell("runs");
			told = now;
		}
		collect_ended();
		look_after();
		if (now >= next) {
			do_something();
			next = now + below(milliseconds(20));
		}
		poll(NULL, 0, 1);
	}
}

/* Half of the time everybody is asked to leave, else killed; then what is left is drained and the books are closed. */
static void settle(void)
{
	const bool cleanly = below(2);
	uint64_t wrong, left;
	struct sluice_collected collected;

	for (unsigned member = 0; member < SOAK_MEMBERS; member++) {
		soak.journal->leave[member] = 1;
		if (!cleanly)
			kill_one(member);
		else if (soak.places[member].pid)
			kill(soak.places[member].pid, SIGCONT);
	}
	for (unsigned member = 0; member < SOAK_MEMBERS; member++)
		if (soak.places[member].pid)
			collect(member, false);
	left = member_drain(soak.journal);
	tell("ended");
	printf("%" PRIu64 " messages were left for the end\n", left);
	if (sluice_channel_collect(SOAK_CHANNEL, NULL, 0, &collected) == 0 && collected.channel)
		printf("the channel was left for the collector: %u lanes, %u files\n", collected.lanes,
			collected.files);
	wrong = journal_verdict(soak.journal);
	if (wrong)
		fprintf(stderr, "%" PRIu64 " messages were lost\n", wrong);
	if (directory_objects(getenv("SLUICE_DIR"), NULL))
		fprintf(stderr, "the channel's directory is not empty\n");
	soak.failed |= wrong || soak.set_aside || directory_objects(getenv("SLUICE_DIR"), NULL);
}

static void run(const struct plan *plan, uint32_t mode)
{
	const uint64_t capacity = plan->messages ? plan->messages / plan->mode_count : MOST_MESSAGES;

	soak.journal = journal_new(plan->seed, mode, capacity);
	if (!soak.journal) {
		perror("journal");
		exit(1);
	}
	soak.journal->wanted = capacity;
	memset(soak.places, 0, sizeof soak.places);
	soak.kills = soak.stops = soak.leaves = soak.collections = soak.set_aside = 0;
	torment(plan);
	if (soak.failed)
		kill_all();
	else
		settle();
	journal_free(soak.journal);
}

/* ---- the program ---- */

static int usage(void)
{
	fprintf(stderr,
		"usage: sluice-soak --seconds N | --messages N [--seed S] [--mode queue|broadcast|both] [--scaled]\n");
	return 2;
}

static bool read_mode(const char *text, struct plan *plan)
{
	plan->mode_count = 1;
	plan->modes[0] = strcmp(text, "broadcast") ? SLUICE_QUEUE : SLUICE_BROADCAST;
	if (!strcmp(text, "both"))
		plan->modes[plan->mode_count++] = SLUICE_BROADCAST;
	return !strcmp(text, "queue") || !strcmp(text, "broadcast") || !strcmp(text, "both");
}

static bool read_arguments(int count, char **arguments, struct plan *plan)
{
	for (int i = 1; i < count; i++) {
		const char *value = i + 1 < count ? arguments[i + 1] : "";

		if (!strcmp(arguments[i], "--scaled")) {
			plan->seconds = scaled(plan->seconds) < 8 ? 8 : scaled(plan->seconds);
			continue;
		}
		if (!strcmp(arguments[i], "--seconds"))
			plan->seconds = strtoull(value, NULL, 0);
		else if (!strcmp(arguments[i], "--messages"))
			plan->messages = strtoull(value, NULL, 0);
		else if (!strcmp(arguments[i], "--seed"))
			plan->seed = strtoull(value, NULL, 0);
		else if (strcmp(arguments[i], "--mode") != 0 || !read_mode(value, plan))
			return false;
		i++;
	}
	return plan->seconds || plan->messages;
}

int main(int count, char **arguments)
{
	struct plan plan = {.seed = now_ns(), .modes = {SLUICE_QUEUE, SLUICE_BROADCAST}, .mode_count = 2};
	char directory[] = "/dev/shm/sluice-soak-XXXXXX";

	if (!read_arguments(count, arguments, &plan))
		return usage();
	if (!mkdtemp(directory) || setenv("SLUICE_DIR", directory, 1)) {
		perror(directory);
		return 1;
	}
	printf("seed %" PRIu64 ", in %s\n", plan.seed, directory);
	soak.random = plan.seed;
	for (unsigned i = 0; i < plan.mode_count && !soak.failed; i++)
		run(&plan, plan.modes[i]);
	if (soak.failed) {
		fprintf(stderr, "failed with --seed %" PRIu64 "; what is left is in %s\n", plan.seed, directory);
		return 1;
	}
	rmdir(directory);
	return 0;
}
