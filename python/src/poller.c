/* SPDX-License-Identifier: Apache-2.0 */
/* Poller: the descriptor that event loops watch. Used by sluice/_loop.py. */
#include "module.h"

#include <errno.h>
#include <stddef.h>

#include "convert.h"
#include "errors.h"
#include "handle.h"

PyTypeObject *poller_type;

#define EVENTS_AT_ONCE 64

struct poller {
	PyObject_HEAD struct sluice_poller *poller;
	PyObject *entries; /* dict: address of a handle to the handle, which it keeps alive */
};

static PyObject *new_poller(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	if (PyTuple_GET_SIZE(arguments) > 0 || (keywords != NULL && PyDict_GET_SIZE(keywords) > 0)) {
		PyErr_SetString(PyExc_TypeError, "Poller() takes no arguments");
		return NULL;
	}
	struct poller *self = (struct poller *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->entries = PyDict_New();
	int error = self->entries != NULL ? sluice_poller_create(NULL, &self->poller) : -ENOMEM;
	if (error != 0) {
		errors_raise(error, NULL);
		Py_CLEAR(self);
	}
	return (PyObject *)self;
}

static PyObject *key_of(const struct handle *handle)
{
	return PyLong_FromVoidPtr((void *)(uintptr_t)handle);
}

static int check(const struct poller *self)
{
	if (self->poller != NULL)
		return 0;
	errors_raise(-EBADF, "this Poller was closed");
	return -1;
}

static void close_poller(struct poller *self)
{
	PyObject *key, *value;
	Py_ssize_t position = 0;
	while (self->entries != NULL && PyDict_Next(self->entries, &position, &key, &value))
		((struct handle *)value)->polled = false;
	if (self->poller != NULL)
		(void)sluice_poller_destroy(
			self->poller); /* nobody can be waiting: that takes the interpreter's lock */
	self->poller = NULL;
	if (self->entries != NULL)
		PyDict_Clear(self->entries);
}

static void dealloc(PyObject *object)
{
	struct poller *self = (struct poller *)object;
	close_poller(self);
	Py_CLEAR(self->entries);
	module_free(object);
}

static PyObject *close_method(PyObject *object, PyObject *unused)
{
	(void)unused;
	close_poller((struct poller *)object);
	Py_RETURN_NONE;
}

static PyObject *fileno_method(PyObject *object, PyObject *unused)
{
	(void)unused;
	struct poller *self = (struct poller *)object;
	if (check(self) != 0)
		return NULL;
	int fd = sluice_poller_fd(self->poller);
	return fd >= 0 ? PyLong_FromLong(fd) : errors_raise(fd, NULL);
}

static struct handle *handle_argument(PyObject *argument)
{
	if (PyObject_TypeCheck(argument, producer_type) || PyObject_TypeCheck(argument, consumer_type))
		return (struct handle *)argument;
	PyErr_Format(PyExc_TypeError, "expected a Producer or a Consumer, not %.100s", Py_TYPE(argument)->tp_name);
	return NULL;
}

static PyObject *add(PyObject *object, PyObject *argument)
{
	struct poller *self = (struct poller *)object;
	struct handle *handle = handle_argument(argument);
	if (handle == NULL || check(self) != 0 || handle_enter(handle) != 0)
		return NULL;
	struct sluice_poller_entry entry = {.data = handle};
	if (PyObject_TypeCheck(argument, producer_type))
		entry.producer = handle->open;
	else
		entry.consumer = handle->open;
	PyObject *key = key_of(handle);
	if (key == NULL || PyDict_SetItem(self->entries, key, argument) != 0) {
		Py_XDECREF(key);
		return NULL;
	}
	int error = sluice_poller_add(self->poller, &entry);
	if (error != 0 && error != -EEXIST)
		PyDict_DelItem(self->entries, key);
	Py_DECREF(key);
	if (error == -EEXIST || error == -EBUSY)
		return errors_raise(-EBUSY, "another task waits with this %s of channel %R: use one a task",
			handle->kind->noun, handle->name);
	if (error != 0)
		return errors_raise(error, NULL);
	handle->polled = true;
	Py_RETURN_NONE;
}

static PyObject *discard(PyObject *object, PyObject *argument)
{
	struct poller *self = (struct poller *)object;
	struct handle *handle = handle_argument(argument);
	if (handle == NULL)
		return NULL;
	PyObject *key = key_of(handle);
	if (key == NULL)
		return NULL;
	int there = PyDict_Contains(self->entries, key);
	if (there == 1) {
		if (self->poller != NULL && handle->open != NULL)
			(void)sluice_poller_remove(
				self->poller, handle->open); /* it took itself out when it was closed */
		handle->polled = false;
		there = PyDict_DelItem(self->entries, key);
	}
	Py_DECREF(key);
	if (there < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* One look. Its entries are in use by nobody else: that takes the interpreter's lock, too. */
static PyObject *ready(PyObject *object, PyObject *unused)
{
	(void)unused;
	struct poller *self = (struct poller *)object;
	struct sluice_poller_event events[EVENTS_AT_ONCE];
	if (check(self) != 0)
		return NULL;
	int count = sluice_poller_wait(self->poller, events, EVENTS_AT_ONCE, 0);
	if (count == -EINTR)
		count = 0;
	if (count < 0)
		return errors_raise(count, NULL);
	PyObject *list = PyList_New(0);
	for (int i = 0; list != NULL && i < count; i++) {
		PyObject *key = key_of(events[i].data);
		PyObject *handle = key != NULL ? PyDict_GetItem(self->entries, key) : NULL; /* borrowed */
		if (key == NULL || (handle != NULL && PyList_Append(list, handle) != 0))
			Py_CLEAR(list);
		Py_XDECREF(key);
	}
	return list;
}

static PyMethodDef methods[] = {
	{"fileno", fileno_method, METH_NOARGS,
		"fileno($self)\n--\n\nThe descriptor that is readable when something is ready, and now and then for no "
		"reason."},
	{"add", add, METH_O,
		"add($self, handle, /)\n--\n\nWatches a Consumer for messages, or a Producer for room as last "
		"reserved."},
	{"discard", discard, METH_O, "discard($self, handle, /)\n--\n\nWatches it no more."},
	{"ready", ready, METH_NOARGS,
		"ready($self)\n--\n\nWhich handles have something to say: a list. To be called whenever the descriptor "
		"is "
		"readable."},
	{"close", close_method, METH_NOARGS, "close($self)\n--\n\nEnds it; the handles stay open."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_new, SLOT(new_poller)},
	{Py_tp_dealloc, SLOT(dealloc)},
	{Py_tp_methods, methods},
	{Py_tp_doc, (void *)(uintptr_t) "Poller()\n--\n\nWaits for any of many handles through one descriptor."},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "sluice._sluice.Poller",
	.basicsize = sizeof(struct poller),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int poller_init(PyObject *module)
{
	poller_type = module_add_type(module, &spec);
	return poller_type != NULL ? 0 : -1;
}
