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

struct consumer {
	struct handle handle;
	/* Messages of a batch that the exception of a signal handler cut short. Calls hand them out before others. */
	const struct sluice_message **kept;
	size_t kept_count;
	size_t kept_next;
};

static int open_consumer(const struct options *options, void **ret_open)
{
	struct sluice_consumer *consumer;
	int error = sluice_consumer_open(options->name_text, &options->consumer, &consumer);
	if (error == 0)
		*ret_open = consumer;
	return error;
}

static int close_consumer(void *open)
{
	return sluice_consumer_close(open);
}

static int check_consumer(void *open)
{
	struct sluice_geometry geometry;
	return sluice_consumer_geometry(open, &geometry);
}

static int wait_for_producers(void *open, uint32_t count, int64_t timeout_ns)
{
	return sluice_consumer_wait(open, count, timeout_ns);
}

static const struct handle_kind kind = {
	"Consumer", "producers", open_consumer, close_consumer, check_consumer, wait_for_producers};

/* ---- open and close ---- */

static PyObject *new_consumer(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	struct options options;
	PyObject *self = NULL;
	if (options_of_consumer(arguments, keywords, &options) == 0)
		self = handle_new(type, &kind, &options, options.consumer.spin_ns);
	options_clear(&options);
	return self;
}

static void dealloc(PyObject *object)
{
	handle_dealloc((struct handle *)object);
	PyMem_Free(((struct consumer *)object)->kept);
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

/* ---- messages that were kept ---- */

static inline bool has_kept(const struct handle *self)
{
	const struct consumer *consumer = (const struct consumer *)self;
	return __builtin_expect(consumer->kept_next < consumer->kept_count, 0);
}

/* Keeps them for the calls to come. Without memory for that they go back to the channel when the consumer leaves. */
static void keep(struct handle *self, const struct sluice_message *const *messages, size_t count)
{
	struct consumer *consumer = (struct consumer *)self;
	PyMem_Free(consumer->kept);
	consumer->kept = PyMem_Malloc(count * sizeof(const struct sluice_message *));
	consumer->kept_count = consumer->kept != NULL ? count : 0;
	consumer->kept_next = 0;
	for (size_t i = 0; i < consumer->kept_count; i++)
		consumer->kept[i] = messages[i];
}

static uint64_t bytes_of(const struct sluice_message *message)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < sluice_tensor_count(message); i++)
		bytes += sluice_tensor(message, i)->bytes;
	return bytes;
}

/* Up to `most` of those that were kept, of `max_bytes` (0: any) but one at least. How many, or a negative errno. */
static int take_kept(struct handle *self, size_t most, uint64_t max_bytes, const struct sluice_message **ret_messages)
{
	struct consumer *consumer = (struct consumer *)self;
	int error = self->kind->check(self->open);
	if (error < 0)
		return error;
	size_t count = 0;
	uint64_t bytes = 0;
	while (count < most && consumer->kept_next < consumer->kept_count) {
		const struct sluice_message *message = consumer->kept[consumer->kept_next];
		bytes += bytes_of(message);
		if (count > 0 && max_bytes != 0 && bytes > max_bytes)
			break;
		consumer->kept_next++;
		ret_messages[count++] = message;
	}
	return (int)count;
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
		return errors_raise_empty(
			"no message is waiting in channel %R: call again, or give a time-out", self->name);
	if (error == -ETIMEDOUT)
		return handle_raise_timeout(self, "no message came");
	return error == -EBADMSG ? raise_fault(self) : errors_raise(error, NULL);
}

/* Takes the next message, or returns a negative errno or HANDLE_RAISED. */
static inline int next_message(struct handle *self, int64_t timeout_ns, const struct sluice_message **ret_message)
{
	*ret_message = NULL;
	if (handle_enter(self) != 0)
		return HANDLE_RAISED;
	if (__builtin_expect(self->cuda != NULL, 0))
		cuda_retry(self);
	if (has_kept(self)) {
		int count = take_kept(self, 1, 0, ret_message);
		return count < 0 ? count : 0;
	}
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
	return convert_timeout("timeout", arguments[0], ret_timeout_ns);
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
	const struct sluice_message **messages;
	size_t count; /* of those that it has */
};

static int receive_batch_once(void *context, int64_t timeout_ns)
{
	const struct batch_call *call = context;
	return sluice_receive_batch(call->consumer, call->max_messages, call->max_bytes, 0, timeout_ns, call->messages);
}

static int receive_more_once(void *context, int64_t linger_ns)
{
	const struct batch_call *call = context;
	return sluice_receive_more(
		call->consumer, call->count, call->max_messages, call->max_bytes, linger_ns, call->messages);
}

/*
 * Lingers over a batch, in slices, for signal handlers to run in between. Where one raises an exception the messages are
 * kept, since the program has not seen them. Returns how many there are then, or HANDLE_RAISED.
 */
static int linger(struct handle *self, struct batch_call *call, int64_t linger_ns)
{
	int64_t start_ns = handle_now_ns();
	int64_t left_ns = linger_ns;
	while (call->count < call->max_messages && left_ns > 0) {
		int64_t slice_ns = left_ns < self->slice_ns ? left_ns : self->slice_ns;
		int64_t slice_start_ns = handle_now_ns();
		int count = handle_call(self, slice_ns, receive_more_once, call);
		if (count > 0)
			call->count = (size_t)count;
		if (PyErr_CheckSignals() != 0 || handle_enter(self) != 0) {
			if (self->open != NULL) /* else they went back */
				keep(self, call->messages, call->count);
			return HANDLE_RAISED;
		}
		int64_t now_ns = handle_now_ns();
		if (now_ns - slice_start_ns < slice_ns)
			break; /* it is full, or a producer waits for room, or the next call will say what */
		left_ns = linger_ns == SLUICE_FOREVER ? linger_ns : linger_ns - (now_ns - start_ns);
	}
	return (int)call->count;
}

