/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

#if SLUICE_HAVE_LIBNUMA
#include <numaif.h>
#endif

#define MAX_NODES 1024 /* as many as Linux can be built for */
#define DEVICES   "/sys/bus/pci/devices"

bool node_exists(uint32_t node)
{
	char path[64];
	snprintf(path, sizeof path, "/sys/devices/system/node/node%u", node);
	if (access(path, F_OK) == 0)
		return true;
	return node == 0 && access("/sys/devices/system/node/node0", F_OK) != 0;
}

int node_of_cpu(void)
{
	unsigned cpu;
	unsigned node;
	return getcpu(&cpu, &node) == 0 ? (int)node : -errno;
}

static bool parse_address(const char *text, char *ret_address, size_t bytes)
{
	unsigned domain = 0;
	unsigned bus;
	unsigned device;
	unsigned function;
	int end = 0;
	/* sscanf would take blanks, signs and 0x as well. */
	if (text[strspn(text, "0123456789abcdefABCDEF:.")] != '\0')
		return false;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4) {
		domain = 0;
		end = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) != 3)
			return false;
	}
	if (text[end] != '\0' || device > 0x1f || function > 7)
		return false;
	snprintf(ret_address, bytes, "%04x:%02x:%02x.%x", domain, bus, device, function);
	return true;
}

int node_of_device(const char *address)
{
	char name[32];
	char path[96];
	int64_t node;
	if (!parse_address(address, name, sizeof name))
		return -EINVAL;
	snprintf(path, sizeof path, DEVICES "/%s", name);
	if (access(path, F_OK) != 0)
		return -ENODEV;
	snprintf(path, sizeof path, DEVICES "/%s/numa_node", name);
	/* -1: the firmware does not say. No such file: a kernel without nodes. */
	if (sys_read_number(path, &node) != 0 || node < 0 || node >= MAX_NODES)
		return -ENODATA;
	return (int)node;
}

#if SLUICE_HAVE_LIBNUMA

int node_prefer(void *base, uint64_t bytes, uint32_t node)
{
	unsigned long mask[MAX_NODES / (8 * sizeof(unsigned long))] = {0};
	const uint32_t bits = 8 * sizeof *mask;
	if (node >= MAX_NODES)
		return -EINVAL;
	mask[node / bits] = 1UL << (node % bits);
	/* The kernel counts one bit more than it reads. */
	return mbind(base, bytes, MPOL_PREFERRED, mask, MAX_NODES + 1, 0) == 0 ? 0 : -errno;
}

int node_at(void *address)
{
	int node = 0;
	return get_mempolicy(&node, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR) == 0 ? node : -errno;
}

#else

int node_prefer(void *base, uint64_t bytes, uint32_t node)
{
	(void)base;
	(void)bytes;
	(void)node;
	return -ENOSYS;
}

int node_at(void *address)
{
	(void)address;
	return -ENOSYS;
}

#endif
