/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says about one mapping of this process, and where a lane's data is mapped. */
#ifndef PLACEMENT_MAPPING_H
#define PLACEMENT_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

#include "../support/exchange.h"

/* A figure of /proc/self/smaps ("Rss:") about the mapping that holds `address`, bytes; 0 if the kernel has no such one. */
uint64_t mapping_bytes(const void *address, const char *key);

#define MAPPING_POLICY 64
/* The memory policy of that mapping ("prefer:0") from /proc/self/numa_maps; false if the kernel has no such file. */
bool mapping_policy(const void *address, char ret_policy[MAPPING_POLICY]);

/* An address in the lane of a producer that has no reservation. */
const void *lane_address(struct sluice_producer *producer);

struct sluice_placement placement_of(struct sluice_producer *producer);

/* A message goes through the lane of `producer`. */
void check_works(struct sluice_producer *producer, const char *name);

#endif
