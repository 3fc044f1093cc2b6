/* SPDX-License-Identifier: Apache-2.0 */
/* stat, list, remove, gc: looking at channels from outside. */
#include "module.h"

#include <errno.h>

#include "address.h"
#include "errors.h"

PyTypeObject *geometry_type;

/* Adds a new reference to a dict. */
static int put(PyObject *dictionary, const char *key, PyObject *value)
{
	int result = value != NULL ? PyDict_SetItemString(dictionary, key, value) : -1;
	Py_XDECREF(value);
	return result;
}

static PyObject *distribution(const struct sluice_distribution *times)
{
	return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K}", "count", (unsigned long long)times->count, "p50_ns",
		(unsigned long long)times->p50_ns, "p95_ns", (unsigned long long)times->p95_ns, "p99_ns",
		(unsigned long long)times->p99_ns, "p999_ns", (unsigned long long)times->p999_ns, "max_ns",
		(unsigned long long)times->max_ns);
}

static PyObject *member(const struct sluice_member_stat *stat)
{
	const char *role = stat->role == SLUICE_ROLE_PRODUCER   ? "producer"
			   : stat->role == SLUICE_ROLE_CONSUMER ? "consumer"
								: "none";
	return Py_BuildValue("{s:I,s:I,s:s,s:N,s:I,s:I,s:s,s:K,s:N,s:K,s:K,s:K,s:K,s:N,s:N}", "slot", stat->slot,
		"incarnation", stat->incarnation, "role", role, "alive", PyBool_FromLong((long)stat->alive), "pid",
		stat->pid, "uid", stat->uid, "program", stat->program, "opened_ns", (unsigned long long)stat->opened_ns,
		"asleep", PyBool_FromLong((long)stat->asleep), "received_messages",
		(unsigned long long)stat->received_messages, "received_bytes", (unsigned long long)stat->received_bytes,
		"sleeps", (unsigned long long)stat->sleeps, "wakeups_sent", (unsigned long long)stat->wakeups_sent,
		"queue_wait", distribution(&stat->queue_wait), "hold_time", distribution(&stat->hold_time));
}

static PyObject *lane(const struct sluice_lane_stat *stat)
{
	return Py_BuildValue("{s:I,s:I,s:I,s:I,s:K,s:K,s:N,s:N,s:I,s:I,s:s,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N}", "slot",
		stat->slot, "incarnation", stat->incarnation, "depth", stat->depth, "alignment", stat->alignment,
		"lane_bytes", (unsigned long long)stat->lane_bytes, "mapped_bytes",
		(unsigned long long)stat->mapped_bytes, "alive", PyBool_FromLong((long)stat->alive), "closed",
		PyBool_FromLong((long)stat->closed), "pid", stat->pid, "uid", stat->uid, "program", stat->program,
		"published_messages", (unsigned long long)stat->published_messages, "published_bytes",
		(unsigned long long)stat->published_bytes, "discarded_messages",
		(unsigned long long)stat->discarded_messages, "waiting_messages",
		(unsigned long long)stat->waiting_messages, "held_messages", (unsigned long long)stat->held_messages,
		"stalls", (unsigned long long)stat->stalls, "wakeups_sent", (unsigned long long)stat->wakeups_sent,
		"fill_time", distribution(&stat->fill_time));
}

static PyObject *aside(const struct sluice_aside_stat *stat)
{
	return Py_BuildValue("{s:K,s:K,s:K,s:I,s:I,s:I,s:I,s:I}", "correlation_id",
		(unsigned long long)stat->correlation_id, "sequence", (unsigned long long)stat->sequence, "noticed_ns",
		(unsigned long long)stat->noticed_ns, "lane_slot", stat->lane_slot, "lane_incarnation",
		stat->lane_incarnation, "killer_slot", stat->killer_slot, "killer_pid", stat->killer_pid, "deliveries",
		stat->deliveries);
}

/* A list of `count` items, made one by one. */
#define LIST_OF(count, make)                                                                                           \
	__extension__({                                                                                                \
		PyObject *list = PyList_New((Py_ssize_t)(count));                                                      \
		for (uint32_t i = 0; list != NULL && i < (count); i++) {                                               \
			PyObject *item = make;                                                                         \
			if (item == NULL)                                                                              \
				Py_CLEAR(list);                                                                        \
			else                                                                                           \
				PyList_SET_ITEM(list, (Py_ssize_t)i, item);                                            \
		}                                                                                                      \
		list;                                                                                                  \
	})

