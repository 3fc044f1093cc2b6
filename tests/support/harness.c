/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, the sandbox directory and what is counted in it, shared memory and tallies. Processes are in process.c. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "process.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SHARED_AREAS 32

static struct {
	char directory[64];
	unsigned descriptors;
	struct {
		void *address;
		size_t bytes;
	} areas[SHARED_AREAS];
	unsigned area_count;
} sandbox;

void check_failed(const char *what, const char *file, int line)
{
	if (process_is_child()) {
		fprintf(stderr, "%s:%d: process %u: failed: %s\n", file, line, process_index(), what);
		_exit(1);
	}
	print_error("%s:%d: failed: %s\n", file, line, what);
	_fail(file, line);
	abort();
}

void check_equal_at(uint64_t expected, uint64_t actual, const char *what, const char *file, int line)
{
	char text[512];

	if (expected == actual)
		return;
	snprintf(text, sizeof text, "%s is %llu, not %llu", what, (unsigned long long)actual,
		(unsigned long long)expected);
	check_failed(text, file, line);
}

static void describe(int result, char *text, size_t size)
{
	const char *name = result < 0 ? strerrorname_np(-result) : NULL;

	if (name)
		snprintf(text, size, "-%s", name);
	else
		snprintf(text, size, "%d", result);
}

void check_result_at(int expected, int actual, const char *what, const char *file, int line)
{
	char text[512], wanted[32], got[32];

	if (expected == actual)
		return;
	describe(expected, wanted, sizeof wanted);
	describe(actual, got, sizeof got);
	snprintf(text, sizeof text, "%s is %s, not %s", what, got, wanted);
	check_failed(text, file, line);
}

static int by_name(const void *left, const void *right)
{
	return strcmp(left, right);
}

unsigned directory_objects(const char *directory, sandbox_name *names)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	unsigned count = 0;

	check(stream != NULL);
	while ((entry = readdir(stream))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (names && count < SANDBOX_NAMES)
			snprintf(names[count], sizeof names[count], "%s", entry->d_name);
		count++;
	}
	closedir(stream);
	if (names)
		qsort(names, count < SANDBOX_NAMES ? count : SANDBOX_NAMES, sizeof *names, by_name);
	return count;
}

unsigned sandbox_objects(sandbox_name *names)
{
	return directory_objects(sandbox.directory, names);
}

unsigned open_descriptors(void)
{
	return directory_objects("/proc/self/fd", NULL) - 1;
}

unsigned sandbox_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[1024];
	unsigned count = 0;

	check(maps != NULL);
	while (fgets(line, sizeof line, maps))
		if (strstr(line, sandbox.directory))
			count++;
	fclose(maps);
	return count;
}

const char *sandbox_directory(void)
{
	return sandbox.directory;
}

const char *sandbox_path(const char *name)
{
	static char paths[4][512];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", sandbox.directory, name);
	return path;
}

int sandbox_setup(void **state)
{
	(void)state;
	snprintf(sandbox.directory, sizeof sandbox.directory, "/dev/shm/sluice-test-XXXXXX");
	if (!mkdtemp(sandbox.directory) || setenv("SLUICE_DIR", sandbox.directory, 1)) {
		print_error("no directory in /dev/shm: %s\n", strerror(errno));
		return -1;
	}
	sandbox.descriptors = open_descriptors();
	process_reset();
	alarm(limit_seconds() + 30);
	return 0;
}

/* Removes what a test left in its directory; returns how much that was. */
static unsigned sweep(void)
{
	static sandbox_name names[SANDBOX_NAMES];
	unsigned count = sandbox_objects(names);

	for (unsigned i = 0; i < count && i < SANDBOX_NAMES; i++) {
		print_error("left behind: %s\n", names[i]);
		if (unlink(sandbox_path(names[i])))
			rmdir(sandbox_path(names[i]));
	}
	rmdir(sandbox.directory);
	return count;
}

int sandbox_teardown(void **state)
{
	unsigned children = process_sweep();
	unsigned descriptors = open_descriptors();
	unsigned mappings = sandbox_mappings();
	unsigned objects = sweep();

	(void)state;
	alarm(0);
	while (sandbox.area_count) {
		sandbox.area_count--;
		munmap(sandbox.areas[sandbox.area_count].address, sandbox.areas[sandbox.area_count].bytes);
	}
	if (children)
		print_error("%u processes left behind\n", children);
	if (descriptors != sandbox.descriptors)
		print_error("%u descriptors before, %u after\n", sandbox.descriptors, descriptors);
	if (mappings)
		print_error("%u mappings left behind\n", mappings);
	return children || descriptors != sandbox.descriptors || mappings || objects ? -1 : 0;
}

void *shared_memory(size_t bytes)
{
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(address != MAP_FAILED);
	check(sandbox.area_count < SHARED_AREAS);
	sandbox.areas[sandbox.area_count].address = address;
	sandbox.areas[sandbox.area_count].bytes = bytes;
	sandbox.area_count++;
	return address;
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

void tally_add(struct tally *tally)
{
	atomic_fetch_add(&tally->count, 1);
	futex(&tally->count, FUTEX_WAKE, INT32_MAX, NULL);
}

uint32_t tally_read(struct tally *tally)
{
	return atomic_load(&tally->count);
}

void tally_wait(struct tally *tally, uint32_t count)
{
	while (!tally_wait_for(tally, count, SECOND))
		continue;
}

bool tally_wait_for(struct tally *tally, uint32_t count, int64_t timeout_ns)
{
	const uint64_t end = now_ns() + (uint64_t)timeout_ns;
	uint32_t seen;

	/* A short spin first: two processes that meet here then go on at very nearly the same time. */
	for (unsigned spins = 0; spins < 2000; spins++)
		if (atomic_load(&tally->count) >= count)
			return true;
	while ((seen = atomic_load(&tally->count)) < count) {
		const uint64_t now = now_ns();
		struct timespec left;

		if (now >= end)
			return false;
		left.tv_sec = (time_t)((end - now) / SECOND);
		left.tv_nsec = (long)((end - now) % SECOND);
		futex(&tally->count, FUTEX_WAIT, seen, &left);
	}
	return true;
}

void tally_meet(struct tally *tally, uint32_t count)
{
	tally_add(tally);
	tally_wait(tally, count);
}

unsigned limit_seconds(void)
{
	return SANITIZED ? 240 : 100;
}

uint64_t scaled(uint64_t count)
{
	static uint64_t divisor;
	const char *text = getenv("SLUICE_TEST_DIVISOR");

	if (!divisor) {
		divisor = text ? strtoull(text, NULL, 10) : SANITIZED ? 20 : 1;
		if (!divisor)
			divisor = 1;
		if (divisor > 1)
			print_message("repetitions divided by %llu\n", (unsigned long long)divisor);
	}
	return count / divisor ? count / divisor : 1;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * (uint64_t)SECOND + (uint64_t)now.tv_nsec;
}
