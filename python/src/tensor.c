/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: their description, buffers, the numpy view, assignment. */
#include "tensor.h"

#include <errno.h>
#include <stdlib.h>

#include "cuda.h"
#include "errors.h"
#include "source.h"

PyTypeObject *tensor_type;

PyObject *tensor_new(struct hold *hold, const struct sluice_tensor *description)
{
	struct tensor *tensor = PyObject_New(struct tensor, tensor_type);
	if (tensor == NULL)
		return NULL;
	Py_INCREF(hold);
	tensor->hold = hold;
	tensor->data = (char *)(uintptr_t)description->data;
	tensor->view = NULL;
	if (array_init(&tensor->array, description, !hold->reserved) == 0)
		return (PyObject *)tensor;
	Py_DECREF(tensor);
	return NULL;
}

void tensor_drop_view(struct tensor *tensor)
{
	PyObject *view = tensor->view;
	if (view == NULL)
		return;
	tensor->view = NULL;
	*tensor->link = tensor->next;
	if (tensor->next != NULL)
		tensor->next->link = tensor->link;
	Py_INCREF(tensor->hold); /* the view's end may be the message's */
	struct hold *hold = tensor->hold;
	Py_DECREF(view);
	Py_DECREF(hold);
}

static void dealloc(PyObject *self)
{
	struct tensor *tensor = (struct tensor *)self;
	tensor_drop_view(tensor);
	struct hold *hold = tensor->hold;
	module_free(self);
	Py_DECREF(hold);
}

/* ---- buffers ---- */

/* Also column-major, as what has but one dimension of more than one element is. */
static bool is_column_major(const struct tensor *tensor)
{
	int wide = 0;
	for (int k = 0; k < tensor->array.ndim; k++)
		wide += tensor->array.shape[k] > 1;
	return wide < 2 || tensor->array.bytes == 0;
}

static int get_buffer(PyObject *self, Py_buffer *buffer, int flags)
{
	struct tensor *tensor = (struct tensor *)self;
	buffer->obj = NULL;
	if (hold_check(tensor->hold) != 0)
		return -1;
	if (tensor->array.dtype->format == NULL) {
		PyErr_Format(PyExc_BufferError,
			"%s has no format in the buffer protocol: take it by DLPack, as "
			"torch.from_dlpack does",
			tensor->array.dtype->name);
		return -1;
	}
	if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE && tensor->array.readonly) {
		PyErr_SetString(PyExc_BufferError, "a received tensor is read-only");
		return -1;
	}
	if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && !is_column_major(tensor)) {
		PyErr_SetString(PyExc_BufferError, "a tensor is row-major");
		return -1;
	}
	if (hold_export(tensor->hold) != 0)
		return -1;
	buffer->buf = tensor->data;
	buffer->len = tensor->array.bytes;
	buffer->itemsize = tensor->array.dtype->bytes;
	buffer->readonly = tensor->array.readonly;
	buffer->format = (flags & PyBUF_FORMAT) == PyBUF_FORMAT ? (char *)(uintptr_t)tensor->array.dtype->format : NULL;
	buffer->ndim = (flags & PyBUF_ND) == PyBUF_ND ? tensor->array.ndim : 1;
	buffer->shape = (flags & PyBUF_ND) == PyBUF_ND ? tensor->array.shape : NULL;
	buffer->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? tensor->array.strides : NULL;
	buffer->suboffsets = NULL;
	buffer->internal = NULL;
	buffer->obj = new_reference(self);
	return 0;
}

static void release_buffer(PyObject *self, Py_buffer *buffer)
{
	(void)buffer;
	struct hold *hold = ((struct tensor *)self)->hold;
	Py_INCREF(hold);
	hold_export_ended(hold);
	Py_DECREF(hold);
}

/* ---- the numpy view ---- */

static PyObject *function_of(const char *module_name, const char *name)
{
	PyObject *module = PyImport_ImportModule(module_name);
	PyObject *function = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
	Py_XDECREF(module);
	return function;
}

/* numpy's dtype of a type that numpy itself lacks, from ml_dtypes. */
static PyObject *ml_dtype(const struct dtype *dtype)
{
	PyObject *type = function_of("ml_dtypes", dtype->name);
	if (type == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
		PyErr_Clear();
		PyErr_Format(PyExc_TypeError,
			"numpy has no %s: install ml_dtypes, or take the tensor by DLPack, as torch.from_dlpack does",
			dtype->name);
	}
	return type;
}

