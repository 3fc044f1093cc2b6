/* SPDX-License-Identifier: Apache-2.0 */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

int sys_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / CLOCK_SECOND_NS),
		.tv_nsec = (long)(timeout_ns % CLOCK_SECOND_NS),
	};
	if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0) == 0 || errno == EAGAIN)
		return 0;
	return -errno;
}

int sys_futex_wake(uint32_t *word, int count)
{
	long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
	return woken < 0 ? 0 : (int)woken;
}

static struct flock byte_range(uint64_t offset, short type)
{
	return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
}

int sys_lock_byte(int fd, uint64_t offset)
{
	struct flock range = byte_range(offset, F_WRLCK);
	if (fcntl(fd, F_OFD_SETLK, &range) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int sys_unlock_byte(int fd, uint64_t offset)
{
	struct flock range = byte_range(offset, F_UNLCK);
	return fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : -errno;
}

int sys_byte_is_locked(int fd, uint64_t offset)
{
	struct flock range = byte_range(offset, F_WRLCK);
	if (fcntl(fd, F_OFD_GETLK, &range) != 0)
		return -errno;
	return range.l_type != F_UNLCK;
}

uint64_t sys_random(void)
{
	uint64_t number = 0;
	while (getrandom(&number, sizeof number, 0) != sizeof number || number == 0)
		;
	return number;
}

void sys_program_name(char *ret_name, size_t bytes)
{
	snprintf(ret_name, bytes, "%s", program_invocation_short_name);
}

int sys_cpus_online(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);
	return count > 0 && count < INT_MAX ? (int)count : 1;
}

int sys_cpu_count(void)
{
	cpu_set_t allowed;
	if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
		return 1;
	int count = CPU_COUNT(&allowed);
	return count > 0 ? count : 1;
}

int sys_read_number(const char *path, int64_t *ret_number)
{
	char text[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t got = read(fd, text, sizeof text - 1);
	int error = got < 0 ? -errno : 0;
	close(fd);
	if (error != 0)
		return error;
	text[got] = '\0';
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (end == text || errno != 0)
		return -ENODATA;
	*ret_number = number;
	return 0;
}

void sys_pause_ns(uint64_t duration_ns)
{
	struct timespec duration = {
		.tv_sec = (time_t)(duration_ns / CLOCK_SECOND_NS),
		.tv_nsec = (long)(duration_ns % CLOCK_SECOND_NS),
	};
	nanosleep(&duration, NULL);
}
