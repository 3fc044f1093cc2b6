/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of exceptions: which errno raises what, and what its sentence is. */
#include "errors.h"

#include <errno.h>

struct exception {
	const char *name;
	const char *also; /* a builtin that it is as well, or NULL */
	const char *doc;
	PyObject *type;
};

enum {
	ERROR,
	FULL,
	EMPTY,
	TIMEOUT,
	PEER_DIED,
	END_OF_STREAM,
	CLOSED,
	RELEASED,
	BUSY,
	STALE,
	FORKED,
	TOO_LARGE,
	BAD_ARGUMENT,
	BAD_MESSAGE,
	NO_SPACE,
	NOT_FOUND,
	EXISTS,
	DENIED,
	CUDA_ERROR
};

static struct exception exceptions[] = {
	[ERROR] = {"Error", "OSError", "What every exception of Sluice is; an OSError with errno set."},
	[FULL] = {"Full", "queue.Full", "EAGAIN: there is no room in the lane, and the call was not to wait."},
	[EMPTY] = {"Empty", "queue.Empty", "EAGAIN: there is no message, and the call was not to wait."},
	[TIMEOUT] = {"Timeout", "TimeoutError", "ETIMEDOUT: the time-out passed; nothing was changed."},
	[PEER_DIED] = {"PeerDied", "BrokenPipeError", "EPIPE: the last counterpart left or died (report_gone=True)."},
	[END_OF_STREAM] = {"EndOfStream", NULL,
		"ENODATA: all producers closed and everything was received (end_of_stream=True)."},
	[CLOSED] = {"Closed", NULL, "EBADF: the handle was closed before."},
	[RELEASED] = {"Released", NULL,
		"EALREADY: the message was published, discarded, released or given back before."},
	[BUSY] = {"Busy", NULL, "EBUSY: a reservation is open, or another thread is in a call of the same handle."},
	[STALE] = {"Stale", NULL,
		"ESTALE: this member was declared dead, or the message went to another consumer: do not use what was "
		"computed from it."},
	[FORKED] = {"Forked", "ChildProcessError",
		"ECHILD: the handle belongs to the parent process: open one in the child."},
	[TOO_LARGE] = {"TooLarge", "ValueError", "EMSGSIZE: the message is larger than half its lane."},
	[BAD_ARGUMENT] = {"BadArgument", "ValueError", "EINVAL and the like: a name, an option, a dtype or a shape."},
	[BAD_MESSAGE] = {"BadMessage", NULL,
		"EBADMSG: shared memory holds values that contradict themselves; that message was dropped."},
	[NO_SPACE] = {"NoSpace", NULL, "ENOSPC: the shared-memory file system cannot hold the lane."},
	[NOT_FOUND] = {"NotFound", "FileNotFoundError", "ENOENT: there is no such channel or directory."},
	[EXISTS] = {"Exists", "FileExistsError",
		"EEXIST: the channel exists with other options than those insisted on."},
	[DENIED] = {"Denied", "PermissionError", "EPERM, EACCES: the channel belongs to a user who is not trusted."},
	[CUDA_ERROR] = {"CudaError", NULL,
		"CUDA cannot be used, or a call of its driver failed; errno as include/sluice/cuda.h says. Receiving "
		"on the CPU goes on."},
};

#define EXCEPTION_COUNT (sizeof exceptions / sizeof exceptions[0])

