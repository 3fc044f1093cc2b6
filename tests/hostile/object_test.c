/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Something else in a channel's place, or a channel that was damaged: refused with a reason, never followed, never a hang
 * and never an access out of bounds. Objects are planted by name in the directory, as another process could.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "layout.h"

#include "../support/exchange.h"
#include "../support/harness.h"

#define MOST_OBJECTS 3

/* A copy of an object, to plant it again. */
struct object {
	char path[600];
	unsigned char *bytes;
	size_t size;
};

static sandbox_name names[SANDBOX_NAMES];

static struct object read_object(const char *name)
{
	struct object object;
	struct stat status;
	int file;

	snprintf(object.path, sizeof object.path, "%s", sandbox_path(name));
	file = open(object.path, O_RDONLY | O_CLOEXEC);
	check(file >= 0 && !fstat(file, &status));
	object.size = (size_t)status.st_size;
	object.bytes = malloc(object.size);
	check(object.bytes && read(file, object.bytes, object.size) == status.st_size);
	close(file);
	return object;
}

static void plant(const struct object *object)
{
	int file = open(object->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	check(file >= 0);
	check(write(file, object->bytes, object->size) == (ssize_t)object->size);
	close(file);
}

/* A control object of a channel `tokens` that nobody is in. */
static struct object make_control(void)
{
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(.flags = SLUICE_PERSISTENT)));
	struct object object;

	check_result(0, sluice_consumer_close(consumer));
	check_equal(1, sandbox_objects(names));
	object = read_object(names[0]);
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
	return object;
}

/* Joining and looking must be refused with `expected`, and what stands there must stay. */
static void check_refused(int expected, int expected_look)
{
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;
	struct sluice_channel_stat *stat = NULL;
	const unsigned descriptors = open_descriptors();

	check_result(expected, sluice_producer_open("tokens", PRODUCER(.channel = CHANNEL()), &producer));
	check_result(expected, sluice_consumer_open("tokens", CONSUMER(.channel = CHANNEL()), &consumer));
	check_result(expected_look, sluice_channel_stat("tokens", NULL, &stat));
	check(!producer && !consumer && !stat);
	check_equal(1, sandbox_objects(NULL));
	check_equal(descriptors, open_descriptors());
	check_equal(0, sandbox_mappings());
}

static void check_damaged(const struct object *control, size_t offset, const void *value, size_t size, int expected)
{
	struct object damaged = *control;

	damaged.bytes = malloc(control->size);
	check(damaged.bytes != NULL);
	memcpy(damaged.bytes, control->bytes, control->size);
	memcpy(damaged.bytes + offset, value, size);
	plant(&damaged);
	check_refused(expected, expected);
	check(!unlink(damaged.path));
	free(damaged.bytes);
}

#define check_field(control, field, value, expected)                                                                   \
	check_damaged(control, offsetof(struct layout_header, field),                                                  \
		&(__typeof__(((struct layout_header *)0)->field)){value}, sizeof(((struct layout_header *)0)->field),  \
		expected)

static void a_header_that_is_not_ours_is_refused_by_what_is_wrong_with_it(void **state)
{
	struct object control = make_control();

	(void)state;
	check_field(&control, magic, 0, -EPROTO);
	check_field(&control, magic, UINT64_C(0x464c457f), -EPROTO);
	check_field(&control, version, LAYOUT_VERSION + 1, -EPROTONOSUPPORT);
	check_field(&control, version, 0, -EPROTONOSUPPORT);
	check_field(&control, version, UINT32_MAX, -EPROTONOSUPPORT);
	check_field(&control, features, 1, -EPROTONOSUPPORT);
	check_field(&control, features, UINT64_C(1) << 63, -EPROTONOSUPPORT);
	check_field(&control, kind, LAYOUT_DATA, -EPROTO);
	check_field(&control, kind, 77, -EPROTO);
	check_field(&control, bytes, 0, -EBADMSG);
	check_field(&control, bytes, sizeof(struct layout_control) + 4096, -EBADMSG);
	check_field(&control, bytes, UINT64_MAX, -EBADMSG);
	free(control.bytes);
}

static void another_layout_version_is_named_and_removable(void **state)
{
	struct object control = make_control();
	struct sluice_channel_entry *entries;
	const uint32_t version = 99;

	(void)state;
	memcpy(control.bytes + offsetof(struct layout_header, version), &version, sizeof version);
	plant(&control);
	check_result(1, sluice_channel_list(NULL, &entries));
	check(!strcmp("tokens", entries[0].name));
	check_equal(99, entries[0].layout_version);
	check_result(-EPROTONOSUPPORT, entries[0].error);
	sluice_channel_list_free(entries);
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
	check_equal(0, sandbox_objects(NULL));
	free(control.bytes);
}

