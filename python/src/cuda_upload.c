/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads of a tensor, a message, a batch; tensors in place. */
#include "cuda.h"

#include <errno.h>

#include "errors.h"
#include "tensor.h"

/* What is uploaded together, by one consumer, into one piece of memory. */
struct upload {
	struct handle *handle;
	struct hold **holds;
	Py_ssize_t count;
	cuda_stream stream;
	struct cuda_memory *memory;
	uint64_t bytes;
	/* Of a single message: which tensor, or SLUICE_CUDA_ALL. */
	uint32_t tensor;
	/* Of a batch; else NULL. */
	const struct sluice_message **messages;
	uint64_t *offsets; /* of each tensor of each message */
};

static int upload_once(const struct upload *upload)
{
	uintptr_t address = sluice_cuda_buffer_address(upload->memory->buffer);
	if (upload->messages == NULL)
		return sluice_cuda_upload(
			upload->holds[0]->message, upload->tensor, address, upload->bytes, upload->stream);
	int copies = sluice_cuda_upload_batch(
		upload->messages, (size_t)upload->count, address, upload->bytes, upload->stream, upload->offsets);
	return copies < 0 ? copies : 0;
}

/* Memory that is not pinned is copied by the CPU: others may run meanwhile. Views keep the messages. */
static int upload_without_lock(const struct upload *upload)
{
	int error;
	for (Py_ssize_t i = 0; i < upload->count; i++)
		upload->holds[i]->exports++;
	upload->handle->cuda->calls++;
	Py_BEGIN_ALLOW_THREADS error = upload_once(upload);
	Py_END_ALLOW_THREADS upload->handle->cuda->calls--;
	for (Py_ssize_t i = 0; i < upload->count; i++)
		hold_export_ended(upload->holds[i]);
	return error;
}

/* Fills upload->memory. Returns 0, or -1 with an exception. No Python code runs, unless the lock is given away. */
static int fill(struct upload *upload)
{
	upload->memory = cuda_memory_new(upload->handle, upload->bytes, upload->stream);
	if (upload->memory == NULL)
		return -1;
	if (upload->bytes == 0)
		return 0;
	/* Before the copies: those of a batch that fails may be under way. */
	int error = 0;
	for (Py_ssize_t i = 0; i < upload->count && error == 0; i++)
		error = cuda_streams_add(&upload->holds[i]->streams, upload->stream);
	if (error == 0) {
		error = upload->handle->cuda->pageable ? upload_without_lock(upload) : upload_once(upload);
		if (error != 0)
			cuda_raise(upload->handle, error);
	}
	if (error == 0)
		return 0;
	cuda_memory_drop(upload->memory);
	upload->memory = NULL;
	return -1;
}

/* 0 if the message is held and CUDA is enabled, or -1 with an exception. */
static int check_hold(struct hold *hold)
{
	if (hold->reserved) {
		PyErr_SetString(PyExc_TypeError, "only what was received can be used on the device");
		return -1;
	}
	return hold_check(hold) == 0 ? cuda_check(hold->handle) : -1;
}

/* ---- one tensor ---- */

/* Which one it is of its message. */
static uint32_t index_of(const struct tensor *tensor)
{
	const struct sluice_message *message = tensor->hold->message;
	uint32_t index = 0;
	while (index + 1 < sluice_tensor_count(message) &&
		!(sluice_tensor(message, index)->data == tensor->data &&
			(Py_ssize_t)sluice_tensor(message, index)->bytes == tensor->array.bytes))
		index++;
	return index;
}

/* The tensor as the message has it; of an empty one the shape is its own, and there is nothing else to it. */
static struct sluice_tensor description_of(const struct tensor *tensor)
{
	struct sluice_tensor description = {
		.name = "",
		.dtype = tensor->array.dtype->code,
		.ndim = (uint32_t)tensor->array.ndim,
		.data = tensor->data,
		.bytes = (uint64_t)tensor->array.bytes,
	};
	for (int k = 0; k < tensor->array.ndim; k++)
		description.shape[k] = tensor->array.shape[k];
	return description;
}

PyObject *cuda_upload_tensor(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct tensor *tensor = (struct tensor *)self;
	struct hold *hold = tensor->hold;
	PyObject *stream;
	struct upload upload = {
		.handle = hold->handle, .holds = &hold, .count = 1, .bytes = (uint64_t)tensor->array.bytes};
	if (cuda_parse_stream_argument("to_cuda", arguments, count, names, &stream) != 0 || check_hold(hold) != 0 ||
		cuda_stream_parse(stream, hold->handle->cuda->device, &upload.stream) != 0 ||
		check_hold(hold) != 0) /* again, for torch was asked */
		return NULL;
	upload.tensor = index_of(tensor);
	if (fill(&upload) != 0)
		return NULL;
	struct sluice_tensor description = description_of(tensor);
	PyObject *result =
		cuda_tensor_new(upload.memory, &description, sluice_cuda_buffer_address(upload.memory->buffer), false);
	cuda_memory_drop(upload.memory);
	return result;
}

