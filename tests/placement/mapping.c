/* SPDX-License-Identifier: Apache-2.0 */
#include "mapping.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../support/harness.h"

/* Reads on until the line that opens the mapping around `address`; its start, or 0. */
static uintptr_t find_mapping(FILE *smaps, const void *address)
{
	char line[1024];
	uintptr_t start, end;

	while (fgets(line, sizeof line, smaps))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2 && (uintptr_t)address >= start &&
			(uintptr_t)address < end)
			return start;
	return 0;
}

uint64_t mapping_bytes(const void *address, const char *key)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[1024];
	uint64_t kib = 0;

	check(smaps != NULL);
	check(find_mapping(smaps, address) != 0);
	/* Figures have a capital letter; the next mapping begins with a number, in lower case. */
	while (fgets(line, sizeof line, smaps) && line[0] >= 'A' && line[0] <= 'Z')
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), "%" SCNu64, &kib);
	fclose(smaps);
	return kib * 1024;
}

bool mapping_policy(const void *address, char ret_policy[MAPPING_POLICY])
{
	FILE *smaps = fopen("/proc/self/smaps", "re"), *maps = fopen("/proc/self/numa_maps", "re");
	char line[1024];
	uintptr_t start, found;

	check(smaps != NULL);
	start = find_mapping(smaps, address);
	fclose(smaps);
	if (!maps)
		return false;
	ret_policy[0] = 0;
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%" SCNxPTR " ", &found) == 1 && found == start)
			sscanf(line, "%*s %63s", ret_policy);
	fclose(maps);
	check(ret_policy[0] != 0);
	return true;
}

const void *lane_address(struct sluice_producer *producer)
{
	const struct sluice_tensor_spec spec = {.name = "x", .dtype = SLUICE_UINT8, .ndim = 1, .shape = {1024}};
	struct sluice_message *message;
	const void *address;

	check_result(0, sluice_reserve(producer, &spec, 1, 0, &message));
	address = sluice_data(message, 0);
	check_result(0, sluice_discard(message));
	return address;
}

struct sluice_placement placement_of(struct sluice_producer *producer)
{
	struct sluice_placement placement;

	check_result(0, sluice_producer_placement(producer, &placement));
	return placement;
}

void check_works(struct sluice_producer *producer, const char *name)
{
	struct sluice_consumer *consumer = join_consumer(name, NULL);
	const struct sluice_message *message;

	send_bytes(producer, 7, 1000);
	message = hold(consumer);
	check_equal(7, sluice_correlation_id(message));
	check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(consumer));
}
