/* SPDX-License-Identifier: Apache-2.0 */
/* System calls on files of files.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "files_inside.h"
#include "sandbox.h"

#define LISTINGS 8 /* directories that are being read at once */
#define DEVICE   77
#define OWN_PATH "/proc/self/fd/"

struct listing {
	bool in_use;
	int fd;
	unsigned next;
	struct dirent entry;
};

static struct listing listings[LISTINGS];

/* ---- opening ---- */

static int refuse(int error)
{
	errno = error;
	return -1;
}

/* The number behind OWN_PATH, if it is one of ours; else -1. */
static int own_path(const char *path)
{
	if (strncmp(path, OWN_PATH, strlen(OWN_PATH)) != 0)
		return -1;
	long fd = strtol(path + strlen(OWN_PATH), NULL, 10);
	return files_has((int)fd) ? (int)fd : -1;
}

static int open_unnamed(int flags, mode_t mode)
{
	struct file *file = files_take(FILES_REGULAR, mode & 0777);
	if (file == NULL)
		return -1;
	files_wipe(file);
	file->linkable = true;
	int fd = files_open_one(file, flags);
	files_free_if_unused(file);
	return fd;
}

static int open_found(struct file *file, int flags)
{
	switch (file->kind) {
	case FILES_LINK:
		if ((flags & O_NOFOLLOW) == 0)
			fail("a link is followed");
		return refuse((flags & O_DIRECTORY) != 0 ? ENOTDIR : ELOOP);
	case FILES_FOLDER:
		return (flags & O_ACCMODE) != O_RDONLY ? refuse(EISDIR) : files_open_one(file, flags);
	case FILES_FIFO:
		if ((flags & (O_NONBLOCK | O_DIRECTORY)) == 0 && (flags & O_ACCMODE) != O_RDWR)
			fail("an open that waits for the other end");
		if ((flags & O_DIRECTORY) == 0 && (flags & O_ACCMODE) == O_WRONLY && !files_has_reader(file))
			return refuse(ENXIO);
		break;
	default:
		break;
	}
	return (flags & O_DIRECTORY) != 0 ? refuse(ENOTDIR) : files_open_one(file, flags);
}

static int open_in(int directory_fd, const char *name, int flags, mode_t mode)
{
	struct description *directory = files_look_up(directory_fd);
	if (directory == NULL)
		return -1;
	if (directory->file != files_root())
		return refuse(directory->file->kind == FILES_FOLDER ? ENOENT : ENOTDIR);
	bool itself = files_same_text(name, ".");
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return itself ? open_unnamed(flags, mode) : refuse(ENOTDIR);
	if ((flags & (O_CREAT | O_TRUNC)) != 0)
		fail("a file is made with its name");
	struct file *file = itself ? files_root() : files_find(name);
	return file != NULL ? open_found(file, flags) : refuse(ENOENT);
}

int __real_openat64(int directory_fd, const char *name, int flags, ...);
int __wrap_openat64(int directory_fd, const char *name, int flags, ...);
int __wrap_openat64(int directory_fd, const char *name, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
	va_end(list);
	if (files_has(directory_fd))
		return open_in(directory_fd, name, flags, mode);
	int fd = directory_fd == AT_FDCWD ? own_path(name) : -1;
	if (fd < 0)
		return __real_openat64(directory_fd, name, flags, mode);
	struct description *description = files_look_up(fd);
	return description != NULL ? open_found(description->file, flags) : refuse(ENOENT);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
	va_end(list);
	if (files_same_text(path, FILES_DIRECTORY))
		return open_found(files_root(), flags);
	return __real_open64(path, flags, mode);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	if (!files_has(fd))
		return __real_close(fd);
	if (files_look_up(fd) == NULL)
		fail("a descriptor that is not open is closed");
	files_close(fd);
	return 0;
}

/* ---- what a file is ---- */

/* The library asks often, and it never changes. */
uid_t __real_geteuid(void);
uid_t __wrap_geteuid(void);
uid_t __wrap_geteuid(void)
{
	static uid_t user = (uid_t)-1;
	if (user == (uid_t)-1)
		user = __real_geteuid();
	return user;
}

static mode_t type_of(const struct file *file)
{
	static const mode_t types[] = {0, S_IFREG, S_IFLNK, S_IFIFO, S_IFDIR};
	return types[file->kind];
}

static int describe(const struct file *file, struct stat *status)
{
	*status = (struct stat){
		.st_dev = DEVICE,
		.st_ino = file->number,
		.st_mode = type_of(file) | file->mode,
		.st_nlink = file->names,
		.st_uid = __wrap_geteuid(),
		.st_gid = file->group,
		.st_size = (off_t)file->size,
		.st_blocks = (blkcnt_t)(files_count_pages(file) * (FILES_PAGE / 512)),
	};
	return 0;
}

