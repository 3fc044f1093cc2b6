/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and are the same in each run. */
#ifndef TEST_UNIT_RANDOM_H
#define TEST_UNIT_RANDOM_H

#include <stdint.h>

/* splitmix64 */
static inline uint64_t random_number(uint64_t *seed)
{
	uint64_t number = *seed += UINT64_C(0x9e3779b97f4a7c15);

	number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
	return number ^ number >> 31;
}

static inline uint64_t random_below(uint64_t *seed, uint64_t end)
{
	return random_number(seed) % end;
}

#endif
