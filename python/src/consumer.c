/* SPDX-License-Identifier: Apache-2.0 */
/* Consumer: receive, one by one, in batches, by iterating. */
#include "module.h"

#include <errno.h>
#include <stddef.h>

#include "convert.h"
#include "cuda.h"
#include "errors.h"
#include "handle.h"
#include "message.h"
#include "options.h"
#include "tensor.h"

PyTypeObject *consumer_type;

#define BATCH_DEFAULT  64
#define BATCH_ON_STACK 64
#define BATCH_MOST     (1 << 20)

static int close_consumer(void *open)
{
	return sluice_consumer_close(open);
}

static int check_consumer(void *open)
{
	struct sluice_geometry geometry;
	return sluice_consumer_geometry(open, &geometry);
}

static const struct handle_kind kind = {"Consumer", close_consumer, check_consumer};

/* ---- open and close ---- */

static PyObject *new_consumer(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	struct options options;
	struct sluice_consumer *consumer = NULL;
	struct handle *self = NULL;
	if (options_of_consumer(arguments, keywords, &options) == 0)
		self = (struct handle *)type->tp_alloc(type, 0);
	if (self != NULL) {
		int error;
		self->kind = &kind;
		self->name = new_reference(options.name);
		self->slice_ns = handle_slice_ns(options.consumer.spin_ns);
		do {
			Py_BEGIN_ALLOW_THREADS error =
				sluice_consumer_open(options.name_text, &options.consumer, &consumer);
			Py_END_ALLOW_THREADS
		} while (error == -EINTR && PyErr_CheckSignals() == 0);
		self->open = consumer;
		handle_opened(self);
		if (error != 0) {
			if (PyErr_Occurred() == NULL)
				errors_raise_open(error, options.name, options.channel.directory, 1 << 20);
			Py_CLEAR(self);
		}
	}
	options_clear(&options);
	return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
	handle_dealloc((struct handle *)object);
	module_free(object);
}

static PyObject *close_method(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"give_back", NULL};
	int give_back = 0;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|p:close", names, &give_back))
		return NULL;
	return handle_close((struct handle *)self, give_back != 0);
}

/* ---- receive ---- */

struct receive_call {
	struct sluice_consumer *consumer;
	const struct sluice_message *message;
};

static int receive_once(void *context, int64_t timeout_ns)
{
	struct receive_call *call = context;
	return sluice_receive(call->consumer, timeout_ns, &call->message);
}

static PyObject *raise_fault(struct handle *self)
{
	struct sluice_fault fault;
	if (sluice_consumer_fault(self->open, &fault) != 0)
		return errors_raise(-EBADMSG, NULL);
	return errors_raise(-EBADMSG,
		"channel %R: what producer %s (pid %u) wrote contradicts itself: %s; that message was dropped, receive "
		"again, or "
		"sluice.remove() the channel",
		self->name, fault.program, (unsigned)fault.pid, fault.reason);
}

static PyObject *raise_receive(struct handle *self, int error)
{
	if (error == HANDLE_RAISED)
		return NULL;
	if (error == -EAGAIN)
		return errors_raise_empty("no message is waiting in channel %R", self->name);
	return error == -EBADMSG ? raise_fault(self) : errors_raise(error, NULL);
}

/* Takes the next message, or returns a negative errno or HANDLE_RAISED. */
static inline int next_message(struct handle *self, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	if (handle_enter(self) != 0)
		return HANDLE_RAISED;
	if (__builtin_expect(self->cuda != NULL, 0))
		cuda_retry(self);
	struct receive_call call = {self->open, NULL};
	int error = receive_once(&call, 0);
	if (error == -EAGAIN && timeout_ns != 0)
		error = handle_wait(self, timeout_ns, receive_once, &call);
	*ret_message = call.message;
	return error;
}

static PyObject *new_message(struct handle *self, const struct sluice_message *message)
{
	return hold_new(message_type, self, (struct sluice_message *)(uintptr_t)message);
}

