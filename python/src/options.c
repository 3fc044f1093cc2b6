/* SPDX-License-Identifier: Apache-2.0 */
/* Options: the defaults are those of the library, which zero stands for. */
#include "options.h"

#include <limits.h>
#include <math.h>

#include "convert.h"

struct channel_arguments {
	PyObject *mode;
	int ordered;
	int persistent;
	int create;
	int insist;
	PyObject *channel_lane_bytes;
	PyObject *channel_depth;
	PyObject *expected_consumers;
	PyObject *max_deliveries;
	PyObject *permissions;
	PyObject *group;
	PyObject *allowed_uids;
	PyObject *directory;
	PyObject *open_timeout;
	PyObject *take_back;
};

/* The order of these is that of struct channel_arguments. */
#define CHANNEL_NAMES                                                                                                  \
	"mode", "ordered", "persistent", "create", "insist", "channel_lane_bytes", "channel_depth",                    \
		"expected_consumers", "max_deliveries", "permissions", "group", "allowed_uids", "directory",           \
		"open_timeout", "take_back"
#define CHANNEL_FORMAT "OppppOOOOOOOOOO"
#define CHANNEL_POINTERS(channel)                                                                                      \
	&(channel).mode, &(channel).ordered, &(channel).persistent, &(channel).create, &(channel).insist,              \
		&(channel).channel_lane_bytes, &(channel).channel_depth, &(channel).expected_consumers,                \
		&(channel).max_deliveries, &(channel).permissions, &(channel).group, &(channel).allowed_uids,          \
		&(channel).directory, &(channel).open_timeout, &(channel).take_back

static int number(const char *name, PyObject *value, uint64_t least, uint64_t most, uint64_t *ret)
{
	if (value == NULL || value == Py_None)
		return 0;
	uint64_t result;
	if (convert_u64(value, &result) != 0) {
		if (PyErr_ExceptionMatches(PyExc_OverflowError))
			PyErr_Format(PyExc_ValueError, "%s is %R; it is at least %llu", name, value,
				(unsigned long long)least);
		return -1;
	}
	if (result < least || result > most) {
		PyErr_Format(PyExc_ValueError, "%s is %R; it is at least %llu and at most %llu", name, value,
			(unsigned long long)least, (unsigned long long)most);
		return -1;
	}
	*ret = result;
	return 0;
}

static int number32(const char *name, PyObject *value, uint32_t least, uint32_t most, uint32_t *ret)
{
	uint64_t result = *ret;
	if (number(name, value, least, most, &result) != 0)
		return -1;
	*ret = (uint32_t)result;
	return 0;
}

static int parse_mode(PyObject *value, uint32_t *ret_mode)
{
	if (value == NULL || value == Py_None)
		return 0;
	if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "queue") == 0)
		*ret_mode = SLUICE_QUEUE;
	else if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "broadcast") == 0)
		*ret_mode = SLUICE_BROADCAST;
	else
		PyErr_Format(PyExc_ValueError, "mode is \"queue\" or \"broadcast\", not %R", value);
	return PyErr_Occurred() == NULL ? 0 : -1;
}

static int parse_uids(PyObject *value, struct options *options)
{
	if (value == NULL || value == Py_None)
		return 0;
	PyObject *sequence = PySequence_Tuple(value);
	if (sequence == NULL)
		return -1;
	Py_ssize_t count = PyTuple_GET_SIZE(sequence);
	if (count > OPTIONS_MAX_UIDS)
		PyErr_Format(PyExc_ValueError, "up to %d allowed_uids", OPTIONS_MAX_UIDS);
	for (Py_ssize_t i = 0; i < count && PyErr_Occurred() == NULL; i++)
		(void)number32("a uid", PyTuple_GET_ITEM(sequence, i), 0, UINT32_MAX, &options->uids[i]);
	Py_DECREF(sequence);
	options->channel.allowed_uids = options->uids;
	options->channel.allowed_uid_count = (uint32_t)count;
	return PyErr_Occurred() == NULL ? 0 : -1;
}

