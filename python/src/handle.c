/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: one thread at a time, waiting, closing. */
#include "handle.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "address.h"
#include "convert.h"
#include "cuda.h"
#include "errors.h"
#include "message.h"
#include "options.h"

#define LONGEST_SLICE_NS  INT64_C(1000000000)
#define SPINNING_SLICE_NS INT64_C(50000000)

int64_t handle_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- opening ---- */

static struct handle *opened;

static void list_opened(struct handle *handle)
{
	handle->next_open = opened;
	handle->open_link = &opened;
	if (opened != NULL)
		opened->open_link = &handle->next_open;
	opened = handle;
}

PyObject *handle_new(PyTypeObject *type, const struct handle_kind *kind, const struct options *options, int64_t spin_ns)
{
	struct handle *handle = (struct handle *)type->tp_alloc(type, 0);
	if (handle == NULL)
		return NULL;
	handle->kind = kind;
	handle->name = new_reference(options->name);
	if (options->directory != NULL)
		handle->directory = new_reference(options->directory);
	/* Short where the library spins, since no system call is there for a signal to end. */
	handle->slice_ns = spin_ns > SPINNING_SLICE_NS ? SPINNING_SLICE_NS : LONGEST_SLICE_NS;
	list_opened(handle);
	int error;
	void *open = NULL;
	Py_BEGIN_ALLOW_THREADS error = kind->open(options, &open);
	Py_END_ALLOW_THREADS handle->open = open;
	if (error == 0)
		return (PyObject *)handle;
	options_raise(error, options);
	Py_DECREF(handle);
	return NULL;
}

/* ---- calls ---- */

int handle_refuse(struct handle *handle)
{
	if (handle->open == NULL || handle->leaving)
		errors_raise(
			-EBADF, "this %s of channel %R was closed: open another", handle->kind->noun, handle->name);
	else if (handle->kind->check(handle->open) ==
		 -ECHILD) /* also where another thread of the parent was in a call */
		errors_raise(-ECHILD, "this %s of channel %R belongs to the parent process: open one in the child",
			handle->kind->noun, handle->name);
	else
		errors_raise(-EBUSY,
			"another thread is in a call of this %s of channel %R, or a task waits with it: use one a "
			"thread",
			handle->kind->noun, handle->name);
	return -1;
}

int handle_call(
	struct handle *handle, int64_t timeout_ns, int (*call)(void *context, int64_t timeout_ns), void *context)
{
	int result;
	Py_INCREF(handle);
	handle->busy = true;
	Py_BEGIN_ALLOW_THREADS result = call(context, timeout_ns);
	Py_END_ALLOW_THREADS handle->busy = false;
	Py_DECREF(handle);
	return result;
}

int handle_wait(
	struct handle *handle, int64_t timeout_ns, int (*call)(void *context, int64_t timeout_ns), void *context)
{
	int64_t start_ns = handle_now_ns();
	int64_t left_ns = timeout_ns;
	for (;;) {
		if (handle->polled) {
			handle_refuse(handle);
			return HANDLE_RAISED;
		}
		int64_t slice_ns = left_ns < handle->slice_ns ? left_ns : handle->slice_ns;
		int result = handle_call(handle, slice_ns, call, context);
		if (result != -EINTR && result != -ETIMEDOUT)
			return result;
		if (PyErr_CheckSignals() != 0 || handle_enter(handle) != 0)
			return HANDLE_RAISED;
		if (timeout_ns == SLUICE_FOREVER)
			continue;
		left_ns = timeout_ns - (handle_now_ns() - start_ns);
		if (left_ns <= 0)
			return -ETIMEDOUT;
	}
}

struct wait_call {
	struct handle *handle;
	uint32_t count;
};

static int wait_once(void *context, int64_t timeout_ns)
{
	const struct wait_call *call = context;
	return call->handle->kind->wait(call->handle->open, call->count, timeout_ns);
}

PyObject *handle_wait_counterparts(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"count", "timeout", NULL};
	struct handle *handle = (struct handle *)self;
	struct wait_call call = {handle, 1};
	PyObject *count = NULL, *timeout = Py_None;
	int64_t timeout_ns;
	char format[32];
	snprintf(format, sizeof format, "|OO:wait_%s", handle->kind->counterparts);
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, format, names, &count, &timeout) ||
		convert_number32("count", count, 0, SLUICE_MAX_MEMBERS, &call.count) != 0 ||
		convert_timeout("timeout", timeout, &timeout_ns) != 0 || handle_enter(handle) != 0)
		return NULL;
	int result = wait_once(&call, 0);
	if (result == -EAGAIN && timeout_ns != 0)
		result = handle_wait(handle, timeout_ns, wait_once, &call);
	if (result >= 0)
		return PyLong_FromLong(result);
	if (result != -EAGAIN && result != -ETIMEDOUT)
		return result == HANDLE_RAISED ? NULL : errors_raise(result, NULL);
	char what[64];
	if (call.count == 1)
		snprintf(what, sizeof what, "there were no %s", handle->kind->counterparts);
	else
		snprintf(what, sizeof what, "there were fewer than %u %s", call.count, handle->kind->counterparts);
	return handle_raise_timeout(handle, what);
}

