/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors as DLPack capsules. What a capsule holds counts as a view of the message until its consumer calls the deleter, from
 * whatever thread that is.
 */
#include "dlpack.h"

#include <stdlib.h>

#include "tensor.h"

struct export
{
	union {
		struct dlpack_managed plain;
		struct dlpack_versioned versioned;
	} managed;
	void *owner;
	void (*end)(void *owner);
	int64_t shape[SLUICE_MAX_DIMENSIONS];
	int64_t strides[SLUICE_MAX_DIMENSIONS];
};

static void end_export(struct export *export)
{
	/* Without an interpreter there is nobody left to tell. */
	if (Py_IsInitialized()) {
		PyGILState_STATE state = PyGILState_Ensure();
		PyObject *type, *value, *traceback;
		PyErr_Fetch(&type, &value, &traceback);
		export->end(export->owner);
		PyErr_Restore(type, value, traceback);
		PyGILState_Release(state);
	}
	free(export);
}

static void delete_plain(struct dlpack_managed *managed)
{
	end_export(managed->context);
}

static void delete_versioned(struct dlpack_versioned *managed)
{
	end_export(managed->context);
}

/* A capsule that nobody consumed still has its name. */
static void destroy_plain(PyObject *capsule)
{
	if (PyCapsule_IsValid(capsule, "dltensor"))
		delete_plain(PyCapsule_GetPointer(capsule, "dltensor"));
}

static void destroy_versioned(PyObject *capsule)
{
	if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
		delete_versioned(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
}

static void describe(const struct dlpack_source *source, struct export *export, struct dlpack_tensor *ret_tensor)
{
	const struct array *array = source->array;
	*ret_tensor = (struct dlpack_tensor){
		.data = source->data,
		.device = source->device,
		.ndim = array->ndim,
		.code = (uint8_t)array->dtype->code,
		.bits = (uint8_t)(array->dtype->code >> 8),
		.lanes = (uint16_t)(array->dtype->code >> 16),
		.shape = export->shape,
		.strides = export->strides,
	};
	for (int k = 0; k < array->ndim; k++) {
		export->shape[k] = array->shape[k];
		export->strides[k] = array->strides[k] / (int64_t)array->dtype->bytes;
	}
}

PyObject *dlpack_capsule(const struct dlpack_source *source, bool versioned)
{
	struct export *export = malloc(sizeof *export);
	if (export == NULL)
		return PyErr_NoMemory();
	export->owner = source->owner;
	export->end = source->end;
	PyObject *capsule;
	if (versioned) {
		export->managed.versioned = (struct dlpack_versioned){
			.major = DLPACK_MAJOR,
			.minor = DLPACK_MINOR,
			.context = export,
			.deleter = delete_versioned,
			.flags = source->flags,
		};
		describe(source, export, &export->managed.versioned.tensor);
		capsule = PyCapsule_New(&export->managed.versioned, "dltensor_versioned", destroy_versioned);
	} else {
		export->managed.plain = (struct dlpack_managed){.context = export, .deleter = delete_plain};
		describe(source, export, &export->managed.plain.tensor);
		capsule = PyCapsule_New(&export->managed.plain, "dltensor", destroy_plain);
	}
	if (capsule == NULL)
		free(export);
	return capsule;
}

/* ---- arguments ---- */

static int parse_pair(PyObject *pair, const char *what, long *ret_first, long *ret_second)
{
	if (PyTuple_Check(pair) && PyArg_ParseTuple(pair, "ll", ret_first, ret_second))
		return 0;
	PyErr_Clear();
	PyErr_Format(PyExc_TypeError, "%s is a pair of integers, not %R", what, pair);
	return -1;
}

static int parse_keyword(const char *name, PyObject *value, struct dlpack_request *request)
{
	long first, second;
	bool given = value != Py_None;
	if (strcmp(name, "stream") == 0) {
		request->stream = value;
		return 0;
	}
	if (strcmp(name, "max_version") == 0) {
		if (given && parse_pair(value, name, &first, &second) != 0)
			return -1;
		request->versioned = given && first >= DLPACK_MAJOR;
		return 0;
	}
	if (strcmp(name, "dl_device") == 0) {
		if (given && parse_pair(value, name, &first, &second) != 0)
			return -1;
		request->has_device = given;
		if (given)
			request->device = (struct dlpack_device){(int32_t)first, (int32_t)second};
		return 0;
	}
	if (strcmp(name, "copy") == 0) {
		int truth = given ? PyObject_IsTrue(value) : 0;
		request->copy = truth == 1;
		return truth < 0 ? -1 : 0;
	}
	PyErr_Format(PyExc_TypeError, "__dlpack__() got an unexpected keyword argument '%s'", name);
	return -1;
}

int dlpack_parse(PyObject *const *arguments, Py_ssize_t count, PyObject *names, struct dlpack_request *ret_request)
{
	*ret_request = (struct dlpack_request){0};
	if (count > 0) {
		PyErr_SetString(PyExc_TypeError, "__dlpack__() takes keyword arguments only");
		return -1;
	}
	for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
		const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
		if (name == NULL || parse_keyword(name, arguments[i], ret_request) != 0)
			return -1;
	}
	return 0;
}

/* ---- tensors of messages, in the CPU's memory ---- */

static void end_view(void *owner)
{
	struct hold *hold = owner;
	hold_export_ended(hold);
	Py_DECREF(hold);
}

static PyObject *capsule_of_view(struct tensor *tensor, struct dlpack_source *source, bool versioned)
{
	source->flags = tensor->array.readonly ? DLPACK_READ_ONLY : 0;
	source->owner = tensor->hold;
	source->end = end_view;
	if (hold_export(tensor->hold) != 0)
		return NULL;
	Py_INCREF(tensor->hold);
	PyObject *capsule = dlpack_capsule(source, versioned);
	if (capsule == NULL)
		end_view(tensor->hold);
	return capsule;
}

static PyObject *capsule_of_copy(struct tensor *tensor, struct dlpack_source *source, bool versioned)
{
	source->data = aligned_alloc(64, ((size_t)tensor->array.bytes / 64 + 1) * 64);
	if (source->data == NULL)
		return PyErr_NoMemory();
	memcpy(source->data, tensor->data, (size_t)tensor->array.bytes);
	source->flags = DLPACK_IS_COPIED;
	source->owner = source->data;
	source->end = free;
	PyObject *capsule = dlpack_capsule(source, versioned);
	if (capsule == NULL)
		free(source->data);
	return capsule;
}

PyObject *tensor_dlpack(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
	struct tensor *tensor = (struct tensor *)self;
	struct dlpack_request request;
	if (dlpack_parse(arguments, count, keywords, &request) != 0)
		return NULL;
	if (request.stream != NULL && request.stream != Py_None) {
		PyErr_SetString(PyExc_BufferError, "a tensor in the CPU's memory has no stream: pass None");
		return NULL;
	}
	if (request.has_device && request.device.type != DLPACK_CPU) {
		PyErr_SetString(PyExc_BufferError, "the tensor is in the CPU's memory, device (1, 0)");
		return NULL;
	}
	if (hold_check(tensor->hold) != 0)
		return NULL;
	struct dlpack_source source = {
		.data = tensor->data,
		.device = {DLPACK_CPU, 0},
		.array = &tensor->array,
	};
	return request.copy ? capsule_of_copy(tensor, &source, request.versioned)
			    : capsule_of_view(tensor, &source, request.versioned);
}

PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused)
{
	(void)self;
	(void)unused;
	return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}
