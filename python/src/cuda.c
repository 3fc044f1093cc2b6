/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers with CUDA: enabling it, detaching, what is to be told of it. */
#include "cuda.h"

#include <errno.h>
#include <string.h>

#include "errors.h"

static PyTypeObject *status_type;

/* ---- errors ---- */

/* What to do about an error; NULL where its own text says that. */
static const char *advice_for(int error, const struct sluice_cuda_status *status)
{
	if (status->pin_error == error && strcmp(status->pin_reason, status->reason) == 0)
		return "the lane is not pinned: raise the limit of locked memory (ulimit -l; docker: --ulimit "
		       "memlock=-1), or enable with pageable=True, at a fraction of the speed";
	switch (-error) {
	case ENOSYS:
		return "install NVIDIA's driver, or pass the device into the container (docker: --gpus all)";
	case ENOTSUP:
		return "update NVIDIA's driver; in a container, the host's";
	case ENODEV:
		return "look at nvidia-smi and CUDA_VISIBLE_DEVICES";
	case ECHILD:
		return "use multiprocessing's spawn or forkserver, or do not touch CUDA in the parent";
	case EINVAL:
		return "streams have to be of the device and context that cuda() was called for";
	case EBUSY:
		return "upload, release and detach outside of the capture";
	case ENOMEM:
		return "the device is out of memory: let go of what was uploaded, or call torch.cuda.empty_cache()";
	case EIO:
		return "such errors are mostly for good: start the process again";
	default:
		return NULL;
	}
}

/* While a thread detaches, what others ask the library for would wait for that, with the interpreter's lock. */
static bool is_changing(const struct handle *handle)
{
	return handle->cuda != NULL && handle->cuda->state == CUDA_CHANGING;
}

static PyObject *raise_changing(const struct handle *handle)
{
	return errors_raise(-EBUSY, "another thread detaches this consumer of channel %R from CUDA", handle->name);
}

PyObject *cuda_raise(struct handle *handle, int error)
{
	struct sluice_cuda_status status = {0};
	if (is_changing(handle))
		return raise_changing(handle);
	/* Closed, or the parent's, is what it is first of all. */
	int told = handle->open != NULL ? sluice_cuda_status(handle->open, &status) : -EBADF;
	if (told != 0)
		error = told;
	if (told != 0 || error == -EALREADY || error == -ESTALE)
		return errors_raise(error, NULL);
	if (error == -ENOTCONN)
		return errors_raise_cuda(
			error, "CUDA is not enabled for this consumer of channel %R: call its cuda()", handle->name);
	if (error == -EEXIST)
		return errors_raise_cuda(
			error, "CUDA is enabled for this consumer of channel %R: cuda_detach() it first", handle->name);
	const char *text = status.error == error ? status.reason : sluice_strerror(error);
	const char *advice = advice_for(error, &status);
	return errors_raise_cuda(error, "%s%s%s", text, advice != NULL ? ": " : "", advice != NULL ? advice : "");
}

int cuda_check(struct handle *handle)
{
	if (handle->cuda != NULL && handle->cuda->state == CUDA_ON && handle->open != NULL &&
		handle->kind->check(handle->open) == 0) /* before torch is asked, which a child must not use */
		return 0;
	cuda_raise(handle, -ENOTCONN);
	return -1;
}

/* ---- enabling ---- */

/* What the warning says, and no more: uploads will say it too. */
static int warn_of_lanes(const struct handle *handle, const struct sluice_cuda_status *status)
{
	if (status->pinned_lanes == status->lanes)
		return 0;
	return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
		"%u of the %u lanes of channel %R cannot be pinned: %s: receiving from them goes on, uploads %s; see "
		"ulimit -l (docker: --ulimit memlock=-1)",
		(unsigned)(status->lanes - status->pinned_lanes), (unsigned)status->lanes, handle->name,
		status->pin_reason, handle->cuda->pageable ? "are slow" : "raise CudaError");
}

struct change {
	struct sluice_consumer *consumer;
	const struct sluice_cuda_options *options;
};

static int attach(const struct change *change)
{
	return sluice_cuda_attach(change->consumer, change->options);
}

static int detach(const struct change *change)
{
	return sluice_cuda_detach(change->consumer);
}

/* Calls without the interpreter's lock; messages that go meanwhile wait, if CUDA was enabled. */
static int change(struct handle *handle, int (*call)(const struct change *change), struct change with)
{
	struct cuda_side *cuda = handle->cuda;
	int error;
	if (cuda->state == CUDA_ON)
		cuda->state = CUDA_CHANGING;
	Py_INCREF(handle);
	handle->busy = true;
	Py_BEGIN_ALLOW_THREADS error = call(&with);
	Py_END_ALLOW_THREADS handle->busy = false;
	Py_DECREF(handle);
	return error;
}

