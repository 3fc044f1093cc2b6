/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fuzzers' files (files.h) answer as the kernel's do. The same calls, chosen at random, go to a directory of each; what
 * they return, and what is there afterwards, must be the same.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files.h"
#include "mappings.h"
#include "sandbox.h"

#define STEPS 200000
#define OPEN  12
#define NAMES 6

/* One of the two sides. Slots hold the same descriptor on both, or none on either. */
struct side {
	bool ours;
	int directory;
	int fds[OPEN];
	void *mapped[OPEN];
};

static struct side kernel = {.ours = false};
static struct side ours = {.ours = true};
static uint64_t mapped_bytes[OPEN];
static char scratch[200]; /* on a tmpfs */
static uint64_t chance = 1;

void fail(const char *reason)
{
	fprintf(stderr, "files_test: %s\n", reason);
	exit(1);
}

static unsigned choose(unsigned count)
{
	chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(chance >> 33) % count;
}

/* ---- what the library does ---- */

struct choice {
	unsigned slot;
	unsigned free;
	char name[16];
	int flags;
	uint64_t bytes;
	uint64_t offset;
	unsigned kind;
};

static int outcome(long result)
{
	return result < 0 ? -errno : (int)result;
}

/* A descriptor counts as 0: they are numbered apart. */
static int keep(struct side *side, const struct choice *choice, int fd)
{
	side->fds[choice->free] = fd;
	return fd < 0 ? -errno : 0;
}

