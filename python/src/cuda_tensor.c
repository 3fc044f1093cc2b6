/* SPDX-License-Identifier: Apache-2.0 */
/* CudaTensors, and the memory on the device that they share. */
#include "cuda.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "dlpack.h"
#include "errors.h"

PyTypeObject *cuda_tensor_type;

/* ---- memory ---- */

static struct cuda_memory *new_memory(struct handle *handle)
{
	struct cuda_memory *memory = PyMem_Calloc(1, sizeof *memory);
	if (memory == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	memory->references = 1;
	memory->device = handle->cuda->device;
	memory->pools = handle->cuda->pools;
	memory->owner = (int)getpid();
	return memory;
}

/*
 * Makes a stream wait for all others that may use the memory, and frees behind it. Returns 0 or a negative errno; the buffer is
 * gone unless that is -EBUSY.
 */
static int free_behind(const struct cuda_memory *memory, cuda_stream stream, bool with_lock)
{
	const struct cuda_streams *known = memory->streams;
	int error = 0;
	for (uint32_t i = 0; i < known->count; i++) {
		if (known->streams[i] == cuda_stream_canonical(stream))
			continue;
		error = sluice_cuda_buffer_follow(memory->buffer, known->streams[i], stream);
		if (error == -EBUSY)
			return error;
		if (error != 0) { /* of no use any more: behind such a one the device is waited for */
			stream = known->streams[i];
			break;
		}
	}
	if (memory->pools || with_lock)
		return sluice_cuda_buffer_destroy(memory->buffer, stream);
	Py_BEGIN_ALLOW_THREADS error = sluice_cuda_buffer_destroy(memory->buffer, stream);
	Py_END_ALLOW_THREADS return error;
}

static cuda_stream last_stream(const struct cuda_memory *memory)
{
	return memory->streams->streams[memory->streams->count - 1];
}

/* Behind torch's current stream, which may use the memory too, or else behind the last one that is known to. */
static int free_buffer(struct cuda_memory *memory)
{
	PyObject *type, *value, *traceback;
	cuda_stream current;
	PyErr_Fetch(&type, &value, &traceback);
	bool found = cuda_stream_of_torch(memory->device, &current);
	int error = found ? free_behind(memory, current, false) : -EBUSY;
	if (error == -EBUSY)
		error = free_behind(memory, last_stream(memory), false);
	if (error == -EBUSY && found && cuda_streams_add(&memory->streams, current) != 0)
		PyErr_Clear();
	PyErr_Restore(type, value, traceback);
	return error;
}

static void end_memory(struct cuda_memory *memory)
{
	PyMem_Free(memory->streams);
	PyMem_Free(memory);
}

/* What could not be freed because streams that use it were being captured into a graph. */
static struct cuda_memory *stranded;

void cuda_memory_retry(void)
{
	struct cuda_memory **link = &stranded;
	while (*link != NULL) {
		struct cuda_memory *memory = *link;
		if (free_behind(memory, last_stream(memory), true) == -EBUSY) {
			link = &memory->next;
			continue;
		}
		*link = memory->next;
		end_memory(memory);
	}
}

void cuda_memory_drop(struct cuda_memory *memory)
{
	if (--memory->references > 0)
		return;
	if (memory->hold != NULL) {
		hold_export_ended(memory->hold);
		Py_DECREF(memory->hold);
	}
	/* In a child the buffer is the parent's. An error has nobody to hear of it: the buffer is gone. */
	if (memory->buffer != NULL && memory->owner == (int)getpid() && free_buffer(memory) == -EBUSY) {
		memory->next = stranded;
		stranded = memory;
		return;
	}
	end_memory(memory);
	cuda_memory_retry();
}

struct cuda_memory *cuda_memory_new(struct handle *handle, uint64_t bytes, cuda_stream stream)
{
	struct cuda_memory *memory = new_memory(handle);
	if (memory == NULL)
		return NULL;
	memory->upload = stream;
	if (cuda_streams_add(&memory->streams, stream) != 0) {
		cuda_memory_drop(memory);
		return NULL;
	}
	int error = bytes > 0 ? sluice_cuda_buffer_create(handle->open, bytes, stream, &memory->buffer) : 0;
	if (error == 0)
		return memory;
	cuda_memory_drop(memory);
	cuda_raise(handle, error);
	return NULL;
}

struct cuda_memory *cuda_memory_in_place(struct hold *hold)
{
	struct cuda_memory *memory = new_memory(hold->handle);
	if (memory == NULL)
		return NULL;
	if (hold_export(hold) != 0) {
		cuda_memory_drop(memory);
		return NULL;
	}
	Py_INCREF(hold);
	memory->hold = hold;
	return memory;
}

static void end_capsule(void *owner)
{
	cuda_memory_drop(owner);
}

/* ---- tensors ---- */

struct cuda_tensor {
	PyObject_HEAD PyObject *weakrefs;
	struct cuda_memory *memory;
	uintptr_t address;
	struct array array;
};

PyObject *cuda_tensor_new(
	struct cuda_memory *memory, const struct sluice_tensor *description, uintptr_t address, bool readonly)
{
	struct cuda_tensor *tensor = PyObject_New(struct cuda_tensor, cuda_tensor_type);
	if (tensor == NULL)
		return NULL;
	memory->references++;
	tensor->weakrefs = NULL;
	tensor->memory = memory;
	tensor->address = description->bytes > 0 ? address : 0;
	if (array_init(&tensor->array, description, readonly) == 0)
		return (PyObject *)tensor;
	Py_DECREF(tensor);
	return NULL;
}

static void dealloc(PyObject *self)
{
	struct cuda_tensor *tensor = (struct cuda_tensor *)self;
	if (tensor->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	cuda_memory_drop(tensor->memory);
	module_free(self);
}

/* ---- DLPack ---- */

/* `stream` of __dlpack__. Returns 1, 0 if nobody wants to be waited for, or -1 with an exception. */
static int consumers_stream(PyObject *object, int device, cuda_stream *ret_stream)
{
	*ret_stream = NULL;
	if (object == NULL || object == Py_None)
		return 1; /* the legacy default stream, by DLPack's rules */
	if (!PyLong_Check(object))
		return cuda_stream_parse(object, device, ret_stream) == 0 ? 1 : -1;
	long long number = PyLong_AsLongLong(object);
	if (number == -1 && PyErr_Occurred() == NULL)
		return 0;
	if (number == 0) {
		PyErr_SetString(
			PyExc_ValueError, "stream 0 is ambiguous: 1 is the legacy default stream, 2 the thread's");
		return -1;
	}
	return cuda_stream_parse(object, device, ret_stream) == 0 ? 1 : -1;
}

/* The consumer's stream may read from now on, and is not to be forgotten when the memory goes. */
static int hand_over(struct cuda_memory *memory, cuda_stream stream)
{
	if (memory->hold != NULL) /* nothing to wait for: it is the producer who wrote, before it published */
		return hold_check(memory->hold) == 0 ? cuda_streams_add(&memory->hold->streams, stream) : -1;
	if (memory->buffer == NULL)
		return 0;
	int error = memory->owner == (int)getpid() ? sluice_cuda_buffer_follow(memory->buffer, memory->upload, stream)
						   : -ECHILD;
	if (error == 0)
		return cuda_streams_add(&memory->streams, stream);
	if (error == -ECHILD)
		errors_raise(error, "the tensor is on the device for the parent process: use it there");
	else
		errors_raise_cuda(error,
			"the stream cannot be made to wait for the upload: it is of another context, or being "
			"captured, or the device failed");
	return -1;
}

static PyObject *dlpack(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct cuda_tensor *tensor = (struct cuda_tensor *)self;
	struct cuda_memory *memory = tensor->memory;
	struct dlpack_request request;
	cuda_stream stream;
	if (dlpack_parse(arguments, count, names, &request) != 0)
		return NULL;
	if (request.copy ||
		(request.has_device && (request.device.type != DLPACK_CUDA || request.device.id != memory->device))) {
		PyErr_Format(PyExc_BufferError,
			"the tensor is on CUDA device %d, as (2, %d), and is handed over without a copy only",
			memory->device, memory->device);
		return NULL;
	}
	int synchronized = consumers_stream(request.stream, memory->device, &stream);
	if (synchronized < 0 || (synchronized > 0 && hand_over(memory, stream) != 0))
		return NULL;
	struct dlpack_source source = {
		.data = (void *)tensor->address, /* NOLINT(performance-no-int-to-ptr): DLPack has the device's so */
		.device = {DLPACK_CUDA, memory->device},
		.array = &tensor->array,
		.flags = tensor->array.readonly ? DLPACK_READ_ONLY : 0,
		.owner = memory,
		.end = end_capsule,
	};
	memory->references++;
	PyObject *capsule = dlpack_capsule(&source, request.versioned);
	if (capsule == NULL)
		memory->references--;
	return capsule;
}

static PyObject *dlpack_device(PyObject *self, PyObject *unused)
{
	(void)unused;
	return Py_BuildValue("(ii)", DLPACK_CUDA, ((struct cuda_tensor *)self)->memory->device);
}

/* ---- attributes ---- */

static PyObject *get_device(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromLong(((struct cuda_tensor *)self)->memory->device);
}

static PyObject *get_pointer(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(((struct cuda_tensor *)self)->address);
}

/* CUDA array interface: 0 is no stream there, but 1 the legacy default one. */
static PyObject *get_interface(PyObject *self, void *unused)
{
	(void)unused;
	const struct cuda_tensor *tensor = (struct cuda_tensor *)self;
	const struct cuda_memory *memory = tensor->memory;
	if (tensor->array.dtype->short_name == NULL)
		return PyErr_Format(PyExc_AttributeError,
			"%s has no type string in the CUDA array interface: take it by DLPack",
			tensor->array.dtype->name);
	PyObject *shape = array_shape(&tensor->array);
	PyObject *stream = memory->buffer == NULL   ? new_reference(Py_None)
			   : memory->upload == NULL ? PyLong_FromLong(1)
						    : PyLong_FromVoidPtr(memory->upload);
	if (shape == NULL || stream == NULL) {
		Py_XDECREF(shape);
		Py_XDECREF(stream);
		return NULL;
	}
	char type[8];
	snprintf(type, sizeof type, "%c%s", tensor->array.dtype->bytes == 1 ? '|' : '<',
		tensor->array.dtype->short_name);
	return Py_BuildValue("{s:N,s:s,s:(KO),s:O,s:i,s:N}", "shape", shape, "typestr", type, "data",
		(unsigned long long)tensor->address, tensor->array.readonly ? Py_True : Py_False, "strides", Py_None,
		"version", 3, "stream", stream);
}

static PyObject *repr(PyObject *self)
{
	const struct cuda_tensor *tensor = (struct cuda_tensor *)self;
	PyObject *shape = array_shape(&tensor->array);
	if (shape == NULL)
		return NULL;
	PyObject *text = PyUnicode_FromFormat("<sluice.CudaTensor %s %R on device %d%s>", tensor->array.dtype->name,
		shape, tensor->memory->device, tensor->memory->hold != NULL ? ", in place" : "");
	Py_DECREF(shape);
	return text;
}

static Py_ssize_t length(PyObject *self)
{
	return array_length(&((struct cuda_tensor *)self)->array);
}

static PyMemberDef members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct cuda_tensor, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
	{"__dlpack__", METHOD(dlpack), METH_FASTCALL | METH_KEYWORDS,
		"__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
		"A capsule of DLPack, without a copy, that keeps the memory. The consumer's stream waits for the "
		"upload: None and 1 are the legacy default stream, 2 the thread's, -1 none. It must live as long as "
		"the memory, which is freed behind it.\n\nBufferError (another device, copy=True), CudaError, Forked."},
	{"__dlpack_device__", dlpack_device, METH_NOARGS, "__dlpack_device__($self)\n--\n\n(2, ordinal): CUDA."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
	ARRAY_ATTRIBUTES(struct cuda_tensor),
	ARRAY_ATTRIBUTE(struct cuda_tensor, readonly, "True in place, False of an upload."),
	{"device", get_device, NULL, "Ordinal of the device.", NULL},
	{"pointer", get_pointer, NULL, "Address on the device; 0 without elements.", NULL},
	{"__cuda_array_interface__", get_interface, NULL,
		"CUDA array interface, version 3. Whoever uses it keeps the object. DLPack also tells which stream has "
		"to be done before the memory is freed; here it is the upload's and the caller's current one.",
		NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static const char doc[] =
	"A tensor on the device: uploaded by to_cuda, or a message's in place by cuda_view.\n\n"
	"torch.from_dlpack and others take it without a copy. An upload does not need its message any more, and is\n"
	"freed behind the streams that it was uploaded on and handed to, and torch's current one at that time. One in\n"
	"place keeps its message. Any thread.";

static PyType_Slot slots[] = {
	{Py_tp_new, SLOT(module_no_new)},
	{Py_tp_dealloc, SLOT(dealloc)},
	{Py_tp_members, members},
	{Py_tp_methods, methods},
	{Py_tp_getset, attributes},
	{Py_tp_repr, SLOT(repr)},
	{Py_tp_doc, (void *)(uintptr_t)doc},
	{Py_mp_length, SLOT(length)},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "sluice.CudaTensor",
	.basicsize = sizeof(struct cuda_tensor),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int cuda_tensor_init(PyObject *module)
{
	cuda_tensor_type = module_add_type(module, &spec);
	return cuda_tensor_type != NULL ? 0 : -1;
}
