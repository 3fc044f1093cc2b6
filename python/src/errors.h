/* SPDX-License-Identifier: Apache-2.0 */
/* From the library's negative errno values to exceptions that say what to do next. */
#ifndef SLUICE_PYTHON_ERRORS_H
#define SLUICE_PYTHON_ERRORS_H

#include "module.h"

/*
 * Raises the exception of a negative errno value. `format` (of PyUnicode_FromFormat) says more than the table does; NULL for
 * the table's sentence. Returns NULL.
 */
PyObject *errors_raise(int code, const char *format, ...);

/* Raises Empty, which shares its errno with Full. Returns NULL. */
PyObject *errors_raise_empty(const char *format, ...);

/* Raises CudaError with whatever errno. Returns NULL. */
PyObject *errors_raise_cuda(int code, const char *format, ...);

/* True if `code` is one that open calls give for want of memory in the directory, which is then said with figures. */
PyObject *errors_raise_open(int code, PyObject *name, const char *directory, uint64_t lane_bytes);

#endif