/* An array on a second Tensor, which may stand for integers of the same size. */
static PyObject *make_view(struct tensor *tensor)
{
	static PyObject *asarray;
	if (asarray == NULL) {
		asarray = function_of("numpy", "asarray");
		if (asarray == NULL && PyErr_ExceptionMatches(PyExc_ModuleNotFoundError)) {
			PyErr_Clear();
			PyErr_SetString(PyExc_ModuleNotFoundError, "numpy is needed to use a tensor as an array: "
								   "install numpy; send, memoryview and DLPack do "
								   "without");
		}
		if (asarray == NULL)
			return NULL;
	}
	PyObject *type = tensor->array.dtype->format == NULL ? ml_dtype(tensor->array.dtype) : NULL;
	if (type == NULL && tensor->array.dtype->format == NULL)
		return NULL;
	PyObject *view = NULL;
	struct tensor *base = PyObject_New(struct tensor, tensor_type);
	if (base != NULL) {
		memcpy((char *)base + sizeof(PyObject), (char *)tensor + sizeof(PyObject),
			sizeof *base - sizeof(PyObject));
		Py_INCREF(base->hold);
		base->view = NULL;
		if (type != NULL)
			base->array.dtype =
				dtype_of_code(tensor->array.dtype->bytes == 2 ? SLUICE_UINT16 : SLUICE_UINT8);
		view = PyObject_CallFunctionObjArgs(asarray, (PyObject *)base, NULL);
		Py_DECREF(base);
	}
	if (view != NULL && type != NULL) {
		PyObject *bits = view;
		view = PyObject_CallMethod(bits, "view", "O", type);
		Py_DECREF(bits);
	}
	Py_XDECREF(type);
	return view;
}

PyObject *tensor_numpy(struct tensor *tensor)
{
	if (hold_check(tensor->hold) != 0)
		return NULL;
	if (tensor->view != NULL)
		return new_reference(tensor->view);
	PyObject *view = make_view(tensor);
	if (view == NULL || tensor->view != NULL) /* Python code ran meanwhile */
		return view;
	struct hold *hold = tensor->hold;
	tensor->view = new_reference(view);
	tensor->next = hold->viewed;
	tensor->link = &hold->viewed;
	if (tensor->next != NULL)
		tensor->next->link = &tensor->next;
	hold->viewed = tensor;
	return view;
}

static PyObject *numpy(PyObject *self, PyObject *unused)
{
	(void)unused;
	return tensor_numpy((struct tensor *)self);
}

static PyObject *array(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"dtype", "copy", NULL};
	PyObject *dtype = Py_None;
	PyObject *copy = Py_None;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OO:__array__", names, &dtype, &copy))
		return NULL;
	PyObject *view = tensor_numpy((struct tensor *)self);
	if (view == NULL)
		return NULL;
	PyObject *own = PyObject_GetAttrString(view, "dtype");
	int same = own == NULL ? -1 : dtype == Py_None ? 1 : PyObject_RichCompareBool(own, dtype, Py_EQ);
	PyObject *result = NULL;
	if (same == 0 && copy == Py_False)
		PyErr_SetString(PyExc_ValueError, "another dtype needs a copy");
	else if (same == 0)
		result = PyObject_CallMethod(view, "astype", "O", dtype);
	else if (same == 1)
		result = copy == Py_True ? PyObject_CallMethod(view, "copy", NULL) : new_reference(view);
	Py_XDECREF(own);
	Py_DECREF(view);
	return result;
}

/* What a Tensor does not have itself its numpy view has; but special names are asked for by protocols. */
static PyObject *get_attribute(PyObject *self, PyObject *name)
{
	PyObject *found = PyObject_GenericGetAttr(self, name);
	if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return found;
	const char *text = PyUnicode_AsUTF8(name);
	if (text == NULL || text[0] == '_')
		return NULL;
	PyErr_Clear();
	PyObject *view = tensor_numpy((struct tensor *)self);
	if (view == NULL)
		return NULL;
	found = PyObject_GetAttr(view, name);
	Py_DECREF(view);
	return found;
}

/* ---- items ---- */

