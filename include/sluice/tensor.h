/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors: element types, what a producer asks for (a spec) and what a consumer sees (a tensor).
 *
 * A message carries 1 to SLUICE_MAX_TENSORS named tensors, each dense and in row-major order. Types are those of DLPack
 * (dlpack.h, DLDataType), in the same four bytes, so that numpy, torch, JAX and CUDA libraries take them as they are.
 */
#ifndef SLUICE_TENSOR_H
#define SLUICE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_MAX_TENSORS     16 /* tensors in one message */
#define SLUICE_MAX_DIMENSIONS  8  /* dimensions of one tensor; 0 dimensions make a scalar of one element */
#define SLUICE_MAX_TENSOR_NAME 31 /* bytes of a tensor's name, without the final NUL */

/* The bytes of a DLDataType, least significant first: code, bits, lanes (always 1 here). */
#define SLUICE_DTYPE(code, bits) ((uint32_t)(code) | (uint32_t)(bits) << 8 | (uint32_t)1 << 16)

#define SLUICE_INT8               SLUICE_DTYPE(0, 8)
#define SLUICE_INT16              SLUICE_DTYPE(0, 16)
#define SLUICE_INT32              SLUICE_DTYPE(0, 32)
#define SLUICE_INT64              SLUICE_DTYPE(0, 64)
#define SLUICE_UINT8              SLUICE_DTYPE(1, 8)
#define SLUICE_UINT16             SLUICE_DTYPE(1, 16)
#define SLUICE_UINT32             SLUICE_DTYPE(1, 32)
#define SLUICE_UINT64             SLUICE_DTYPE(1, 64)
#define SLUICE_FLOAT16            SLUICE_DTYPE(2, 16)
#define SLUICE_FLOAT32            SLUICE_DTYPE(2, 32)
#define SLUICE_FLOAT64            SLUICE_DTYPE(2, 64)
#define SLUICE_BFLOAT16           SLUICE_DTYPE(4, 16)
#define SLUICE_BOOL               SLUICE_DTYPE(6, 8)
#define SLUICE_FLOAT8_E3M4        SLUICE_DTYPE(7, 8)
#define SLUICE_FLOAT8_E4M3        SLUICE_DTYPE(8, 8)
#define SLUICE_FLOAT8_E4M3B11FNUZ SLUICE_DTYPE(9, 8)
#define SLUICE_FLOAT8_E4M3FN      SLUICE_DTYPE(10, 8)
#define SLUICE_FLOAT8_E4M3FNUZ    SLUICE_DTYPE(11, 8)
#define SLUICE_FLOAT8_E5M2        SLUICE_DTYPE(12, 8)
#define SLUICE_FLOAT8_E5M2FNUZ    SLUICE_DTYPE(13, 8)
#define SLUICE_FLOAT8_E8M0FNU     SLUICE_DTYPE(14, 8)

/*
 * What a producer reserves: copied by the call that takes it, so it may live on the caller's stack.
 * `name`: NUL-terminated, UTF-8 by convention and not checked, 1 to SLUICE_MAX_TENSOR_NAME bytes, unique in its
 * message. `shape`: elements per dimension, the first `ndim` are used; a dimension may be 0.
 */
struct sluice_tensor_spec {
	const char *name;
	uint32_t dtype;
	uint32_t ndim;
	int64_t shape[SLUICE_MAX_DIMENSIONS];
};

/*
 * A tensor inside a message. Everything it points to belongs to the message and is valid until the message is released
 * (consumer) or published or discarded (producer).
 * `data`: first element, aligned to 64 bytes or more; read-only memory at a consumer, where a store faults; for a
 * tensor of zero bytes a valid address that must not be read. `bytes`: product of `shape` times the element's size.
 */
struct sluice_tensor {
	const char *name;
	const void *data;
	uint64_t bytes;
	uint32_t dtype;
	uint32_t ndim;
	int64_t shape[SLUICE_MAX_DIMENSIONS];
};

#ifdef __cplusplus
}
#endif
#endif