static int parse_timeout(
	const char *function, PyObject *const *arguments, Py_ssize_t count, PyObject *names, int64_t *ret_timeout_ns)
{
	Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
	*ret_timeout_ns = SLUICE_FOREVER;
	if (count + named == 0)
		return 0;
	if (count + named > 1 ||
		(named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)) {
		PyErr_Format(PyExc_TypeError, "%s() takes one argument, timeout", function);
		return -1;
	}
	return convert_timeout(arguments[0], ret_timeout_ns);
}

static PyObject *receive(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct handle *self = (struct handle *)object;
	int64_t timeout_ns;
	if (parse_timeout("receive", arguments, count, names, &timeout_ns) != 0)
		return NULL;
	const struct sluice_message *message;
	int error = next_message(self, timeout_ns, &message);
	return error == 0 ? new_message(self, message) : raise_receive(self, error);
}

static PyObject *next(PyObject *object)
{
	struct handle *self = (struct handle *)object;
	const struct sluice_message *message;
	int error = next_message(self, SLUICE_FOREVER, &message);
	if (error == -ENODATA)
		return NULL; /* the end of the iteration */
	return error == 0 ? new_message(self, message) : raise_receive(self, error);
}

static PyObject *recv(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	struct handle *self = (struct handle *)object;
	int64_t timeout_ns;
	if (parse_timeout("recv", arguments, count, names, &timeout_ns) != 0)
		return NULL;
	const struct sluice_message *message;
	int error = next_message(self, timeout_ns, &message);
	if (error != 0)
		return raise_receive(self, error);
	PyObject *held = new_message(self, message);
	PyObject *tensors = held != NULL ? PyDict_New() : NULL;
	for (uint32_t i = 0; tensors != NULL && i < sluice_tensor_count(message); i++) {
		const struct sluice_tensor *description = sluice_tensor(message, i);
		PyObject *tensor = tensor_new((struct hold *)held, description);
		if (tensor == NULL || PyDict_SetItemString(tensors, description->name, tensor) != 0)
			Py_CLEAR(tensors);
		Py_XDECREF(tensor);
	}
	Py_XDECREF(held);
	return tensors;
}

/* ---- batches ---- */

struct batch_call {
	struct sluice_consumer *consumer;
	size_t max_messages;
	uint64_t max_bytes;
	int64_t linger_ns;
	const struct sluice_message **messages;
};

static int receive_batch_once(void *context, int64_t timeout_ns)
{
	const struct batch_call *call = context;
	return sluice_receive_batch(
		call->consumer, call->max_messages, call->max_bytes, call->linger_ns, timeout_ns, call->messages);
}

static PyObject *receive_messages(struct handle *self, struct batch_call *call, int64_t timeout_ns)
{
	if (handle_enter(self) != 0)
		return NULL;
	if (__builtin_expect(self->cuda != NULL, 0))
		cuda_retry(self);
	call->consumer = self->open;
	int count = -EAGAIN;
	if (call->linger_ns == 0)
		count = receive_batch_once(call, 0);
	/* Whoever lingers may wait all the same. */
	if (count == -EAGAIN && (timeout_ns != 0 || call->linger_ns != 0))
		count = handle_wait(self, timeout_ns, receive_batch_once, call);
	if (count < 0)
		return raise_receive(self, count);
	PyObject *list = PyList_New(count);
	for (int i = 0; i < count; i++) {
		PyObject *message = list != NULL ? new_message(self, call->messages[i]) : NULL;
		if (message == NULL) {
			for (int k = list != NULL ? i + 1 : i; k < count; k++)
				sluice_release(call->messages[k]);
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, i, message);
	}
	return list;
}