static PyObject *subscript(PyObject *self, PyObject *key)
{
	PyObject *view = tensor_numpy((struct tensor *)self);
	PyObject *result = view != NULL ? PyObject_GetItem(view, key) : NULL;
	Py_XDECREF(view);
	return result;
}

/* Copies without numpy what has the same type and shape. 1 if it did, 0 if it is for numpy, -1 with an exception. */
static int copy_same(struct tensor *tensor, PyObject *value)
{
	struct source source;
	if (!PyObject_CheckBuffer(value) && !PyObject_HasAttrString(value, "__dlpack__"))
		return 0;
	if (source_open(value, &source) != 0) {
		PyErr_Clear(); /* numpy knows more kinds, or says better what is wrong */
		return 0;
	}
	bool same = source.dtype == tensor->array.dtype && source.ndim == tensor->array.ndim &&
		    !source_overlaps(&source, tensor->data, tensor->array.bytes);
	for (int k = 0; same && k < tensor->array.ndim; k++)
		same = source.shape[k] == tensor->array.shape[k];
	if (same && hold_check(tensor->hold) != 0) { /* looking into a source may run Python code */
		source_close(&source);
		return -1;
	}
	if (same) {
		struct hold *hold = tensor->hold;
		hold->exports++;
		source_copy(&source, tensor->data);
		hold_export_ended(hold);
	}
	source_close(&source);
	return same;
}

static int refuse_write(struct tensor *tensor)
{
	if (hold_check(tensor->hold) == 0)
		PyErr_SetString(PyExc_ValueError,
			"assignment destination is read-only: a received tensor is its producer's memory; "
			"copy it first");
	return -1;
}

static int set_item(struct tensor *tensor, PyObject *key, PyObject *value)
{
	PyObject *view = tensor_numpy(tensor);
	if (view == NULL)
		return -1;
	int result = PyObject_SetItem(view, key, value);
	Py_DECREF(view);
	return result;
}

/* True if `value` is the tensor itself, or its numpy view: what in-place operators give back. */
static bool is_itself(const struct tensor *tensor, PyObject *value)
{
	if (Py_TYPE(value) != tensor_type)
		return false;
	const struct tensor *other = (struct tensor *)value;
	return other->hold == tensor->hold && other->data == tensor->data && other->array.bytes == tensor->array.bytes;
}

int tensor_assign(struct tensor *tensor, PyObject *value)
{
	if (tensor->array.readonly)
		return refuse_write(tensor);
	if (hold_check(tensor->hold) != 0)
		return -1;
	if (is_itself(tensor, value))
		return 0;
	int copied = copy_same(tensor, value);
	return copied != 0 ? (copied < 0 ? -1 : 0) : set_item(tensor, Py_Ellipsis, value);
}

static bool is_everything(PyObject *key)
{
	if (key == Py_Ellipsis)
		return true;
	if (!PySlice_Check(key))
		return false;
	const PySliceObject *slice = (PySliceObject *)key;
	return slice->start == Py_None && slice->stop == Py_None && slice->step == Py_None;
}

static int assign_subscript(PyObject *self, PyObject *key, PyObject *value)
{
	struct tensor *tensor = (struct tensor *)self;
	if (value == NULL) {
		PyErr_SetString(PyExc_ValueError, "cannot delete array elements");
		return -1;
	}
	if (tensor->array.readonly)
		return refuse_write(tensor);
	if (is_everything(key) && (tensor->array.ndim > 0 || key == Py_Ellipsis))
		return tensor_assign(tensor, value);
	return set_item(tensor, key, value);
}

static Py_ssize_t length(PyObject *self)
{
	return array_length(&((struct tensor *)self)->array);
}

/* ---- attributes ---- */

static PyObject *get_dtype(PyObject *self, void *unused)
{
	(void)unused;
	const struct tensor *tensor = (struct tensor *)self;
	PyObject *constructor = function_of("numpy", "dtype");
	if (constructor == NULL)
		return NULL;
	PyObject *type = tensor->array.dtype->format != NULL ? PyUnicode_FromString(tensor->array.dtype->name)
							     : ml_dtype(tensor->array.dtype);
	PyObject *dtype = type != NULL ? PyObject_CallFunctionObjArgs(constructor, type, NULL) : NULL;
	Py_XDECREF(type);
	Py_DECREF(constructor);
	return dtype;
}

static PyObject *get_message(PyObject *self, void *unused)
{
	(void)unused;
	return new_reference((PyObject *)((struct tensor *)self)->hold);
}

