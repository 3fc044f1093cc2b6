/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structs of DLPack as capsules carry them: "dltensor" (every version) and "dltensor_versioned" (from 1.0, with flags).
 * Source: the DLPack specification, https://dmlc.github.io/dlpack/latest/c_api.html.
 */
#ifndef SLUICE_PYTHON_DLPACK_H
#define SLUICE_PYTHON_DLPACK_H

#include "array.h"
#include "module.h"

#define DLPACK_MAJOR     1
#define DLPACK_MINOR     0
#define DLPACK_CPU       1
#define DLPACK_CUDA      2
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

/* What a capsule is to be made of. */
struct dlpack_source {
	void *data;
	struct dlpack_device device;
	const struct array *array;
	uint64_t flags; /* of a capsule with a version */
	void *owner;
	void (*end)(
		void *owner); /* with the interpreter's lock, when the capsule's consumer or nobody needs it any more */
};

/* A capsule, which has the owner from now on; NULL with an exception, and the owner is the caller's. */
PyObject *dlpack_capsule(const struct dlpack_source *source, bool versioned);

/* Keyword arguments of __dlpack__. NULL or None: as without them. */
struct dlpack_request {
	PyObject *stream;
	bool versioned; /* from max_version */
	bool copy;
	bool has_device;
	struct dlpack_device device;
};

/* Parses the arguments of a METH_FASTCALL | METH_KEYWORDS function. Returns 0, or -1 with an exception. */
int dlpack_parse(PyObject *const *arguments, Py_ssize_t count, PyObject *names, struct dlpack_request *ret_request);

#endif