/* ---- messages ---- */

/* A dict of CudaTensors; `offsets` are those of the message's tensors in the memory. NULL with an exception. */
static PyObject *dict_of(const struct upload *upload, const struct sluice_message *message, const uint64_t *offsets)
{
	uintptr_t address = sluice_cuda_buffer_address(upload->memory->buffer);
	PyObject *dict = PyDict_New();
	for (uint32_t i = 0; dict != NULL && i < sluice_tensor_count(message); i++) {
		const struct sluice_tensor *description = sluice_tensor(message, i);
		PyObject *name = PyUnicode_DecodeUTF8(
			description->name, (Py_ssize_t)strlen(description->name), "surrogateescape");
		PyObject *tensor =
			name != NULL ? cuda_tensor_new(upload->memory, description, address + offsets[i], false) : NULL;
		if (tensor == NULL || PyDict_SetItem(dict, name, tensor) != 0)
			Py_CLEAR(dict);
		Py_XDECREF(name);
		Py_XDECREF(tensor);
	}
	return dict;
}

/* 0 if no views keep the messages, or -1 with BufferError. */
static int check_views(const struct upload *upload)
{
	for (Py_ssize_t i = 0; i < upload->count; i++)
		if (upload->holds[i]->exports > 0 && hold_live_views(upload->holds[i]) > 0) {
			hold_refuse_views(upload->holds[i], "released");
			return -1;
		}
	return 0;
}

/* Lets go of messages that were uploaded, behind that. Takes `result`; returns it, or NULL with an exception. */
static PyObject *release_uploaded(const struct upload *upload, PyObject *result)
{
	if (result == NULL)
		return NULL;
	int error = check_views(upload); /* again, for other threads may have run */
	if (error == 0) {
		error = cuda_release_batch(upload->handle, upload->holds, upload->count, upload->stream);
		if (error == 0)
			return result;
		cuda_raise(upload->handle, error);
	}
	Py_DECREF(result);
	return NULL;
}

PyObject *cuda_upload_message(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"stream", "release", NULL};
	struct hold *hold = (struct hold *)self;
	struct upload upload = {.handle = hold->handle, .holds = &hold, .count = 1, .tensor = SLUICE_CUDA_ALL};
	PyObject *stream = Py_None;
	int release = 0;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O$p:to_cuda", names, &stream, &release) ||
		check_hold(hold) != 0 || cuda_stream_parse(stream, hold->handle->cuda->device, &upload.stream) != 0 ||
		check_hold(hold) != 0 || (release && check_views(&upload) != 0))
		return NULL;
	uint64_t offsets[SLUICE_MAX_TENSORS];
	uint32_t count = sluice_tensor_count(hold->message);
	const char *first = sluice_tensor(hold->message, 0)->data;
	for (uint32_t i = 0; i < count; i++) {
		const struct sluice_tensor *description = sluice_tensor(hold->message, i);
		offsets[i] = (uint64_t)((const char *)description->data - first);
		upload.bytes = offsets[i] + description->bytes; /* they lie in order */
	}
	if (fill(&upload) != 0)
		return NULL;
	PyObject *result = hold_check(hold) == 0 ? dict_of(&upload, hold->message, offsets) : NULL;
	if (release)
		result = release_uploaded(&upload, result);
	cuda_memory_drop(upload.memory);
	return result;
}

/* ---- batches ---- */

/* Takes the messages of a sequence, which must be of one consumer. Returns 0, or -1 with an exception. */
static int take_messages(struct upload *upload, PyObject *sequence)
{
	upload->count = PySequence_Fast_GET_SIZE(sequence);
	upload->holds = PyMem_Calloc((size_t)upload->count, sizeof(struct hold *));
	upload->messages = PyMem_Calloc((size_t)upload->count, sizeof(const struct sluice_message *));
	if (upload->holds == NULL || upload->messages == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < upload->count; i++) {
		PyObject *object = PySequence_Fast_GET_ITEM(sequence, i);
		if (Py_TYPE(object) != message_type) {
			PyErr_Format(PyExc_TypeError, "to_cuda takes received messages, not %R", object);
			return -1;
		}
		upload->holds[i] = (struct hold *)object;
		if (upload->holds[i]->handle != upload->holds[0]->handle) {
			PyErr_SetString(PyExc_ValueError, "the messages of one upload are of one consumer");
			return -1;
		}
	}
	upload->handle = upload->holds[0]->handle;
	return 0;
}