int __real_fstat64(int fd, struct stat *status);
int __wrap_fstat64(int fd, struct stat *status);
int __wrap_fstat64(int fd, struct stat *status)
{
	if (!files_has(fd))
		return __real_fstat64(fd, status);
	struct description *description = files_look_up(fd);
	return description != NULL ? describe(description->file, status) : -1;
}

int __real_fstatat64(int directory_fd, const char *name, struct stat *status, int flags);
int __wrap_fstatat64(int directory_fd, const char *name, struct stat *status, int flags);
int __wrap_fstatat64(int directory_fd, const char *name, struct stat *status, int flags)
{
	if (!files_has(directory_fd))
		return __real_fstatat64(directory_fd, name, status, flags);
	if (files_look_up(directory_fd) == NULL)
		return -1;
	struct file *file = files_find(name);
	if (file == NULL)
		return refuse(ENOENT);
	if (file->kind == FILES_LINK && (flags & AT_SYMLINK_NOFOLLOW) == 0)
		fail("a link is followed");
	return describe(file, status);
}

int __real_fstatfs64(int fd, struct statfs *system);
int __wrap_fstatfs64(int fd, struct statfs *system);
int __wrap_fstatfs64(int fd, struct statfs *system)
{
	if (!files_has(fd))
		return __real_fstatfs64(fd, system);
	*system = (struct statfs){.f_type = TMPFS_MAGIC, .f_bsize = FILES_PAGE};
	return files_look_up(fd) != NULL ? 0 : -1;
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
	if (!files_has(fd))
		return __real_fchmod(fd, mode);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return -1;
	files_set_mode(description->file, mode);
	return 0;
}

int __real_fchown(int fd, uid_t owner, gid_t group);
int __wrap_fchown(int fd, uid_t owner, gid_t group);
int __wrap_fchown(int fd, uid_t owner, gid_t group)
{
	if (!files_has(fd))
		return __real_fchown(fd, owner, group);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return -1;
	if (owner != (uid_t)-1)
		fail("a file is given away");
	if (group != (gid_t)-1)
		description->file->group = group;
	return 0;
}

/* ---- contents ---- */

ssize_t __real_pread64(int fd, void *bytes, size_t count, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t count, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t count, off_t offset)
{
	if (!files_has(fd))
		return __real_pread64(fd, bytes, count, offset);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return -1;
	struct file *file = description->file;
	if (file->kind == FILES_FIFO)
		return refuse(ESPIPE);
	if (description->access == O_WRONLY)
		return refuse(EBADF);
	if (file->kind != FILES_REGULAR)
		return refuse(EISDIR);
	if ((uint64_t)offset >= file->size)
		return 0;
	uint64_t left = file->size - (uint64_t)offset;
	count = count < left ? count : left;
	memcpy(bytes, files_bytes(file) + offset, count);
	return (ssize_t)count;
}

int __real_posix_fallocate64(int fd, off_t offset, off_t bytes);
int __wrap_posix_fallocate64(int fd, off_t offset, off_t bytes);
int __wrap_posix_fallocate64(int fd, off_t offset, off_t bytes)
{
	if (!files_has(fd))
		return __real_posix_fallocate64(fd, offset, bytes);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return EBADF;
	if (offset < 0 || bytes <= 0)
		return EINVAL;
	if (description->access == O_RDONLY)
		return EBADF;
	if (description->file->kind != FILES_REGULAR)
		return ESPIPE;
	uint64_t end = (uint64_t)offset + (uint64_t)bytes;
	if (end > FILES_LARGEST)
		return EFBIG;
	if (!files_take_pages(description->file, (uint64_t)offset, end))
		return ENOSPC;
	files_grow(description->file, end);
	return 0;
}

/* What a file may grow to; the kernel's own limit is left alone. */
int __real_getrlimit64(int resource, struct rlimit *limit);
int __wrap_getrlimit64(int resource, struct rlimit *limit);
int __wrap_getrlimit64(int resource, struct rlimit *limit)
{
	if (resource != RLIMIT_FSIZE)
		return __real_getrlimit64(resource, limit);
	*limit = (struct rlimit){FILES_LARGEST, FILES_LARGEST};
	return 0;
}

/* ---- names ---- */

int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	if (!files_has(to_fd))
		return __real_linkat(from_fd, from, to_fd, to, flags);
	int fd = own_path(from);
	if (fd < 0 || (flags & AT_SYMLINK_FOLLOW) == 0)
		fail("a second name is made");
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return refuse(ENOENT);
	if (files_look_up(to_fd) == NULL)
		return -1;
	struct file *file = description->file;
	if (files_find(to) != NULL)
		return refuse(EEXIST);
	if (file->kind == FILES_FOLDER)
		return refuse(EPERM);
	if (file->names == 0 && !file->linkable)
		return refuse(ENOENT);
	int error = files_give_name(file, to);
	if (error != 0)
		return refuse(error);
	file->linkable = false;
	return 0;
}

