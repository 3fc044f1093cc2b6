/* SPDX-License-Identifier: Apache-2.0 */
/* Specs of reservations. */
#include "spec.h"

#include <errno.h>

#include "dtype.h"
#include "errors.h"

struct sluice_tensor_spec *spec_add(struct spec_set *set, PyObject *name)
{
	if (!PyUnicode_Check(name)) {
		PyErr_Format(PyExc_TypeError, "a tensor's name is a string, not %.100s", Py_TYPE(name)->tp_name);
		return NULL;
	}
	Py_ssize_t length;
	const char *text = PyUnicode_AsUTF8AndSize(name, &length);
	if (text == NULL)
		return NULL;
	if (length == 0 || length > SLUICE_MAX_TENSOR_NAME || memchr(text, 0, (size_t)length) != NULL) {
		PyErr_Format(PyExc_ValueError, "%R is no name of a tensor: 1 to %d bytes of UTF-8, none of them 0",
			name, SLUICE_MAX_TENSOR_NAME);
		return NULL;
	}
	if (set->count == SLUICE_MAX_TENSORS) {
		PyErr_Format(PyExc_ValueError,
			"a message takes up to %d tensors: send the rest in another, or put several into one",
			SLUICE_MAX_TENSORS);
		return NULL;
	}
	struct sluice_tensor_spec *spec = &set->specs[set->count];
	spec->name = memcpy(set->names[set->count], text, (size_t)length + 1);
	set->count++;
	return spec;
}

/* One dimension. Returns 0, or -1 with an exception. */
static int add_dimension(struct sluice_tensor_spec *spec, PyObject *value)
{
	if (spec->ndim == SLUICE_MAX_DIMENSIONS) {
		PyErr_Format(PyExc_ValueError, "tensor '%s' has more than %d dimensions: reshape it", spec->name,
			SLUICE_MAX_DIMENSIONS);
		return -1;
	}
	long long number = -1;
	if (PyLong_CheckExact(value)) {
		number = PyLong_AsLongLong(value);
	} else if (!PyIndex_Check(value)) {
		PyErr_Format(PyExc_TypeError, "tensor '%s': a dimension is a whole number, not %.100s", spec->name,
			Py_TYPE(value)->tp_name);
		return -1;
	} else {
		PyObject *index = PyNumber_Index(value);
		if (index == NULL)
			return -1;
		number = PyLong_AsLongLong(index);
		Py_DECREF(index);
	}
	if (number == -1 && PyErr_Occurred() != NULL) {
		if (PyErr_ExceptionMatches(PyExc_OverflowError))
			PyErr_Format(PyExc_OverflowError, "tensor '%s': the dimension %R is 2**63 or more, or negative",
				spec->name, value);
		return -1;
	}
	if (number < 0) {
		PyErr_Format(PyExc_ValueError, "tensor '%s': the dimension %lld is negative; it is 0 or more",
			spec->name, number);
		return -1;
	}
	spec->shape[spec->ndim++] = number;
	return 0;
}

static int add_shape(struct sluice_tensor_spec *spec, PyObject *shape)
{
	spec->ndim = 0;
	if (PyIndex_Check(shape))
		return add_dimension(spec, shape);
	PyObject *sequence = PySequence_Fast(shape, "");
	if (sequence == NULL && PyErr_ExceptionMatches(PyExc_TypeError) && Py_TYPE(shape)->tp_iter == NULL)
		PyErr_Format(PyExc_TypeError,
			"tensor '%s': a shape is a whole number or a sequence of them, not %.100s", spec->name,
			Py_TYPE(shape)->tp_name);
	if (sequence == NULL)
		return -1;
	int result = 0;
	for (Py_ssize_t i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(sequence); i++) {
		PyObject *value = new_reference(PySequence_Fast_GET_ITEM(sequence, i));
		result = add_dimension(spec, value);
		Py_DECREF(value);
	}
	Py_DECREF(sequence);
	return result;
}

int spec_add_pair(struct spec_set *set, PyObject *name, PyObject *pair)
{
	struct sluice_tensor_spec *spec = spec_add(set, name);
	if (spec == NULL)
		return -1;
	PyObject *sequence = PyTuple_Check(pair) || PyList_Check(pair) ? PySequence_Tuple(pair) : NULL;
	if (sequence == NULL || PyTuple_GET_SIZE(sequence) != 2) {
		Py_XDECREF(sequence);
		PyErr_Format(PyExc_TypeError, "tensor '%s': expected (shape, dtype), as ((16, 512), \"int32\"), not %R",
			spec->name, pair);
		return -1;
	}
	const struct dtype *dtype = NULL;
	if (add_shape(spec, PyTuple_GET_ITEM(sequence, 0)) == 0)
		dtype = dtype_of_object(PyTuple_GET_ITEM(sequence, 1));
	Py_DECREF(sequence);
	if (dtype == NULL)
		return -1;
	spec->dtype = dtype->code;
	return 0;
}

void spec_copy(struct spec_set *to, const struct spec_set *from)
{
	to->count = from->count;
	for (size_t i = 0; i < from->count; i++) {
		to->specs[i] = from->specs[i];
		to->specs[i].name = memcpy(to->names[i], from->names[i], sizeof to->names[i]);
	}
}

bool spec_is_constant(PyObject *pair)
{
	if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
		return false;
	PyObject *shape = PyTuple_GET_ITEM(pair, 0);
	PyObject *dtype = PyTuple_GET_ITEM(pair, 1);
	if (PyTuple_CheckExact(shape)) {
		for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++)
			if (!PyLong_CheckExact(PyTuple_GET_ITEM(shape, i)))
				return false;
	} else if (!PyLong_CheckExact(shape)) {
		return false;
	}
	return PyUnicode_CheckExact(dtype);
}

static PyObject *raise_overflow(int code, const struct spec_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct dtype *dtype = dtype_of_code(set->specs[i].dtype);
		int64_t bytes = dtype != NULL ? dtype->bytes : 1;
		bool empty = false, large = false;
		for (uint32_t k = 0; k < set->specs[i].ndim; k++) {
			empty |= set->specs[i].shape[k] == 0;
			large |= __builtin_mul_overflow(bytes, set->specs[i].shape[k], &bytes);
		}
		if (large && !empty)
			return errors_raise(code, "tensor '%s' would have 2**63 bytes or more: give it a smaller shape",
				set->specs[i].name);
	}
	return errors_raise(code, NULL);
}

PyObject *spec_raise(int code, const struct spec_set *set, struct sluice_producer *producer)
{
	struct sluice_geometry geometry;
	if (code == -EOVERFLOW)
		return raise_overflow(code, set);
	if (code != -EMSGSIZE || sluice_producer_geometry(producer, &geometry) != 0)
		return errors_raise(code, NULL);
	uint64_t bytes = 0;
	for (size_t i = 0; i < set->count; i++) {
		const struct dtype *dtype = dtype_of_code(set->specs[i].dtype);
		uint64_t product = dtype != NULL ? dtype->bytes : 1;
		for (uint32_t k = 0; k < set->specs[i].ndim; k++)
			product *=
				(uint64_t)set->specs[i].shape[k]; /* the library has found that it does not overflow */
		bytes += product;
	}
	return errors_raise(code,
		"the message has %llu bytes and a message of this lane up to %llu: open the producer with "
		"lane_bytes=%llu or more, or "
		"send less at once",
		(unsigned long long)bytes, (unsigned long long)geometry.max_message_bytes,
		(unsigned long long)bytes * 2 + (1 << 16));
}
