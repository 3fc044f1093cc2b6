/* SPDX-License-Identifier: Apache-2.0 */
/* Between Python's values and the library's. */
#include "convert.h"

#include <math.h>

#define SECOND_NS 1e9

int convert_timeout(PyObject *seconds, int64_t *ret_ns)
{
	if (seconds == NULL || seconds == Py_None) {
		*ret_ns = SLUICE_FOREVER;
		return 0;
	}
	double value = PyFloat_AsDouble(seconds);
	if (value == -1.0 && PyErr_Occurred() != NULL)
		return -1;
	if (isnan(value)) {
		PyErr_SetString(PyExc_ValueError, "a time-out is a number of seconds, or None for ever; not NaN");
		return -1;
	}
	if (value >= 9e9)
		*ret_ns = SLUICE_FOREVER;
	else if (value < 0)
		*ret_ns = -1; /* one look, then Timeout */
	else
		*ret_ns = (int64_t)ceil(value * SECOND_NS); /* the least positive one is still a wait */
	return 0;
}

int convert_spin(PyObject *value, int64_t *ret_ns)
{
	*ret_ns = 0;
	if (value == NULL || (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "learn") == 0))
		return 0;
	if (convert_timeout(value, ret_ns) != 0)
		return -1;
	if (*ret_ns < 0) {
		PyErr_SetString(PyExc_ValueError, "spin is \"learn\", a number of seconds, or None for ever");
		return -1;
	}
	if (*ret_ns == 0)
		*ret_ns = SLUICE_NO_SPIN;
	return 0;
}

static int hex_digit(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* Reads `count` bytes, two digits each. Returns what follows, or NULL. */
static const char *read_hex(const char *text, uint8_t *bytes, size_t count)
{
	for (size_t i = 0; text != NULL && i < count; i++, text += 2) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);
		if (low < 0)
			return NULL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return text;
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

int convert_trace(PyObject *traceparent, struct sluice_trace *ret_trace)
{
	*ret_trace = (struct sluice_trace){0};
	if (traceparent == Py_None)
		return 0;
	if (!PyUnicode_Check(traceparent)) {
		PyErr_Format(
			PyExc_TypeError, "traceparent is a string or None, not %.100s", Py_TYPE(traceparent)->tp_name);
		return -1;
	}
	Py_ssize_t length;
	const char *text = PyUnicode_AsUTF8AndSize(traceparent, &length);
	if (text == NULL)
		return -1;
	if (length == 55 && strncmp(text, "00-", 3) == 0 && text[35] == '-' && text[52] == '-' &&
		read_hex(text + 3, ret_trace->trace_id, 16) != NULL &&
		read_hex(text + 36, ret_trace->parent_id, 8) != NULL &&
		read_hex(text + 53, &ret_trace->flags, 1) != NULL && !all_zero(ret_trace->trace_id, 16) &&
		!all_zero(ret_trace->parent_id, 8))
		return 0;
	PyErr_Format(PyExc_ValueError,
		"%R is no traceparent of version 00: \"00-\", 32 hex digits, \"-\", 16 hex digits, \"-\", 2 hex "
		"digits, in "
		"lower case, neither id all zeros",
		traceparent);
	return -1;
}

static char *write_hex(char *text, const uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < count; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	return text;
}

PyObject *convert_traceparent(const struct sluice_trace *trace)
{
	if (all_zero(trace->trace_id, sizeof trace->trace_id))
		Py_RETURN_NONE;
	char text[56] = "00-";
	char *end = write_hex(text + 3, trace->trace_id, 16);
	*end++ = '-';
	end = write_hex(end, trace->parent_id, 8);
	*end++ = '-';
	end = write_hex(end, &trace->flags, 1);
	return PyUnicode_FromStringAndSize(text, end - text);
}

PyObject *convert_deadline(uint64_t deadline_ns)
{
	if (deadline_ns == 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)deadline_ns / SECOND_NS);
}

int convert_deadline_ns(PyObject *seconds, uint64_t *ret_ns)
{
	*ret_ns = 0;
	if (seconds == Py_None)
		return 0;
	double value = PyFloat_AsDouble(seconds);
	if (value == -1.0 && PyErr_Occurred() != NULL)
		return -1;
	if (!(value > 0 && value < 9e9)) {
		PyErr_SetString(PyExc_ValueError, "a deadline is a time of time.monotonic() in seconds, or None");
		return -1;
	}
	*ret_ns = (uint64_t)(value * SECOND_NS);
	return 0;
}

int convert_u64(PyObject *value, uint64_t *ret)
{
	PyObject *number = PyNumber_Index(value);
	if (number == NULL)
		return -1;
	unsigned long long result = PyLong_AsUnsignedLongLong(number);
	Py_DECREF(number);
	if (result == (unsigned long long)-1 && PyErr_Occurred() != NULL)
		return -1;
	*ret = result;
	return 0;
}
