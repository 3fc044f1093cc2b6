/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts calls short at every instruction: kills a process there, or stops it, lets others go on without it, and lets it
 * finish. After each the promises are checked. See tracer.h for what counts as an instruction.
 *
 *     crash_test [--full] [--stride N] [--pass kill|stop] [--call TEXT] [--expect-violation]
 *
 * A process is killed at every instruction, in that deaths which leave the same are tried once: see subject_trace. Where it is
 * stopped its registers matter too. Calls on the way of messages are stopped at every instruction. Opening, leaving, waiting
 * and collecting go over whole tables, again and again: there every N-th instruction is a stop, at its first two passages
 * and its last, and each that is locked or leads to the system at its first; all of them with --full, which also lets every
 * death be followed by every course of events. A case is one call in one mode with one kind of message; each runs in a
 * process and a directory of its own, so that a violation ends the case and not the harness. With --expect-violation the
 * harness succeeds if there was one.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "clock.h"
#include "device.h"
#include "promises.h"

#define LIMIT_SECONDS 300 /* for one point: nothing waits for so long unless it hangs, also on a busy machine */
#define SKIPPED       77
#define HELD_STEP_NS  200000 /* so far a subject's clock goes at each look during the call */

enum pass { PASS_KILL, PASS_STOP, PASSES };
static const char *const pass_names[PASSES] = {"kill", "stop"};

static struct {
	bool full;
	bool expect_violation;
	bool device; /* the driver that stands in for CUDA's is there */
	unsigned stride;
	int pass; /* enum pass, or -1: both */
	const char *call;
} options = {.stride = 16, .pass = -1};

struct scene {
	const struct call *call;
	bool broadcast;
	bool inside;
	enum pass pass;
	unsigned number;
};

/*
 * Every run has a process of its own, and all begin with the same memory: a handle that was opened before would be used
 * again. False in the caller, once that process has ended well.
 */