static int parse_device(PyObject *device, struct sluice_cuda_options *options)
{
	if (device == Py_None)
		return 0;
	Py_ssize_t ordinal = PyNumber_AsSsize_t(device, PyExc_OverflowError);
	if (ordinal == -1 && PyErr_Occurred() != NULL)
		return -1;
	if (ordinal < 0 || ordinal > INT32_MAX) {
		PyErr_Format(PyExc_ValueError,
			"device is an ordinal from 0 on, or None for the current context, not %R", device);
		return -1;
	}
	options->flags |= SLUICE_CUDA_DEVICE;
	options->device = (int32_t)ordinal;
	return 0;
}

/* Notes what it can do, or detaches again if a warning is an exception. Returns 0, or -1 with it. */
static int enabled(struct handle *handle, uint32_t flags)
{
	struct cuda_side *cuda = handle->cuda;
	struct sluice_cuda_status status;
	int error = sluice_cuda_status(handle->open, &status);
	if (error != 0) {
		cuda_raise(handle, error);
		return -1;
	}
	cuda->state = CUDA_ON;
	cuda->failed = false;
	cuda->device = status.device;
	cuda->pageable = (flags & SLUICE_CUDA_PAGEABLE) != 0;
	cuda->pools = (status.features & SLUICE_CUDA_POOLS) != 0;
	if (warn_of_lanes(handle, &status) == 0)
		return 0;
	(void)sluice_cuda_detach(handle->open); /* nothing was uploaded yet */
	cuda->state = CUDA_OFF;
	return -1;
}

PyObject *cuda_enable(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"device", "pageable", "stream_writes", NULL};
	struct handle *handle = (struct handle *)self;
	struct sluice_cuda_options options = {.size = sizeof options};
	PyObject *device = NULL;
	int pageable = 0;
	int stream_writes = 1;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O$pp:cuda", names, &device, &pageable, &stream_writes))
		return NULL;
	if (device == NULL)
		options.flags |= SLUICE_CUDA_DEVICE; /* 0 */
	else if (parse_device(device, &options) != 0)
		return NULL;
	options.flags |= pageable ? SLUICE_CUDA_PAGEABLE : 0;
	options.flags |= stream_writes ? 0 : SLUICE_CUDA_NO_STREAM_WRITES;
	if (handle_enter(handle) != 0)
		return NULL;
	if (handle->polled) {
		handle_refuse(handle);
		return NULL;
	}
	if (handle->cuda == NULL)
		handle->cuda = PyMem_Calloc(1, sizeof *handle->cuda);
	if (handle->cuda == NULL)
		return PyErr_NoMemory();
	if (handle->cuda->state != CUDA_OFF)
		return cuda_raise(handle, -EEXIST);
	int error = change(handle, attach, (struct change){handle->open, &options});
	if (error != 0)
		return cuda_raise(handle, error);
	return enabled(handle, options.flags) == 0 ? cuda_get_status(self, NULL) : NULL;
}

/* Returns 0 or -EIO, and what waited for the device has gone; or -EBUSY, and nothing has. */
static int detach_now(struct handle *handle)
{
	int error = change(handle, detach, (struct change){handle->open, NULL});
	handle->cuda->failed = error == -EIO;
	handle->cuda->state = error == -EBUSY ? CUDA_ON : CUDA_OFF;
	cuda_retry(handle);
	return error;
}

PyObject *cuda_detach(PyObject *self, PyObject *unused)
{
	(void)unused;
	struct handle *handle = (struct handle *)self;
	if (handle_enter(handle) != 0 || cuda_check(handle) != 0)
		return NULL;
	if (handle->polled) {
		handle_refuse(handle);
		return NULL;
	}
	if (handle->cuda->calls > 0)
		return errors_raise(-EBUSY, "another thread uploads from this consumer of channel %R", handle->name);
	int error = detach_now(handle);
	return error != 0 ? cuda_raise(handle, error) : new_reference(Py_None);
}

void cuda_settle(struct handle *handle)
{
	if (handle->cuda->state == CUDA_ON && handle->cuda->calls == 0 && !handle->busy)
		(void)detach_now(handle); /* nobody is there to hear of it */
}

void cuda_end_side(struct handle *handle)
{
	PyMem_Free(handle->cuda);
	handle->cuda = NULL;
}

/* ---- status ---- */

static PyObject *text_or_none(int32_t error, const char *text)
{
	return error != 0 ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace") : new_reference(Py_None);
}

