/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: what programs call them, which one is torch's, and sets of them. */
#include "cuda.h"

#include <string.h>

#define LEGACY     ((cuda_stream)1)
#define PER_THREAD ((cuda_stream)2)

/* ---- sets ---- */

cuda_stream cuda_stream_canonical(cuda_stream stream)
{
	return stream == LEGACY || stream == PER_THREAD ? NULL : stream;
}

int cuda_streams_add(struct cuda_streams **streams, cuda_stream stream)
{
	struct cuda_streams *set = *streams;
	stream = cuda_stream_canonical(stream);
	for (uint32_t i = 0; set != NULL && i < set->count; i++) {
		if (set->streams[i] != stream)
			continue;
		/* The latest is the last. */
		memmove(&set->streams[i], &set->streams[i + 1], (set->count - i - 1) * sizeof stream);
		set->streams[set->count - 1] = stream;
		return 0;
	}
	if (set == NULL || set->count == set->room) {
		uint32_t room = set != NULL ? 2 * set->room : 2;
		set = PyMem_Realloc(set, sizeof *set + room * sizeof stream);
		if (set == NULL) {
			PyErr_NoMemory();
			return -1;
		}
		if (*streams == NULL)
			set->count = 0;
		set->room = room;
		*streams = set;
	}
	set->streams[set->count++] = stream;
	return 0;
}

/* ---- torch ---- */

static bool ended;

void cuda_end(void)
{
	ended = true;
}

/* An attribute of `object`, called with one argument or none; takes the reference of `object`, which may be NULL. */
static PyObject *call(PyObject *object, const char *name, PyObject *argument)
{
	PyObject *function = object != NULL ? PyObject_GetAttrString(object, name) : NULL;
	PyObject *result = function != NULL ? PyObject_CallFunctionObjArgs(function, argument, NULL) : NULL;
	Py_XDECREF(function);
	Py_XDECREF(object);
	return result;
}

/* torch.cuda if it is loaded and has started: what it is, Py_None if not, or NULL with an exception. */
static PyObject *started_torch(void)
{
	PyObject *torch = ended ? NULL : PyDict_GetItemString(PyImport_GetModuleDict(), "torch"); /* borrowed */
	PyObject *cuda = torch != NULL ? PyObject_GetAttrString(torch, "cuda") : NULL;
	if (cuda == NULL) { /* not there, or while it is being imported */
		PyErr_Clear();
		return new_reference(Py_None);
	}
	PyObject *started = call(new_reference(cuda), "is_initialized", NULL);
	int truth = started != NULL ? PyObject_IsTrue(started) : -1;
	Py_XDECREF(started);
	if (truth > 0)
		return cuda;
	Py_DECREF(cuda);
	return truth == 0 ? new_reference(Py_None) : NULL;
}

/* A stream's number. Returns 0, or -1 with an exception. Takes the reference, which may be NULL. */
static int number_of(PyObject *number, cuda_stream *ret_stream)
{
	if (number == NULL)
		return -1;
	PyObject *index = PyNumber_Index(number);
	Py_DECREF(number);
	if (index == NULL)
		return -1;
	void *pointer = PyLong_AsVoidPtr(index);
	bool negative = pointer != NULL && PyErr_Occurred() == NULL && (intptr_t)pointer < 0;
	Py_DECREF(index);
	if (PyErr_Occurred() != NULL)
		return -1;
	if (negative) {
		PyErr_SetString(PyExc_ValueError, "a stream is a cudaStream_t as a number: 0 or more");
		return -1;
	}
	*ret_stream = pointer == LEGACY ? NULL : pointer;
	return 0;
}

/* 1 if torch has a current stream, 0 if not, -1 with an exception. */
static int ask_torch(int device, cuda_stream *ret_stream)
{
	PyObject *cuda = started_torch();
	if (cuda == NULL || cuda == Py_None) {
		Py_XDECREF(cuda);
		return cuda == NULL ? -1 : 0;
	}
	PyObject *ordinal = PyLong_FromLong(device);
	if (ordinal == NULL) {
		Py_DECREF(cuda);
		return -1;
	}
	PyObject *stream = call(cuda, "current_stream", ordinal);
	Py_DECREF(ordinal);
	if (stream == NULL)
		return -1;
	PyObject *number = PyObject_GetAttrString(stream, "cuda_stream");
	Py_DECREF(stream);
	return number_of(number, ret_stream) == 0 ? 1 : -1;
}

bool cuda_stream_of_torch(int device, cuda_stream *ret_stream)
{
	int found = ask_torch(device, ret_stream);
	if (found >= 0)
		return found == 1;
	/* Ctrl-C, in the very moment that nobody can be told: it comes again when that has passed. */
	bool interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
	if (interrupted) {
		PyErr_Clear();
		found = ask_torch(device, ret_stream);
		PyErr_SetInterrupt();
	}
	if (found < 0)
		PyErr_WriteUnraisable(NULL);
	return found == 1;
}

/* ---- what programs call them ---- */

/* The attribute that has the number, in this order; NULL without an exception if there is none. */
static PyObject *attribute_of(PyObject *object)
{
	static const char *const names[] = {"cuda_stream", "ptr"}; /* torch's, CuPy's */
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		PyObject *number = PyObject_GetAttrString(object, names[i]);
		if (number != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
			return number;
		PyErr_Clear();
	}
	return NULL;
}

/* The protocol of cuda.core: a pair of version and number. */
static int parse_protocol(PyObject *object, cuda_stream *ret_stream)
{
	PyObject *pair = call(new_reference(object), "__cuda_stream__", NULL);
	if (pair == NULL)
		return -1;
	PyObject *number = PySequence_GetItem(pair, 1);
	Py_DECREF(pair);
	return number_of(number, ret_stream);
}

int cuda_stream_parse(PyObject *object, int device, cuda_stream *ret_stream)
{
	if (object == NULL || object == Py_None) {
		*ret_stream = NULL;
		return ask_torch(device, ret_stream) < 0 ? -1 : 0;
	}
	if (PyIndex_Check(object))
		return number_of(new_reference(object), ret_stream);
	PyObject *number = attribute_of(object);
	if (number != NULL || PyErr_Occurred() != NULL)
		return number_of(number, ret_stream);
	if (PyObject_HasAttrString(object, "__cuda_stream__"))
		return parse_protocol(object, ret_stream);
	PyErr_Format(PyExc_TypeError,
		"stream is None, a cudaStream_t as a number, or a stream of torch, CuPy or cuda.core, not %R", object);
	return -1;
}

int cuda_parse_stream_argument(
	const char *function, PyObject *const *arguments, Py_ssize_t count, PyObject *names, PyObject **ret_stream)
{
	Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
	*ret_stream = NULL;
	if (count + named == 0)
		return 0;
	if (count + named > 1 ||
		(named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "stream") != 0)) {
		PyErr_Format(PyExc_TypeError, "%s() takes one argument, stream", function);
		return -1;
	}
	*ret_stream = arguments[0] != Py_None ? arguments[0] : NULL;
	return 0;
}