/* A time that is not for ever and not 0, which the library takes for its default. */
static int duration(const char *name, PyObject *value, int64_t *ret_ns)
{
	if (value == NULL || value == Py_None)
		return 0;
	if (convert_timeout(value, ret_ns) != 0)
		return -1;
	if (*ret_ns > 0)
		return 0;
	PyErr_Format(PyExc_ValueError, "%s is more than 0 seconds, not %R", name, value);
	return -1;
}

static int parse_channel(const struct channel_arguments *given, struct options *options)
{
	struct sluice_channel_options *channel = &options->channel;
	channel->flags = (given->ordered ? SLUICE_ORDERED : 0U) | (given->persistent ? SLUICE_PERSISTENT : 0U) |
			 (given->create ? 0U : SLUICE_ATTACH_ONLY) | (given->insist ? SLUICE_INSIST : 0U);
	if (parse_mode(given->mode, &channel->mode) != 0 ||
		number("channel_lane_bytes", given->channel_lane_bytes, 1, UINT64_MAX, &channel->lane_bytes) != 0 ||
		number32("channel_depth", given->channel_depth, 1, UINT32_MAX, &channel->depth) != 0 ||
		number32("expected_consumers", given->expected_consumers, 0, UINT32_MAX,
			&channel->expected_consumers) != 0 ||
		number32("permissions", given->permissions, 1, 0777, &channel->permissions) != 0 ||
		parse_uids(given->allowed_uids, options) != 0 ||
		duration("open_timeout", given->open_timeout, &channel->open_timeout_ns) != 0 ||
		duration("take_back", given->take_back, &channel->take_back_ns) != 0)
		return -1;
	if (given->max_deliveries == Py_None)
		channel->max_deliveries = SLUICE_UNLIMITED;
	else if (number32("max_deliveries", given->max_deliveries, 1, UINT32_MAX - 1, &channel->max_deliveries) != 0)
		return -1;
	if (given->group != NULL && given->group != Py_None) {
		channel->flags |= SLUICE_GROUP;
		if (number32("group", given->group, 0, UINT32_MAX, &channel->group) != 0)
			return -1;
	}
	if (given->directory != NULL && given->directory != Py_None) {
		if (!PyUnicode_FSConverter(given->directory, &options->directory))
			return -1;
		channel->directory = PyBytes_AS_STRING(options->directory);
	}
	return 0;
}

static int parse_name(struct options *options)
{
	Py_ssize_t length;
	options->name_text = PyUnicode_AsUTF8AndSize(options->name, &length);
	if (options->name_text == NULL)
		return -1;
	if (length > 0 && length <= SLUICE_MAX_NAME && (size_t)length == strlen(options->name_text))
		return 0;
	PyErr_Format(PyExc_ValueError,
		"%R is no name of a channel: 1 to %d letters, digits, '.', '_' or '-', not starting with '.'",
		options->name, SLUICE_MAX_NAME);
	return -1;
}

static void start(struct options *options)
{
	memset(options, 0, sizeof *options);
	options->channel.size = sizeof options->channel;
	options->producer.size = sizeof options->producer;
	options->consumer.size = sizeof options->consumer;
}

/* The pointers are set last: the struct is not to be moved afterwards. */
static void finish(struct options *options)
{
	options->producer.channel = &options->channel;
	options->consumer.channel = &options->channel;
}

static int parse_sample_rate(PyObject *value, uint32_t *ret_rate)
{
	if (value == NULL)
		return 0;
	if (value == Py_None) {
		*ret_rate = SLUICE_STAMP_ALL;
		return 0;
	}
	double rate = PyFloat_AsDouble(value);
	if (rate == -1.0 && PyErr_Occurred() != NULL)
		return -1;
	if (!(rate >= 0)) {
		PyErr_Format(
			PyExc_ValueError, "sample_rate is messages a second, 0 for none, None for all; not %R", value);
		return -1;
	}
	if (rate == 0)
		*ret_rate = SLUICE_STAMP_NONE;
	else if (rate >= UINT32_MAX - 1)
		*ret_rate = SLUICE_STAMP_ALL;
	else
		*ret_rate = (uint32_t)ceil(rate);
	return 0;
}

