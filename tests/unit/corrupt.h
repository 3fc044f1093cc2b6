/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of single corrupted fields: what is overwritten, with what, and what the check must then answer. */
#ifndef TEST_UNIT_CORRUPT_H
#define TEST_UNIT_CORRUPT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../support/harness.h"

struct corruption {
	const char *field;
	size_t offset;
	size_t bytes;
	uint64_t value;
	const char *reason; /* of checks that give a text */
	int error;          /* of checks that give a code */
};

#define CORRUPT(type, member, new_value, ...)                                                                          \
	{                                                                                                              \
		.field = #member " = " #new_value, .offset = offsetof(type, member),                                   \
		.bytes = sizeof(((type *)0)->member), .value = (new_value), __VA_ARGS__                                \
	}

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static inline void corrupt(void *object, const struct corruption *corruption)
{
	check(corruption->bytes <= sizeof corruption->value);
	memcpy((uint8_t *)object + corruption->offset, &corruption->value, corruption->bytes);
}

/* NULL for accepted. */
static inline void check_reason(const struct corruption *corruption, const char *reason)
{
	if (reason != NULL && strcmp(reason, corruption->reason) == 0)
		return;
	print_error("%s: %s\n", corruption->field, reason != NULL ? reason : "accepted");
	check(!"the reason that the table names");
}

#endif
