/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory nodes (NUMA): which there are, which one something is near to, where memory goes. The only room that knows
 * libnuma; without it memory goes where the kernel likes, and nobody knows where that is.
 */
#ifndef SLUICE_LIB_NODE_H
#define SLUICE_LIB_NODE_H

#include <stdbool.h>
#include <stdint.h>

/* True if the machine has node `node`. One without nodes has node 0. */
bool node_exists(uint32_t node);

/* The node of the CPU that runs this. */
int node_of_cpu(void);

/*
 * The node that a PCI device is near to. `address` is [domain:]bus:device.function in hexadecimal, as lspci, nvidia-smi
 * and CUDA write it. Returns it, -EINVAL (no such address), -ENODEV (nothing there), -ENODATA (the kernel does not know).
 */
int node_of_device(const char *address);

/*
 * Asks the kernel to make pages of a mapping that do not exist yet on `node`, elsewhere if that is full. Returns 0, -EPERM
 * (a container's filter, say), -EINVAL (no memory there, or none for this process), -ENOSYS (no libnuma), ...
 */
int node_prefer(void *base, uint64_t bytes, uint32_t node);

/* The node of the page at `address`, which is made if need be. Returns it, -EPERM, -ENOSYS ... */
int node_at(void *address);

#endif
