/* SPDX-License-Identifier: Apache-2.0 */
#include "array.h"

int array_init(struct array *array, const struct sluice_tensor *description, bool readonly)
{
	array->dtype = dtype_of_code(description->dtype);
	if (array->dtype == NULL) {
		PyErr_Format(PyExc_TypeError, "tensor %s has the unknown element type %#x", description->name,
			(unsigned)description->dtype);
		return -1;
	}
	array->bytes = (Py_ssize_t)description->bytes;
	array->ndim = (int)description->ndim;
	array->readonly = readonly;
	size_t stride = array->dtype->bytes; /* without elements it may overflow, and means nothing */
	for (int k = array->ndim - 1; k >= 0; k--) {
		array->shape[k] = (Py_ssize_t)description->shape[k];
		array->strides[k] = (Py_ssize_t)stride;
		stride *= (size_t)array->shape[k];
	}
	return 0;
}

Py_ssize_t array_length(const struct array *array)
{
	if (array->ndim > 0)
		return array->shape[0];
	PyErr_SetString(PyExc_TypeError, "len() of unsized object");
	return -1;
}

/* ---- attributes ---- */

static const struct array *array_of(PyObject *self, void *offset)
{
	return (const struct array *)((const char *)self + (uintptr_t)offset);
}

static PyObject *tuple_of(const Py_ssize_t *numbers, int count)
{
	PyObject *tuple = PyTuple_New(count);
	for (int k = 0; tuple != NULL && k < count; k++) {
		PyObject *number = PyLong_FromSsize_t(numbers[k]);
		if (number == NULL)
			Py_CLEAR(tuple);
		else
			PyTuple_SET_ITEM(tuple, k, number);
	}
	return tuple;
}

PyObject *array_shape(const struct array *array)
{
	return tuple_of(array->shape, array->ndim);
}

PyObject *array_get_shape(PyObject *self, void *offset)
{
	return array_shape(array_of(self, offset));
}

PyObject *array_get_strides(PyObject *self, void *offset)
{
	const struct array *array = array_of(self, offset);
	return tuple_of(array->strides, array->ndim);
}

PyObject *array_get_dtype_name(PyObject *self, void *offset)
{
	return PyUnicode_FromString(array_of(self, offset)->dtype->name);
}

PyObject *array_get_ndim(PyObject *self, void *offset)
{
	return PyLong_FromLong(array_of(self, offset)->ndim);
}

PyObject *array_get_nbytes(PyObject *self, void *offset)
{
	return PyLong_FromSsize_t(array_of(self, offset)->bytes);
}

PyObject *array_get_size(PyObject *self, void *offset)
{
	const struct array *array = array_of(self, offset);
	return PyLong_FromSsize_t(array->bytes / (Py_ssize_t)array->dtype->bytes);
}

PyObject *array_get_itemsize(PyObject *self, void *offset)
{
	return PyLong_FromUnsignedLong(array_of(self, offset)->dtype->bytes);
}

PyObject *array_get_readonly(PyObject *self, void *offset)
{
	return PyBool_FromLong(array_of(self, offset)->readonly);
}
