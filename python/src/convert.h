/* SPDX-License-Identifier: Apache-2.0 */
/* Between Python's values and the library's: times, trace contexts, names. */
#ifndef SLUICE_PYTHON_CONVERT_H
#define SLUICE_PYTHON_CONVERT_H

#include "module.h"

/* Seconds into nanoseconds: None and infinity are for ever. Returns 0, or -1 with TypeError or ValueError. */
int convert_timeout(PyObject *seconds, int64_t *ret_ns);

/* An option `spin`: NULL or "learn", seconds, or None for ever. Returns 0, or -1 with an exception. */
int convert_spin(PyObject *value, int64_t *ret_ns);

/* A traceparent string of version 00, or None. Returns 0, or -1 with TypeError or ValueError. */
int convert_trace(PyObject *traceparent, struct sluice_trace *ret_trace);

/* The other way: a new string, or None for a context that was not set. */
PyObject *convert_traceparent(const struct sluice_trace *trace);

/* A time of CLOCK_MONOTONIC in seconds, as time.monotonic() gives it; None for 0, none. */
PyObject *convert_deadline(uint64_t deadline_ns);

/* The other way. Returns 0, or -1 with an exception. */
int convert_deadline_ns(PyObject *seconds, uint64_t *ret_ns);

/* A 64-bit unsigned integer. Returns 0, or -1 with TypeError or OverflowError. */
int convert_u64(PyObject *value, uint64_t *ret);

#endif