static PyObject *receive_batch(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"max_messages", "max_bytes", "linger", "timeout", NULL};
	Py_ssize_t max_messages = BATCH_DEFAULT;
	unsigned long long max_bytes = 0;
	double linger = 0;
	PyObject *max_bytes_given = Py_None;
	PyObject *timeout = Py_None;
	int64_t timeout_ns;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$nOdO:receive_batch", names, &max_messages,
		    &max_bytes_given, &linger, &timeout) ||
		convert_timeout(timeout, &timeout_ns) != 0)
		return NULL;
	if (max_bytes_given != Py_None) {
		uint64_t given;
		if (convert_u64(max_bytes_given, &given) != 0)
			return NULL;
		max_bytes = given;
	}
	if (max_messages < 1 || max_messages > BATCH_MOST || !(linger >= 0)) {
		PyErr_Format(PyExc_ValueError, "max_messages is 1 to %d, linger 0 seconds or more", BATCH_MOST);
		return NULL;
	}
	const struct sluice_message *on_stack[BATCH_ON_STACK];
	struct batch_call call = {
		.max_messages = (size_t)max_messages,
		.max_bytes = max_bytes,
		.linger_ns = linger < 9e9 ? (int64_t)(linger * 1e9) : SLUICE_FOREVER,
		.messages = on_stack,
	};
	if (max_messages > BATCH_ON_STACK)
		call.messages = PyMem_Malloc((size_t)max_messages * sizeof(const struct sluice_message *));
	if (call.messages == NULL)
		return PyErr_NoMemory();
	PyObject *list = receive_messages((struct handle *)object, &call, timeout_ns);
	if (call.messages != on_stack)
		PyMem_Free(call.messages);
	return list;
}

/* ---- the rest ---- */

struct wait_call {
	struct sluice_consumer *consumer;
	uint32_t count;
};

static int wait_once(void *context, int64_t timeout_ns)
{
	const struct wait_call *call = context;
	return sluice_consumer_wait(call->consumer, call->count, timeout_ns);
}

static PyObject *wait_producers(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"count", "timeout", NULL};
	struct handle *self = (struct handle *)object;
	unsigned int count = 1;
	PyObject *timeout = Py_None;
	int64_t timeout_ns;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|IO:wait_producers", names, &count, &timeout) ||
		convert_timeout(timeout, &timeout_ns) != 0 || handle_enter(self) != 0)
		return NULL;
	struct wait_call call = {self->open, count};
	int result = wait_once(&call, 0);
	if (result == -EAGAIN && timeout_ns != 0)
		result = handle_wait(self, timeout_ns, wait_once, &call);
	if (result >= 0)
		return PyLong_FromLong(result);
	if (result == -EAGAIN)
		return errors_raise(-ETIMEDOUT, "fewer than %u producers are in channel %R", count, self->name);
	return result == HANDLE_RAISED ? NULL : errors_raise(result, NULL);
}

static PyObject *fault(PyObject *object, PyObject *unused)
{
	(void)unused;
	struct handle *self = (struct handle *)object;
	struct sluice_fault fault;
	if (handle_enter(self) != 0)
		return NULL;
	int error = sluice_consumer_fault(self->open, &fault);
	if (error == -ENOENT)
		Py_RETURN_NONE;
	if (error != 0)
		return errors_raise(error, NULL);
	return Py_BuildValue("{s:I,s:I,s:I,s:s,s:K,s:s}", "slot", fault.slot, "incarnation", fault.incarnation, "pid",
		fault.pid, "program", fault.program, "sequence", (unsigned long long)fault.sequence, "reason",
		fault.reason);
}

static PyObject *get_geometry(PyObject *object, void *unused)
{
	(void)unused;
	struct handle *self = (struct handle *)object;
	struct sluice_geometry geometry;
	if (handle_enter(self) != 0)
		return NULL;
	return handle_geometry(sluice_consumer_geometry(self->open, &geometry), &geometry);
}

static PyObject *get_held(PyObject *object, void *unused)
{
	(void)unused;
	Py_ssize_t count = 0;
	for (const struct hold *hold = ((struct handle *)object)->holds; hold != NULL; hold = hold->next)
		count++;
	return PyLong_FromSsize_t(count);
}

