/* SPDX-License-Identifier: Apache-2.0 */
/* Element types: Sluice's codes, their names, and their formats in the buffer protocol. */
#ifndef SLUICE_PYTHON_DTYPE_H
#define SLUICE_PYTHON_DTYPE_H

#include "module.h"

struct dtype {
	uint32_t code;
	uint32_t bytes;
	const char *name;       /* of numpy, torch and ml_dtypes */
	const char *format;     /* of the buffer protocol; NULL where it has none */
	const char *short_name; /* as "i4"; or NULL */
};

/* The type of a code, or NULL. */
const struct dtype *dtype_of_code(uint32_t code);

/* A string, a numpy dtype or scalar type, a torch dtype, bool, int or float. NULL with a TypeError. */
const struct dtype *dtype_of_object(PyObject *object);

/* The type of a buffer's elements, or NULL without an exception. `format` NULL stands for bytes. */
const struct dtype *dtype_of_format(const char *format, Py_ssize_t item_bytes);

#endif