static int parse_node(PyObject *value, uint32_t *ret_node)
{
	if (value == NULL || value == Py_None)
		return 0;
	if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "cpu") == 0) {
		*ret_node = SLUICE_NODE_OF_CPU;
		return 0;
	}
	uint32_t node = 0;
	if (number32("node", value, 0, INT_MAX, &node) != 0)
		return -1;
	*ret_node = SLUICE_NODE(node);
	return 0;
}

int options_of_producer(PyObject *arguments, PyObject *keywords, struct options *ret_options)
{
	static char *names[] = {"name", "lane_bytes", "depth", "alignment", "sample_rate", "report_gone", "huge_pages",
		"prefault", "lock_memory", "spin", "node", "device", CHANNEL_NAMES, NULL};
	struct channel_arguments channel = {.create = 1};
	PyObject *lane_bytes = NULL, *depth = NULL, *alignment = NULL, *sample_rate = NULL, *spin = NULL, *node = NULL;
	int report_gone = 0, huge_pages = 0, prefault = 0, lock_memory = 0;
	struct sluice_producer_options *producer = &ret_options->producer;
	start(ret_options);
	finish(ret_options);
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "U|$OOOOppppOOz" CHANNEL_FORMAT ":Producer", names,
		    &ret_options->name, &lane_bytes, &depth, &alignment, &sample_rate, &report_gone, &huge_pages,
		    &prefault, &lock_memory, &spin, &node, &producer->device, CHANNEL_POINTERS(channel)))
		return -1;
	producer->flags = (report_gone ? SLUICE_REPORT_GONE : 0U) | (huge_pages ? SLUICE_HUGE_PAGES : 0U) |
			  (prefault ? SLUICE_PREFAULT : 0U) | (lock_memory ? SLUICE_LOCK_MEMORY : 0U);
	if (parse_name(ret_options) != 0 || parse_channel(&channel, ret_options) != 0 ||
		number("lane_bytes", lane_bytes, 1, UINT64_MAX, &producer->lane_bytes) != 0 ||
		number32("depth", depth, 1, UINT32_MAX, &producer->depth) != 0 ||
		number32("alignment", alignment, 64, 4096, &producer->alignment) != 0 ||
		parse_sample_rate(sample_rate, &producer->sample_rate_hz) != 0 ||
		convert_spin(spin, &producer->spin_ns) != 0 || parse_node(node, &producer->node) != 0)
		return -1;
	return 0;
}

int options_of_consumer(PyObject *arguments, PyObject *keywords, struct options *ret_options)
{
	static char *names[] = {"name", "end_of_stream", "expected_producers", "start_newest", "quantum_messages",
		"quantum_bytes", "report_gone", "prefault", "spin", CHANNEL_NAMES, NULL};
	struct channel_arguments channel = {.create = 1};
	PyObject *expected_producers = NULL, *quantum_messages = NULL, *quantum_bytes = NULL, *spin = NULL;
	int end_of_stream = 0, start_newest = 0, report_gone = 0, prefault = 0;
	struct sluice_consumer_options *consumer = &ret_options->consumer;
	start(ret_options);
	finish(ret_options);
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "U|$pOpOOppO" CHANNEL_FORMAT ":Consumer", names,
		    &ret_options->name, &end_of_stream, &expected_producers, &start_newest, &quantum_messages,
		    &quantum_bytes, &report_gone, &prefault, &spin, CHANNEL_POINTERS(channel)))
		return -1;
	consumer->flags = (end_of_stream ? SLUICE_END_OF_STREAM : 0U) | (start_newest ? SLUICE_START_NEWEST : 0U) |
			  (report_gone ? SLUICE_REPORT_GONE : 0U) | (prefault ? SLUICE_PREFAULT : 0U);
	if (parse_name(ret_options) != 0 || parse_channel(&channel, ret_options) != 0 ||
		number32("expected_producers", expected_producers, 1, UINT32_MAX, &consumer->expected_producers) != 0 ||
		number32("quantum_messages", quantum_messages, 1, UINT32_MAX, &consumer->quantum_messages) != 0 ||
		number("quantum_bytes", quantum_bytes, 1, UINT64_MAX, &consumer->quantum_bytes) != 0 ||
		convert_spin(spin, &consumer->spin_ns) != 0)
		return -1;
	return 0;
}

void options_clear(struct options *options)
{
	Py_CLEAR(options->directory);
}