static PyObject *repr(PyObject *self)
{
	struct tensor *tensor = (struct tensor *)self;
	PyObject *shape = array_shape(&tensor->array);
	if (shape == NULL)
		return NULL;
	PyObject *text = PyUnicode_FromFormat("<sluice.Tensor %s %S%s%s>", tensor->array.dtype->name, shape,
		tensor->array.readonly ? ", read-only" : "", tensor->hold->message == NULL ? ", over" : "");
	Py_DECREF(shape);
	return text;
}

static PyMethodDef methods[] = {
	{"numpy", numpy, METH_NOARGS,
		"numpy($self)\n--\n\nA numpy array of the same memory; read-only if it was received. Keeps the "
		"message.\n\n"
		"TypeError for bfloat16 and float8 types unless ml_dtypes is installed; Released if the message is "
		"over."},
	{"__array__", METHOD(array), METH_VARARGS | METH_KEYWORDS, NULL},
	{"__dlpack__", METHOD(tensor_dlpack), METH_FASTCALL | METH_KEYWORDS,
		"__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\nA capsule of "
		"DLPack "
		"that keeps the "
		"message. With max_version from (1, 0) it says that received tensors are read-only. A consumer that "
		"asks for the old "
		"kind, as torch 2.x and older do, does not learn that: a write to such a tensor ends the process with "
		"SIGSEGV."},
	{"to_cuda", METHOD(cuda_upload_tensor), METH_FASTCALL | METH_KEYWORDS, CUDA_UPLOAD_TENSOR_DOC},
	{"cuda_view", cuda_view, METH_NOARGS, CUDA_VIEW_DOC},
	{"device_pointer", cuda_device_pointer, METH_NOARGS, CUDA_DEVICE_POINTER_DOC},
	{"__dlpack_device__", tensor_dlpack_device, METH_NOARGS, "__dlpack_device__($self)\n--\n\n(1, 0): the CPU."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
	ARRAY_ATTRIBUTES(struct tensor),
	{"dtype", get_dtype, NULL, "numpy's dtype; imports numpy.", NULL},
	ARRAY_ATTRIBUTE(struct tensor, readonly, "True if it was received."),
	{"message", get_message, NULL, "The message that it is in.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static const char doc[] =
	"One array of a message, in shared memory: read-only if it was received, writable in a Reservation.\n\n"
	"Has the buffer protocol (memoryview, numpy.asarray) and DLPack (torch.from_dlpack). Whatever else a numpy "
	"array can do\n"
	"goes to numpy(): items, operators, comparisons, methods. A view made of it keeps its message.";

static const PyType_Slot own_slots[] = {
	{Py_tp_new, SLOT(module_no_new)},
	{Py_tp_dealloc, SLOT(dealloc)},
	{Py_tp_repr, SLOT(repr)},
	{Py_tp_getattro, SLOT(get_attribute)},
	{Py_tp_methods, methods},
	{Py_tp_getset, attributes},
	{Py_tp_doc, (void *)(uintptr_t)doc},
	{Py_mp_subscript, SLOT(subscript)},
	{Py_mp_ass_subscript, SLOT(assign_subscript)},
	{Py_mp_length, SLOT(length)},
	{Py_bf_getbuffer, SLOT(get_buffer)},
	{Py_bf_releasebuffer, SLOT(release_buffer)},
};

#define OWN_SLOTS (sizeof own_slots / sizeof own_slots[0])

int tensor_init(PyObject *module)
{
	PyType_Slot slots[64] = {{0, NULL}};
	size_t forwarded = tensor_forwarding_count();
	if (OWN_SLOTS + forwarded >= sizeof slots / sizeof slots[0]) {
		PyErr_SetString(PyExc_SystemError, "more slots than tensor_init has room for");
		return -1;
	}
	memcpy(slots, own_slots, sizeof own_slots);
	memcpy(slots + OWN_SLOTS, tensor_forwarding_slots, forwarded * sizeof slots[0]);
	PyType_Spec spec = {
		.name = "sluice.Tensor",
		.basicsize = sizeof(struct tensor),
		.flags = Py_TPFLAGS_DEFAULT,
		.slots = slots,
	};
	tensor_type = module_add_type(module, &spec);
	return tensor_type != NULL ? 0 : -1;
}
