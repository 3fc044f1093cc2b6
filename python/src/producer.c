/* SPDX-License-Identifier: Apache-2.0 */
/* Producer: reserve, send. */
#include "module.h"

#include <errno.h>
#include <stddef.h>

#include "convert.h"
#include "errors.h"
#include "handle.h"
#include "message.h"
#include "options.h"
#include "source.h"
#include "spec.h"

PyTypeObject *producer_type;

struct producer {
	struct handle handle;
	/* The last keyword call of reserve whose values cannot change: by their identity it is known again. */
	PyObject *last_names;
	PyObject *last_values[SLUICE_MAX_TENSORS];
	struct spec_set last_set;
};

static int open_producer(const struct options *options, void **ret_open)
{
	struct sluice_producer *producer;
	int error = sluice_producer_open(options->name_text, &options->producer, &producer);
	if (error == 0)
		*ret_open = producer;
	return error;
}

static int close_producer(void *open)
{
	return sluice_producer_close(open);
}

static int check_producer(void *open)
{
	struct sluice_geometry geometry;
	return sluice_producer_geometry(open, &geometry);
}

static int wait_for_consumers(void *open, uint32_t count, int64_t timeout_ns)
{
	return sluice_producer_wait(open, count, timeout_ns);
}

static const struct handle_kind kind = {
	"Producer", "consumers", open_producer, close_producer, check_producer, wait_for_consumers};

static struct sluice_producer *library(struct producer *self)
{
	return self->handle.open;
}

/* ---- open and close ---- */

static PyObject *new_producer(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	struct options options;
	PyObject *self = NULL;
	if (options_of_producer(arguments, keywords, &options) == 0)
		self = handle_new(type, &kind, &options, options.producer.spin_ns);
	options_clear(&options);
	return self;
}

static void forget_last(struct producer *self)
{
	Py_CLEAR(self->last_names);
	for (size_t i = 0; i < self->last_set.count; i++)
		Py_CLEAR(self->last_values[i]);
	self->last_set.count = 0;
}

static void dealloc(PyObject *object)
{
	struct producer *self = (struct producer *)object;
	forget_last(self);
	handle_dealloc(&self->handle);
	module_free(object);
}

static PyObject *close_method(PyObject *self, PyObject *unused)
{
	(void)unused;
	return handle_close((struct handle *)self, false);
}

/* ---- reserve ---- */

struct reserve_call {
	struct sluice_producer *producer;
	const struct spec_set *set;
	struct sluice_message *message;
};

static int reserve_once(void *context, int64_t timeout_ns)
{
	struct reserve_call *call = context;
	return sluice_reserve(call->producer, call->set->specs, call->set->count, timeout_ns, &call->message);
}

static PyObject *raise_busy(const struct producer *self)
{
	const struct hold *open = self->handle.holds;
	if (open != NULL && open->given_up)
		return errors_raise(-EBUSY,
			"the last reservation was given up, but %zd view%s of its memory %s alive (a variable, or a "
			"traceback "
			"that is kept): del %s",
			open->exports, errors_plural(open->exports), open->exports == 1 ? "is" : "are",
			open->exports == 1 ? "it" : "them");
	return errors_raise(-EBUSY, "a reservation of this Producer is open: publish or discard it first");
}

/* First without waiting, which needs no other thread to run; then without the interpreter's lock. NULL: it raised. */
static struct sluice_message *reserve_message(struct producer *self, const struct spec_set *set, int64_t timeout_ns)
{
	if (handle_enter(&self->handle) != 0)
		return NULL;
	struct reserve_call call = {library(self), set, NULL};
	int error = reserve_once(&call, 0);
	if (error == -EAGAIN && timeout_ns != 0)
		error = handle_wait(&self->handle, timeout_ns, reserve_once, &call);
	if (error == 0)
		return call.message;
	if (error == -EBUSY && self->handle.holds != NULL && hold_live_views(self->handle.holds) == 0 &&
		self->handle.holds != NULL && self->handle.holds->given_up)
		(void)hold_let_go(self->handle.holds);
	if (error == -EBUSY)
		raise_busy(self);
	else if (error == -ETIMEDOUT)
		handle_raise_timeout(&self->handle, "there was no room in the lane");
	else if (error != HANDLE_RAISED)
		spec_raise(error, set, library(self));
	return NULL;
}

