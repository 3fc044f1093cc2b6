/* SPDX-License-Identifier: Apache-2.0 */
/* Options: the defaults are those of the library, which zero stands for. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "address.h"
#include "convert.h"
#include "errors.h"

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

/* What the library takes. */
#define LEAST_DEPTH   2
#define MOST_NODE     1023
#define DEVICE_VALUES "a PCI address, as \"0000:17:00.0\""

static int parse_lane_bytes(const char *name, PyObject *value, uint64_t *ret)
{
	return convert_number(name, value, SLUICE_MIN_LANE_BYTES, SLUICE_MAX_LANE_BYTES, ret);
}

static int parse_depth(const char *name, PyObject *value, uint32_t *ret)
{
	return convert_number32(name, value, LEAST_DEPTH, SLUICE_MAX_DEPTH, ret);
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
		errors_raise(-EINVAL, "mode is %R; it is \"queue\" or \"broadcast\"", value);
	return PyErr_Occurred() == NULL ? 0 : -1;
}

static int parse_uids(PyObject *value, struct options *options)
{
	if (value == NULL || value == Py_None)
		return 0;
	PyObject *sequence = PySequence_Tuple(value);
	if (sequence == NULL && PyErr_ExceptionMatches(PyExc_TypeError) && Py_TYPE(value)->tp_iter == NULL)
		PyErr_Format(
			PyExc_TypeError, "allowed_uids is a sequence of uids, not %.100s", Py_TYPE(value)->tp_name);
	if (sequence == NULL)
		return -1;
	Py_ssize_t count = PyTuple_GET_SIZE(sequence);
	if (count > SLUICE_MAX_UIDS)
		errors_raise(-EINVAL, "allowed_uids has %zd uids; it has at most %d: share a group instead", count,
			SLUICE_MAX_UIDS);
	for (Py_ssize_t i = 0; i < count && PyErr_Occurred() == NULL; i++) {
		char name[32];
		snprintf(name, sizeof name, "allowed_uids[%d]", (int)i);
		(void)convert_number32(name, PyTuple_GET_ITEM(sequence, i), 0, UINT32_MAX, &options->uids[i]);
	}
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
	if (convert_timeout(name, value, ret_ns) != 0)
		return -1;
	if (*ret_ns > 0)
		return 0;
	errors_raise(-EINVAL, "%s is %R; it is more than 0 seconds", name, value);
	return -1;
}

static int parse_permissions(PyObject *value, uint32_t *ret)
{
	if (convert_number32("permissions", value, 0, UINT32_MAX, ret) != 0)
		return -1;
	if (value == NULL || value == Py_None || (*ret >= 1 && *ret <= 0777))
		return 0;
	errors_raise(-EINVAL, "permissions is %R; it is 0o1 to 0o777, as for chmod", value);
	return -1;
}

static int parse_deliveries(PyObject *value, uint32_t *ret)
{
	if (value == NULL)
		return 0;
	if (value == Py_None) {
		*ret = SLUICE_UNLIMITED;
		return 0;
	}
	uint64_t given = 0;
	if (convert_u64("max_deliveries", value, &given) != 0 && !PyErr_ExceptionMatches(PyExc_OverflowError))
		return -1;
	PyErr_Clear();
	*ret = (uint32_t)given;
	if (given >= 1 && given <= SLUICE_MAX_DELIVERIES)
		return 0;
	errors_raise(
		-EINVAL, "max_deliveries is %R; it is 1 to %d, or None for no limit", value, SLUICE_MAX_DELIVERIES);
	return -1;
}

