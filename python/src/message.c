/* SPDX-License-Identifier: Apache-2.0 */
/* Reservation and Message: their methods and attributes. */
#include "message.h"

#include <errno.h>
#include <stddef.h>

#include "convert.h"
#include "cuda.h"
#include "errors.h"
#include "tensor.h"

PyTypeObject *reservation_type;
PyTypeObject *message_type;
PyTypeObject *stamps_type;

/* ---- methods ---- */

static PyObject *finish(struct hold *hold, int (*call)(struct sluice_message *message), const char *fate)
{
	if (hold_check(hold) != 0)
		return NULL;
	if (hold->handle->busy) {
		handle_refuse(hold->handle);
		return NULL;
	}
	if (hold->exports > 0 && hold_live_views(hold) > 0) {
		return hold_refuse_views(hold, fate);
	}
	struct sluice_message *message = hold->message;
	int error = call(message);
	if (error != 0) {
		if (error == -ESTALE)
			hold_forget(hold, "taken back");
		return errors_raise(error, NULL);
	}
	hold_forget(hold, fate);
	Py_RETURN_NONE;
}

static PyObject *publish(PyObject *self, PyObject *unused)
{
	(void)unused;
	return finish((struct hold *)self, sluice_publish, "published");
}

static PyObject *discard(PyObject *self, PyObject *unused)
{
	(void)unused;
	return finish((struct hold *)self, sluice_discard, "discarded");
}

/* Behind `stream` (NULL: none was given) where the consumer has CUDA, else now. */
static PyObject *release_behind(struct hold *hold, PyObject *stream)
{
	if (hold_check(hold) != 0)
		return NULL;
	if (hold->exports > 0 && hold_live_views(hold) > 0) {
		return hold_refuse_views(hold, "released");
	}
	if (hold->handle->cuda != NULL || stream != NULL)
		return cuda_release(hold, stream);
	int error = hold_let_go(hold);
	if (error != 0)
		return errors_raise(error, NULL);
	Py_RETURN_NONE;
}

static PyObject *release(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
	PyObject *stream = NULL;
	if (cuda_parse_stream_argument("release", arguments, count, names, &stream) != 0)
		return NULL;
	return release_behind((struct hold *)self, stream);
}

static PyObject *enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return hold_check((struct hold *)self) == 0 ? new_reference(self) : NULL;
}

static PyObject *exit_reservation(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct hold *hold = (struct hold *)self;
	bool failed = count > 0 && arguments[0] != Py_None;
	if (hold->message == NULL && hold->lost && !failed)
		return errors_raise(-EBADF, "the producer of channel %R was closed before this message was published",
			hold->handle->name);
	if (hold->message == NULL)
		Py_RETURN_NONE;
	if (!failed)
		return publish(self, NULL);
	hold->given_up = hold_live_views(hold) > 0;
	if (!hold->given_up)
		(void)hold_let_go(hold); /* the exception under way says more */
	Py_RETURN_NONE;
}