static PyObject *reserve_set(struct producer *self, const struct spec_set *set, int64_t timeout_ns)
{
	struct sluice_message *message = reserve_message(self, set, timeout_ns);
	return message != NULL ? hold_new(reservation_type, &self->handle, message) : NULL;
}

static bool is_last(const struct producer *self, PyObject *const *values, PyObject *names)
{
	if (self->last_names != names || names == NULL)
		return false;
	for (size_t i = 0; i < self->last_set.count; i++)
		if (self->last_values[i] != values[i])
			return false;
	return true;
}

static void remember(struct producer *self, const struct spec_set *set, PyObject *const *values, PyObject *names)
{
	for (size_t i = 0; i < set->count; i++)
		if (!spec_is_constant(values[i]))
			return;
	forget_last(self);
	self->last_names = new_reference(names);
	for (size_t i = 0; i < set->count; i++)
		self->last_values[i] = new_reference(values[i]);
	spec_copy(&self->last_set, set);
}

static int add_dictionary(struct spec_set *set, PyObject *dictionary)
{
	if (!PyDict_Check(dictionary)) {
		PyErr_Format(PyExc_TypeError, "reserve() takes a dict of name: (shape, dtype), not %.100s",
			Py_TYPE(dictionary)->tp_name);
		return -1;
	}
	PyObject *items = PyDict_Items(dictionary);
	if (items == NULL)
		return -1;
	int result = 0;
	for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(items); i++) {
		PyObject *pair = PyList_GET_ITEM(items, i);
		result = spec_add_pair(set, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
	}
	Py_DECREF(items);
	return result;
}

static PyObject *reserve(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct producer *self = (struct producer *)object;
	if (count == 0 && is_last(self, arguments, names))
		return reserve_set(self, &self->last_set, SLUICE_FOREVER);
	struct spec_set set = {.count = 0};
	int64_t timeout_ns = SLUICE_FOREVER;
	bool plain = count == 0;
	if (count > 1) {
		PyErr_SetString(PyExc_TypeError, "reserve() takes one dict of specs, or keyword arguments");
		return NULL;
	}
	if (count == 1 && arguments[0] != Py_None && add_dictionary(&set, arguments[0]) != 0)
		return NULL;
	for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
		PyObject *name = PyTuple_GET_ITEM(names, i);
		PyObject *value = arguments[count + i];
		if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
			plain = false;
			if (convert_timeout("timeout", value, &timeout_ns) != 0)
				return NULL;
		} else if (spec_add_pair(&set, name, value) != 0) {
			return NULL;
		}
	}
	if (set.count == 0) {
		PyErr_SetString(PyExc_TypeError, "reserve() wants at least one tensor: name=(shape, dtype)");
		return NULL;
	}
	PyObject *reservation = reserve_set(self, &set, timeout_ns);
	if (reservation != NULL && plain)
		remember(self, &set, arguments, names);
	return reservation;
}

/* ---- send ---- */

static int open_sources(PyObject *items, struct spec_set *set, struct source *sources)
{
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
		PyObject *pair = PyList_GET_ITEM(items, i);
		struct sluice_tensor_spec *spec = spec_add(set, PyTuple_GET_ITEM(pair, 0));
		if (spec == NULL)
			return -1;
		set->count--; /* counted once its source is open */
		struct source *source = &sources[set->count];
		if (source_open(PyTuple_GET_ITEM(pair, 1), source) != 0)
			return -1;
		set->count++;
		spec->dtype = source->dtype->code;
		spec->ndim = (uint32_t)source->ndim;
		for (int k = 0; k < source->ndim; k++)
			spec->shape[k] = source->shape[k];
	}
	if (set->count > 0)
		return 0;
	PyErr_SetString(PyExc_TypeError, "send() wants at least one array: {\"name\": array}");
	return -1;
}