static void an_object_of_the_wrong_size_is_refused(void **state)
{
	static const struct {
		int64_t size;
		int expected;
	} sizes[] = {{0, -EPROTO}, {1, -EPROTO}, {63, -EPROTO}, {64, -EBADMSG}, {4096, -EBADMSG},
		{sizeof(struct layout_control) - 1, -EBADMSG}, {sizeof(struct layout_control) + 4096, -EBADMSG}};
	struct object control = make_control();

	(void)state;
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		plant(&control);
		check(!truncate(control.path, sizes[i].size));
		check_refused(sizes[i].expected, sizes[i].expected);
		check(!unlink(control.path));
	}
	free(control.bytes);
}

static void an_object_with_holes_or_a_second_name_is_refused(void **state)
{
	struct object control = make_control();
	struct sluice_consumer *consumer = NULL;

	(void)state;
	plant(&control);
	check(!truncate(control.path, 4096) && !truncate(control.path, (off_t)control.size));
	check_refused(-EBADMSG, -EBADMSG);
	check(!unlink(control.path));
	plant(&control);
	check(!link(control.path, sandbox_path("second")));
	check_result(-EBADMSG, sluice_consumer_open("tokens", CONSUMER(.channel = CHANNEL()), &consumer));
	check(consumer == NULL);
	check(!unlink(sandbox_path("second")) && !unlink(control.path));
	free(control.bytes);
}

static void something_that_is_no_file_is_refused_without_waiting_for_it(void **state)
{
	struct object control = make_control();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	check(!mkdir(control.path, 0700));
	check_refused(-EPROTO, -EPROTO);
	check(!rmdir(control.path));
	check(!mkfifo(control.path, 0600));
	check_refused(-EPROTO, -EPROTO);
	check(!unlink(control.path));
	check(strlen(control.path) < sizeof address.sun_path);
	strcpy(address.sun_path, control.path);
	check(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof address));
	check_refused(-EPROTO, -EPROTO);
	close(listener);
	check(!unlink(control.path));
	free(control.bytes);
}

static void symbolic_links_are_never_followed(void **state)
{
	struct object control = make_control();
	char target[512];

	(void)state;
	snprintf(target, sizeof target, "%s", sandbox_path("target"));
	check(!symlink(target, control.path));
	check_refused(-ELOOP, -ELOOP);
	check(access(target, F_OK) && errno == ENOENT);
	check(!unlink(control.path));
	check(!symlink("/proc/self/exe", control.path));
	check_refused(-ELOOP, -ELOOP);
	check(!unlink(control.path));
	free(control.bytes);
}

static void an_owner_who_is_not_allowed_is_refused(void **state)
{
	const uint32_t stranger = 64001;
	struct object control = make_control();
	struct sluice_consumer *consumer = NULL;

	(void)state;
	if (geteuid())
		skip_because("only root can give a file away");
	plant(&control);
	check(!chown(control.path, stranger, (gid_t)-1));
	check_result(-EPERM, sluice_consumer_open("tokens", CONSUMER(.channel = CHANNEL()), &consumer));
	check(consumer == NULL);
	consumer = join_consumer(
		"tokens", CONSUMER(.channel = CHANNEL(.allowed_uids = &stranger, .allowed_uid_count = 1)));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
	free(control.bytes);
}

/* A persistent channel with a backlog that nobody is in, as bytes: control, claims and data. */
struct remains {
	struct object objects[MOST_OBJECTS];
	uint64_t *progress; /* what the process that may crash was doing */
};

static void make_backlog(struct remains *remains, uint32_t mode)
{
	struct sluice_producer *producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.mode = mode, .flags = SLUICE_PERSISTENT, .lane_bytes = 16384)));

	send_numbers(producer, 0, 3);
	send_bytes(producer, 3, 3000);
	send_bytes(producer, 4, 100);
	check_result(0, sluice_producer_close(producer));
	check_equal(MOST_OBJECTS, sandbox_objects(names));
	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		remains->objects[i] = read_object(names[i]);
}

static void check_documented(int result)
{
	static const int known[] = {ENOENT, EINVAL, ENOSPC, EUSERS, EPERM, EACCES, EPROTO, EPROTONOSUPPORT, EBADMSG,
		ETIMEDOUT, EAGAIN, ENODATA, ESTALE, EALREADY};

	if (result >= 0)
		return;
	for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
		if (result == -known[i])
			return;
	check_result(0, result);
}