static PyObject *exit_message(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct hold *hold = (struct hold *)self;
	bool failed = count > 0 && arguments[0] != Py_None;
	if (hold->message == NULL)
		Py_RETURN_NONE;
	hold->given_up = hold->exports > 0 && hold_live_views(hold) > 0;
	if (!hold->given_up)
		return release_behind(hold, NULL);
	if (!failed) {
		hold_refuse_views(hold, "released; it will be when the last of them is gone");
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *listed(PyObject *self, bool names, bool tensors);

static void raise_unknown(struct hold *hold, PyObject *key)
{
	PyObject *names = listed((PyObject *)hold, true, false);
	PyObject *text =
		names != NULL ? PyUnicode_FromFormat("no tensor %R in the message: it has %R", key, names) : NULL;
	if (text != NULL)
		PyErr_SetObject(PyExc_KeyError, text);
	Py_XDECREF(text);
	Py_XDECREF(names);
}

/* The place of the tensor that `key` names or counts. 1: there is none, and nothing is raised. */
static int find_tensor(struct hold *hold, PyObject *key, uint32_t *ret_index)
{
	if (hold_check(hold) != 0)
		return -1;
	uint32_t count = sluice_tensor_count(hold->message);
	if (PyUnicode_Check(key)) {
		const char *name = PyUnicode_AsUTF8(key);
		if (name == NULL)
			return -1;
		for (*ret_index = 0; *ret_index < count; ++*ret_index)
			if (strcmp(sluice_tensor(hold->message, *ret_index)->name, name) == 0)
				return 0;
		return 1;
	}
	if (!PyIndex_Check(key)) {
		PyErr_Format(PyExc_TypeError,
			"a tensor is looked up by its name or its place, a whole number, not by %.100s",
			Py_TYPE(key)->tp_name);
		return -1;
	}
	Py_ssize_t index = PyNumber_AsSsize_t(key, NULL);
	if (index == -1 && PyErr_Occurred() != NULL)
		return -1;
	if (index < 0)
		index += count;
	if (index < 0 || index >= (Py_ssize_t)count)
		return 1;
	*ret_index = (uint32_t)index;
	return 0;
}

/* The same, but where there is none it raises KeyError or IndexError. */
static int tensor_index(struct hold *hold, PyObject *key, uint32_t *ret_index)
{
	int result = find_tensor(hold, key, ret_index);
	if (result <= 0)
		return result;
	uint32_t count = sluice_tensor_count(hold->message);
	if (PyUnicode_Check(key))
		raise_unknown(hold, key);
	else
		PyErr_Format(PyExc_IndexError, "no tensor %R in the message: it has %u tensor%s", key, (unsigned)count,
			errors_plural(count));
	return -1;
}

static PyObject *subscript(PyObject *self, PyObject *key)
{
	struct hold *hold = (struct hold *)self;
	uint32_t index;
	if (tensor_index(hold, key, &index) != 0)
		return NULL;
	return tensor_new(hold, sluice_tensor(hold->message, index));
}

/* m["x"] = array, and what m["x"] += 1 ends with. */
static int assign_subscript(PyObject *self, PyObject *key, PyObject *value)
{
	struct hold *hold = (struct hold *)self;
	uint32_t index;
	if (value == NULL) {
		PyErr_SetString(PyExc_TypeError, "a message's tensors cannot be deleted");
		return -1;
	}
	if (tensor_index(hold, key, &index) != 0)
		return -1;
	PyObject *tensor = tensor_new(hold, sluice_tensor(hold->message, index));
	if (tensor == NULL)
		return -1;
	int result = tensor_assign((struct tensor *)tensor, value);
	Py_DECREF(tensor);
	return result;
}

static PyObject *shrink(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct hold *hold = (struct hold *)self;
	uint32_t index;
	if (count != 2) {
		PyErr_SetString(PyExc_TypeError, "shrink(name, first): the tensor's name and its new first dimension");
		return NULL;
	}
	if (!PyIndex_Check(arguments[1]))
		return PyErr_Format(
			PyExc_TypeError, "first is a whole number, not %.100s", Py_TYPE(arguments[1])->tp_name);
	Py_ssize_t first = PyNumber_AsSsize_t(arguments[1], PyExc_OverflowError);
	if ((first == -1 && PyErr_Occurred() != NULL) || tensor_index(hold, arguments[0], &index) != 0)
		return NULL;
	int error = sluice_shrink(hold->message, index, first);
	if (error == -EINVAL)
		return errors_raise(error,
			"tensor %R cannot be shrunk to %zd: its first dimension is what was reserved or less, and "
			"a scalar has none",
			arguments[0], first);
	if (error != 0)
		return errors_raise(error, NULL);
	Py_RETURN_NONE;
}

static PyObject *name_of(struct hold *hold, uint32_t index)
{
	const char *name = sluice_tensor(hold->message, index)->name;
	return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "surrogateescape");
}

static Py_ssize_t length(PyObject *self)
{
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? (Py_ssize_t)sluice_tensor_count(hold->message) : -1;
}

/* List of names, of tensors, or of both. */
static PyObject *listed(PyObject *self, bool names, bool tensors)
{
	struct hold *hold = (struct hold *)self;
	Py_ssize_t count = length(self);
	PyObject *list = count >= 0 ? PyList_New(count) : NULL;
	for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
		PyObject *name = names ? name_of(hold, (uint32_t)i) : NULL;
		PyObject *tensor = tensors ? tensor_new(hold, sluice_tensor(hold->message, (uint32_t)i)) : NULL;
		PyObject *item = names && tensors ? Py_BuildValue("(NN)", name, tensor) : names ? name : tensor;
		if (item == NULL)
			Py_CLEAR(list);
		else
			PyList_SET_ITEM(list, i, item);
	}
	return list;
}