/* `text`: where Python's words differ from the library's; NULL for the library's. */
static const struct {
	int code;
	int exception;
	const char *text;
} codes[] = {
	{EAGAIN, FULL,
		"the lane is full: call again later, give a time-out, or open the producer with more lane_bytes or "
		"depth"},
	{ETIMEDOUT, TIMEOUT,
		"the time-out passed and nothing was changed: call again, or see sluice.stat() of the channel for who "
		"is slow"},
	{EPIPE, PEER_DIED, "the last counterpart is gone: wait for another (report_gone=False), or stop"},
	{ENODATA, END_OF_STREAM, NULL},
	{EBADF, CLOSED, "it was closed before: open another"},
	{EALREADY, RELEASED, "the message was published, discarded, released or given back before"},
	{EBUSY, BUSY,
		"another thread is in a call of the same handle, or an asyncio task waits with it: open one a thread"},
	{ESTALE, STALE,
		"this member was declared dead, or held the message for longer than take_back, and another has it now: "
		"drop "
		"what was computed from it, and open another where it was declared dead"},
	{ECHILD, FORKED, "this handle belongs to the parent process: open another in the child"},
	{EMSGSIZE, TOO_LARGE,
		"the message is larger than half its lane: open the producer with more lane_bytes, or send less at "
		"once"},
	{E2BIG, BAD_ARGUMENT, NULL},
	{EOVERFLOW, BAD_ARGUMENT, NULL},
	{EINVAL, BAD_ARGUMENT, NULL},
	{ENODEV, BAD_ARGUMENT, NULL},
	{EBADMSG, BAD_MESSAGE,
		"shared memory holds values that contradict themselves: Consumer.fault() names the lane's producer, "
		"sluice.remove() removes the channel"},
	{ENOSPC, NO_SPACE, NULL},
	{ENOENT, NOT_FOUND, NULL},
	{EEXIST, EXISTS,
		"the channel exists with other options than those insisted on: look at sluice.stat(), or drop "
		"insist=True"},
	{EPERM, DENIED, NULL},
	{EACCES, DENIED, NULL},
	{EUSERS, ERROR,
		"the channel has its 128 members, or 128 lanes: see sluice.stat() of it, close some, or call "
		"sluice.gc() if "
		"they are dead"},
};

static PyObject *raise_as(PyObject *type, int code, PyObject *text)
{
	if (text == NULL)
		return NULL;
	PyObject *arguments = Py_BuildValue("(iN)", code, text);
	if (arguments != NULL)
		PyErr_SetObject(type, arguments);
	Py_XDECREF(arguments);
	return NULL;
}

const char *errors_sentence(int code)
{
	int positive = code < 0 ? -code : code;
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == positive && codes[i].text != NULL)
			return codes[i].text;
	return sluice_strerror(code);
}

PyObject *errors_raise(int code, const char *format, ...)
{
	int positive = code < 0 ? -code : code;
	PyObject *type = exceptions[ERROR].type;
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == positive)
			type = exceptions[codes[i].exception].type;
	if (positive == ENOMEM)
		return PyErr_NoMemory();
	if (format == NULL)
		return raise_as(type, positive, PyUnicode_FromString(errors_sentence(code)));
	va_list values;
	va_start(values, format);
	PyObject *sentence = PyUnicode_FromFormatV(format, values);
	va_end(values);
	return raise_as(type, positive, sentence);
}

PyObject *errors_raise_argument(int code, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	PyObject *sentence = PyUnicode_FromFormatV(format, values);
	va_end(values);
	return raise_as(exceptions[BAD_ARGUMENT].type, code < 0 ? -code : code, sentence);
}

PyObject *errors_raise_empty(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	PyObject *sentence = PyUnicode_FromFormatV(format, values);
	va_end(values);
	return raise_as(exceptions[EMPTY].type, EAGAIN, sentence);
}

PyObject *errors_raise_cuda(int code, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	PyObject *sentence = PyUnicode_FromFormatV(format, values);
	va_end(values);
	return raise_as(exceptions[CUDA_ERROR].type, code < 0 ? -code : code, sentence);
}

static PyObject *named_type(const char *name)
{
	const char *dot = strchr(name, '.');
	if (dot == NULL)
		return PyDict_GetItemString(PyEval_GetBuiltins(), name); /* borrowed */
	PyObject *module = PyImport_ImportModule("queue");
	if (module == NULL)
		return NULL;
	PyObject *type = PyObject_GetAttrString(module, dot + 1);
	Py_DECREF(module);
	Py_XDECREF(type); /* the module keeps it */
	return type;
}

int errors_init(PyObject *module)
{
	for (size_t i = 0; i < EXCEPTION_COUNT; i++) {
		struct exception *exception = &exceptions[i];
		PyObject *also = exception->also != NULL ? named_type(exception->also) : NULL;
		if (also == NULL && exception->also != NULL)
			return -1;
		PyObject *bases = i == ERROR     ? Py_BuildValue("(O)", also)
				  : also != NULL ? Py_BuildValue("(OO)", exceptions[ERROR].type, also)
						 : Py_BuildValue("(O)", exceptions[ERROR].type);
		if (bases == NULL)
			return -1;
		char name[64];
		snprintf(name, sizeof name, "sluice.%s", exception->name);
		exception->type = PyErr_NewExceptionWithDoc(name, exception->doc, bases, NULL);
		Py_DECREF(bases);
		if (exception->type == NULL ||
			PyModule_AddObject(module, exception->name, new_reference(exception->type)) < 0)
			return -1;
	}
	return 0;
}