PyObject *handle_raise_timeout(struct handle *handle, const char *what)
{
	PyObject *look = handle_get_stat_call((PyObject *)handle, NULL);
	if (look != NULL)
		errors_raise(-ETIMEDOUT,
			"channel %R: %s within the time, and nothing was changed: call again, or see %U for who is "
			"there and "
			"who is slow",
			handle->name, what, look);
	Py_XDECREF(look);
	return NULL;
}

/* ---- closing ---- */

int handle_close_now(struct handle *handle)
{
	void *open = handle->open;
	if (open == NULL)
		return 0;
	while (handle->holds != NULL) {
		struct hold *hold = handle->holds;
		hold->lost = hold->reserved;
		if (hold->reserved || !handle->give_back)
			(void)hold_let_go(hold); /* taken back by others, or a child's: then so be it */
		else
			hold_forget(hold, "given back");
	}
	if (handle->open == NULL)
		return 0; /* by another thread, while a message was let go behind torch's stream */
	if (handle->cuda != NULL)
		cuda_closing(handle);
	handle->open = NULL;
	int result;
	Py_BEGIN_ALLOW_THREADS result = handle->kind->close(open);
	Py_END_ALLOW_THREADS return result == -ECHILD ? 0 : result; /* the parent's to close */
}

/* Views into all its messages, and how many of those have any. */
static Py_ssize_t live_views(struct handle *handle, Py_ssize_t *ret_messages)
{
	/* Dropping a view may end a message: from the start each time. */
	for (struct hold *hold = handle->holds; hold != NULL;)
		hold = hold_drop_view(hold) ? handle->holds : hold->next;
	Py_ssize_t views = 0;
	*ret_messages = 0;
	for (const struct hold *hold = handle->holds; hold != NULL; hold = hold->next) {
		views += hold->exports;
		*ret_messages += hold->exports > 0;
	}
	return views;
}

PyObject *handle_close(struct handle *handle, bool give_back)
{
	if (handle->open == NULL)
		Py_RETURN_NONE;
	if (handle->busy) {
		handle_refuse(handle);
		return NULL;
	}
	Py_ssize_t messages;
	Py_ssize_t views = live_views(handle, &messages);
	if (views > 0)
		return PyErr_Format(PyExc_BufferError,
			"%zd view%s (numpy array, memoryview, torch tensor) into %zd message%s of this %s %s alive: "
			"del %s "
			"first, or leave its `with` block, which closes it when the last view is gone",
			views, errors_plural(views), messages, errors_plural(messages), handle->kind->noun,
			views == 1 ? "is" : "are", views == 1 ? "it" : "them");
	handle->give_back = give_back;
	int error = handle_close_now(handle);
	if (error != 0)
		return errors_raise(error,
			"channel %R: others were opening or leaving it for longer than open_timeout; this %s "
			"has left all the same",
			handle->name, handle->kind->noun);
	Py_RETURN_NONE;
}

void handle_view_gone(struct handle *handle)
{
	Py_ssize_t messages;
	if (!handle->leaving || handle->open == NULL || handle->busy || live_views(handle, &messages) > 0)
		return;
	(void)handle_close_now(handle);
}

PyObject *handle_on_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return handle_enter((struct handle *)self) == 0 ? new_reference(self) : NULL;
}

/* One message at a time, because Python code may run meanwhile. False if there is none. */
static bool let_unseen_go(struct handle *handle)
{
	struct hold *hold = handle->holds;
	while (hold != NULL && hold->exports > 0)
		hold = hold->next;
	if (hold != NULL)
		(void)hold_let_go(hold); /* as in handle_close_now */
	return hold != NULL;
}

PyObject *handle_on_exit(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct handle *handle = (struct handle *)self;
	bool failed = count > 0 && arguments[0] != Py_None;
	if (handle->open == NULL)
		Py_RETURN_NONE;
	Py_ssize_t messages;
	if (handle->busy || live_views(handle, &messages) == 0)
		return handle_close(handle, failed);
	handle->leaving = true;
	handle->give_back = failed;
	/* What nobody looks into goes now, unless it is to go back: that happens with the rest. */
	while (!failed && let_unseen_go(handle))
		;
	Py_RETURN_NONE;
}