static PyObject *keys(PyObject *self, PyObject *unused)
{
	(void)unused;
	return listed(self, true, false);
}

static PyObject *values(PyObject *self, PyObject *unused)
{
	(void)unused;
	return listed(self, false, true);
}

static PyObject *items(PyObject *self, PyObject *unused)
{
	(void)unused;
	return listed(self, true, true);
}

static PyObject *iterate(PyObject *self)
{
	PyObject *list = listed(self, true, false);
	PyObject *iterator = list != NULL ? PyObject_GetIter(list) : NULL;
	Py_XDECREF(list);
	return iterator;
}

static int contains(PyObject *self, PyObject *key)
{
	uint32_t index;
	int result = find_tensor((struct hold *)self, key, &index);
	return result < 0 ? -1 : result == 0;
}

static PyObject *repr(PyObject *self)
{
	struct hold *hold = (struct hold *)self;
	const char *noun = hold->reserved ? "Reservation" : "Message";
	if (hold->message == NULL)
		return PyUnicode_FromFormat("<sluice.%s of channel %R, %s>", noun, hold->handle->name, hold->fate);
	PyObject *list = listed(self, true, false);
	if (list == NULL)
		return NULL;
	PyObject *text = PyUnicode_FromFormat("<sluice.%s of channel %R: %R>", noun, hold->handle->name, list);
	Py_DECREF(list);
	return text;
}

/* ---- what travels beside the tensors ---- */

int hold_parse_metadata(const struct hold_metadata *metadata, struct hold_values *ret_values)
{
	*ret_values = (struct hold_values){0};
	if (metadata->correlation_id != NULL &&
		convert_u64("correlation_id", metadata->correlation_id, &ret_values->correlation_id) != 0)
		return -1;
	if (metadata->deadline != NULL && convert_deadline_ns(metadata->deadline, &ret_values->deadline_ns) != 0)
		return -1;
	return metadata->traceparent != NULL ? convert_trace(metadata->traceparent, &ret_values->trace) : 0;
}

static PyObject *get_correlation_id(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? PyLong_FromUnsignedLongLong(sluice_correlation_id(hold->message)) : NULL;
}

static PyObject *get_deadline(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? convert_deadline(sluice_deadline(hold->message)) : NULL;
}

static PyObject *get_traceparent(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	if (hold_check(hold) != 0)
		return NULL;
	struct sluice_trace trace;
	sluice_trace(hold->message, &trace);
	return convert_traceparent(&trace);
}

/* Of a deleted attribute: as it was at first. */
static PyObject *value_or(PyObject *value, PyObject *otherwise)
{
	return value != NULL ? value : otherwise;
}

static int set_correlation_id(PyObject *self, PyObject *value, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	uint64_t id = 0;
	if ((value != NULL && convert_u64("correlation_id", value, &id) != 0) || hold_check(hold) != 0)
		return -1;
	return sluice_set_correlation_id(hold->message, id);
}

static int set_deadline(PyObject *self, PyObject *value, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	uint64_t deadline_ns;
	if (convert_deadline_ns(value_or(value, Py_None), &deadline_ns) != 0 || hold_check(hold) != 0)
		return -1;
	return sluice_set_deadline(hold->message, deadline_ns);
}

static int set_traceparent(PyObject *self, PyObject *value, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	struct sluice_trace trace;
	if (convert_trace(value_or(value, Py_None), &trace) != 0 || hold_check(hold) != 0)
		return -1;
	return sluice_set_trace(hold->message, &trace);
}

static PyObject *get_sequence(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? PyLong_FromUnsignedLongLong(sluice_sequence(hold->message)) : NULL;
}

