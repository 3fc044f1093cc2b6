/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

#define LIMIT_SECONDS  120
#define MOST_PROCESSES 16
#define LEFT_OUT       77

static char directory[64];
static pid_t processes[MOST_PROCESSES];
static unsigned process_count;

/* ---- checks ---- */

void check_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	fflush(NULL);
	_exit(1);
}

void check_equal_at(int64_t expected, int64_t actual, const char *what, const char *file, int line)
{
	char text[512];

	if (expected == actual)
		return;
	snprintf(text, sizeof text, "%s is %lld, not %lld", what, (long long)actual, (long long)expected);
	check_failed(text, file, line);
}

static const char *name_of(int result)
{
	const char *name = result < 0 ? strerrorname_np(-result) : NULL;

	return name ? name : "a count";
}

void check_result_at(int expected, int actual, const char *what, const char *file, int line)
{
	char text[512];

	if (expected == actual)
		return;
	snprintf(text, sizeof text, "%s is %d (%s), not %d (%s)", what, actual, name_of(actual), expected,
		name_of(expected));
	check_failed(text, file, line);
}

/* ---- running cases ---- */

static unsigned sweep(void)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	unsigned count = 0;

	while (stream && (entry = readdir(stream))) {
		char path[sizeof directory + sizeof entry->d_name + 1];

		if (entry->d_name[0] == '.')
			continue;
		printf("    left behind: %s\n", entry->d_name);
		snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
		unlink(path);
		count++;
	}
	if (stream)
		closedir(stream);
	rmdir(directory);
	return count;
}

static void begin(const struct check_case *of)
{
	if (setpgid(0, 0) || setenv("SLUICE_DIR", directory, 1))
		exit(1);
	alarm(LIMIT_SECONDS);
	if (of->standin_only && !device_is_standin())
		exit(LEFT_OUT);
	of->run();
	for (unsigned i = 0; i < process_count; i++)
		if (processes[i])
			finish_process(i);
	device_check_left();
	/* Not _exit: a leak is told at exit. */
	exit(0);
}

static int run_case(const struct check_case *of)
{
	pid_t child;
	int status;

	snprintf(directory, sizeof directory, "/dev/shm/sluice-cuda-XXXXXX");
	if (!mkdtemp(directory))
		return 1;
	printf("%s ", of->name);
	fflush(NULL);
	child = fork();
	if (!child)
		begin(of);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 1;
	kill(-child, SIGKILL); /* whatever it started */
	if (WIFEXITED(status) && WEXITSTATUS(status) == LEFT_OUT)
		return sweep() ? 1 : LEFT_OUT;
	if (WIFSIGNALED(status))
		printf("ended by %s ", strsignal(WTERMSIG(status)));
	return sweep() || status ? 1 : 0;
}

static bool is_wanted(const char *name, int count, char **arguments)
{
	for (int i = 1; i < count; i++)
		if (!strcmp(arguments[i], name))
			return true;
	return count < 2;
}

int check_main(int count, char **arguments, const struct check_case *cases, unsigned case_count)
{
	unsigned ran = 0, failed = 0;

	for (unsigned i = 0; i < case_count; i++) {
		int result;

		if (!is_wanted(cases[i].name, count, arguments))
			continue;
		result = run_case(&cases[i]);
		puts(result == LEFT_OUT ? "left out" : result ? "FAILED" : "ok");
		ran += result != LEFT_OUT;
		failed += result && result != LEFT_OUT;
	}
	printf("%u ran, %u failed\n", ran, failed);
	return failed ? 1 : ran ? 0 : LEFT_OUT;
}

/* ---- processes ---- */

unsigned start_process(void (*run)(void *argument), void *argument)
{
	const unsigned process = process_count++;

	check(process < MOST_PROCESSES);
	fflush(NULL);
	processes[process] = fork();
	check(processes[process] >= 0);
	if (!processes[process]) {
		process_count = 0;
		alarm(LIMIT_SECONDS);
		run(argument);
		device_check_left();
		exit(0);
	}
	return process;
}

pid_t process_id(unsigned process)
{
	return processes[process];
}

void finish_process(unsigned process)
{
	int status;

	check(waitpid(processes[process], &status, 0) == processes[process]);
	processes[process] = 0;
	check_equal(0, status);
}

void kill_process(unsigned process)
{
	check(!kill(processes[process], SIGKILL));
	check(waitpid(processes[process], NULL, 0) == processes[process]);
	processes[process] = 0;
}

void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(memory != MAP_FAILED);
	return memory;
}

static void futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
	syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

void gauge_set(struct gauge *gauge, uint32_t value)
{
	atomic_store(&gauge->value, value);
	futex(&gauge->value, FUTEX_WAKE, INT32_MAX, NULL);
}

bool gauge_reaches(struct gauge *gauge, uint32_t value, int64_t timeout_ns)
{
	const uint64_t end = now_ns() + (uint64_t)timeout_ns;
	uint32_t seen;

	while ((seen = atomic_load(&gauge->value)) < value) {
		const uint64_t now = now_ns();
		struct timespec left;

		if (now >= end)
			return false;
		left = (struct timespec){(time_t)((end - now) / SECOND), (long)((end - now) % SECOND)};
		futex(&gauge->value, FUTEX_WAIT, seen, &left);
	}
	return true;
}

void gauge_wait(struct gauge *gauge, uint32_t value)
{
	check(gauge_reaches(gauge, value, PATIENCE));
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void check_pause(void)
{
	sched_yield();
}

/* ---- channels ---- */

#define NAME "tokens"

struct sluice_producer *join_producer(const struct sluice_producer_options *options)
{
	struct sluice_producer *producer;

	check_result(0, sluice_producer_open(NAME, options, &producer));
	return producer;
}

struct sluice_consumer *join_consumer(const struct sluice_consumer_options *options)
{
	struct sluice_consumer *consumer;

	check_result(0, sluice_consumer_open(NAME, options, &consumer));
	return consumer;
}

static uint8_t byte_of(uint64_t seed, uint64_t at)
{
	return (uint8_t)((seed + 1) * 167 + at * 31 + (at >> 8));
}

int send_pattern(struct sluice_producer *producer, uint64_t seed, uint64_t bytes, int64_t timeout_ns)
{
	const struct sluice_tensor_spec spec = {
		.name = "bytes", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {(int64_t)bytes}};
	struct sluice_message *message;
	uint8_t *data;
	int result = sluice_reserve(producer, &spec, 1, timeout_ns, &message);

	if (result)
		return result;
	data = sluice_data(message, 0);
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = byte_of(seed, i);
	check_result(0, sluice_set_correlation_id(message, seed));
	return sluice_publish(message);
}

bool is_pattern(const void *data, uint64_t seed, uint64_t bytes)
{
	const uint8_t *at = data;

	for (uint64_t i = 0; i < bytes; i++)
		if (at[i] != byte_of(seed, i))
			return false;
	return true;
}

const struct sluice_message *hold(struct sluice_consumer *consumer)
{
	const struct sluice_message *message;

	check_result(0, sluice_receive(consumer, PATIENCE, &message));
	return message;
}

uint64_t held_messages(void)
{
	struct sluice_channel_stat *stat;
	uint64_t held = 0;

	check_result(0, sluice_channel_stat(NAME, NULL, &stat));
	for (uint32_t i = 0; i < stat->lane_count; i++)
		held += stat->lanes[i].held_messages;
	sluice_channel_stat_free(stat);
	return held;
}