/* Reads every byte that the message says it has. */
static void read_message(const struct sluice_message *message)
{
	volatile unsigned char sink;

	for (uint32_t i = 0; i < sluice_tensor_count(message); i++) {
		const struct sluice_tensor *tensor = sluice_tensor(message, i);

		check(strlen(tensor->name) <= SLUICE_MAX_TENSOR_NAME && tensor->ndim <= SLUICE_MAX_DIMENSIONS);
		for (uint64_t byte = 0; byte < tensor->bytes; byte++)
			sink = ((const volatile unsigned char *)tensor->data)[byte];
	}
	(void)sink;
}

/* Joins what stands in the directory, and does what members do. */
static void live_with_it(void)
{
	const struct sluice_channel_options *channel = CHANNEL(.open_timeout_ns = 50 * MILLISECOND);
	struct sluice_channel_stat *stat;
	struct sluice_consumer *consumer;
	struct sluice_producer *producer;
	const struct sluice_message *message;
	struct sluice_fault fault;
	int result = sluice_channel_stat("tokens", NULL, &stat);

	check_documented(result);
	if (!result)
		sluice_channel_stat_free(stat);
	result = sluice_consumer_open("tokens", CONSUMER(.channel = channel, .flags = SLUICE_END_OF_STREAM), &consumer);
	check_documented(result);
	if (result)
		return;
	for (unsigned i = 0; i < 10; i++) {
		result = sluice_receive(consumer, 0, &message);
		check_documented(result);
		if (result == -EBADMSG)
			check_result(0, sluice_consumer_fault(consumer, &fault));
		if (result)
			continue;
		read_message(message);
		check_documented(sluice_release(message));
	}
	result = sluice_producer_open("tokens", PRODUCER(.channel = channel), &producer);
	check_documented(result);
	if (!result) {
		check_documented(try_to_send(producer, 1, 0));
		check_documented(sluice_producer_close(producer));
	}
	check_documented(sluice_consumer_close(consumer));
}

static void clear_directory(void)
{
	const unsigned count = sandbox_objects(names);

	for (unsigned i = 0; i < count; i++)
		check(!unlink(sandbox_path(names[i])));
}

/* The part of an object that members change; writing only that again is what makes thousands of rounds quick. */
static size_t lively_bytes(const struct object *object)
{
	const size_t most = offsetof(struct layout_control, consumers) + 4 * sizeof(struct layout_consumer_page);

	return object->size < most ? object->size : most;
}

static void plant_again(const struct object *object)
{
	int file = open(object->path, O_WRONLY | O_CLOEXEC);
	struct stat status;

	if (file < 0 || fstat(file, &status) || status.st_size != (off_t)object->size) {
		if (file >= 0)
			close(file);
		plant(object);
		return;
	}
	check(write(file, object->bytes, lively_bytes(object)) == (ssize_t)lively_bytes(object));
	close(file);
}

static bool is_planted(const struct remains *remains, const char *path)
{
	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		if (!strcmp(remains->objects[i].path, path))
			return true;
	return false;
}

/* The remains as they were, without what members made meanwhile. */
static void plant_all(const struct remains *remains)
{
	const unsigned count = sandbox_objects(names);

	for (unsigned i = 0; i < count; i++)
		if (!is_planted(remains, sandbox_path(names[i])))
			check(!unlink(sandbox_path(names[i])));
	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		plant_again(&remains->objects[i]);
}

/* Where an object has bytes that mean something; the rest is reserved, counters or payload. */
struct span {
	size_t begin;
	size_t end;
};

static const struct span control_spans[] = {
	{0, offsetof(struct layout_control, lanes) + 4 * sizeof(struct layout_lane_entry)},
	{offsetof(struct layout_control, members), offsetof(struct layout_control, members) + 16}, {0, 0}};
static const struct span claims_spans[] = {{0, offsetof(struct layout_claims, departed) + 16},
	{offsetof(struct layout_claims, u), offsetof(struct layout_claims, u) + 64}, {0, 0}};
static const struct span data_spans[] = {{0, offsetof(struct layout_data, tail) + 16},
	{offsetof(struct layout_data, schemas),
		offsetof(struct layout_data, schemas) + 2 * sizeof(struct layout_schema)},
	{offsetof(struct layout_data, descriptors),
		offsetof(struct layout_data, descriptors) + 5 * sizeof(struct layout_descriptor)},
	{0, 0}};

