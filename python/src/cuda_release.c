/* SPDX-License-Identifier: Apache-2.0 */
/* Letting messages go behind the streams that may still read them. */
#include "cuda.h"

#include <errno.h>
#include <string.h>

#include "errors.h"

/*
 * A message that the program has let go and that no stream took yet: being detached, captured by a graph, or out of memory.
 * It stays held as far as the library knows, so that it is given back at the worst.
 */
struct cuda_parked {
	struct cuda_parked *next;
	struct sluice_message *message;
	struct cuda_streams *streams; /* or NULL */
	cuda_stream stream;
};

static bool is_child(const struct handle *handle)
{
	return handle->kind->check(handle->open) == -ECHILD;
}

/* Releases now: nothing on the device reads it. */
static int release_now(struct hold *hold)
{
	struct sluice_message *message = hold->message;
	hold_forget(hold, "released");
	return sluice_release(message);
}

/* True if there are views or were, or an upload. */
static bool was_used(const struct hold *hold)
{
	return hold->seen || hold->exports > 0 || hold->streams != NULL;
}

/*
 * The stream behind which a message goes if the program names none. Only what had views may be read by another than those
 * that are known. Python code may run.
 */
static cuda_stream stream_for(const struct hold *hold)
{
	const struct cuda_streams *known = hold->streams;
	cuda_stream last = known != NULL && known->count > 0 ? known->streams[known->count - 1] : NULL;
	cuda_stream current;
	if (!hold->seen && hold->exports == 0)
		return last;
	return cuda_stream_of_torch(hold->handle->cuda->device, &current) ? current : NULL;
}

/* Makes the stream wait for all others. Returns 0 or a negative errno. */
static int gather_streams(struct handle *handle, const struct cuda_streams *others, cuda_stream stream)
{
	for (uint32_t i = 0; others != NULL && i < others->count; i++) {
		if (others->streams[i] == cuda_stream_canonical(stream))
			continue;
		int error = sluice_cuda_follow(handle->open, others->streams[i], stream);
		if (error != 0)
			return error;
	}
	return 0;
}

/* Gives a message to its stream. Returns 0 or a negative errno; then it is held as before. */
static int send_off(struct handle *handle, const struct sluice_message *message, const struct cuda_streams *others,
	cuda_stream stream)
{
	int error = gather_streams(handle, others, stream);
	return error == 0 ? sluice_cuda_release(message, stream) : error;
}

/* True if trying again is of no use: the message is not this consumer's any more. */
static bool is_over(int error)
{
	return error == 0 || error == -EALREADY || error == -EBADF || error == -ECHILD || error == -ESTALE;
}

/* ---- messages that no stream took ---- */

static void park(struct handle *handle, struct cuda_parked parked)
{
	struct cuda_parked *kept = PyMem_Malloc(sizeof *kept);
	if (kept == NULL) { /* given back when the consumer closes */
		PyMem_Free(parked.streams);
		return;
	}
	*kept = parked;
	kept->next = handle->cuda->parked;
	handle->cuda->parked = kept;
}

static int try_again(struct handle *handle, const struct cuda_parked *parked)
{
	switch (handle->cuda->state) {
	case CUDA_ON:
		return send_off(handle, parked->message, parked->streams, parked->stream);
	case CUDA_OFF: /* detached, when the device had done everything, or never will */
		return handle->cuda->failed ? -EIO : sluice_release(parked->message);
	default:
		return -EBUSY;
	}
}

void cuda_retry(struct handle *handle)
{
	struct cuda_parked **link = &handle->cuda->parked;
	cuda_memory_retry();
	while (*link != NULL) {
		struct cuda_parked *parked = *link;
		int error = try_again(handle, parked);
		if (!is_over(error)) {
			link = &parked->next;
			continue;
		}
		*link = parked->next;
		PyMem_Free(parked->streams);
		PyMem_Free(parked);
	}
}

void cuda_closing(struct handle *handle)
{
	cuda_retry(handle);
	while (handle->cuda->parked != NULL) {
		struct cuda_parked *parked = handle->cuda->parked;
		handle->cuda->parked = parked->next;
		PyMem_Free(parked->streams);
		PyMem_Free(parked);
	}
}

