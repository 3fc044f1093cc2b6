/* SPDX-License-Identifier: Apache-2.0 */
/* Where the tensors of a message will lie: from what a producer asks for to sizes and offsets. */
#ifndef SLUICE_LIB_PLAN_H
#define SLUICE_LIB_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/tensor.h>

/* Where the tensors of a message go. */
struct plan {
	uint64_t bytes; /* of the payload ring; 0 if it rides in the descriptor */
	bool wide;      /* dimensions do not fit the descriptor */
	bool inside;    /* payload in the descriptor */
	uint64_t tensor_bytes[SLUICE_MAX_TENSORS];
	uint64_t offsets[SLUICE_MAX_TENSORS];
};

/*
 * Plans a message of 1 to SLUICE_MAX_TENSORS tensors for a lane of that alignment, in which `largest` bytes are the
 * most.
 * Returns 0, -E2BIG (too many dimensions), -EINVAL (dtype, negative dimension), -EOVERFLOW, -EMSGSIZE.
 */
int plan_message(
	const struct sluice_tensor_spec *specs, size_t count, uint32_t alignment, uint64_t largest, struct plan *plan);

#endif