static PyObject *stat_dictionary(const struct sluice_channel_stat *stat)
{
	const struct sluice_geometry *geometry = &stat->geometry;
	PyObject *result = Py_BuildValue("{s:s,s:s,s:N,s:N,s:I,s:I,s:K,s:K,s:I,s:I,s:I,s:I,s:I,s:K,s:K,s:K,s:K,s:I}",
		"name", stat->name, "mode", geometry->mode == SLUICE_BROADCAST ? "broadcast" : "queue", "ordered",
		PyBool_FromLong((geometry->flags & SLUICE_ORDERED) != 0), "persistent",
		PyBool_FromLong((geometry->flags & SLUICE_PERSISTENT) != 0), "depth", geometry->depth,
		"expected_consumers", geometry->expected_consumers, "lane_bytes",
		(unsigned long long)geometry->lane_bytes, "max_message_bytes",
		(unsigned long long)geometry->max_message_bytes, "alignment", geometry->alignment, "max_deliveries",
		geometry->max_deliveries, "layout_version", stat->layout_version, "permissions", stat->permissions,
		"owner_uid", stat->owner_uid, "mapped_bytes", (unsigned long long)stat->mapped_bytes,
		"producers_opened", (unsigned long long)stat->producers_opened, "producers_closed",
		(unsigned long long)stat->producers_closed, "set_aside_messages",
		(unsigned long long)stat->set_aside_messages, "unreadable_lanes", stat->unreadable_lanes);
	if (result != NULL && (put(result, "members", LIST_OF(stat->member_count, member(&stat->members[i]))) != 0 ||
				      put(result, "lanes", LIST_OF(stat->lane_count, lane(&stat->lanes[i]))) != 0 ||
				      put(result, "aside", LIST_OF(stat->aside_count, aside(&stat->aside[i]))) != 0))
		Py_CLEAR(result);
	return result;
}

/* Arguments: a name, then a directory, and perhaps one flag by name. */
struct place {
	const char *name; /* NULL: none was given, where it may be left out */
	PyObject *name_object;
	PyObject *directory_bytes;
	const char *directory;
	int flag;
};

static int parse_place(PyObject *arguments, PyObject *keywords, const char *format, char **names,
	struct place *ret_place, bool has_flag)
{
	*ret_place = (struct place){0};
	PyObject *directory = Py_None;
	int parsed = has_flag ? PyArg_ParseTupleAndKeywords(arguments, keywords, format, names, &ret_place->name_object,
					&directory, &ret_place->flag)
			      : PyArg_ParseTupleAndKeywords(
					arguments, keywords, format, names, &ret_place->name_object, &directory);
	if (!parsed)
		return -1;
	bool optional = format[0] == '|';
	if (((!optional || (ret_place->name_object != NULL && ret_place->name_object != Py_None)) &&
		    address_parse_name(ret_place->name_object, &ret_place->name) != 0) ||
		address_parse_directory(directory, &ret_place->directory_bytes) != 0)
		return -1;
	if (ret_place->directory_bytes != NULL)
		ret_place->directory = PyBytes_AS_STRING(ret_place->directory_bytes);
	return 0;
}

static PyObject *raise_of(int error, const struct place *place)
{
	if (error == -EBUSY)
		return errors_raise(
			error, "members of channel %R live: close them first, or pass force=True", place->name_object);
	return address_raise(error, place->name_object, place->directory);
}

static PyObject *stat_channel(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	static char *names[] = {"name", "directory", NULL};
	struct place place;
	struct sluice_channel_stat *stat = NULL;
	PyObject *result = NULL;
	if (parse_place(arguments, keywords, "O|O:stat", names, &place, false) == 0) {
		int error = sluice_channel_stat(place.name, place.directory, &stat);
		result = error == 0 ? stat_dictionary(stat) : raise_of(error, &place);
		sluice_channel_stat_free(stat);
	}
	Py_XDECREF(place.directory_bytes);
	return result;
}

static PyObject *list_channels(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	static char *names[] = {"directory", NULL};
	PyObject *directory = Py_None;
	PyObject *bytes = NULL;
	struct sluice_channel_entry *entries = NULL;
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:list", names, &directory) ||
		address_parse_directory(directory, &bytes) != 0)
		return NULL;
	const char *given = bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL;
	int count = sluice_channel_list(given, &entries);
	if (count < 0)
		address_raise(count, NULL, given);
	Py_XDECREF(bytes);
	if (count < 0)
		return NULL;
	PyObject *result = LIST_OF((uint32_t)count, PyUnicode_FromString(entries[i].name));
	sluice_channel_list_free(entries);
	return result;
}

static PyObject *remove_channel(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	static char *names[] = {"name", "directory", "force", NULL};
	struct place place;
	PyObject *result = NULL;
	if (parse_place(arguments, keywords, "O|O$p:remove", names, &place, true) == 0) {
		int error;
		Py_BEGIN_ALLOW_THREADS error =
			sluice_channel_remove(place.name, place.directory, place.flag ? SLUICE_REMOVE_FORCE : 0);
		Py_END_ALLOW_THREADS result = error == 0 ? new_reference(Py_None) : raise_of(error, &place);
	}
	Py_XDECREF(place.directory_bytes);
	return result;
}

static PyObject *collected_dictionary(const struct sluice_collected *collected)
{
	return Py_BuildValue("{s:I,s:I,s:N,s:I,s:K}", "dead_members", collected->dead_members, "lanes",
		collected->lanes, "channel", PyBool_FromLong((long)collected->channel), "files", collected->files,
		"dropped_messages", (unsigned long long)collected->dropped_messages);
}

