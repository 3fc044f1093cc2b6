/* SPDX-License-Identifier: Apache-2.0 */
/* Between Python's values and the library's: times, trace contexts, numbers. Exceptions name the argument. */
#ifndef SLUICE_PYTHON_CONVERT_H
#define SLUICE_PYTHON_CONVERT_H

#include "module.h"

/* Seconds into nanoseconds: None and infinity are for ever. Returns 0, or -1 with TypeError or BadArgument. */
int convert_timeout(const char *name, PyObject *seconds, int64_t *ret_ns);

/* An option `spin`: NULL or "learn", seconds, or None for ever. Returns 0, or -1 with an exception. */
int convert_spin(PyObject *value, int64_t *ret_ns);

/* An option `sample_rate` that is not None. Returns 0, or -1 with an exception. */
int convert_rate(PyObject *value, double *ret_rate);

/* A traceparent string of version 00, or None. Returns 0, or -1 with TypeError or BadArgument. */
int convert_trace(PyObject *traceparent, struct sluice_trace *ret_trace);

/* The other way: a new string, or None for a context that was not set. */
PyObject *convert_traceparent(const struct sluice_trace *trace);

/* A time of CLOCK_MONOTONIC in seconds, as time.monotonic() gives it; None for 0, none. */
PyObject *convert_deadline(uint64_t deadline_ns);

/* The other way. Returns 0, or -1 with an exception. */
int convert_deadline_ns(PyObject *seconds, uint64_t *ret_ns);

/* A 64-bit unsigned integer. Returns 0, or -1 with TypeError or OverflowError. */
int convert_u64(const char *name, PyObject *value, uint64_t *ret);

/* An option, NULL and None leaving `*ret` as it is. Returns 0, or -1 with TypeError or BadArgument. */
int convert_number(const char *name, PyObject *value, uint64_t least, uint64_t most, uint64_t *ret);
int convert_number32(const char *name, PyObject *value, uint32_t least, uint32_t most, uint32_t *ret);

#endif