int __real_unlinkat(int directory_fd, const char *name, int flags);
int __wrap_unlinkat(int directory_fd, const char *name, int flags);
int __wrap_unlinkat(int directory_fd, const char *name, int flags)
{
	if (!files_has(directory_fd))
		return __real_unlinkat(directory_fd, name, flags);
	if (files_look_up(directory_fd) == NULL)
		return -1;
	const struct file *file = files_find(name);
	if (file == NULL)
		return refuse(ENOENT);
	bool folder = file->kind == FILES_FOLDER;
	if (folder != ((flags & AT_REMOVEDIR) != 0))
		return refuse(folder ? EISDIR : ENOTDIR);
	files_unlink(name);
	return 0;
}

/* ---- listing ---- */

static struct listing *listing_of(DIR *stream)
{
	struct listing *listing = (struct listing *)(void *)stream;
	return listing >= listings && listing < listings + LISTINGS ? listing : NULL;
}

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd)
{
	if (!files_has(fd))
		return __real_fdopendir(fd);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return NULL;
	if (description->file->kind != FILES_FOLDER) {
		errno = ENOTDIR;
		return NULL;
	}
	for (unsigned i = 0; i < LISTINGS; i++) {
		if (listings[i].in_use)
			continue;
		listings[i] = (struct listing){
			.in_use = true, .fd = fd, .next = description->file == files_root() ? 0 : FILES_NAMES};
		return (DIR *)(void *)&listings[i];
	}
	fail("too many directories are read at once");
}

struct dirent *__real_readdir64(DIR *stream);
struct dirent *__wrap_readdir64(DIR *stream);
struct dirent *__wrap_readdir64(DIR *stream)
{
	struct listing *listing = listing_of(stream);
	if (listing == NULL)
		return __real_readdir64(stream);
	const char *name = files_next_name(&listing->next);
	if (name == NULL)
		return NULL;
	memcpy(listing->entry.d_name, name, FILES_NAME);
	return &listing->entry;
}

int __real_closedir(DIR *stream);
int __wrap_closedir(DIR *stream);
int __wrap_closedir(DIR *stream)
{
	struct listing *listing = listing_of(stream);
	if (listing == NULL)
		return __real_closedir(stream);
	listing->in_use = false;
	return __wrap_close(listing->fd);
}

/* ---- locks ---- */

static struct lock *find_lock(struct file *file, uint64_t offset)
{
	for (unsigned i = 0; i < file->lock_count; i++)
		if (file->locks[i].offset == offset)
			return &file->locks[i];
	return NULL;
}

static int set_lock(struct description *description, const struct flock *range)
{
	struct file *file = description->file;
	struct lock *lock = find_lock(file, (uint64_t)range->l_start);
	if (range->l_type == F_WRLCK && description->access == O_RDONLY)
		return refuse(EBADF);
	if (lock != NULL && lock->owner != description)
		return range->l_type == F_WRLCK ? refuse(EAGAIN) : 0;
	if (range->l_type == F_UNLCK && lock != NULL)
		*lock = file->locks[--file->lock_count];
	if (range->l_type == F_UNLCK || lock != NULL)
		return 0;
	if (file->lock_count == FILES_LOCKS)
		return refuse(ENOLCK);
	file->locks[file->lock_count++] = (struct lock){(uint64_t)range->l_start, description};
	return 0;
}

static int get_lock(struct description *description, struct flock *range)
{
	const struct lock *lock = find_lock(description->file, (uint64_t)range->l_start);
	if (lock == NULL || lock->owner == description) {
		range->l_type = F_UNLCK;
		return 0;
	}
	range->l_pid = -1;
	return 0;
}

static int lock_call(struct description *description, int command, struct flock *range)
{
	if (range->l_whence != SEEK_SET || range->l_len != 1 || range->l_type == F_RDLCK || range->l_pid != 0)
		fail("a lock of another kind");
	return command == F_OFD_SETLK ? set_lock(description, range) : get_lock(description, range);
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	va_list list;
	va_start(list, command);
	void *argument = va_arg(list, void *);
	va_end(list);
	if (!files_has(fd))
		return __real_fcntl64(fd, command, argument);
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return -1;
	if (command == F_OFD_SETLK || command == F_OFD_GETLK)
		return lock_call(description, command, argument);
	if (command != F_DUPFD_CLOEXEC)
		fail("an fcntl that files.c does not know");
	return files_add_fd(description);
}