static PyObject *fill_and_publish(struct producer *self, struct sluice_message *message, const struct spec_set *set,
	const struct source *sources, const struct hold_values *values)
{
	self->handle.busy = true; /* a large copy lets other threads run */
	for (size_t i = 0; i < set->count; i++)
		source_copy(&sources[i], sluice_data(message, (uint32_t)i));
	self->handle.busy = false;
	if (values->correlation_id != 0)
		sluice_set_correlation_id(message, values->correlation_id);
	if (values->deadline_ns != 0)
		sluice_set_deadline(message, values->deadline_ns);
	if (values->trace.trace_id[0] != 0 || memcmp(values->trace.trace_id, values->trace.trace_id + 1, 15) != 0)
		sluice_set_trace(message, &values->trace);
	int error = sluice_publish(message);
	if (error != 0)
		return errors_raise(error, NULL);
	Py_RETURN_NONE;
}

static PyObject *send_items(
	struct producer *self, PyObject *items, int64_t timeout_ns, const struct hold_values *values)
{
	struct spec_set set = {.count = 0};
	struct source sources[SLUICE_MAX_TENSORS];
	PyObject *result = NULL;
	if (open_sources(items, &set, sources) == 0) {
		struct sluice_message *message = reserve_message(self, &set, timeout_ns);
		if (message != NULL)
			result = fill_and_publish(self, message, &set, sources, values);
	}
	for (size_t i = 0; i < set.count; i++)
		source_close(&sources[i]);
	return result;
}

static PyObject *send(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct producer *self = (struct producer *)object;
	int64_t timeout_ns = SLUICE_FOREVER;
	struct hold_metadata metadata = {NULL, NULL, NULL};
	if (count != 1 || !PyDict_Check(arguments[0])) {
		PyErr_SetString(PyExc_TypeError, "send() takes one dict of name: array");
		return NULL;
	}
	for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
		PyObject *name = PyTuple_GET_ITEM(names, i);
		PyObject *value = arguments[count + i];
		if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
			if (convert_timeout("timeout", value, &timeout_ns) != 0)
				return NULL;
		} else if (PyUnicode_CompareWithASCIIString(name, "correlation_id") == 0) {
			metadata.correlation_id = value;
		} else if (PyUnicode_CompareWithASCIIString(name, "deadline") == 0) {
			metadata.deadline = value;
		} else if (PyUnicode_CompareWithASCIIString(name, "traceparent") == 0) {
			metadata.traceparent = value;
		} else {
			return PyErr_Format(PyExc_TypeError, "send() got an unexpected keyword argument %R", name);
		}
	}
	struct hold_values values;
	if (hold_parse_metadata(&metadata, &values) != 0)
		return NULL;
	PyObject *items = PyDict_Items(arguments[0]);
	PyObject *result = items != NULL ? send_items(self, items, timeout_ns, &values) : NULL;
	Py_XDECREF(items);
	return result;
}

/* ---- the rest ---- */

static PyObject *get_geometry(PyObject *object, void *unused)
{
	(void)unused;
	struct producer *self = (struct producer *)object;
	struct sluice_geometry geometry;
	if (handle_enter(&self->handle) != 0)
		return NULL;
	return handle_geometry(sluice_producer_geometry(library(self), &geometry), &geometry);
}

static PyObject *placement(PyObject *object, PyObject *unused)
{
	(void)unused;
	struct producer *self = (struct producer *)object;
	struct sluice_placement placement;
	if (handle_enter(&self->handle) != 0)
		return NULL;
	int error = sluice_producer_placement(library(self), &placement);
	if (error != 0)
		return errors_raise(error, NULL);
	static const char *const pages[] = {"small", "transparent", "hugetlb"};
	return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:s,s:K,s:K,s:I,s:I}", "asked_node", placement.asked_node,
		"node", placement.node, "node_error", placement.node_error, "huge_error", placement.huge_error,
		"prefault_error", placement.prefault_error, "lock_error", placement.lock_error, "pages",
		pages[placement.pages % 3], "page_bytes", (unsigned long long)placement.page_bytes, "huge_bytes",
		(unsigned long long)placement.huge_bytes, "asked", placement.asked, "obtained", placement.obtained);
}