static int open_name(struct side *side, const struct choice *choice)
{
	return keep(side, choice,
		openat(side->directory, choice->name, choice->flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

static int open_unnamed(struct side *side, const struct choice *choice)
{
	return keep(side, choice, openat(side->directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

static int open_again(struct side *side, const struct choice *choice)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", side->fds[choice->slot]);
	return keep(side, choice, openat(AT_FDCWD, path, choice->flags | O_NONBLOCK | O_CLOEXEC));
}

static int duplicate(struct side *side, const struct choice *choice)
{
	return keep(side, choice, fcntl(side->fds[choice->slot], F_DUPFD_CLOEXEC, 0));
}

static int close_one(struct side *side, const struct choice *choice)
{
	int result = outcome(close(side->fds[choice->slot]));
	side->fds[choice->slot] = -1;
	return result;
}

static int link_one(struct side *side, const struct choice *choice)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", side->fds[choice->slot]);
	return outcome(linkat(AT_FDCWD, path, side->directory, choice->name, AT_SYMLINK_FOLLOW));
}

static int unlink_one(struct side *side, const struct choice *choice)
{
	return outcome(unlinkat(side->directory, choice->name, choice->kind % 4 == 0 ? AT_REMOVEDIR : 0));
}

static int allocate(struct side *side, const struct choice *choice)
{
	return posix_fallocate(side->fds[choice->slot], 0, (off_t)choice->bytes);
}

static int change_mode(struct side *side, const struct choice *choice)
{
	return outcome(fchmod(side->fds[choice->slot], 0600 | (choice->kind & 0077)));
}

static int read_some(struct side *side, const struct choice *choice)
{
	uint8_t bytes[64];
	ssize_t got = pread(side->fds[choice->slot], bytes, sizeof bytes, (off_t)choice->offset);
	uint32_t sum = 0;
	for (ssize_t i = 0; i < got; i++)
		sum = sum * 31 + bytes[i];
	return got < 0 ? -errno : (int)(sum & 0xffffff) + (int)got;
}

static int lock_one(struct side *side, const struct choice *choice)
{
	struct flock range = {.l_type = choice->kind % 3 == 0 ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	range.l_start = (off_t)(choice->offset % 4) + (INT64_C(1) << 40);
	return outcome(fcntl(side->fds[choice->slot], F_OFD_SETLK, &range));
}

static int ask_lock(struct side *side, const struct choice *choice)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	range.l_start = (off_t)(choice->offset % 4) + (INT64_C(1) << 40);
	int result = fcntl(side->fds[choice->slot], F_OFD_GETLK, &range);
	return result < 0 ? -errno : range.l_type;
}

static int status_sum(const struct stat *status)
{
	bool regular = S_ISREG(status->st_mode);
	uint64_t sum = status->st_mode;
	if (regular)
		sum = sum * 31 + (uint64_t)status->st_size * 7 + (uint64_t)status->st_blocks;
	if (!S_ISDIR(status->st_mode))
		sum = sum * 31 + status->st_nlink;
	return (int)((sum * 31 + status->st_uid + status->st_gid) & 0x7fffffff);
}

static int look_at_one(struct side *side, const struct choice *choice)
{
	struct stat status;
	return fstat(side->fds[choice->slot], &status) != 0 ? -errno : status_sum(&status);
}

static int look_at_name(struct side *side, const struct choice *choice)
{
	struct stat status;
	int result = fstatat(side->directory, choice->name, &status, AT_SYMLINK_NOFOLLOW);
	return result != 0 ? -errno : status_sum(&status);
}

static int look_at_system(struct side *side, const struct choice *choice)
{
	struct statfs system;
	return fstatfs(side->fds[choice->slot], &system) != 0 ? -errno : (int)system.f_type;
}

static int count_names(struct side *side, const struct choice *choice)
{
	(void)choice;
	int fd = openat(side->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
	int sum = 0;
	if (stream == NULL)
		return -errno;
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
		if (entry->d_name[0] != '.')
			sum += 1000 + entry->d_name[1];
	closedir(stream);
	return sum;
}

/* ---- mappings ---- */

static int map_one(struct side *side, const struct choice *choice)
{
	int protection = choice->kind % 2 == 0 ? PROT_READ | PROT_WRITE : PROT_READ;
	void *mapped = mmap(NULL, choice->bytes, protection, MAP_SHARED, side->fds[choice->slot], 0);
	if (mapped == MAP_FAILED)
		return -errno;
	side->mapped[choice->free] = mapped;
	if (choice->kind % 2 == 0)
		((uint8_t *)mapped)[choice->offset % choice->bytes] = (uint8_t)(choice->kind * 7 + 1);
	return 0;
}

static int unmap_one(struct side *side, const struct choice *choice)
{
	int result = outcome(munmap(side->mapped[choice->slot], mapped_bytes[choice->slot]));
	side->mapped[choice->slot] = NULL;
	return result;
}

static int read_mapped(struct side *side, const struct choice *choice)
{
	return ((uint8_t *)side->mapped[choice->slot])[choice->offset % mapped_bytes[choice->slot]];
}

/* ---- what others do to the files ---- */

static int make_other(struct side *side, const struct choice *choice)
{
	static const enum files_kind kinds[] = {FILES_LINK, FILES_FIFO, FILES_FOLDER};
	struct stat status;
	if (fstatat(side->directory, choice->name, &status, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	if (side->ours) {
		struct file *file = files_make(choice->name, kinds[choice->kind % 3]);
		files_set_mode(file, choice->kind % 3 == 0 ? 0777 : choice->kind % 3 == 1 ? 0600 : 0700);
		return 0;
	}
	if (choice->kind % 3 == 0)
		return outcome(symlinkat(".", side->directory, choice->name));
	return outcome(choice->kind % 3 == 1 ? mkfifoat(side->directory, choice->name, 0600)
					     : mkdirat(side->directory, choice->name, 0700));
}

/* Opens what has the name for writing, on the kernel's side. -1 if it is not a regular file. */
static int open_to_change(const struct side *side, const char *name)
{
	struct stat status;
	if (fstatat(side->directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
		return -1;
	return openat(side->directory, name, O_RDWR | O_CLOEXEC);
}

static int change_contents(struct side *side, const struct choice *choice)
{
	static const uint8_t bytes[100] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
	int fd = open_to_change(side, choice->name);
	if (fd < 0)
		return -1;
	struct file *file = side->ours ? files_find(choice->name) : NULL;
	int result = 0;
	if (choice->kind == 0 && side->ours)
		files_write(file, bytes, sizeof bytes, choice->offset);
	else if (choice->kind == 0)
		result = pwrite(fd, bytes, sizeof bytes, (off_t)choice->offset) < 0;
	else if (choice->kind == 1 && side->ours)
		files_resize(file, choice->bytes);
	else if (choice->kind == 1)
		result = ftruncate(fd, (off_t)choice->bytes);
	else if (side->ours)
		files_punch_page(file, choice->offset / 4096 * 4096);
	else
		result = fallocate(
			fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(choice->offset / 4096 * 4096), 4096);
	close(fd);
	return result;
}

static int second_name(struct side *side, const struct choice *choice)
{
	struct stat status;
	int fd = open_to_change(side, choice->name);
	if (fd < 0)
		return -1;
	close(fd);
	if (fstatat(side->directory, "n9", &status, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	if (!side->ours)
		return outcome(linkat(side->directory, choice->name, side->directory, "n9", 0));
	files_link(files_find(choice->name), "n9");
	return 0;
}

/* ---- the comparison ---- */

enum wants { WANTS_NOTHING, WANTS_FD, WANTS_FREE, WANTS_FD_AND_FREE, WANTS_MAPPED, WANTS_FD_TO_MAP };

static const struct call {
	const char *name;
	int (*make)(struct side *, const struct choice *);
	enum wants wants;
} calls[] = {
	{"open", open_name, WANTS_FREE},
	{"open", open_name, WANTS_FREE},
	{"open unnamed", open_unnamed, WANTS_FREE},
	{"open again", open_again, WANTS_FD_AND_FREE},
	{"duplicate", duplicate, WANTS_FD_AND_FREE},
	{"close", close_one, WANTS_FD},
	{"close", close_one, WANTS_FD},
	{"link", link_one, WANTS_FD},
	{"link", link_one, WANTS_FD},
	{"unlink", unlink_one, WANTS_NOTHING},
	{"allocate", allocate, WANTS_FD},
	{"change mode", change_mode, WANTS_FD},
	{"read", read_some, WANTS_FD},
	{"lock", lock_one, WANTS_FD},
	{"lock", lock_one, WANTS_FD},
	{"ask for a lock", ask_lock, WANTS_FD},
	{"ask for a lock", ask_lock, WANTS_FD},
	{"stat", look_at_one, WANTS_FD},
	{"stat a name", look_at_name, WANTS_NOTHING},
	{"stat the system", look_at_system, WANTS_FD},
	{"list", count_names, WANTS_NOTHING},
	{"map", map_one, WANTS_FD_TO_MAP},
	{"unmap", unmap_one, WANTS_MAPPED},
	{"read a mapping", read_mapped, WANTS_MAPPED},
	{"make something else", make_other, WANTS_NOTHING},
	{"change contents", change_contents, WANTS_NOTHING},
	{"second name", second_name, WANTS_NOTHING},
};

static unsigned made[sizeof calls / sizeof calls[0]];

/* A slot that is as wanted, or OPEN. */
static unsigned find_slot(bool in_use, void *const mapped[OPEN])
{
	unsigned start = choose(OPEN);
	for (unsigned i = 0; i < OPEN; i++) {
		unsigned slot = (start + i) % OPEN;
		if (in_use == (mapped != NULL ? mapped[slot] != NULL : kernel.fds[slot] >= 0))
			return slot;
	}
	return OPEN;
}

/* Whether somebody has a file mapped that the call would cut: the kernel's side would get a SIGBUS later. */
static bool anything_mapped(void)
{
	for (unsigned i = 0; i < OPEN; i++)
		if (kernel.mapped[i] != NULL)
			return true;
	return false;
}

static bool choose_slots(const struct call *call, struct choice *choice)
{
	struct stat status;
	choice->slot = 0;
	choice->free = 0;
	if (call->wants == WANTS_FD || call->wants == WANTS_FD_AND_FREE || call->wants == WANTS_FD_TO_MAP)
		choice->slot = find_slot(true, NULL);
	if (call->wants == WANTS_FREE || call->wants == WANTS_FD_AND_FREE)
		choice->free = find_slot(false, NULL);
	if (call->wants == WANTS_MAPPED)
		choice->slot = find_slot(true, kernel.mapped);
	if (call->wants == WANTS_FD_TO_MAP)
		choice->free = find_slot(false, kernel.mapped);
	if (choice->slot == OPEN || choice->free == OPEN)
		return false;
	if (call->make == change_contents && choice->kind != 0 && anything_mapped())
		return false;
	if (call->wants != WANTS_FD_TO_MAP)
		return true;
	/* Whoever touches a hole through a mapping fills it, which files.c does not notice; the library maps none that has. */
	if (fstat(kernel.fds[choice->slot], &status) != 0 ||
		(S_ISREG(status.st_mode) && (status.st_size == 0 || status.st_blocks * 512 < status.st_size)))
		return false;
	choice->bytes = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 4096;
	return true;
}

static void step(unsigned number)
{
	static const int access[] = {O_RDONLY, O_RDWR, O_RDWR, O_RDWR | O_DIRECTORY, O_RDONLY | O_DIRECTORY, O_WRONLY};
	const struct call *call = &calls[choose(sizeof calls / sizeof calls[0])];
	struct choice choice = {
		.flags = access[choose(sizeof access / sizeof access[0])],
		.bytes = (uint64_t)choose(64) * 1000,
		.offset = choose(40000),
		.kind = choose(call->make == change_contents ? 3 : 60),
	};
	snprintf(choice.name, sizeof choice.name, "n%u", choose(NAMES));
	if (!choose_slots(call, &choice))
		return;
	made[call - calls]++;
	int expected = call->make(&kernel, &choice);
	int got = call->make(&ours, &choice);
	if (call->wants == WANTS_FD_TO_MAP && expected == 0)
		mapped_bytes[choice.free] = choice.bytes;
	if (expected == got)
		return;
	fprintf(stderr,
		"step %u, %s of %s, flags %#x, kind %u, %llu bytes, offset %llu: the kernel says %d, files.c %d\n",
		number, call->name, choice.name, (unsigned)choice.flags, choice.kind, (unsigned long long)choice.bytes,
		(unsigned long long)choice.offset, expected, got);
	exit(1);
}

static void remove_scratch(void)
{
	static const char *const others[] = {"n9"};
	char name[16];
	for (unsigned i = 0; i <= NAMES; i++) {
		snprintf(name, sizeof name, "n%u", i);
		if (unlinkat(kernel.directory, i < NAMES ? name : others[0], 0) != 0)
			unlinkat(kernel.directory, i < NAMES ? name : others[0], AT_REMOVEDIR);
	}
	rmdir(scratch);
}

int main(void)
{
	files_start();
	mappings_reserve();
	const char *parent = getenv("SLUICE_DIR");
	snprintf(scratch, sizeof scratch, "%s/files-test.XXXXXX", parent != NULL ? parent : "/dev/shm");
	if (mkdtemp(scratch) == NULL)
		fail("no directory");
	atexit(remove_scratch);
	kernel.directory = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ours.directory = open(FILES_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < OPEN; i++)
		kernel.fds[i] = ours.fds[i] = -1;
	for (unsigned i = 0; i < STEPS; i++)
		step(i);
	for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (made[i] < STEPS / 200)
			fail("a call was hardly ever made");
	return 0;
}
