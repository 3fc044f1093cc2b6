/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structs of DLPack as capsules carry them: "dltensor" (every version) and "dltensor_versioned" (from 1.0, with flags).
 * Source: the DLPack specification, https://dmlc.github.io/dlpack/latest/c_api.html.
 */
#ifndef SLUICE_PYTHON_DLPACK_H
#define SLUICE_PYTHON_DLPACK_H

#include <stdint.h>

#define DLPACK_MAJOR     1
#define DLPACK_MINOR     0
#define DLPACK_CPU       1
#define DLPACK_CUDA_HOST 3
#define DLPACK_READ_ONLY (UINT64_C(1) << 0)
#define DLPACK_IS_COPIED (UINT64_C(1) << 1)

struct dlpack_device {
	int32_t type;
	int32_t id;
};

struct dlpack_tensor {
	void *data;
	struct dlpack_device device;
	int32_t ndim;
	uint8_t code; /* these three are the bytes of a SLUICE_DTYPE */
	uint8_t bits;
	uint16_t lanes;
	int64_t *shape;
	int64_t *strides; /* in elements; NULL: dense, row-major */
	uint64_t byte_offset;
};

struct dlpack_managed {
	struct dlpack_tensor tensor;
	void *context;
	void (*deleter)(struct dlpack_managed *self);
};

struct dlpack_versioned {
	uint32_t major;
	uint32_t minor;
	void *context;
	void (*deleter)(struct dlpack_versioned *self);
	uint64_t flags;
	struct dlpack_tensor tensor;
};

#endif