static int parse_channel(const struct channel_arguments *given, struct options *options)
{
	struct sluice_channel_options *channel = &options->channel;
	channel->flags = (given->ordered ? SLUICE_ORDERED : 0U) | (given->persistent ? SLUICE_PERSISTENT : 0U) |
			 (given->create ? 0U : SLUICE_ATTACH_ONLY) | (given->insist ? SLUICE_INSIST : 0U);
	if (parse_mode(given->mode, &channel->mode) != 0 ||
		parse_lane_bytes("channel_lane_bytes", given->channel_lane_bytes, &channel->lane_bytes) != 0 ||
		parse_depth("channel_depth", given->channel_depth, &channel->depth) != 0 ||
		convert_number32("expected_consumers", given->expected_consumers, 0, SLUICE_MAX_MEMBERS,
			&channel->expected_consumers) != 0 ||
		parse_deliveries(given->max_deliveries, &channel->max_deliveries) != 0 ||
		parse_permissions(given->permissions, &channel->permissions) != 0 ||
		parse_uids(given->allowed_uids, options) != 0 ||
		duration("open_timeout", given->open_timeout, &channel->open_timeout_ns) != 0 ||
		duration("take_back", given->take_back, &channel->take_back_ns) != 0)
		return -1;
	if (given->group != NULL && given->group != Py_None) {
		channel->flags |= SLUICE_GROUP;
		if (convert_number32("group", given->group, 0, UINT32_MAX, &channel->group) != 0)
			return -1;
	}
	if (address_parse_directory(given->directory, &options->directory) != 0)
		return -1;
	if (options->directory != NULL)
		channel->directory = PyBytes_AS_STRING(options->directory);
	return 0;
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

static int parse_alignment(PyObject *value, uint32_t *ret)
{
	if (convert_number32("alignment", value, 0, UINT32_MAX, ret) != 0)
		return -1;
	if (value == NULL || value == Py_None || (*ret >= 64 && *ret <= 4096 && (*ret & (*ret - 1)) == 0))
		return 0;
	errors_raise(-EINVAL, "alignment is %R; it is 64, 128, 256, 512, 1024, 2048 or 4096 bytes", value);
	return -1;
}

static int parse_sample_rate(PyObject *value, uint32_t *ret_rate)
{
	if (value == NULL)
		return 0;
	if (value == Py_None) {
		*ret_rate = SLUICE_STAMP_ALL;
		return 0;
	}
	double rate;
	if (convert_rate(value, &rate) != 0)
		return -1;
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
	uint64_t node = 0;
	if (PyUnicode_Check(value))
		errors_raise(-EINVAL, "node is %R; it is a memory node's number or \"cpu\"", value);
	else if (convert_number("node", value, 0, MOST_NODE, &node) == 0)
		*ret_node = SLUICE_NODE(node);
	return PyErr_Occurred() == NULL ? 0 : -1;
}

static int parse_device(PyObject *value, const char **ret_device)
{
	if (value == NULL || value == Py_None)
		return 0;
	if (!PyUnicode_Check(value)) {
		PyErr_Format(
			PyExc_TypeError, "device is " DEVICE_VALUES " or None, not %.100s", Py_TYPE(value)->tp_name);
		return -1;
	}
	Py_ssize_t length;
	*ret_device = PyUnicode_AsUTF8AndSize(value, &length);
	if (*ret_device == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	if (*ret_device != NULL && (size_t)length == strlen(*ret_device))
		return 0;
	errors_raise(-EINVAL, "device is %R; it is " DEVICE_VALUES, value);
	return -1;
}

/* ---- what an open call refused ---- */

static PyObject *raise_no_space(int code, const struct options *options)
{
	struct statvfs system;
	const char *directory = address_directory(options->channel.directory);
	if (statvfs(directory, &system) != 0)
		return address_raise(code, options->name, options->channel.directory);
	uint64_t bytes = options->producer.lane_bytes != 0 ? options->producer.lane_bytes : options->channel.lane_bytes;
	if (bytes == 0)
		bytes = 8 << 20;
	if (options->is_consumer)
		bytes = 1 << 20;
	const unsigned long long mib = 1 << 20;
	return errors_raise(code,
		"%s holds %llu MiB, of which %llu MiB are free; the %s of channel %R needs %llu MiB: raise it "
		"(mount -o remount,size=..., docker: --shm-size)%s",
		directory, (unsigned long long)system.f_blocks * system.f_frsize / mib,
		(unsigned long long)system.f_bavail * system.f_frsize / mib, options->is_consumer ? "file" : "lane",
		options->name, ((unsigned long long)bytes + mib - 1) / mib,
		options->is_consumer ? "" : " or pass a smaller lane_bytes=");
}

/* Which of the options do not go together, and so do nothing; NULL if none. */
static const char *contradiction(const struct options *options)
{
	const struct sluice_channel_options *channel = &options->channel;
	const struct sluice_consumer_options *consumer = &options->consumer;
	if (channel->mode == SLUICE_BROADCAST && channel->take_back_ns != 0)
		return "take_back is for queues, and mode is \"broadcast\": drop one of them";
	if (channel->mode == SLUICE_QUEUE && channel->expected_consumers != 0)
		return "expected_consumers is for broadcasts, and mode is \"queue\": drop one of them";
	if (channel->mode == SLUICE_QUEUE && (consumer->flags & SLUICE_START_NEWEST) != 0)
		return "start_newest is for broadcasts, and mode is \"queue\": drop one of them";
	if (consumer->expected_producers != 0 && (consumer->flags & SLUICE_END_OF_STREAM) == 0)
		return "expected_producers says when a stream ends: pass end_of_stream=True, too";
	return NULL;
}

PyObject *options_raise(int code, const struct options *options)
{
	const char *device = options->producer.device;
	if (code == -ENOSPC)
		return raise_no_space(code, options);
	if (code == -EINVAL && contradiction(options) != NULL)
		return errors_raise(code, "%s", contradiction(options));
	if (device != NULL && options->producer.node != 0 && code == -EINVAL)
		return errors_raise(code, "device is '%s' and node is given, too: pass one of them", device);
	if (device != NULL && code == -EINVAL)
		return errors_raise(code, "device is '%s'; it is " DEVICE_VALUES, device);
	if (device != NULL && code == -ENODEV)
		return errors_raise(
			code, "device is '%s', and there is no such PCI device: `lspci -D` lists them", device);
	if (code == -ENODEV)
		return errors_raise(code,
			"node is %u, and there is no such memory node: /sys/devices/system/node lists them, \"cpu\" "
			"takes "
			"that of this thread's CPU",
			(unsigned)(options->producer.node - 1));
	struct stat status;
	const char *directory = options->channel.directory;
	bool only_attach = (options->channel.flags & SLUICE_ATTACH_ONLY) != 0;
	if (code == -ENOENT && only_attach && stat(address_directory(directory), &status) == 0)
		return errors_raise(code,
			"there is no channel %R in %s: open the one that creates it first, or drop create=False",
			options->name, address_directory(directory));
	return address_raise(code, options->name, directory);
}

/* ---- constructors ---- */

int options_of_producer(PyObject *arguments, PyObject *keywords, struct options *ret_options)
{
	static char *names[] = {"name", "lane_bytes", "depth", "alignment", "sample_rate", "report_gone", "huge_pages",
		"prefault", "lock_memory", "spin", "node", "device", CHANNEL_NAMES, NULL};
	struct channel_arguments channel = {.create = 1};
	PyObject *lane_bytes = NULL, *depth = NULL, *alignment = NULL, *sample_rate = NULL, *spin = NULL, *node = NULL;
	PyObject *device = NULL;
	int report_gone = 0, huge_pages = 0, prefault = 0, lock_memory = 0;
	struct sluice_producer_options *producer = &ret_options->producer;
	start(ret_options);
	finish(ret_options);
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|$OOOOppppOOO" CHANNEL_FORMAT ":Producer", names,
		    &ret_options->name, &lane_bytes, &depth, &alignment, &sample_rate, &report_gone, &huge_pages,
		    &prefault, &lock_memory, &spin, &node, &device, CHANNEL_POINTERS(channel)))
		return -1;
	producer->flags = (report_gone ? SLUICE_REPORT_GONE : 0U) | (huge_pages ? SLUICE_HUGE_PAGES : 0U) |
			  (prefault ? SLUICE_PREFAULT : 0U) | (lock_memory ? SLUICE_LOCK_MEMORY : 0U);
	if (address_parse_name(ret_options->name, &ret_options->name_text) != 0 ||
		parse_channel(&channel, ret_options) != 0 ||
		parse_lane_bytes("lane_bytes", lane_bytes, &producer->lane_bytes) != 0 ||
		parse_depth("depth", depth, &producer->depth) != 0 ||
		parse_alignment(alignment, &producer->alignment) != 0 ||
		parse_sample_rate(sample_rate, &producer->sample_rate_hz) != 0 ||
		convert_spin(spin, &producer->spin_ns) != 0 || parse_node(node, &producer->node) != 0 ||
		parse_device(device, &producer->device) != 0)
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
	ret_options->is_consumer = true;
	finish(ret_options);
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|$pOpOOppO" CHANNEL_FORMAT ":Consumer", names,
		    &ret_options->name, &end_of_stream, &expected_producers, &start_newest, &quantum_messages,
		    &quantum_bytes, &report_gone, &prefault, &spin, CHANNEL_POINTERS(channel)))
		return -1;
	consumer->flags = (end_of_stream ? SLUICE_END_OF_STREAM : 0U) | (start_newest ? SLUICE_START_NEWEST : 0U) |
			  (report_gone ? SLUICE_REPORT_GONE : 0U) | (prefault ? SLUICE_PREFAULT : 0U);
	if (address_parse_name(ret_options->name, &ret_options->name_text) != 0 ||
		parse_channel(&channel, ret_options) != 0 ||
		convert_number32(
			"expected_producers", expected_producers, 1, UINT32_MAX, &consumer->expected_producers) != 0 ||
		convert_number32("quantum_messages", quantum_messages, 1, UINT32_MAX, &consumer->quantum_messages) !=
			0 ||
		convert_number("quantum_bytes", quantum_bytes, 1, UINT64_MAX, &consumer->quantum_bytes) != 0 ||
		convert_spin(spin, &consumer->spin_ns) != 0)
		return -1;
	return 0;
}

void options_clear(struct options *options)
{
	Py_CLEAR(options->directory);
}
