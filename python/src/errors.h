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

/* Raises BadArgument, a ValueError, with whatever errno. Returns NULL. */
PyObject *errors_raise_argument(int code, const char *format, ...);

/* The table's sentence, which is the library's unless Python has other words for it. */
const char *errors_sentence(int code);

/* What a noun ends with. */
static inline const char *errors_plural(Py_ssize_t count)
{
	return count == 1 ? "" : "s";
}

#endif
