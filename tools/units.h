/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as people read them. Each returns its text by value, so that several may stand in one call:
 * printf("%s of %s", units_bytes(used).text, units_bytes(size).text).
 */
#ifndef SLUICE_TOOL_UNITS_H
#define SLUICE_TOOL_UNITS_H

#include <stdint.h>

struct text {
	char text[64];
};

struct text units_bytes(uint64_t bytes);                       /* "512 B", "16.5 MiB" */
struct text units_duration(uint64_t ns);                       /* "740 ns", "7.4 us", "3 min" */
struct text units_time(uint64_t realtime_ns);                  /* "2025-01-31 17:05:09", local time */
struct text units_user(uint32_t uid);                          /* the user's name, or the number */
struct text units_count(uint64_t count, const char *singular); /* "1 lane", "2 lanes" */

#endif
