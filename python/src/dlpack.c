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
	struct hold *hold; /* NULL: the data is a copy */
	int64_t shape[SLUICE_MAX_DIMENSIONS];
	int64_t strides[SLUICE_MAX_DIMENSIONS];
};

static void end_export(struct export *export)
{
	struct hold *hold = export->hold;
	/* Without an interpreter there is nobody left to tell. */
	if (hold != NULL && Py_IsInitialized()) {
		PyGILState_STATE state = PyGILState_Ensure();
		PyObject *type, *value, *traceback;
		PyErr_Fetch(&type, &value, &traceback);
		hold_export_ended(hold);
		Py_DECREF(hold);
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

static void describe(struct tensor *tensor, struct export *export, struct dlpack_tensor *ret_tensor, void *data)
{
	*ret_tensor = (struct dlpack_tensor){
		.data = data,
		.device = {DLPACK_CPU, 0},
		.ndim = tensor->ndim,
		.code = (uint8_t)tensor->dtype->code,
		.bits = (uint8_t)(tensor->dtype->code >> 8),
		.lanes = (uint16_t)(tensor->dtype->code >> 16),
		.shape = export->shape,
		.strides = export->strides,
	};
	for (int k = 0; k < tensor->ndim; k++) {
		export->shape[k] = tensor->shape[k];
		export->strides[k] = tensor->strides[k] / (int64_t)tensor->dtype->bytes;
	}
}

struct request {
	bool versioned;
	bool copy;
};

static PyObject *make_capsule(struct tensor *tensor, struct request request)
{
	size_t copied = request.copy ? (size_t)tensor->bytes : 0;
	size_t head = (sizeof(struct export) + 63) / 64 * 64;
	struct export *export = aligned_alloc(64, (head + copied + 63) / 64 * 64);
	if (export == NULL)
		return PyErr_NoMemory();
	export->hold = request.copy ? NULL : tensor->hold;
	char *data = tensor->data;
	if (request.copy)
		data = memcpy((char *)export + head, tensor->data, copied);
	PyObject *capsule;
	if (request.versioned) {
		export->managed.versioned = (struct dlpack_versioned){
			.major = DLPACK_MAJOR,
			.minor = DLPACK_MINOR,
			.context = export,
			.deleter = delete_versioned,
			.flags = request.copy       ? DLPACK_IS_COPIED
				 : tensor->readonly ? DLPACK_READ_ONLY
						    : 0,
		};
		describe(tensor, export, &export->managed.versioned.tensor, data);
		capsule = PyCapsule_New(&export->managed.versioned, "dltensor_versioned", destroy_versioned);
	} else {
		export->managed.plain = (struct dlpack_managed){.context = export, .deleter = delete_plain};
		describe(tensor, export, &export->managed.plain.tensor, data);
		capsule = PyCapsule_New(&export->managed.plain, "dltensor", destroy_plain);
	}
	if (capsule == NULL) {
		free(export);
		return NULL;
	}
	if (!request.copy) {
		Py_INCREF(tensor->hold);
		tensor->hold->exports++;
	}
	return capsule;
}

static int first_of_pair(PyObject *pair, const char *what, long *ret_first)
{
	long second;
	if (PyTuple_Check(pair) && PyArg_ParseTuple(pair, "ll", ret_first, &second))
		return 0;
	PyErr_Clear();
	PyErr_Format(PyExc_TypeError, "%s is a pair of integers, not %R", what, pair);
	return -1;
}

static int parse_keyword(const char *name, PyObject *value, struct request *request)
{
	long first;
	if (strcmp(name, "stream") == 0) {
		if (value == Py_None)
			return 0;
		PyErr_SetString(PyExc_BufferError, "a tensor in the CPU's memory has no stream: pass None");
		return -1;
	}
	if (strcmp(name, "max_version") == 0) {
		if (value == Py_None)
			return 0;
		if (first_of_pair(value, name, &first) != 0)
			return -1;
		request->versioned = first >= DLPACK_MAJOR;
		return 0;
	}
	if (strcmp(name, "dl_device") == 0) {
		if (value == Py_None)
			return 0;
		if (first_of_pair(value, name, &first) != 0)
			return -1;
		if (first == DLPACK_CPU)
			return 0;
		PyErr_SetString(PyExc_BufferError, "the tensor is in the CPU's memory, device (1, 0)");
		return -1;
	}
	if (strcmp(name, "copy") == 0) {
		int truth = value == Py_None ? 0 : PyObject_IsTrue(value);
		request->copy = truth == 1;
		return truth < 0 ? -1 : 0;
	}
	PyErr_Format(PyExc_TypeError, "__dlpack__() got an unexpected keyword argument '%s'", name);
	return -1;
}

PyObject *tensor_dlpack(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
	struct tensor *tensor = (struct tensor *)self;
	struct request request = {false, false};
	if (count > 0) {
		PyErr_SetString(PyExc_TypeError, "__dlpack__() takes keyword arguments only");
		return NULL;
	}
	for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_GET_SIZE(keywords); i++) {
		const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(keywords, i));
		if (name == NULL || parse_keyword(name, arguments[i], &request) != 0)
			return NULL;
	}
	return hold_check(tensor->hold) == 0 ? make_capsule(tensor, request) : NULL;
}

PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused)
{
	(void)self;
	(void)unused;
	return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}