static PyObject *get_origin(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? PyLong_FromUnsignedLongLong(sluice_origin(hold->message)) : NULL;
}

static PyObject *get_deliveries(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	return hold_check(hold) == 0 ? PyLong_FromUnsignedLong(sluice_delivery_count(hold->message)) : NULL;
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	if (hold_check(hold) != 0)
		return NULL;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < sluice_tensor_count(hold->message); i++)
		bytes += sluice_tensor(hold->message, i)->bytes;
	return PyLong_FromUnsignedLongLong(bytes);
}

static PyObject *stamp(uint64_t ns)
{
	return ns != 0 ? PyLong_FromUnsignedLongLong(ns) : new_reference(Py_None);
}

static PyObject *get_stamps(PyObject *self, void *unused)
{
	(void)unused;
	struct hold *hold = (struct hold *)self;
	if (hold_check(hold) != 0)
		return NULL;
	struct sluice_stamps stamps;
	sluice_stamps(hold->message, &stamps);
	PyObject *values = PyStructSequence_New(stamps_type);
	if (values == NULL)
		return NULL;
	PyStructSequence_SetItem(values, 0, stamp(stamps.reserve_ns));
	PyStructSequence_SetItem(values, 1, stamp(stamps.publish_ns));
	PyStructSequence_SetItem(values, 2, stamp(stamps.receive_ns));
	return values;
}

static PyObject *get_alive(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(((struct hold *)self)->message != NULL);
}

/* ---- the types ---- */

/* What both types have. */
#define COMMON_METHODS                                                                                                 \
	{"keys", keys, METH_NOARGS, "keys($self)\n--\n\nNames of the tensors, in order: a list."},                     \
		{"values", values, METH_NOARGS, "values($self)\n--\n\nThe tensors, in order: a list."},                \
		{"items", items, METH_NOARGS, "items($self)\n--\n\nNames and tensors, in order: a list of pairs."},    \
	{                                                                                                              \
		"__enter__", enter, METH_NOARGS, NULL                                                                  \
	}

#define COMMON_ATTRIBUTES(set_id, set_until, set_context)                                                              \
	{"correlation_id", get_correlation_id, set_id,                                                                 \
		"Number that travels with the message, 0 to 2**64 - 1; 0 at first.", NULL},                            \
		{"deadline", get_deadline, set_until,                                                                  \
			"Time of time.monotonic(), in seconds, or None. Carried; nothing is compared.", NULL},         \
		{"traceparent", get_traceparent, set_context,                                                          \
			"W3C trace context, version 00, as the header's text; or None.", NULL},                        \
		{"sequence", get_sequence, NULL, "Place in its producer's order, from 0 without holes.", NULL},        \
	{                                                                                                              \
		"nbytes", get_nbytes, NULL, "Payload: bytes of all tensors.", NULL                                     \
	}