static PyMethodDef methods[] = {
	{"reserve", METHOD(reserve), METH_FASTCALL | METH_KEYWORDS,
		"reserve($self, specs=None, /, *, timeout=None, **tensors)\n--\n\nReserves memory for a message: "
		"reserve(input_ids=((16, 512), \"int32\")). Returns a Reservation.\n\nA spec is (shape, dtype): a "
		"number or sequence "
		"of numbers, up to 8 dimensions, 0 allowed; dtype as a string, a numpy dtype or a torch dtype. A "
		"tensor that is "
		"called timeout goes into the dict. timeout: seconds to wait for room, None for ever, 0 not at all. "
		"What the memory "
		"holds at first is unspecified.\n\nFull, Timeout, Busy (a reservation is open), TooLarge, TypeError, "
		"ValueError, "
		"PeerDied (report_gone), Stale, Closed, Forked."},
	{"send", METHOD(send), METH_FASTCALL | METH_KEYWORDS,
		"send($self, arrays, /, *, timeout=None, correlation_id=0, deadline=None, "
		"traceparent=None)\n--\n\nCopies "
		"arrays into a "
		"message and publishes it: send({\"input_ids\": ids}).\n\nWhat has the buffer protocol or DLPack: "
		"numpy, torch on the "
		"CPU, memoryview, bytes, array.array; of any strides (what is not contiguous is copied element by "
		"element). Errors as "
		"of reserve."},
	{"wait_consumers", METHOD(handle_wait_counterparts), METH_VARARGS | METH_KEYWORDS,
		"wait_consumers($self, count=1, timeout=None)\n--\n\nWaits until so many consumers are in the channel. "
		"Returns how many there "
		"are. Timeout, Closed, Forked, Busy."},
	{"placement", placement, METH_NOARGS,
		"placement($self)\n--\n\nWhere the lane's memory lies, against what was asked for: a dict as struct "
		"sluice_placement."},
	{"close", close_method, METH_NOARGS,
		"close($self)\n--\n\nLeaves the channel; an open reservation is discarded. What was published stays "
		"until "
		"it is received. "
		"Again is fine.\n\nBufferError while views of a reservation are alive; Busy while another thread is in "
		"a call."},
	{"__enter__", handle_on_enter, METH_NOARGS, NULL},
	{"__exit__", METHOD(handle_on_exit), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
	{"name", handle_get_name, NULL, "Name of the channel.", NULL},
	{"closed", handle_get_closed, NULL, "True once it was closed.", NULL},
	{"_stat_call", handle_get_stat_call, NULL, NULL, NULL},
	{"geometry", get_geometry, NULL, "Geometry: the channel's mode and this lane's sizes.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static const char doc[] =
	"Producer(name, *, lane_bytes=None, depth=None, alignment=None, sample_rate=1000, report_gone=False, "
	"huge_pages=False,\n"
	"         prefault=False, lock_memory=False, spin=\"learn\", node=None, device=None, **channel)\n--\n\n"
	"Joins a channel as a producer, creating it if need be, and brings a lane of shared memory of its own.\n\n"
	"lane_bytes: payload bytes of the lane (default the channel's, 8 MiB); the largest message is half of it.\n"
	"depth: messages the lane can hold (1024). alignment: of payloads, 64 to 4096 bytes. sample_rate: messages "
	"stamped a\n"
	"second, 0 for none, None for all. report_gone: a call that would wait raises PeerDied when the last consumer "
	"is gone.\n"
	"spin: seconds to spin before a sleep, 0 for none, None for ever, \"learn\" for up to 50 us. node: memory "
	"node, or \"cpu\";\n"
	"device: a PCI address to be near to. Options of the channel, as Consumer has them too: see docs/python.md.\n\n"
	"One thread at a time: a second one gets Busy. After fork the child's copy raises Forked.";

static PyType_Slot slots[] = {
	{Py_tp_new, SLOT(new_producer)},
	{Py_tp_dealloc, SLOT(dealloc)},
	{Py_tp_repr, SLOT(handle_repr)},
	{Py_tp_members, handle_members},
	{Py_tp_methods, methods},
	{Py_tp_getset, attributes},
	{Py_tp_doc, (void *)(uintptr_t)doc},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "sluice._sluice.Producer",
	.basicsize = sizeof(struct producer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int producer_init(PyObject *module)
{
	producer_type = module_add_type(module, &spec);
	return producer_type != NULL ? 0 : -1;
}