/* The first messages of a batch. How many, a negative errno or HANDLE_RAISED. */
static int begin_batch(struct handle *self, struct batch_call *call, int64_t timeout_ns)
{
	if (has_kept(self))
		return take_kept(self, call->max_messages, call->max_bytes, call->messages);
	int count = receive_batch_once(call, 0);
	if (count == -EAGAIN && timeout_ns != 0)
		count = handle_wait(self, timeout_ns, receive_batch_once, call);
	return count;
}

static PyObject *receive_messages(struct handle *self, struct batch_call *call, int64_t linger_ns, int64_t timeout_ns)
{
	if (handle_enter(self) != 0)
		return NULL;
	if (__builtin_expect(self->cuda != NULL, 0))
		cuda_retry(self);
	if (linger_ns != 0 && self->polled) {
		handle_refuse(self);
		return NULL;
	}
	call->consumer = self->open;
	int count = begin_batch(self, call, timeout_ns);
	if (count > 0 && linger_ns != 0) {
		call->count = (size_t)count;
		count = linger(self, call, linger_ns);
	}
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

static int convert_linger(PyObject *value, int64_t *ret_ns)
{
	if (value == Py_None) {
		PyErr_SetString(PyExc_TypeError, "linger is a number of seconds from 0, not NoneType");
		return -1;
	}
	if (convert_timeout("linger", value, ret_ns) != 0)
		return -1;
	if (*ret_ns >= 0)
		return 0;
	errors_raise(-EINVAL, "linger is %R; it is a number of seconds from 0", value);
	return -1;
}

static PyObject *receive_batch(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"max_messages", "max_bytes", "linger", "timeout", NULL};
	PyObject *given_messages = NULL, *given_bytes = Py_None, *lingering = NULL, *timeout = Py_None;
	uint64_t max_messages = BATCH_DEFAULT, max_bytes = 0;
	int64_t linger_ns = 0, timeout_ns;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO:receive_batch", names, &given_messages,
		    &given_bytes, &lingering, &timeout) ||
		convert_timeout("timeout", timeout, &timeout_ns) != 0 ||
		convert_number("max_messages", given_messages, 1, BATCH_MOST, &max_messages) != 0 ||
		(given_bytes != Py_None && convert_u64("max_bytes", given_bytes, &max_bytes) != 0) ||
		(lingering != NULL && convert_linger(lingering, &linger_ns) != 0))
		return NULL;
	const struct sluice_message *on_stack[BATCH_ON_STACK];
	struct batch_call call = {
		.max_messages = (size_t)max_messages,
		.max_bytes = max_bytes,
		.messages = on_stack,
	};
	if (call.max_messages > BATCH_ON_STACK)
		call.messages = PyMem_Malloc(call.max_messages * sizeof(const struct sluice_message *));
	if (call.messages == NULL)
		return PyErr_NoMemory();
	PyObject *list = receive_messages((struct handle *)object, &call, linger_ns, timeout_ns);
	if (call.messages != on_stack)
		PyMem_Free(call.messages);
	return list;
}

/* ---- the rest ---- */

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

static PyMethodDef methods[] = {
	{"receive", METHOD(receive), METH_FASTCALL | METH_KEYWORDS,
		"receive($self, timeout=None)\n--\n\nTakes the next message: a Message, this consumer's until it is "
		"released.\n\ntimeout: "
		"seconds, None for ever, 0 not at all. Waits without the interpreter's lock; signal handlers "
		"run.\n\nEmpty (timeout "
		"0), Timeout, EndOfStream (end_of_stream), PeerDied (report_gone), BadMessage (a producer wrote "
		"rubbish: call again), "
		"Stale (open again), Busy, Closed, Forked."},
	{"receive_batch", METHOD(receive_batch), METH_VARARGS | METH_KEYWORDS,
		"receive_batch($self, *, max_messages=64, max_bytes=None, linger=0, timeout=None)\n--\n\nTakes up to "
		"so many "
		"messages, and "
		"payload bytes, but one at least: a list.\n\nWaits up to timeout seconds for the first and linger "
		"seconds more for "
		"the rest, unless a producer whose messages it has waits for room. Errors as of receive."},
	{"recv", METHOD(recv), METH_FASTCALL | METH_KEYWORDS,
		"recv($self, timeout=None)\n--\n\nTakes the next message as a dict of its tensors by name, in order; "
		"it is "
		"released when the "
		"last of them and their views is gone. Errors as of receive."},
	{"wait_producers", METHOD(handle_wait_counterparts), METH_VARARGS | METH_KEYWORDS,
		"wait_producers($self, count=1, timeout=None)\n--\n\nWaits until so many producers are in the channel. "
		"Returns how many there "
		"are. Timeout, Closed, Forked, Busy."},
	{"fault", fault, METH_NOARGS,
		"fault($self)\n--\n\nWho wrote what the last BadMessage was about: a dict, or None."},
	{"close", METHOD(close_method), METH_VARARGS | METH_KEYWORDS,
		"close($self, give_back=False)\n--\n\nLeaves the channel. Messages that are still held count as done "
		"with, or "
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
	{"_stat_call", handle_get_stat_call, NULL, NULL, NULL},
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
	{Py_tp_members, handle_members},
	{Py_tp_methods, methods},
	{Py_tp_getset, attributes},
	{Py_tp_doc, (void *)(uintptr_t)doc},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "sluice._sluice.Consumer",
	.basicsize = sizeof(struct consumer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int consumer_init(PyObject *module)
{
	consumer_type = module_add_type(module, &spec);
	return consumer_type != NULL ? 0 : -1;
}
