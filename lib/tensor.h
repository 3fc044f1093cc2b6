/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of dense tensors: how large an element is, how many bytes a shape takes. No shared memory here. */
#ifndef SLUICE_LIB_TENSOR_H
#define SLUICE_LIB_TENSOR_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of one element of a DLPack dtype, or 0 for one that Sluice does not carry. */
uint32_t tensor_element_bytes(uint32_t dtype);

/*
 * Bytes of a dense tensor: the product of `shape` times `element_bytes`. 0 if any dimension is 0, however large the
 * others.
 * Returns 0, -EINVAL (a negative dimension) or -EOVERFLOW (beyond 63 bits).
 */
static inline int tensor_bytes(const int64_t *shape, uint32_t ndim, uint32_t element_bytes, uint64_t *ret_bytes)
{
	uint64_t product = element_bytes;
	bool overflows = false;
	bool empty = false;
	for (uint32_t i = 0; i < ndim; i++) {
		if (shape[i] < 0)
			return -EINVAL;
		empty |= shape[i] == 0;
		overflows |= __builtin_mul_overflow(product, (uint64_t)shape[i], &product);
	}
	if (!empty && (overflows || product > INT64_MAX))
		return -EOVERFLOW;
	*ret_bytes = empty ? 0 : product;
	return 0;
}

static inline uint64_t align_up(uint64_t number, uint64_t alignment)
{
	return (number + alignment - 1) & ~(alignment - 1);
}

#endif
