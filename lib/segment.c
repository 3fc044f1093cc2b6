/* SPDX-License-Identifier: Apache-2.0 */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static bool is_memory(int fd)
{
	struct statfs system;
	if (fstatfs(fd, &system) != 0)
		return false;
	return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || system.f_type == HUGETLBFS_MAGIC;
}

int segment_open_directory(const char *directory)
{
	if (directory == NULL)
		directory = secure_getenv("SLUICE_DIR");
	if (directory == NULL || directory[0] == '\0')
		directory = "/dev/shm";
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (is_memory(fd))
		return fd;
	close(fd);
	return -ENOTSUP;
}

/* tmpfs gives up half way on any signal and takes back what it had: start again. */
static int allocate(int fd, uint64_t bytes)
{
	int error;
	struct rlimit limit;
	/* Beyond this limit the kernel sends a signal that kills by default. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
		return -EFBIG;
	do
		error = posix_fallocate(fd, 0, (off_t)bytes);
	while (error == EINTR);
	return -error;
}

static int prepare(int fd, uint64_t bytes, const struct segment_trust *trust)
{
	/* fchmod, because a umask may have taken away what open was given. */
	if (trust->has_group && fchown(fd, (uid_t)-1, trust->group) != 0)
		return -errno;
	if (fchmod(fd, trust->permissions) != 0)
		return -errno;
	return allocate(fd, bytes);
}

int segment_create(
	int directory_fd, uint64_t bytes, const struct segment_trust *trust, int *ret_fd, struct segment *ret_segment)
{
	int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	struct segment segment;
	int error = prepare(fd, bytes, trust);
	if (error == 0)
		error = segment_map(fd, bytes, true, &segment);
	if (error != 0) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	*ret_segment = segment;
	return 0;
}

void segment_path(int fd, char ret_path[SEGMENT_PATH_BYTES])
{
	snprintf(ret_path, SEGMENT_PATH_BYTES, "/proc/self/fd/%d", fd);
}

int segment_link(int directory_fd, int fd, const char *name)
{
	char path[SEGMENT_PATH_BYTES];
	segment_path(fd, path);
	return linkat(AT_FDCWD, path, directory_fd, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

static bool is_trusted(const struct stat *status, const struct segment_trust *trust)
{
	if (trust->any_owner || status->st_uid == geteuid())
		return true;
	if (trust->has_group && status->st_gid == trust->group)
		return true;
	for (uint32_t i = 0; i < trust->uid_count; i++)
		if (status->st_uid == trust->uids[i])
			return true;
	return false;
}

static int check_file(const struct stat *status, const struct segment_trust *trust)
{
	if (!S_ISREG(status->st_mode))
		return -EPROTO;
	if (!is_trusted(status, trust))
		return -EPERM;
	if (status->st_size < (off_t)sizeof(struct layout_header))
		return -EPROTO; /* too short to say what it is */
	return 0;
}

static int read_header(int fd, struct layout_header *ret_header)
{
	ssize_t got = pread(fd, ret_header, sizeof *ret_header, 0);
	if (got < 0)
		return -errno;
	return got == sizeof *ret_header ? 0 : -EPROTO;
}

static int check_object(
	int fd, enum layout_kind kind, const struct segment_trust *trust, struct layout_header *ret_header)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return -errno;
	int error = check_file(&status, trust);
	if (error == 0)
		error = read_header(fd, ret_header);
	if (error == 0)
		error = layout_check_header(ret_header, kind, (uint64_t)status.st_size);
	if (error == 0 && (uint64_t)status.st_blocks * 512 < (uint64_t)status.st_size)
		error = -EBADMSG; /* a hole: touching it could be a SIGBUS on a full file system */
	if (error == 0 && status.st_nlink > 1)
		error = -EBADMSG; /* a second name for memory that is only ever given one */
	return error;
}

int segment_open(int directory_fd, const char *name, enum layout_kind kind, bool writable,
	const struct segment_trust *trust, int *ret_fd, struct layout_header *ret_header)
{
	/* O_NONBLOCK: a FIFO in this place must not hang the opener. */
	int access = writable ? O_RDWR : O_RDONLY;
	int fd = openat(directory_fd, name, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == EISDIR || errno == ENXIO ? -EPROTO : -errno;
	struct layout_header header;
	int error = check_object(fd, kind, trust, &header);
	if (error != 0) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	*ret_header = header;
	return 0;
}

int segment_map(int fd, uint64_t bytes, bool writable, struct segment *ret_segment)
{
	void *base = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	*ret_segment = (struct segment){.base = base, .bytes = bytes};
	return 0;
}

void segment_unmap(struct segment *segment)
{
	if (segment->base != NULL)
		munmap(segment->base, segment->bytes);
	*segment = (struct segment){0};
}

bool segment_is_linked(int directory_fd, const char *name, int fd)
{
	struct stat named;
	struct stat opened;
	return fstatat(directory_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &opened) == 0 &&
	       named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

void segment_unlink(int directory_fd, const char *name)
{
	unlinkat(directory_fd, name, 0);
}
