/* SPDX-License-Identifier: Apache-2.0 */
/* Filling and reading: plain loops that a compiler turns into vector instructions, the same for everybody. */
#include "payload.h"

#include <string.h>

__attribute__((noinline)) void payload_fill(int32_t *data, size_t count, uint32_t seed)
{
	for (size_t i = 0; i < count; i++)
		data[i] = (int32_t)(seed + (uint32_t)i);
}

/* ZeroMQ hands out what it received as it lies in its buffer, aligned or not. The loads are the same. */
__attribute__((noinline)) uint32_t payload_sum(const void *data, size_t count)
{
	const unsigned char *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t element;

		memcpy(&element, bytes + i * sizeof element, sizeof element);
		sum += element;
	}
	return sum;
}
