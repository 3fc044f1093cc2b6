/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what others have in their arrays. */
#include "source.h"

#include "dlpack.h"

/* From here on a copy takes so long (about 20 us) that other threads should run meanwhile. */
#define LARGE_BYTES (256 << 10)

static int refuse(PyObject *object, const char *why)
{
	PyErr_Format(PyExc_TypeError, "an object of type %.100s cannot be sent as a tensor: %s",
		Py_TYPE(object)->tp_name, why);
	return -1;
}

static void find_out_whether_dense(struct source *source)
{
	size_t expected =
		source->dtype->bytes; /* more than there can be overflows, and is refused when room is reserved */
	source->dense = true;
	for (int k = source->ndim - 1; k >= 0; k--) {
		if (source->shape[k] != 1 && source->strides[k] != (Py_ssize_t)expected)
			source->dense = false;
		expected *= (size_t)source->shape[k];
	}
	source->bytes = (Py_ssize_t)expected;
	if (source->bytes == 0)
		source->dense = true;
}

static int too_many_dimensions(int ndim)
{
	PyErr_Format(
		PyExc_ValueError, "a tensor has up to %d dimensions, not %d: reshape it", SLUICE_MAX_DIMENSIONS, ndim);
	return -1;
}

static int open_buffer(PyObject *object, struct source *source)
{
	Py_buffer *buffer = &source->buffer;
	if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDED_RO | PyBUF_FORMAT) != 0)
		return -1;
	source->has_buffer = true;
	if (buffer->ndim > SLUICE_MAX_DIMENSIONS)
		return too_many_dimensions(buffer->ndim);
	source->dtype = dtype_of_format(buffer->format, buffer->itemsize);
	if (source->dtype == NULL) {
		PyErr_Format(PyExc_TypeError,
			"an object of type %.100s and format '%s' cannot be sent as a tensor: its elements are no "
			"numbers in this machine's byte order (convert it, as with astype; objects cannot be shared)",
			Py_TYPE(object)->tp_name, buffer->format != NULL ? buffer->format : "B");
		return -1;
	}
	source->data = buffer->buf;
	source->ndim = buffer->ndim;
	for (int k = 0; k < buffer->ndim; k++) {
		source->shape[k] = buffer->shape[k];
		source->strides[k] = buffer->strides[k];
	}
	find_out_whether_dense(source);
	return 0;
}

/* numpy's arrays of ml_dtypes have no buffer: the same bits as integers do. */
static int open_bits(PyObject *object, struct source *source)
{
	PyObject *own_type = PyObject_GetAttrString(object, "dtype");
	const struct dtype *dtype = own_type != NULL ? dtype_of_object(own_type) : NULL;
	Py_XDECREF(own_type);
	PyObject *bits = dtype != NULL && dtype->format == NULL
				 ? PyObject_CallMethod(object, "view", "s", dtype->bytes == 2 ? "uint16" : "uint8")
				 : NULL;
	if (bits == NULL)
		return -1;
	int result = open_buffer(bits, source);
	Py_DECREF(bits); /* the buffer keeps it */
	if (result == 0)
		source->dtype = dtype;
	return result;
}

static const struct dlpack_tensor *tensor_of(PyObject *capsule)
{
	if (PyCapsule_IsValid(capsule, "dltensor"))
		return &((struct dlpack_managed *)PyCapsule_GetPointer(capsule, "dltensor"))->tensor;
	if (!PyCapsule_IsValid(capsule, "dltensor_versioned"))
		return NULL;
	const struct dlpack_versioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
	return managed->major == DLPACK_MAJOR ? &managed->tensor : NULL;
}

