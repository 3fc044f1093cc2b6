/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define LARGEST_FILE (UINT64_C(8) << 20)
#define GUARD        (UINT64_C(64) << 10)
#define MAPPINGS     1024
#define HANDLES      20 /* more than the library lets rest before it uses one again */

void *__real_mmap(void *base, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *base, size_t bytes);
void *__wrap_mmap(void *base, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *base, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *base, size_t bytes);

/* ---- input ---- */

uint64_t input_number(struct input *input, size_t bytes)
{
	uint64_t number = 0;
	size_t taken = bytes < input->left ? bytes : input->left;
	memcpy(&number, input->bytes, taken);
	input->bytes += taken;
	input->left -= taken;
	return number;
}

void fail(const char *reason)
{
	fprintf(stderr, "fuzz: %s\n", reason);
	abort();
}

/* ---- mappings ---- */

/* One thread of the program opens and closes handles; other threads map nothing meanwhile. */
static struct {
	uint8_t *base;
	uint64_t bytes;
	uint64_t guard; /* bytes around it; none around what was to lie at a certain place */
} mappings[MAPPINGS];
static unsigned mapping_count;

static void *note_mapping(void *base, uint64_t bytes, uint64_t guard)
{
	mappings[mapping_count].base = base;
	mappings[mapping_count].bytes = bytes;
	mappings[mapping_count++].guard = guard;
	return base;
}

void *__wrap_mmap(void *base, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (fd < 0)
		return __real_mmap(base, bytes, protection, flags, fd, offset);
	if (mapping_count == MAPPINGS)
		fail("too many mappings");
	if (base != NULL) {
		void *mapped = __real_mmap(base, bytes, protection, flags, fd, offset);
		return mapped != MAP_FAILED ? note_mapping(mapped, bytes, 0) : MAP_FAILED;
	}
	uint8_t *around =
		__real_mmap(NULL, bytes + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (around == MAP_FAILED)
		return MAP_FAILED;
	void *mapped = __real_mmap(around + GUARD, bytes, protection, flags | MAP_FIXED, fd, offset);
	if (mapped == MAP_FAILED) {
		__real_munmap(around, bytes + 2 * GUARD);
		return MAP_FAILED;
	}
	return note_mapping(mapped, bytes, GUARD);
}

int __wrap_munmap(void *base, size_t bytes)
{
	for (unsigned i = 0; i < mapping_count; i++) {
		if (mappings[i].base != base)
			continue;
		if (mappings[i].bytes != bytes)
			fail("a mapping is taken away in part");
		const uint64_t guard = mappings[i].guard;
		mappings[i] = mappings[--mapping_count];
		return __real_munmap((uint8_t *)base - guard, (bytes + 4095) / 4096 * 4096 + 2 * guard);
	}
	return __real_munmap(base, bytes);
}

void *sandbox_map(int fd, uint64_t bytes)
{
	void *base = __real_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return base != MAP_FAILED ? base : NULL;
}

void sandbox_unmap(void *base, uint64_t bytes)
{
	__real_munmap(base, bytes);
}

/* What mmap is called where files may be large. */
void *__wrap_mmap64(void *base, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return __wrap_mmap(base, bytes, protection, flags, fd, offset);
}

bool sandbox_is_mapped(const void *data, uint64_t bytes)
{
	const uint8_t *start = data;
	for (unsigned i = 0; i < mapping_count; i++)
		if (start >= mappings[i].base && (uint64_t)(start - mappings[i].base) <= mappings[i].bytes &&
			bytes <= mappings[i].bytes - (uint64_t)(start - mappings[i].base))
			return true;
	return false;
}

/* ---- descriptors ---- */

static int lowest_fd;
static unsigned marked_mappings;

static int lowest_free_fd(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0)
		close(fd);
	return fd;
}

void sandbox_mark(void)
{
	lowest_fd = lowest_free_fd();
	marked_mappings = mapping_count;
}

void sandbox_check(void)
{
	/* A descriptor that stayed open has the lowest number that was free. */
	if (lowest_free_fd() != lowest_fd)
		fail("a descriptor was left open");
	if (mapping_count != marked_mappings)
		fail("a mapping was left");
}

/* ---- the directory ---- */

static char directory[200];
static int directory_fd = -1;

static void remove_directory(void)
{
	sandbox_clear(false);
	rmdir(directory);
}

static void note_large_file(int number)
{
	(void)number;
}

void sandbox_start(void)
{
	const struct rlimit limit = {LARGEST_FILE, LARGEST_FILE};
	const char *parent = getenv("SLUICE_DIR");
	/* A handler of our own, because the fuzzer's would take the signal for a crash; the call fails with EFBIG. */
	signal(SIGXFSZ, note_large_file);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		fail("no limit for files");
	snprintf(directory, sizeof directory, "%s/sluice-fuzz.XXXXXX", parent != NULL ? parent : "/dev/shm");
	if (mkdtemp(directory) == NULL)
		fail("no directory");
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0)
		fail("no directory");
	atexit(remove_directory);
}

const char *sandbox_directory(void)
{
	return directory;
}

int sandbox_directory_fd(void)
{
	return directory_fd;
}

void sandbox_clear(bool none_expected)
{
	DIR *stream = opendir(directory);
	if (stream == NULL)
		return;
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (none_expected && strncmp(entry->d_name, "sluice.", 7) == 0) {
			fprintf(stderr, "fuzz: %s\n", entry->d_name);
			fail("a file outlives its channel");
		}
		if (unlinkat(directory_fd, entry->d_name, 0) != 0)
			unlinkat(directory_fd, entry->d_name, AT_REMOVEDIR);
	}
	closedir(stream);
}

/* ---- handles ---- */

static void exchange_one(struct sluice_producer *producer, struct sluice_consumer *consumer)
{
	const struct sluice_tensor_spec spec = {"x", SLUICE_UINT8, 1, {1}};
	struct sluice_message *message;
	const struct sluice_message *received;
	if (sluice_reserve(producer, &spec, 1, 0, &message) != 0 || sluice_publish(message) != 0 ||
		sluice_receive(consumer, 0, &received) != 0 || sluice_release(received) != 0)
		fail("a channel does not work at all");
}

void sandbox_warm_up(void)
{
	const struct sluice_channel_options channel = {.size = sizeof channel, .directory = directory, .depth = 2};
	const struct sluice_producer_options producing = {
		.size = sizeof producing, .channel = &channel, .lane_bytes = 4096};
	const struct sluice_consumer_options consuming = {.size = sizeof consuming, .channel = &channel};
	for (unsigned i = 0; i < 2 * HANDLES; i++) {
		struct sluice_producer *producer;
		struct sluice_consumer *consumer;
		if (sluice_producer_open("warm", &producing, &producer) != 0 ||
			sluice_consumer_open("warm", &consuming, &consumer) != 0)
			fail("a channel cannot be opened at all");
		exchange_one(producer, consumer);
		sluice_producer_close(producer);
		sluice_consumer_close(consumer);
	}
	sandbox_clear(true);
}
