/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work on a payload: every element written, every element read. Bare limits and Sluice call the same two functions,
 * which are compiled apart, so neither side's compiler can leave out what the other does. The sum is checked each time.
 */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

void payload_fill(int32_t *data, size_t count, uint32_t seed);
uint32_t payload_sum(const void *data, size_t count); /* of any alignment */

/* What payload_sum gives for what payload_fill wrote. */
static inline uint32_t payload_expected(size_t count, uint32_t seed)
{
	return (uint32_t)count * seed + (uint32_t)((uint64_t)count * (count - 1) / 2);
}

#endif
