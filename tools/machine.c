/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the kernel tells about this machine and this process: /proc, /sys, control groups. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "machine.h"

int machine_read_line(const char *path, char *buffer, size_t size)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	errno = 0;
	char *line = fgets(buffer, (int)size, file);
	int code = line ? 0 : errno ? -errno : -ENODATA;
	fclose(file);
	if (line)
		line[strcspn(line, "\n")] = '\0';
	return code;
}

int machine_read_number(const char *path, uint64_t *ret_number)
{
	char line[64];
	int code = machine_read_line(path, line, sizeof line);

	if (code)
		return code;
	return sscanf(line, "%" SCNu64, ret_number) == 1 ? 0 : -ERANGE;
}

unsigned int machine_kernel(void)
{
	struct utsname system;
	unsigned int major = 0, minor = 0;

	if (uname(&system) || sscanf(system.release, "%u.%u", &major, &minor) != 2)
		return 0;
	return major * 1000 + minor;
}

/* /proc writes blanks in paths as \040. */
static void unescape(char *text)
{
	char *to = text;

	for (char *from = text; *from; to++) {
		unsigned int byte;
		if (from[0] == '\\' && sscanf(from + 1, "%3o", &byte) == 1) {
			*to = (char)byte;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* Line: "36 35 98:0 /root /point options optional... - type source superoptions" (proc(5)). */
static bool parse_mount(const char *line, dev_t device, struct mount *mount)
{
	unsigned int major, minor;
	char options[256] = "", super_options[256] = "";
	const char *tail = strstr(line, " - ");

	if (!tail || sscanf(line, "%*d %*d %u:%u %*s %511s %255s", &major, &minor, mount->point, options) != 4)
		return false;
	if (major != major(device) || minor != minor(device))
		return false;
	if (sscanf(tail, " - %31s %*s %255s", mount->type, super_options) < 1)
		return false;
	snprintf(mount->options, sizeof mount->options, "%s,%s", options, super_options);
	unescape(mount->point);
	return true;
}

/* Of several mounts of one file system, the one that `path` lies under is meant. */
static size_t match_length(const char *path, const char *point)
{
	size_t length = strlen(point);
	bool under = !strncmp(path, point, length) && (path[length] == '/' || !path[length]);

	return under || !strcmp(point, "/") ? length : 0;
}

int machine_mount(const char *directory, struct mount *ret_mount)
{
	struct stat status;
	char line[4096], path[PATH_MAX];
	bool found = false;

	if (!realpath(directory, path) || stat(path, &status))
		return -errno;
	FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof line, file)) {
		struct mount mount = {0};
		if (!parse_mount(line, status.st_dev, &mount))
			continue;
		if (!found || match_length(path, mount.point) >= match_length(path, ret_mount->point))
			*ret_mount = mount;
		found = true;
	}
	fclose(file);
	return found ? 0 : -ENOENT;
}

bool machine_mount_option(const struct mount *mount, const char *name, char *buffer, size_t size)
{
	size_t length = strlen(name);

	for (const char *at = mount->options; *at;) {
		size_t next = strcspn(at, ",");
		if (next > length && !strncmp(at, name, length) && at[length] == '=') {
			snprintf(buffer, size, "%.*s", (int)(next - length - 1), at + length + 1);
			return true;
		}
		at += next + (at[next] == ',');
	}
	return false;
}

/* Whether a comma-separated list holds `word`. */
static bool list_holds(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list;; at += strcspn(at, ",") + 1) {
		if (strcspn(at, ",") == length && !strncmp(at, word, length))
			return true;
		if (!at[strcspn(at, ",")])
			return false;
	}
}

/* This process's path in the hierarchy of `controller`, "" for the unified one. Lines are "id:controllers:path". */
static bool control_group(const char *controller, char *buffer, size_t size)
{
	char line[1024], controllers[256];
	bool found = false;
	FILE *file = fopen("/proc/self/cgroup", "re");

	while (file && !found && fgets(line, sizeof line, file)) {
		char *first = strchr(line, ':');
		char *second = first ? strchr(first + 1, ':') : NULL;
		if (!second)
			continue;
		snprintf(controllers, sizeof controllers, "%.*s", (int)(second - first - 1), first + 1);
		found = list_holds(controllers, controller);
		if (found)
			snprintf(buffer, size, "%.*s", (int)strcspn(second + 1, "\n"), second + 1);
	}
	if (file)
		fclose(file);
	return found;
}

/* Reads a group's file into a limit; UINT64_MAX where it sets none. */
typedef uint64_t limit_reader(const char *group);

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The least limit on the way from this process's group up to the root of the hierarchy at `root`. */
static uint64_t least_limit(const char *root, const char *controller, limit_reader *read_limit)
{
	char path[1024], group[2048];
	uint64_t result = UINT64_MAX;

	if (!control_group(controller, path, sizeof path))
		return result;
	for (;;) {
		snprintf(group, sizeof group, "%s%s", root, path);
		result = least(result, read_limit(group));
		char *slash = strrchr(path, '/');
		if (!slash)
			return result;
		*slash = '\0';
	}
}

static uint64_t read_memory_limit(const char *group)
{
	char file[2100];
	uint64_t limit;

	snprintf(file, sizeof file, "%s/memory.max", group);
	if (machine_read_number(file, &limit) == 0)
		return limit;
	/* Version 1 writes a number just below 2^63 where version 2 writes "max". */
	snprintf(file, sizeof file, "%s/memory.limit_in_bytes", group);
	if (machine_read_number(file, &limit) == 0 && limit < UINT64_C(1) << 62)
		return limit;
	return UINT64_MAX;
}

static uint64_t read_cpu_quota(const char *group)
{
	char file[2100], line[64] = "";
	uint64_t quota = 0, period = 0;

	snprintf(file, sizeof file, "%s/cpu.max", group);
	if (machine_read_line(file, line, sizeof line) == 0)
		return sscanf(line, "%" SCNu64 " %" SCNu64, &quota, &period) == 2 && period ? quota * 1000 / period
											    : UINT64_MAX;
	/* Version 1 writes -1 for no quota. */
	snprintf(file, sizeof file, "%s/cpu.cfs_quota_us", group);
	if (machine_read_line(file, line, sizeof line) || line[0] == '-' || sscanf(line, "%" SCNu64, &quota) != 1)
		return UINT64_MAX;
	snprintf(file, sizeof file, "%s/cpu.cfs_period_us", group);
	return machine_read_number(file, &period) == 0 && period ? quota * 1000 / period : UINT64_MAX;
}

uint64_t machine_memory_limit(void)
{
	return least(least_limit("/sys/fs/cgroup", "", read_memory_limit),
		least_limit("/sys/fs/cgroup/memory", "memory", read_memory_limit));
}

uint64_t machine_cpu_quota(void)
{
	return least(least_limit("/sys/fs/cgroup", "", read_cpu_quota),
		least_limit("/sys/fs/cgroup/cpu", "cpu", read_cpu_quota));
}

const char *machine_container(void)
{
	char path[1024];

	if (getenv("KUBERNETES_SERVICE_HOST"))
		return "Kubernetes";
	if (!access("/.dockerenv", F_OK))
		return "Docker";
	if (!access("/run/.containerenv", F_OK))
		return "Podman";
	if (!control_group("", path, sizeof path) && !control_group("memory", path, sizeof path))
		return NULL;
	if (strstr(path, "kubepods"))
		return "Kubernetes";
	if (strstr(path, "docker") || strstr(path, "containerd") || strstr(path, "libpod"))
		return "container";
	return getenv("container") ? "container" : NULL;
}