static bool is_a_fresh_process(void)
{
	int status;
	pid_t pid = fork();
	if (pid < 0)
		broken("fork: %s", strerrorname_np(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return true;
	}
	while (waitpid(pid, &status, 0) != pid)
		continue;
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		_exit(1);
	return false;
}

/* ---- one point ---- */

struct act {
	struct stage *stage;
	const struct call *call;
};

static void perform(void *context)
{
	const struct act *act = context;
	if (act->call->prepare != NULL)
		act->call->prepare(act->stage);
	clock_hold(HELD_STEP_NS);
	raise(SIGSTOP);
	act->call->run(act->stage);
	raise(SIGSTOP);
	clock_hold(0);
	if (act->call->finish != NULL)
		act->call->finish(act->stage);
}

/* Sets the scene up to the first instruction of the call. */
static void raise_curtain(
	struct stage *stage, struct ledger *ledger, const struct scene *scene, struct subject *subject)
{
	struct act act = {stage, scene->call};
	const struct stage like = {
		.broadcast = scene->broadcast,
		.inside = scene->inside,
		.ordered = (scene->call->traits & ORDERED) != 0,
		.expected = (scene->call->traits & EXPECTED) != 0 ? 2 : 0,
	};
	stage_reset(stage, ledger, &like);
	if (scene->call->before != NULL)
		scene->call->before(stage);
	if (!subject_start(subject, perform, &act))
		broken("the subject fails before its call");
	if (scene->call->between != NULL)
		scene->call->between(stage);
	if (!subject_enter(subject, scene->call->function))
		broken("the subject never makes its call");
}

static void expect_pause(struct subject *subject)
{
	int status;
	if (subject_resume(subject, &status) != SUBJECT_PAUSED || WSTOPSIG(status) != SIGSTOP)
		broken("the call does not return as it must");
}

static void expect_end(struct subject *subject)
{
	int status;
	if (subject_resume(subject, &status) != SUBJECT_ENDED || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		broken("the subject does not end as it must");
}

static void kill_there(struct stage *stage, const struct scene *scene, struct subject *subject)
{
	subject_kill(subject);
	ledger_death(stage->ledger, SUBJECT_READER);
	promises_afterwards(stage, scene->call);
}

static void stop_there(struct stage *stage, const struct scene *scene, struct subject *subject)
{
	promises_while_stopped(stage, scene->call);
	expect_pause(subject);
	promises_when_returned(stage, scene->call);
	expect_end(subject);
	promises_afterwards(stage, scene->call);
}

static void cut_at(
	struct ledger *ledger, const struct scene *scene, struct point point, uint64_t number, unsigned variant)
{
	struct stage stage;
	struct subject subject;
	if (!is_a_fresh_process())
		return;
	alarm(LIMIT_SECONDS);
	raise_curtain(&stage, ledger, scene, &subject);
	ledger->point = number;
	ledger->variant = variant;
	ledger->address = point.address;
	/* A point that this run does not come to, for a clock or a number differed: the call has returned then. */
	if (subject_run_to(&subject, point) == SUBJECT_RETURNED) {
		expect_pause(&subject);
		ledger->address = 0;
		ledger->unreached++;
	}
	if (scene->pass == PASS_KILL || ledger->address == 0)
		kill_there(&stage, scene, &subject);
	else
		stop_there(&stage, scene, &subject);
	ledger->counts[scene->pass] += ledger->address != 0;
	_exit(0);
}

/* ---- one case ---- */

/* Of a call that is sampled: a point that may be taken. */
static bool is_candidate(struct point point)
{
	return point.passage <= 2 || point.last;
}

/* Marks the points to stop at. Of those sampled the cases of a call take different ones. */
static void choose(const struct scene *scene, struct points *points)
{
	size_t candidates = scene->number * 5;
	if (options.full || (scene->call->traits & LONG) == 0)
		return;
	for (size_t i = 0; i < points->count; i++) {
		struct point *point = &points->list[i];
		bool sampled = is_candidate(*point) && candidates++ % options.stride == 0;
		point->chosen = sampled || (point->weighty && point->passage == 1);
	}
}

/* A death on the way of messages is followed by two courses of events, or all four; any other cut by one of them in turn. */
static void cut_in_variants(struct ledger *ledger, const struct scene *scene, struct point point, uint64_t number)
{
	bool always = options.full || (scene->call->traits & LONG) == 0;
	for (unsigned variant = 0; variant < VARIANTS; variant++) {
		bool wanted = number % VARIANTS == variant;
		if (scene->pass == PASS_KILL && always)
			wanted = options.full || variant == 0 || variant == VARIANTS - 1;
		if (wanted)
			cut_at(ledger, scene, point, number, variant);
	}
}

/* Deaths that leave the same are tried once, where the first of them would be. */
static void cut_everywhere(struct ledger *ledger, const struct scene *scene, const struct points *points)
{
	for (size_t i = 0; i < points->count; i++) {
		if (scene->pass == PASS_KILL ? points->list[i].state == i : points->list[i].chosen)
			cut_in_variants(ledger, scene, points->list[i], i);
		ledger->covered += scene->pass == PASS_KILL;
	}
}

static void trace_case(struct ledger *ledger, const struct scene *scene, struct points *points)
{
	struct stage stage;
	struct subject subject;
	alarm(LIMIT_SECONDS);
	raise_curtain(&stage, ledger, scene, &subject);
	struct image *image = image_new();
	subject_trace(&subject, image, options.full && scene->pass == PASS_KILL, points);
	image_free(image);
	expect_pause(&subject);
	ledger->point = points->count;
	kill_there(&stage, scene, &subject); /* after its last instruction */
}

static void run_case(struct ledger *ledger, const struct scene *scene)
{
	struct points *points = points_new();
	if (is_a_fresh_process()) {
		trace_case(ledger, scene, points);
		_exit(0);
	}
	choose(scene, points);
	cut_everywhere(ledger, scene, points);
}

static void describe(const struct scene *scene)
{
	fprintf(stderr, "%s: %s, %s, %s messages", pass_names[scene->pass], scene->call->name,
		scene->broadcast ? "broadcast" : "queue", scene->inside ? "inline" : "payload");
}

/* Where in the source the last point was: by addr2line, if there is one. */
static void describe_address(uint64_t address)
{
	char program[512], offset[32];
	ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
	if (address == 0 || length < 0)
		return;
	program[length] = '\0';
	snprintf(offset, sizeof offset, "%#llx", (unsigned long long)(address - tracer_base()));
	fprintf(stderr, "  instruction %s: ", offset);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execlp("addr2line", "addr2line", "-fpise", program, offset, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

static void sweep(const char *directory)
{
	char command[600];
	snprintf(command, sizeof command, "rm -rf '%s'", directory);
	if (system(command) != 0)
		fprintf(stderr, "%s cannot be removed\n", directory);
}

/* Runs one case in a process of its own. True if all promises were kept. */
static bool direct(struct ledger *ledger, const struct scene *scene)
{
	char directory[] = "/dev/shm/sluice-crash-XXXXXX";
	if (mkdtemp(directory) == NULL || setenv("SLUICE_DIR", directory, 1) != 0) {
		perror("a directory in /dev/shm");
		exit(1);
	}
	int status;
	uint64_t before = ledger->counts[scene->pass], covered_before = ledger->covered;
	uint64_t unreached = ledger->unreached;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_case(ledger, scene);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	sweep(directory);
	bool kept = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (!kept) {
		describe(scene);
		fprintf(stderr, ", point %llu%s%s\n", (unsigned long long)ledger->point,
			WIFSIGNALED(status) ? ": " : "", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "");
		describe_address(ledger->address);
	}
	unsigned long long points = ledger->counts[scene->pass] - before;
	if (scene->pass == PASS_KILL)
		printf("%6llu points by %5llu deaths: ", (unsigned long long)(ledger->covered - covered_before),
			points);
	else
		printf("%6llu points: ", points);
	printf("%s, %s, %s, %s", pass_names[scene->pass], scene->call->name, scene->broadcast ? "broadcast" : "queue",
		scene->inside ? "inline" : "payload");
	if (ledger->unreached > unreached)
		printf(", %llu not reached", (unsigned long long)(ledger->unreached - unreached));
	puts(kept ? "" : ", VIOLATED");
	fflush(stdout);
	return kept;
}

/* ---- all cases ---- */

static const struct call *call_of(size_t number)
{
	return number < call_count ? &calls[number] : &cuda_calls[number - call_count];
}

static bool is_wanted(const struct scene *scene)
{
	unsigned traits = scene->call->traits;
	if (options.pass >= 0 && (int)scene->pass != options.pass)
		return false;
	if ((traits & ON_DEVICE) != 0 && !options.device)
		return false;
	if (options.call != NULL && strstr(scene->call->name, options.call) == NULL)
		return false;
	if (scene->broadcast && (traits & QUEUE_ONLY) != 0)
		return false;
	if (!scene->broadcast && (traits & EXPECTED) != 0)
		return false;
	if (scene->inside && (traits & EITHER_KIND) == 0)
		return false;
	return scene->pass == PASS_STOP || (traits & STOP_ONLY) == 0;
}

static unsigned run_all(struct ledger *ledger)
{
	unsigned violations = 0, cases = 0;
	const size_t all = call_count + cuda_call_count;
	for (size_t i = 0; i < PASSES * all * 4; i++) {
		struct scene scene = {
			.pass = (enum pass)(i / (all * 4)),
			.call = call_of(i / 4 % all),
			.broadcast = (i & 1) != 0,
			.inside = (i & 2) != 0,
			.number = cases,
		};
		if (!is_wanted(&scene))
			continue;
		cases++;
		violations += !direct(ledger, &scene);
		if (violations > 0 && options.expect_violation)
			break;
	}
	printf("%u cases, %llu kill points by %llu deaths, %llu stop points, %llu not reached, %u cases violated\n",
		cases, (unsigned long long)ledger->covered, (unsigned long long)ledger->counts[PASS_KILL],
		(unsigned long long)ledger->counts[PASS_STOP], (unsigned long long)ledger->unreached, violations);
	return violations;
}

static int usage(void)
{
	fputs("usage: crash_test [--full] [--stride N] [--pass kill|stop] [--call TEXT] [--expect-violation]\n",
		stderr);
	return 2;
}

static bool parse(int count, char **arguments)
{
	static const struct option known[] = {{"full", no_argument, NULL, 'f'},
		{"stride", required_argument, NULL, 's'}, {"pass", required_argument, NULL, 'p'},
		{"call", required_argument, NULL, 'c'}, {"expect-violation", no_argument, NULL, 'e'}, {0}};
	int option;
	while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
		switch (option) {
		case 'f':
			options.full = true;
			break;
		case 's':
			options.stride = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			options.pass = strcmp(optarg, pass_names[PASS_STOP]) == 0 ? PASS_STOP : PASS_KILL;
			break;
		case 'c':
			options.call = optarg;
			break;
		case 'e':
			options.expect_violation = true;
			break;
		default:
			return false;
		}
	}
	return optind == count && options.stride > 0;
}

int main(int count, char **arguments)
{
	if (!parse(count, arguments))
		return usage();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	puts("skipped: steps through code that a sanitizer added prove nothing more, and take for ever");
	return SKIPPED;
#endif
	const char *reason = tracer_unusable();
	if (reason != NULL) {
		printf("skipped: %s\n", reason);
		return SKIPPED;
	}
	struct ledger *ledger = ledger_new();
	if (ledger == NULL)
		return 1;
	options.device = device_is_there();
	if (!options.device)
		puts("left out: releases behind streams, for there is no driver that stands in for CUDA's");
	unsigned violations = run_all(ledger);
	return (violations > 0) == options.expect_violation ? 0 : 1;
}