static int open_dlpack(PyObject *object, struct source *source)
{
	source->capsule = PyObject_CallMethod(object, "__dlpack__", NULL);
	if (source->capsule == NULL)
		return -1;
	const struct dlpack_tensor *tensor = tensor_of(source->capsule);
	if (tensor == NULL)
		return refuse(object, "its __dlpack__ gives no capsule of DLPack 0 or 1");
	if (tensor->device.type != DLPACK_CPU && tensor->device.type != DLPACK_CUDA_HOST)
		return refuse(object, "it is not in the CPU's memory: copy it there first, as with .cpu()");
	if (tensor->ndim < 0 || tensor->ndim > SLUICE_MAX_DIMENSIONS)
		return too_many_dimensions(tensor->ndim);
	source->dtype = dtype_of_code(tensor->code | (uint32_t)tensor->bits << 8 | (uint32_t)tensor->lanes << 16);
	if (source->dtype == NULL)
		return refuse(object, "Sluice has no such element type");
	source->data = (const char *)tensor->data + tensor->byte_offset;
	source->ndim = tensor->ndim;
	size_t dense = source->dtype->bytes;
	for (int k = source->ndim - 1; k >= 0; k--) {
		source->shape[k] = tensor->shape[k];
		source->strides[k] =
			(Py_ssize_t)(tensor->strides != NULL ? (size_t)tensor->strides[k] * source->dtype->bytes
							     : dense);
		dense *= (size_t)source->shape[k];
	}
	find_out_whether_dense(source);
	return 0;
}

int source_open(PyObject *object, struct source *ret_source)
{
	struct source *source = ret_source;
	source->has_buffer = false;
	source->capsule = NULL;
	int result;
	if (PyObject_CheckBuffer(object)) {
		result = open_buffer(object, source);
		if (result != 0 && !source->has_buffer && PyErr_ExceptionMatches(PyExc_ValueError)) {
			PyErr_Clear();
			result = open_bits(object, source);
		}
	} else if (PyObject_HasAttrString(object, "__dlpack__")) {
		result = open_dlpack(object, source);
	} else {
		result = refuse(object,
			"pass an array with the buffer protocol or __dlpack__ (numpy, torch, memoryview, bytes, "
			"array.array), as numpy.asarray makes one");
	}
	if (result != 0)
		source_close(source);
	return result;
}

void source_close(struct source *source)
{
	if (source->has_buffer)
		PyBuffer_Release(&source->buffer);
	source->has_buffer = false;
	Py_CLEAR(source->capsule); /* not renamed: its destructor frees what it holds */
}

bool source_is_large(const struct source *source)
{
	return source->bytes >= LARGE_BYTES;
}

/* One run along the last dimension. Returns where the next one goes. */
static char *copy_run(const struct source *source, const char *from, char *to)
{
	Py_ssize_t count = source->shape[source->ndim - 1];
	Py_ssize_t stride = source->strides[source->ndim - 1];
	Py_ssize_t bytes = source->dtype->bytes;
	if (stride == bytes) {
		memcpy(to, from, (size_t)(bytes * count));
		return to + bytes * count;
	}
	for (Py_ssize_t i = 0; i < count; i++, from += stride, to += bytes)
		memcpy(to, from, (size_t)bytes);
	return to;
}

/* Counts through all dimensions but the last, as an odometer does. A source that is not dense has one or more. */
static void copy_strided(const struct source *source, char *to)
{
	Py_ssize_t index[SLUICE_MAX_DIMENSIONS] = {0};
	const char *from = source->data;
	int k;
	do {
		to = copy_run(source, from, to);
		for (k = source->ndim - 2; k >= 0; k--) {
			from += source->strides[k];
			if (++index[k] < source->shape[k])
				break;
			from -= source->strides[k] * source->shape[k];
			index[k] = 0;
		}
	} while (k >= 0);
}

static void copy(const struct source *source, char *destination)
{
	if (source->bytes == 0)
		return;
	if (source->dense)
		memcpy(destination, source->data, (size_t)source->bytes);
	else
		copy_strided(source, destination);
}

void source_copy(const struct source *source, char *destination)
{
	if (!source_is_large(source)) {
		copy(source, destination);
		return;
	}
	Py_BEGIN_ALLOW_THREADS copy(source, destination);
	Py_END_ALLOW_THREADS
}

bool source_overlaps(const struct source *source, const char *start, Py_ssize_t bytes)
{
	if (source->bytes == 0)
		return false;
	const char *low = source->data;
	const char *high = source->data + source->dtype->bytes;
	for (int k = 0; k < source->ndim; k++) {
		Py_ssize_t reach = source->strides[k] * (source->shape[k] - 1);
		low += reach < 0 ? reach : 0;
		high += reach > 0 ? reach : 0;
	}
	return low < start + bytes && start < high;
}
