/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Tensor and a CudaTensor are, wherever their elements lie: type, shape, strides. Each has a struct array as its member
 * `array`, and the attributes that tell of it.
 */
#ifndef SLUICE_PYTHON_ARRAY_H
#define SLUICE_PYTHON_ARRAY_H

#include <stddef.h>

#include "dtype.h"
#include "module.h"

struct array {
	const struct dtype *dtype;
	Py_ssize_t bytes;
	int ndim;
	bool readonly;
	Py_ssize_t shape[SLUICE_MAX_DIMENSIONS];
	Py_ssize_t strides[SLUICE_MAX_DIMENSIONS]; /* bytes; dense, row-major */
};

/* Takes a tensor's description. Returns 0, or -1 with TypeError: its element type is unknown. */
int array_init(struct array *array, const struct sluice_tensor *description, bool readonly);

/* What len() says: -1 with TypeError if there are no dimensions. */
Py_ssize_t array_length(const struct array *array);

/* A tuple; NULL with an exception. */
PyObject *array_shape(const struct array *array);

/* Getters, of an object that has its struct array so many bytes behind its begin. */
PyObject *array_get_shape(PyObject *self, void *offset);
PyObject *array_get_strides(PyObject *self, void *offset);
PyObject *array_get_dtype_name(PyObject *self, void *offset);
PyObject *array_get_ndim(PyObject *self, void *offset);
PyObject *array_get_nbytes(PyObject *self, void *offset);
PyObject *array_get_size(PyObject *self, void *offset);
PyObject *array_get_itemsize(PyObject *self, void *offset);
PyObject *array_get_readonly(PyObject *self, void *offset);

/* The attributes of a type whose objects are of `structure`: elements of a table of PyGetSetDef. */
#define ARRAY_ATTRIBUTE(structure, name, doc)                                                                          \
	{                                                                                                              \
#name, array_get_##name, NULL, doc, (void *)offsetof(structure, array)                                 \
	}
#define ARRAY_ATTRIBUTES(structure)                                                                                    \
	ARRAY_ATTRIBUTE(structure, shape, "Elements per dimension."),                                                  \
		ARRAY_ATTRIBUTE(structure, strides,                                                                    \
			"Bytes from one element to the next, per dimension; always dense, row-major."),                \
		ARRAY_ATTRIBUTE(structure, dtype_name, "The element type's name, without numpy."),                     \
		ARRAY_ATTRIBUTE(structure, ndim, "Number of dimensions."),                                             \
		ARRAY_ATTRIBUTE(structure, nbytes, "Bytes of all elements."),                                          \
		ARRAY_ATTRIBUTE(structure, size, "Number of elements."),                                               \
		ARRAY_ATTRIBUTE(structure, itemsize, "Bytes of one element.")

#endif
