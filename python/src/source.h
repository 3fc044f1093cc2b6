/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: arrays of others that are copied into a lane. What has the buffer protocol (numpy, memoryview, bytes,
 * array.array) is taken by that, what has __dlpack__ (torch, JAX on the CPU) by that.
 */
#ifndef SLUICE_PYTHON_SOURCE_H
#define SLUICE_PYTHON_SOURCE_H

#include "dtype.h"
#include "module.h"

struct source {
	const struct dtype *dtype;
	const char *data;
	Py_ssize_t bytes;
	int ndim;
	bool dense; /* row-major without gaps */
	Py_ssize_t shape[SLUICE_MAX_DIMENSIONS];
	Py_ssize_t strides[SLUICE_MAX_DIMENSIONS]; /* bytes */
	Py_buffer buffer;
	bool has_buffer;
	PyObject *capsule;
};

/* Looks into `object`; close afterwards. Returns 0, or -1 with TypeError, ValueError, BufferError or what it raises. */
int source_open(PyObject *object, struct source *ret_source);
void source_close(struct source *source);

/* Copies it, row-major, to `destination`. Gives the interpreter's lock away while it copies much. */
void source_copy(const struct source *source, char *destination);

/* True if source_copy would give the lock away. */
bool source_is_large(const struct source *source);

/* True if it has memory in common with those bytes. */
bool source_overlaps(const struct source *source, const char *start, Py_ssize_t bytes);

#endif
