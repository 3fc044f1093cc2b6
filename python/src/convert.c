/* SPDX-License-Identifier: Apache-2.0 */
/* Between Python's values and the library's. */
#include "convert.h"

#include <errno.h>
#include <math.h>

#include "errors.h"

#define SECOND_NS 1e9

static int wrong_type(const char *name, const char *what, PyObject *value)
{
	PyErr_Format(PyExc_TypeError, "%s is %s, not %.100s", name, what, Py_TYPE(value)->tp_name);
	return -1;
}

/* As PyFloat_AsDouble, with the argument's name in a TypeError. Returns 0, or -1 with an exception. */
static int real_number(const char *name, const char *what, PyObject *value, double *ret)
{
	if (!PyFloat_Check(value)) {
		const PyNumberMethods *methods = Py_TYPE(value)->tp_as_number;
		if (!PyIndex_Check(value) && (methods == NULL || methods->nb_float == NULL))
			return wrong_type(name, what, value);
	}
	*ret = PyFloat_AsDouble(value);
	return *ret == -1.0 && PyErr_Occurred() != NULL ? -1 : 0;
}

int convert_timeout(const char *name, PyObject *seconds, int64_t *ret_ns)
{
	if (seconds == NULL || seconds == Py_None) {
		*ret_ns = SLUICE_FOREVER;
		return 0;
	}
	double value;
	if (real_number(name, "a number of seconds, or None", seconds, &value) != 0)
		return -1;
	if (isnan(value)) {
		errors_raise(-EINVAL, "%s is %R; it is a number of seconds, or None", name, seconds);
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

#define SPIN_VALUES "\"learn\", a number of seconds from 0, or None for ever"

int convert_spin(PyObject *value, int64_t *ret_ns)
{
	*ret_ns = 0;
	if (value == NULL || (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "learn") == 0))
		return 0;
	double seconds = 0;
	if (PyUnicode_Check(value)) {
		PyErr_Format(PyExc_TypeError, "spin is " SPIN_VALUES ", not %R", value);
		return -1;
	}
	if (value != Py_None && real_number("spin", SPIN_VALUES, value, &seconds) != 0)
		return -1;
	if (!(seconds >= 0)) {
		errors_raise(-EINVAL, "spin is %R; it is " SPIN_VALUES, value);
		return -1;
	}
	if (convert_timeout("spin", value, ret_ns) != 0)
		return -1;
	if (*ret_ns == 0)
		*ret_ns = SLUICE_NO_SPIN;
	return 0;
}

int convert_rate(PyObject *value, double *ret_rate)
{
	static const char allowed[] = "a number of messages a second from 0, for none, or None for all";
	if (real_number("sample_rate", allowed, value, ret_rate) != 0)
		return -1;
	if (*ret_rate >= 0)
		return 0;
	errors_raise(-EINVAL, "sample_rate is %R; it is %s", value, allowed);
	return -1;
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
	if (!PyUnicode_Check(traceparent))
		return wrong_type("traceparent", "a str or None", traceparent);
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
	errors_raise(-EINVAL,
		"traceparent is %R; it is, in version 00, \"00-\", 32 hex digits, \"-\", 16 hex digits, \"-\", 2 hex "
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
	static const char allowed[] = "a time of time.monotonic(), in seconds from above 0, or None";
	*ret_ns = 0;
	if (seconds == Py_None)
		return 0;
	double value;
	if (real_number("deadline", allowed, seconds, &value) != 0)
		return -1;
	if (!(value > 0 && value < 9e9)) {
		errors_raise(-EINVAL, "deadline is %R; it is %s", seconds, allowed);
		return -1;
	}
	*ret_ns = (uint64_t)(value * SECOND_NS);
	return 0;
}

int convert_u64(const char *name, PyObject *value, uint64_t *ret)
{
	if (!PyIndex_Check(value))
		return wrong_type(name, "a whole number", value);
	PyObject *number = PyNumber_Index(value);
	if (number == NULL)
		return -1;
	unsigned long long result = PyLong_AsUnsignedLongLong(number);
	Py_DECREF(number);
	if (result == (unsigned long long)-1 && PyErr_Occurred() != NULL) {
		if (PyErr_ExceptionMatches(PyExc_OverflowError))
			PyErr_Format(PyExc_OverflowError, "%s is %R; it is 0 to 2**64 - 1", name, value);
		return -1;
	}
	*ret = result;
	return 0;
}

int convert_number(const char *name, PyObject *value, uint64_t least, uint64_t most, uint64_t *ret)
{
	if (value == NULL || value == Py_None)
		return 0;
	uint64_t result = 0;
	bool fits = convert_u64(name, value, &result) == 0;
	if (!fits && !PyErr_ExceptionMatches(PyExc_OverflowError))
		return -1;
	PyErr_Clear();
	if (fits && result >= least && result <= most) {
		*ret = result;
		return 0;
	}
	errors_raise(-EINVAL, "%s is %R; it is at least %llu and at most %llu", name, value, (unsigned long long)least,
		(unsigned long long)most);
	return -1;
}

int convert_number32(const char *name, PyObject *value, uint32_t least, uint32_t most, uint32_t *ret)
{
	uint64_t result = *ret;
	if (convert_number(name, value, least, most, &result) != 0)
		return -1;
	*ret = (uint32_t)result;
	return 0;
}
