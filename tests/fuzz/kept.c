/* SPDX-License-Identifier: Apache-2.0 */
#include "kept.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox.h"

#define PAGE  4096
#define ASIDE "aside"

static struct {
	int fd;
	ino_t inode;
	uint8_t *bytes;
	uint64_t size;
	bool spoiled;
} kept = {.fd = -1};

int __real_unlinkat(int directory_fd, const char *name, int flags);
int __wrap_unlinkat(int directory_fd, const char *name, int flags);

static bool is_kept(int directory_fd, const char *name)
{
	struct stat status;
	return kept.fd >= 0 && !kept.spoiled && fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       status.st_ino == kept.inode;
}

int __wrap_unlinkat(int directory_fd, const char *name, int flags)
{
	if (!is_kept(directory_fd, name))
		return __real_unlinkat(directory_fd, name, flags);
	return strcmp(name, ASIDE) == 0 ? 0 : renameat(directory_fd, name, directory_fd, ASIDE);
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

int object_make(const char *name, const uint8_t *contents, uint64_t size)
{
	int fd = openat(sandbox_directory_fd(), name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || posix_fallocate(fd, 0, (off_t)size) != 0)
		fail("an object cannot be made");
	for (uint64_t offset = 0; offset < size; offset += PAGE)
		if (!is_zero(contents + offset) && pwrite(fd, contents + offset, PAGE, (off_t)offset) != PAGE)
			fail("an object cannot be written");
	return fd;
}

static void make(const char *name, const uint8_t *contents, uint64_t size)
{
	struct stat status;
	kept.fd = object_make(name, contents, size);
	kept.bytes = sandbox_map(kept.fd, size);
	kept.size = size;
	if (kept.bytes == NULL || fstat(kept.fd, &status) != 0)
		fail("an object cannot be mapped");
	kept.inode = status.st_ino;
	kept.spoiled = false;
	static bool registered;
	if (!registered)
		atexit(kept_spoil); /* before the directory goes, with all that is in it */
	registered = true;
}

int kept_plant(const char *name, const uint8_t *contents, uint64_t size)
{
	if (kept.fd < 0) {
		make(name, contents, size);
		return kept.fd;
	}
	if (renameat(sandbox_directory_fd(), ASIDE, sandbox_directory_fd(), name) != 0)
		fail("an object cannot be put back");
	for (uint64_t offset = 0; offset < size; offset += PAGE)
		if (memcmp(kept.bytes + offset, contents + offset, PAGE) != 0)
			memcpy(kept.bytes + offset, contents + offset, PAGE);
	return kept.fd;
}

void kept_spoil(void)
{
	kept.spoiled = true;
}

void kept_drop_spoiled(void)
{
	if (!kept.spoiled)
		return;
	sandbox_unmap(kept.bytes, kept.size);
	close(kept.fd);
	kept.fd = -1;
	kept.spoiled = false;
}

uint8_t *kept_bytes(void)
{
	return kept.bytes;
}
