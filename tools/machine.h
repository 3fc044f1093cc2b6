/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the kernel tells about this machine and this process: /proc, /sys, control groups. */
#ifndef SLUICE_TOOL_MACHINE_H
#define SLUICE_TOOL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* First line of a file without its newline. Returns 0 or a negative errno. */
int machine_read_line(const char *path, char *buffer, size_t size);

/* First number of a file. Returns 0, -ERANGE (it is none), or another negative errno. */
int machine_read_number(const char *path, uint64_t *ret_number);

/* The kernel's version as major * 1000 + minor: 5016 is Linux 5.16. */
unsigned int machine_kernel(void);

/* Where a directory is mounted from. */
struct mount {
	char point[512];
	char type[32];
	char options[512]; /* of the mount and of the file system, comma-separated */
};

/* Finds the mount that `directory` is on. Returns 0 or a negative errno. */
int machine_mount(const char *directory, struct mount *ret_mount);

/* The value of option `name` ("huge") in a comma-separated list, or false if it is not there. */
bool machine_mount_option(const struct mount *mount, const char *name, char *buffer, size_t size);

/* Least memory limit of this process's control groups in bytes, UINT64_MAX if there is none. */
uint64_t machine_memory_limit(void);

/* Least CPU quota of this process's control groups in thousandths of a CPU, UINT64_MAX if there is none. */
uint64_t machine_cpu_quota(void);

/* What kind of container this process seems to be in ("docker"), or NULL. Static. */
const char *machine_container(void);

#endif