/* Looks at the messages when nothing else runs any more. Returns how many tensors they have, or -1 with an exception. */
static Py_ssize_t measure(struct upload *upload)
{
	Py_ssize_t tensors = 0;
	for (Py_ssize_t i = 0; i < upload->count; i++) {
		if (check_hold(upload->holds[i]) != 0)
			return -1;
		upload->messages[i] = upload->holds[i]->message;
		tensors += sluice_tensor_count(upload->messages[i]);
	}
	int64_t bytes = sluice_cuda_batch_bytes(upload->messages, (size_t)upload->count);
	if (bytes < 0) {
		cuda_raise(upload->handle, (int)bytes);
		return -1;
	}
	upload->bytes = (uint64_t)bytes;
	return tensors;
}

static PyObject *list_of(const struct upload *upload)
{
	const uint64_t *offsets = upload->offsets;
	PyObject *list = PyList_New(upload->count);
	for (Py_ssize_t i = 0; list != NULL && i < upload->count; i++) {
		PyObject *dict =
			hold_check(upload->holds[i]) == 0 ? dict_of(upload, upload->holds[i]->message, offsets) : NULL;
		if (dict == NULL) {
			Py_CLEAR(list);
			break;
		}
		offsets += PyDict_GET_SIZE(dict);
		PyList_SET_ITEM(list, i, dict);
	}
	return list;
}

static PyObject *upload_messages(struct upload *upload, PyObject *stream, bool release)
{
	for (Py_ssize_t i = 0; i < upload->count; i++)
		if (check_hold(upload->holds[i]) != 0)
			return NULL;
	if (cuda_stream_parse(stream, upload->handle->cuda->device, &upload->stream) != 0 ||
		(release && check_views(upload) != 0))
		return NULL;
	Py_ssize_t tensors = measure(upload);
	if (tensors < 0)
		return NULL;
	upload->offsets = PyMem_Calloc((size_t)tensors, sizeof(uint64_t));
	if (upload->offsets == NULL)
		return PyErr_NoMemory();
	if (fill(upload) != 0)
		return NULL;
	PyObject *list = list_of(upload);
	if (release)
		list = release_uploaded(upload, list);
	cuda_memory_drop(upload->memory);
	return list;
}

PyObject *cuda_upload_batch(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"messages", "stream", "release", NULL};
	(void)module;
	struct upload upload = {0};
	PyObject *messages;
	PyObject *stream = Py_None;
	int release = 0;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O$p:to_cuda", names, &messages, &stream, &release))
		return NULL;
	/* A tuple: a list could be changed while torch is asked. */
	PyObject *sequence = PySequence_Tuple(messages);
	if (sequence == NULL || PyTuple_GET_SIZE(sequence) == 0) {
		Py_XDECREF(sequence);
		return sequence != NULL ? PyList_New(0) : NULL;
	}
	PyObject *list = take_messages(&upload, sequence) == 0 ? upload_messages(&upload, stream, release != 0) : NULL;
	PyMem_Free(upload.holds);
	PyMem_Free(upload.messages);
	PyMem_Free(upload.offsets);
	Py_DECREF(sequence);
	return list;
}

/* ---- in place ---- */

/* Where the device sees the tensor. Returns 0, or -1 with an exception. */
static int find_pointer(struct tensor *tensor, uintptr_t *ret_address)
{
	if (check_hold(tensor->hold) != 0)
		return -1;
	int error = sluice_cuda_pointer(tensor->hold->message, index_of(tensor), ret_address);
	if (error != 0)
		cuda_raise(tensor->hold->handle, error);
	return error != 0 ? -1 : 0;
}

PyObject *cuda_view(PyObject *self, PyObject *unused)
{
	(void)unused;
	struct tensor *tensor = (struct tensor *)self;
	uintptr_t address;
	if (check_hold(tensor->hold) != 0)
		return NULL;
	struct cuda_memory *memory = cuda_memory_in_place(tensor->hold); /* which asks torch */
	if (memory == NULL)
		return NULL;
	struct sluice_tensor description = description_of(tensor);
	PyObject *view =
		find_pointer(tensor, &address) == 0 ? cuda_tensor_new(memory, &description, address, true) : NULL;
	cuda_memory_drop(memory);
	return view;
}

PyObject *cuda_device_pointer(PyObject *self, PyObject *unused)
{
	(void)unused;
	struct tensor *tensor = (struct tensor *)self;
	uintptr_t address;
	if (find_pointer(tensor, &address) != 0)
		return NULL;
	tensor->hold->seen = true; /* by whatever stream */
	return PyLong_FromSize_t(address);
}