static PyStructSequence_Field status_fields[] = {
	{"attached", "True between cuda() and cuda_detach() or close"},
	{"device", "ordinal, or None"},
	{"device_name", "what the driver calls it"},
	{"driver_version", "the CUDA version of the driver: (12, 4)"},
	{"stream_writes", "streams acknowledge by themselves; else events are looked at in the consumer's calls"},
	{"read_only", "lanes are pinned for reading only"},
	{"same_address", "kernels see a lane at the address where the CPU does"},
	{"pools", "device memory comes and goes in stream order; else freeing waits for the stream"},
	{"lanes", "that the consumer reads"},
	{"pinned_lanes", "of those"},
	{"pinned_bytes", "in lanes and for acknowledgements"},
	{"copies", "since cuda()"},
	{"copied_bytes", "since cuda()"},
	{"pageable_copies", "of those, from lanes that are not pinned"},
	{"released", "messages given to streams to release, since cuda()"},
	{"by_event", "of those, by an event"},
	{"pending", "of those, not free yet as far as the consumer knows"},
	{"waiting", "messages that are let go and that no stream took yet: tried again with each receive"},
	{"pin_error", "why the last lane that is not pinned is not, or None"},
	{"write_error", "why there are no stream writes, or None"},
	{"error", "why the last call that failed did, also cuda(); or None"},
	{NULL, NULL},
};

static PyStructSequence_Desc status_desc = {
	.name = "sluice.CudaStatus",
	.doc = "What a consumer's CUDA is, has done, and why not if not. Reasons are sentences for people.",
	.fields = status_fields,
	.n_in_sequence = sizeof status_fields / sizeof status_fields[0] - 1,
};

static PyObject *describe(const struct handle *handle, const struct sluice_cuda_status *status)
{
	bool attached = status->attached != 0;
	PyObject *items[] = {
		PyBool_FromLong(attached),
		attached ? PyLong_FromLong(status->device) : new_reference(Py_None),
		attached ? PyUnicode_DecodeUTF8(status->device_name, (Py_ssize_t)strlen(status->device_name), "replace")
			 : new_reference(Py_None),
		attached ? Py_BuildValue("(II)", status->driver_version / 1000, status->driver_version % 1000 / 10)
			 : new_reference(Py_None),
		PyBool_FromLong((status->features & SLUICE_CUDA_STREAM_WRITES) != 0),
		PyBool_FromLong((status->features & SLUICE_CUDA_READ_ONLY) != 0),
		PyBool_FromLong((status->features & SLUICE_CUDA_SAME_ADDRESS) != 0),
		PyBool_FromLong((status->features & SLUICE_CUDA_POOLS) != 0),
		PyLong_FromUnsignedLong(status->lanes),
		PyLong_FromUnsignedLong(status->pinned_lanes),
		PyLong_FromUnsignedLongLong(status->pinned_bytes),
		PyLong_FromUnsignedLongLong(status->copies),
		PyLong_FromUnsignedLongLong(status->copied_bytes),
		PyLong_FromUnsignedLongLong(status->pageable_copies),
		PyLong_FromUnsignedLongLong(status->released),
		PyLong_FromUnsignedLongLong(status->by_event),
		PyLong_FromUnsignedLongLong(status->pending),
		PyLong_FromSsize_t(handle->cuda != NULL ? cuda_parked_count(handle) : 0),
		text_or_none(status->pin_error, status->pin_reason),
		text_or_none(status->write_error, status->write_reason),
		text_or_none(status->error, status->reason),
	};
	PyObject *values = PyStructSequence_New(status_type);
	for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
		if (values != NULL)
			PyStructSequence_SetItem(values, (Py_ssize_t)i, items[i]);
		else
			Py_XDECREF(items[i]);
	}
	if (PyErr_Occurred() != NULL)
		Py_CLEAR(values);
	return values;
}

PyObject *cuda_get_status(PyObject *self, void *unused)
{
	(void)unused;
	struct handle *handle = (struct handle *)self;
	struct sluice_cuda_status status;
	if (handle->open == NULL) {
		handle_refuse(handle);
		return NULL;
	}
	if (is_changing(handle))
		return raise_changing(handle);
	int error = sluice_cuda_status(handle->open, &status);
	return error == 0 ? describe(handle, &status) : errors_raise(error, NULL);
}

static PyMethodDef functions[] = {
	{"to_cuda", METHOD(cuda_upload_batch), METH_VARARGS | METH_KEYWORDS,
		"to_cuda($module, messages, stream=None, *, release=False)\n--\n\n"
		"Uploads messages of one consumer, as receive_batch gives them, with one copy (two where the lane "
		"ends; "
		"more for messages of several producers): a list of dicts of CudaTensors by name, which share one "
		"piece of device memory.\n\n"
		"release: let the messages go behind the copy, with a single write; BufferError if they have views. "
		"Otherwise as Tensor.to_cuda."},
	{NULL, NULL, 0, NULL},
};

int cuda_init(PyObject *module)
{
	status_type = PyStructSequence_NewType(&status_desc);
	if (status_type == NULL || PyModule_AddFunctions(module, functions) != 0)
		return -1;
	return PyModule_AddObject(module, "CudaStatus", new_reference((PyObject *)status_type));
}