/* The exception that is set, which is taken away. */
static PyObject *take_exception(void)
{
	PyObject *type, *value, *traceback;
	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return value;
}

/* Of a sweep: what was done, and "error". */
static PyObject *swept(const struct place *place)
{
	struct sluice_collected collected = {0};
	int code;
	Py_BEGIN_ALLOW_THREADS code = sluice_channel_collect(
		place->name, place->directory, place->flag ? SLUICE_COLLECT_DROP : 0, &collected);
	Py_END_ALLOW_THREADS PyObject *error = NULL;
	if (code != 0 && code != -ENOENT) { /* one that went meanwhile is what was wanted */
		raise_of(code, place);
		error = take_exception();
	}
	PyObject *result = collected_dictionary(&collected);
	if (result != NULL && PyDict_SetItemString(result, "error", error != NULL ? error : Py_None) != 0)
		Py_CLEAR(result);
	Py_XDECREF(error);
	return result;
}

static PyObject *sweep(struct place *place)
{
	struct sluice_channel_entry *entries = NULL;
	int count = sluice_channel_list(place->directory, &entries);
	if (count < 0)
		return address_raise(count, NULL, place->directory);
	PyObject *result = PyDict_New();
	for (int i = 0; result != NULL && i < count; i++) {
		place->name = entries[i].name;
		place->name_object = PyUnicode_FromString(place->name);
		PyObject *done = place->name_object != NULL ? swept(place) : NULL;
		if (done == NULL || PyDict_SetItem(result, place->name_object, done) != 0 || PyErr_CheckSignals() != 0)
			Py_CLEAR(result);
		Py_XDECREF(done);
		Py_CLEAR(place->name_object);
	}
	sluice_channel_list_free(entries);
	return result;
}

static PyObject *collect_one(const struct place *place)
{
	struct sluice_collected collected;
	int error;
	Py_BEGIN_ALLOW_THREADS error = sluice_channel_collect(
		place->name, place->directory, place->flag ? SLUICE_COLLECT_DROP : 0, &collected);
	Py_END_ALLOW_THREADS return error != 0 ? raise_of(error, place) : collected_dictionary(&collected);
}

static PyObject *collect_channels(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	static char *names[] = {"name", "directory", "drop", NULL};
	struct place place;
	PyObject *result = NULL;
	if (parse_place(arguments, keywords, "|OO$p:gc", names, &place, true) == 0)
		result = place.name != NULL ? collect_one(&place) : sweep(&place);
	Py_XDECREF(place.directory_bytes);
	return result;
}

static PyMethodDef functions[] = {
	{"stat", METHOD(stat_channel), METH_VARARGS | METH_KEYWORDS,
		"stat($module, name, directory=None)\n--\n\nLooks at a channel without joining it: a dict, as `sluice "
		"stat "
		"--json` gives. "
		"NotFound, Denied."},
	{"list", METHOD(list_channels), METH_VARARGS | METH_KEYWORDS,
		"list($module, directory=None)\n--\n\nNames of the channels in a directory, default $SLUICE_DIR or "
		"/dev/shm."},
	{"remove", METHOD(remove_channel), METH_VARARGS | METH_KEYWORDS,
		"remove($module, name, directory=None, *, force=False)\n--\n\nRemoves a channel and its backlog. Busy "
		"while "
		"members live, "
		"unless force; NotFound, Denied."},
	{"gc", METHOD(collect_channels), METH_VARARGS | METH_KEYWORDS,
		"gc($module, name=None, directory=None, *, drop=False)\n--\n\nGives back what the dead held and takes "
		"away "
		"what nobody needs; with drop also a backlog that no member is there for. A dict of what was done.\n\n"
		"Without a name: in all channels of the directory. A dict of such dicts by name, whose \"error\" is "
		"None or "
		"the exception that kept it from a channel. NotFound, Denied."},
	{NULL, NULL, 0, NULL},
};

static PyStructSequence_Field geometry_fields[] = {
	{"mode", "\"queue\" or \"broadcast\""},
	{"ordered", "the oldest of all producers first"},
	{"persistent", "stays when the last one leaves"},
	{"depth", "messages a lane holds"},
	{"expected_consumers", "of a broadcast"},
	{"lane_bytes", "payload bytes of a lane"},
	{"max_message_bytes", "payload bytes of the largest message"},
	{"alignment", "of payloads, bytes"},
	{"max_deliveries", "before a message is set aside; None: unlimited"},
	{NULL, NULL},
};

static PyStructSequence_Desc geometry_desc = {
	.name = "sluice.Geometry",
	.doc = "What a channel or a lane really has.",
	.fields = geometry_fields,
	.n_in_sequence = 9,
};

int channel_init(PyObject *module)
{
	geometry_type = PyStructSequence_NewType(&geometry_desc);
	if (geometry_type == NULL || PyModule_AddFunctions(module, functions) != 0)
		return -1;
	return PyModule_AddObject(module, "Geometry", new_reference((PyObject *)geometry_type));
}