Py_ssize_t cuda_parked_count(const struct handle *handle)
{
	Py_ssize_t count = 0;
	for (const struct cuda_parked *parked = handle->cuda->parked; parked != NULL; parked = parked->next)
		count++;
	return count;
}

/* ---- letting go ---- */

static int give_to_stream(struct hold *hold, cuda_stream stream)
{
	struct handle *handle = hold->handle;
	struct cuda_parked leaving = {NULL, hold->message, hold->streams, cuda_stream_canonical(stream)};
	hold->streams = NULL; /* they go with the message */
	hold_forget(hold, "released");
	int error = try_again(handle, &leaving);
	if (!is_over(error)) {
		park(handle, leaving);
		return 0;
	}
	PyMem_Free(leaving.streams);
	return error;
}

int cuda_let_go(struct hold *hold)
{
	struct handle *handle = hold->handle;
	if (handle->cuda->state == CUDA_OFF || !was_used(hold) || is_child(handle))
		return release_now(hold);
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	cuda_stream stream = stream_for(hold);
	/* Else another thread has let it go meanwhile. */
	int error = hold->message != NULL ? give_to_stream(hold, stream) : 0;
	PyErr_Restore(type, value, traceback);
	return error;
}

/* The stream of an explicit release. Returns 0, or -1 with an exception. Python code may run. */
static int choose_stream(const struct hold *hold, PyObject *object, cuda_stream *ret_stream)
{
	if (object != NULL)
		return cuda_stream_parse(object, hold->handle->cuda->device, ret_stream);
	*ret_stream = stream_for(hold);
	return 0;
}

PyObject *cuda_release(struct hold *hold, PyObject *object)
{
	struct handle *handle = hold->handle;
	struct cuda_side *cuda = handle->cuda;
	if (object != NULL && (cuda == NULL || cuda->state == CUDA_OFF) && !is_child(handle))
		return cuda_raise(handle, -ENOTCONN);
	if (cuda == NULL || cuda->state == CUDA_OFF || is_child(handle) || (object == NULL && !was_used(hold))) {
		int error = release_now(hold);
		return error == 0 ? new_reference(Py_None) : errors_raise(error, NULL);
	}
	cuda_stream stream;
	if (choose_stream(hold, object, &stream) != 0 || hold_check(hold) != 0)
		return NULL;
	if (hold->exports > 0 && hold_live_views(hold) > 0) /* made meanwhile */
		return hold_refuse_views(hold, "released");
	int error = cuda->state == CUDA_ON ? send_off(handle, hold->message, hold->streams, stream) : -EBUSY;
	if (error == -EALREADY || error == -ECHILD) {
		hold_forget(hold, "released");
		return errors_raise(error, NULL);
	}
	if (error != 0)
		return cuda_raise(handle, error);
	hold_forget(hold, "released");
	Py_RETURN_NONE;
}

int cuda_release_batch(struct handle *handle, struct hold *const *holds, Py_ssize_t count, cuda_stream stream)
{
	const struct sluice_message **messages = PyMem_Malloc((size_t)count * sizeof(const struct sluice_message *));
	if (messages == NULL)
		return -ENOMEM;
	int error = 0;
	for (Py_ssize_t i = 0; error == 0 && i < count; i++) {
		messages[i] = holds[i]->message;
		error = gather_streams(handle, holds[i]->streams, stream);
	}
	if (error == 0)
		error = sluice_cuda_release_batch(messages, (size_t)count, stream);
	PyMem_Free(messages);
	if (!is_over(error))
		return error;
	for (Py_ssize_t i = 0; i < count; i++)
		if (holds[i]->message != NULL)
			hold_forget(holds[i], "released");
	return error == -EALREADY ? 0 : error; /* one that was named twice */
}

int cuda_note_view(struct hold *hold)
{
	struct handle *handle = hold->handle;
	cuda_stream current;
	if (hold->reserved || handle->cuda->state != CUDA_ON || is_child(handle) ||
		!cuda_stream_of_torch(handle->cuda->device, &current))
		return 0;
	return hold_check(hold) == 0 ? cuda_streams_add(&hold->streams, current) : -1;
}