static PyMemberDef members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct hold, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef reservation_methods[] = {
	{"publish", publish, METH_NOARGS,
		"publish($self)\n--\n\nHands the message over to the consumers. Never blocks.\n\nBufferError while "
		"views of "
		"its memory "
		"are alive beside those that only its Tensors keep; Released if it is over."},
	{"discard", discard, METH_NOARGS,
		"discard($self)\n--\n\nGives the reservation back as if it had never been. Errors as of publish."},
	{"shrink", METHOD(shrink), METH_FASTCALL,
		"shrink($self, name, first, /)\n--\n\nSets the first dimension of a tensor, from 0 up to what was "
		"reserved. "
		"Data stays where "
		"it lies; the bytes go back to the lane at publish. Tensors taken before keep their old shape."},
	COMMON_METHODS,
	{"__exit__", METHOD(exit_reservation), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef reservation_attributes[] = {
	COMMON_ATTRIBUTES(set_correlation_id, set_deadline, set_traceparent),
	{"alive", get_alive, NULL, "True until it is published or discarded.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef message_methods[] = {
	{"release", METHOD(release), METH_FASTCALL | METH_KEYWORDS,
		"release($self, stream=None)\n--\n\nGives the message's memory back to its producer. From any thread. "
		"Never "
		"blocks.\n\nWith CUDA enabled: when the stream has done what it was given so far, and others what they "
		"uploaded or had a view for. stream: as of to_cuda; without one, torch's current stream if there were "
		"views of the message, else the one that it was uploaded on, else at once.\n\nBufferError "
		"while views are alive beside those that only its Tensors keep; Released if it is over; Stale if "
		"another consumer "
		"has it by now; CudaError, and it is held as before."},
	{"to_cuda", METHOD(cuda_upload_message), METH_VARARGS | METH_KEYWORDS, CUDA_UPLOAD_MESSAGE_DOC},
	COMMON_METHODS,
	{"__exit__", METHOD(exit_message), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef message_attributes[] = {
	COMMON_ATTRIBUTES(NULL, NULL, NULL),
	{"origin", get_origin, NULL, "Number of the producer: messages with the same one came through the same lane.",
		NULL},
	{"deliveries", get_deliveries, NULL, "How often it was handed out, this time included: 1 at first.", NULL},
	{"stamps", get_stamps, NULL, "Stamps: when it was reserved, published and received.", NULL},
	{"alive", get_alive, NULL, "True until it is released.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static const char reservation_doc[] =
	"A message that is being filled: m[\"name\"] is a writable Tensor, m[\"name\"] = array copies one in.\n\n"
	"Made by Producer.reserve. `with` publishes it at the end of the block, or discards it on an exception. It is\n"
	"discarded, too, when the last reference to it is gone. Belongs to the thread that has the producer.";
static const char message_doc[] = "A received message: m[\"name\"] is a read-only Tensor; m[0] the first.\n\n"
				  "It is released at the end of a `with` block, by release(), or when the last "
				  "reference to it, its tensors and views\n"
				  "is gone. A view keeps it: releasing it earlier is refused with BufferError.";

#define COMMON_SLOTS                                                                                                   \
	{Py_tp_new, SLOT(module_no_new)}, {Py_tp_dealloc, SLOT(hold_dealloc)}, {Py_tp_members, members},               \
		{Py_tp_repr, SLOT(repr)}, {Py_tp_iter, SLOT(iterate)}, {Py_mp_subscript, SLOT(subscript)},             \
		{Py_mp_length, SLOT(length)},                                                                          \
	{                                                                                                              \
		Py_sq_contains, SLOT(contains)                                                                         \
	}

static PyType_Slot reservation_slots[] = {
	COMMON_SLOTS,
	{Py_mp_ass_subscript, SLOT(assign_subscript)},
	{Py_tp_methods, reservation_methods},
	{Py_tp_getset, reservation_attributes},
	{Py_tp_doc, (void *)(uintptr_t)reservation_doc},
	{0, NULL},
};

static PyType_Slot message_slots[] = {
	COMMON_SLOTS,
	{Py_tp_methods, message_methods},
	{Py_tp_getset, message_attributes},
	{Py_tp_doc, (void *)(uintptr_t)message_doc},
	{0, NULL},
};

static PyType_Spec reservation_spec = {
	.name = "sluice.Reservation",
	.basicsize = sizeof(struct hold),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = reservation_slots,
};

static PyType_Spec message_spec = {
	.name = "sluice.Message",
	.basicsize = sizeof(struct hold),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = message_slots,
};

static PyStructSequence_Field stamp_fields[] = {
	{"reserve_ns", "when the producer got the memory"},
	{"publish_ns", "when it handed the message over"},
	{"receive_ns", "when this consumer took it"},
	{NULL, NULL},
};

static PyStructSequence_Desc stamps_desc = {
	.name = "sluice.Stamps",
	.doc = "When things happened to a message: time.monotonic_ns(), or None for a stamp that was not taken.",
	.fields = stamp_fields,
	.n_in_sequence = 3,
};

int message_init(PyObject *module)
{
	reservation_type = module_add_type(module, &reservation_spec);
	message_type = module_add_type(module, &message_spec);
	stamps_type = PyStructSequence_NewType(&stamps_desc);
	if (reservation_type == NULL || message_type == NULL || stamps_type == NULL)
		return -1;
	return PyModule_AddObject(module, "Stamps", new_reference((PyObject *)stamps_type));
}