static PyMemberDef members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct handle, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
	{"receive", METHOD(receive), METH_FASTCALL | METH_KEYWORDS,
		"receive(timeout=None)\n--\n\nTakes the next message: a Message, this consumer's until it is "
		"released.\n\ntimeout: "
		"seconds, None for ever, 0 not at all. Waits without the interpreter's lock; signal handlers "
		"run.\n\nEmpty (timeout "
		"0), Timeout, EndOfStream (end_of_stream), PeerDied (report_gone), BadMessage (a producer wrote "
		"rubbish: call again), "
		"Stale (open again), Busy, Closed, Forked."},
	{"receive_batch", METHOD(receive_batch), METH_VARARGS | METH_KEYWORDS,
		"receive_batch(*, max_messages=64, max_bytes=None, linger=0, timeout=None)\n--\n\nTakes up to so many "
		"messages, and "
		"payload bytes, but one at least: a list.\n\nWaits up to timeout seconds for the first and linger "
		"seconds more for "
		"the rest, unless a producer whose messages it has waits for room. Errors as of receive."},
	{"recv", METHOD(recv), METH_FASTCALL | METH_KEYWORDS,
		"recv(timeout=None)\n--\n\nTakes the next message as a dict of its tensors by name, in order; it is "
		"released when the "
		"last of them and their views is gone. Errors as of receive."},
	{"wait_producers", METHOD(wait_producers), METH_VARARGS | METH_KEYWORDS,
		"wait_producers(count=1, timeout=None)\n--\n\nWaits until so many producers are in the channel. "
		"Returns how many there "
		"are. Timeout, Closed, Forked, Busy."},
	{"fault", fault, METH_NOARGS, "fault()\n--\n\nWho wrote what the last BadMessage was about: a dict, or None."},
	{"close", METHOD(close_method), METH_VARARGS | METH_KEYWORDS,
		"close(give_back=False)\n--\n\nLeaves the channel. Messages that are still held count as done with, or "
		"with "
		"give_back=True go to another consumer. Again is fine.\n\nBufferError while views are alive; Busy "
		"while another "
		"thread is in a call. A `with` block that ends while views are alive closes when the last of them is "
		"gone; one that "
		"ends by an exception gives back."},
	{"cuda", METHOD(cuda_enable), METH_VARARGS | METH_KEYWORDS, CUDA_ENABLE_DOC},
	{"cuda_detach", cuda_detach, METH_NOARGS, CUDA_DETACH_DOC},
	{"__enter__", handle_on_enter, METH_NOARGS, NULL},
	{"__exit__", METHOD(handle_on_exit), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
	{"name", handle_get_name, NULL, "Name of the channel.", NULL},
	{"closed", handle_get_closed, NULL, "True once it was closed.", NULL},
	{"geometry", get_geometry, NULL, "Geometry: the channel's mode and its default sizes.", NULL},
	{"held", get_held, NULL, "How many messages it has received and not released.", NULL},
	{"cuda_status", cuda_get_status, NULL, CUDA_STATUS_DOC, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static const char doc[] =
	"Consumer(name, *, end_of_stream=False, expected_producers=1, start_newest=False, quantum_messages=None,\n"
	"         quantum_bytes=None, report_gone=False, prefault=False, spin=\"learn\", **channel)\n--\n\n"
	"Joins a channel as a consumer, creating it if need be. Iterating receives: `for message in consumer`.\n\n"
	"end_of_stream: iterating ends, and receive raises EndOfStream, when all producers closed and nothing is left, "
	"but not\n"
	"before expected_producers have closed. start_newest: in a broadcast, skip what was published before. "
	"quantum_...: taken\n"
	"from one producer before the next has its turn (32 messages, 1 MiB). report_gone: a call that would wait "
	"raises PeerDied\n"
	"when the last producer is gone. spin: as of Producer. Options of the channel: see docs/python.md.\n\n"
	"One thread at a time: a second one gets Busy; messages may be released from any. After fork the child's copy "
	"raises\n"
	"Forked, and views that it inherited stay readable.";

static PyType_Slot slots[] = {
	{Py_tp_new, SLOT(new_consumer)},
	{Py_tp_dealloc, SLOT(dealloc)},
	{Py_tp_repr, SLOT(handle_repr)},
	{Py_tp_iter, SLOT(PyObject_SelfIter)},
	{Py_tp_iternext, SLOT(next)},
	{Py_tp_members, members},
	{Py_tp_methods, methods},
	{Py_tp_getset, attributes},
	{Py_tp_doc, (void *)(uintptr_t)doc},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "sluice._sluice.Consumer",
	.basicsize = sizeof(struct handle),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int consumer_init(PyObject *module)
{
	consumer_type = module_add_type(module, &spec);
	return consumer_type != NULL ? 0 : -1;
}
