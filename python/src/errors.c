/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of exceptions: which errno raises what, and what its sentence is. */
#include "errors.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

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
	{ETIMEDOUT, TIMEOUT, NULL},
	{EPIPE, PEER_DIED, "the last counterpart is gone: wait for another (report_gone=False), or stop"},
	{ENODATA, END_OF_STREAM, NULL},
	{EBADF, CLOSED, "it was closed before: open another"},
	{EALREADY, RELEASED, "the message was published, discarded, released or given back before"},
	{EBUSY, BUSY,
		"another thread is in a call of the same handle, or an asyncio task waits with it: open one a thread"},
	{ESTALE, STALE,
		"this member was declared dead, or held the message for longer than take_back, and another has it now: "
		"drop "
		"what was computed from it"},
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

PyObject *errors_raise(int code, const char *format, ...)
{
	int positive = code < 0 ? -code : code;
	PyObject *type = exceptions[ERROR].type;
	const char *text = NULL;
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		if (codes[i].code != positive)
			continue;
		type = exceptions[codes[i].exception].type;
		text = codes[i].text;
	}
	if (positive == ENOMEM)
		return PyErr_NoMemory();
	if (format == NULL)
		return raise_as(type, positive, PyUnicode_FromString(text != NULL ? text : sluice_strerror(code)));
	va_list values;
	va_start(values, format);
	PyObject *sentence = PyUnicode_FromFormatV(format, values);
	va_end(values);
	return raise_as(type, positive, sentence);
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

PyObject *errors_raise_open(int code, PyObject *name, const char *directory, uint64_t lane_bytes)
{
	if (directory == NULL)
		directory = getenv("SLUICE_DIR");
	if (directory == NULL || directory[0] == '\0')
		directory = "/dev/shm";
	struct statvfs system;
	if (code == -ENOSPC && statvfs(directory, &system) == 0) {
		unsigned long long mib = 1 << 20;
		return errors_raise(code,
			"%s holds %llu MiB, of which %llu MiB are free; the lane of channel %R needs %llu MiB: raise "
			"it "
			"(mount -o remount,size=..., docker: --shm-size) or pass a smaller lane_bytes=",
			directory, (unsigned long long)system.f_blocks * system.f_frsize / mib,
			(unsigned long long)system.f_bavail * system.f_frsize / mib, name,
			((unsigned long long)lane_bytes + mib - 1) / mib);
	}
	if (code == -ETIMEDOUT)
		return errors_raise(code,
			"channel %R: others were opening or leaving it for longer than open_timeout: call again", name);
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == -code && codes[i].text != NULL)
			return errors_raise(code, "channel %R in %s: %s", name, directory, codes[i].text);
	return errors_raise(code, "channel %R in %s: %s", name, directory, sluice_strerror(code));
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