void handle_dealloc(struct handle *handle)
{
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	if (handle->weakrefs != NULL)
		PyObject_ClearWeakRefs((PyObject *)handle);
	(void)handle_close_now(handle); /* nobody is there to hear of it */
	cuda_end_side(handle);
	PyErr_Restore(type, value, traceback);
	if (handle->open_link != NULL) {
		*handle->open_link = handle->next_open;
		if (handle->next_open != NULL)
			handle->next_open->open_link = handle->open_link;
	}
	Py_CLEAR(handle->name);
	Py_CLEAR(handle->directory);
}

/* ---- the interpreter's exit ---- */

/* Under views nothing is unmapped, but the messages go: nobody is left to look into them. */
static void end_with_views(struct handle *handle)
{
	while (handle->holds != NULL && !handle->give_back)
		(void)hold_let_go(handle->holds); /* as in handle_close_now */
	if (handle->cuda != NULL)
		cuda_settle(handle);
}

/*
 * What is open at exit is closed, so that it leaves the channel as one that closed and not as one that died. An exception
 * that nobody caught is a reason to give back what was being worked on.
 */
static PyObject *close_all(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	PyObject *uncaught = PySys_GetObject("last_value"); /* borrowed */
	for (struct handle *handle = opened; handle != NULL; handle = handle->next_open) {
		Py_ssize_t messages;
		if (handle->open == NULL || handle->busy)
			continue;
		Py_INCREF(handle);
		handle->give_back |= uncaught != NULL && uncaught != Py_None;
		if (live_views(handle, &messages) > 0)
			end_with_views(handle);
		else
			(void)handle_close_now(handle); /* nobody is there to hear of it */
		Py_DECREF(handle);
	}
	cuda_end();
	Py_RETURN_NONE;
}

static PyMethodDef close_all_method = {"_close_all", close_all, METH_NOARGS, NULL};

int handle_init(PyObject *module)
{
	(void)module;
	PyObject *function = PyCFunction_New(&close_all_method, NULL);
	PyObject *atexit = PyImport_ImportModule("atexit");
	PyObject *result =
		function != NULL && atexit != NULL ? PyObject_CallMethod(atexit, "register", "O", function) : NULL;
	Py_XDECREF(function);
	Py_XDECREF(atexit);
	Py_XDECREF(result);
	return result != NULL ? 0 : -1;
}

/* ---- the rest ---- */

PyMemberDef handle_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct handle, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

PyObject *handle_get_closed(PyObject *self, void *unused)
{
	(void)unused;
	const struct handle *handle = (struct handle *)self;
	return PyBool_FromLong(handle->open == NULL || handle->leaving);
}

PyObject *handle_get_name(PyObject *self, void *unused)
{
	(void)unused;
	return new_reference(((struct handle *)self)->name);
}

PyObject *handle_get_stat_call(PyObject *self, void *unused)
{
	(void)unused;
	const struct handle *handle = (struct handle *)self;
	return address_call(
		"stat", handle->name, handle->directory != NULL ? PyBytes_AS_STRING(handle->directory) : NULL);
}

PyObject *handle_repr(PyObject *self)
{
	const struct handle *handle = (struct handle *)self;
	return PyUnicode_FromFormat("<sluice.%s of channel %R%s>", handle->kind->noun, handle->name,
		handle->open == NULL || handle->leaving ? ", closed" : "");
}

PyObject *handle_geometry(int result, const struct sluice_geometry *geometry)
{
	if (result < 0)
		return errors_raise(result, NULL);
	PyObject *values = PyStructSequence_New(geometry_type);
	if (values == NULL)
		return NULL;
	PyObject *items[] = {
		PyUnicode_FromString(geometry->mode == SLUICE_BROADCAST ? "broadcast" : "queue"),
		PyBool_FromLong((geometry->flags & SLUICE_ORDERED) != 0),
		PyBool_FromLong((geometry->flags & SLUICE_PERSISTENT) != 0),
		PyLong_FromUnsignedLong(geometry->depth),
		PyLong_FromUnsignedLong(geometry->expected_consumers),
		PyLong_FromUnsignedLongLong(geometry->lane_bytes),
		PyLong_FromUnsignedLongLong(geometry->max_message_bytes),
		PyLong_FromUnsignedLong(geometry->alignment),
		geometry->max_deliveries != 0 ? PyLong_FromUnsignedLong(geometry->max_deliveries)
					      : new_reference(Py_None),
	};
	for (size_t i = 0; i < sizeof items / sizeof items[0]; i++)
		PyStructSequence_SetItem(values, (Py_ssize_t)i, items[i]);
	if (PyErr_Occurred() != NULL)
		Py_CLEAR(values);
	return values;
}
