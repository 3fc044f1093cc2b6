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

/* A huge page maps whole where address and offset agree. 2 MiB on x86-64, and on ARM with pages of 4 KiB. */
#define HUGE_PAGE (UINT64_C(2) << 20)

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

static int set_owner(int fd, const struct segment_trust *trust)
{
	/* fchmod, because a umask may have taken away what open was given. */
	if (trust->has_group && fchown(fd, (uid_t)-1, trust->group) != 0)
		return -errno;
	if (fchmod(fd, trust->permissions) != 0)
		return -errno;
	return 0;
}

/* Pages of a hugetlbfs are as large as its mount says; 0 on other file systems, whatever theirs are. */
static uint64_t hugetlb_page(int fd)
{
	struct statfs system;
	return fstatfs(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC ? (uint64_t)system.f_bsize : 0;
}

static uint64_t round_up(uint64_t bytes, uint64_t page)
{
	return (bytes + page - 1) / page * page;
}

/*
 * A full file system is best met before anything is mapped. But memory policies are set through a mapping and must be there
 * before the memory is: then map, bind, allocate, in that order.
 */
static int fill(int fd, uint64_t bytes, const struct place *place, struct layout_placement *placement,
	struct segment *ret_segment)
{
	uint64_t page = hugetlb_page(fd);
	bool map_first = place != NULL && (place->asked & SLUICE_ON_NODE) != 0;
	struct segment segment = {0};
	int error = map_first ? 0 : allocate(fd, page != 0 ? round_up(bytes, page) : bytes);
	if (error == 0)
		error = segment_map(fd, bytes, true, &segment);
	if (error != 0)
		return error == -ENOMEM && page != 0 ? -ENOSPC : error; /* mapping takes from the pool */
	if (place != NULL)
		place_begin(place, segment.base, segment.mapped_bytes, page, placement);
	if (map_first)
		error = allocate(fd, segment.mapped_bytes);
	if (error != 0) {
		segment_unmap(&segment);
		return error;
	}
	if (place != NULL)
		place_finish(place, segment.base, segment.mapped_bytes, page, placement);
	*ret_segment = segment;
	return 0;
}

int segment_create(
	int directory_fd, uint64_t bytes, const struct segment_trust *trust, int *ret_fd, struct segment *ret_segment)
{
	return segment_create_at(directory_fd, bytes, trust, NULL, NULL, ret_fd, ret_segment);
}

int segment_create_at(int directory_fd, uint64_t bytes, const struct segment_trust *trust, const struct place *place,
	struct layout_placement *placement, int *ret_fd, struct segment *ret_segment)
{
	int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	struct segment segment;
	int error = set_owner(fd, trust);
	if (error == 0)
		error = fill(fd, bytes, place, placement, &segment);
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
	if (linkat(AT_FDCWD, path, directory_fd, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	int error = -errno;
	return error == -ENOENT && access("/proc/self/fd", F_OK) != 0 ? -ENOTSUP : error;
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

/*
 * The size that the header must name: the file's. A hugetlbfs knows whole pages only, so there the last one may hold
 * more than the object.
 */
static uint64_t size_to_name(int fd, uint64_t file_bytes, uint64_t named_bytes)
{
	uint64_t page = hugetlb_page(fd);
	return page != 0 && named_bytes <= file_bytes && file_bytes - named_bytes < page ? named_bytes : file_bytes;
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
		error = layout_check_header(
			ret_header, kind, size_to_name(fd, (uint64_t)status.st_size, ret_header->bytes));
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

/* Room with a border takes the object where it is aligned, and the border is given back. */
static void *map_aligned(int fd, uint64_t bytes, int protection)
{
	uint64_t pages = round_up(bytes, (uint64_t)getpagesize());
	uint8_t *room = mmap(NULL, pages + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	uint64_t before = HUGE_PAGE - (uintptr_t)room % HUGE_PAGE;
	uint8_t *base = mmap(room + before, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
	if (base == MAP_FAILED) {
		int error = errno;
		munmap(room, pages + HUGE_PAGE);
		errno = error;
		return MAP_FAILED;
	}
	munmap(room, before);
	if (before < HUGE_PAGE)
		munmap(room + before + pages, HUGE_PAGE - before);
	return base;
}

int segment_map(int fd, uint64_t bytes, bool writable, struct segment *ret_segment)
{
	int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
	uint64_t page = hugetlb_page(fd);
	uint64_t mapped_bytes = page != 0 ? round_up(bytes, page) : bytes; /* what munmap wants */
	void *base = page == 0 && bytes >= HUGE_PAGE ? map_aligned(fd, mapped_bytes, protection)
						     : mmap(NULL, mapped_bytes, protection, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	*ret_segment = (struct segment){.base = base, .bytes = bytes, .mapped_bytes = mapped_bytes};
	return 0;
}

void segment_unmap(struct segment *segment)
{
	if (segment->base != NULL)
		munmap(segment->base, segment->mapped_bytes);
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