static const struct span *spans_of(const struct object *object)
{
	if (strstr(object->path, ".data"))
		return data_spans;
	return strstr(object->path, ".claims") ? claims_spans : control_spans;
}

static void live_with_one_byte_changed(struct remains *remains, unsigned which, size_t offset)
{
	unsigned char *byte = &remains->objects[which].bytes[offset], before = *byte;

	*remains->progress = (uint64_t)which << 32 | offset;
	*byte = (unsigned char)(offset % 3 == 0 ? ~before : offset % 3 == 1 ? before ^ 1 : before ^ 0x80);
	plant_all(remains);
	live_with_it();
	*byte = before;
}

/* One of the three objects, byte by byte; in slow builds every thirteenth. */
static void live_with_damaged_bytes(void *shared, unsigned which)
{
	struct remains *remains = shared;
	const size_t step = scaled(100) < 100 ? 13 : 1;

	for (const struct span *span = spans_of(&remains->objects[which]); span->end; span++)
		for (size_t offset = span->begin; offset < span->end; offset += step)
			live_with_one_byte_changed(remains, which, offset);
	clear_directory();
}

static void live_with_many_random_changes(void *shared, unsigned index)
{
	static const size_t spots[] = {
		0, 0x40, 0x100, 0x180, 0x200, 0x300, 0x400, 0x1000, 0x2000, 0x6000, 0xd000, 0xd100};
	struct remains *remains = shared;
	struct remains changed = *remains;
	uint64_t random = index;

	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		check((changed.objects[i].bytes = malloc(changed.objects[i].size)) != NULL);
	for (uint64_t round = 0; round < scaled(1500); round++) {
		*remains->progress = UINT64_C(1) << 63 | round;
		for (unsigned i = 0; i < MOST_OBJECTS; i++)
			memcpy(changed.objects[i].bytes, remains->objects[i].bytes, changed.objects[i].size);
		for (uint64_t changes = 1 + random_next(&random) % 4; changes; changes--) {
			struct object *object = &changed.objects[random_next(&random) % MOST_OBJECTS];
			const uint64_t word = random_next(&random) >> random_next(&random) % 64;
			size_t offset = spots[random_next(&random) % (sizeof spots / sizeof *spots)] +
					random_next(&random) % 128;

			offset = offset % (object->size - sizeof word) & ~(size_t)7;
			memcpy(object->bytes + offset, &word, 1u << random_next(&random) % 4);
		}
		plant_all(&changed);
		live_with_it();
	}
	clear_directory();
	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		free(changed.objects[i].bytes);
}

/* Runs `body` in a process of its own and says what it was doing if it fails. */
static void survive(process_body body, uint32_t mode, unsigned index)
{
	struct remains remains = {.progress = shared_memory(sizeof(uint64_t))};
	int status;

	make_backlog(&remains, mode);
	status = process_status(process_start(body, &remains, index));
	if (status) {
		print_error("status %#x at %#llx, object %s\n", (unsigned)status, (unsigned long long)*remains.progress,
			remains.objects[*remains.progress >> 32 & 3].path);
		clear_directory();
	}
	for (unsigned i = 0; i < MOST_OBJECTS; i++)
		free(remains.objects[i].bytes);
	check_equal(0, status);
}

static void any_damaged_byte_of_a_queue_is_survived(void **state)
{
	(void)state;
	for (unsigned which = 0; which < MOST_OBJECTS; which++)
		survive(live_with_damaged_bytes, SLUICE_QUEUE, which);
}

static void any_damaged_byte_of_a_broadcast_is_survived(void **state)
{
	(void)state;
	for (unsigned which = 0; which < MOST_OBJECTS; which++)
		survive(live_with_damaged_bytes, SLUICE_BROADCAST, which);
}

static void random_damage_in_several_places_is_survived(void **state)
{
	(void)state;
	survive(live_with_many_random_changes, SLUICE_QUEUE, 1);
	survive(live_with_many_random_changes, SLUICE_BROADCAST, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_header_that_is_not_ours_is_refused_by_what_is_wrong_with_it),
		promise(another_layout_version_is_named_and_removable),
		promise(an_object_of_the_wrong_size_is_refused),
		promise(an_object_with_holes_or_a_second_name_is_refused),
		promise(something_that_is_no_file_is_refused_without_waiting_for_it),
		promise(symbolic_links_are_never_followed),
		promise(an_owner_who_is_not_allowed_is_refused),
		promise(any_damaged_byte_of_a_queue_is_survived),
		promise(any_damaged_byte_of_a_broadcast_is_survived),
		promise(random_damage_in_several_places_is_survived),
	};

	return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}
