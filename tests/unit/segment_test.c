/* SPDX-License-Identifier: Apache-2.0 */
/* Memory objects: complete before they have a name, and nothing mapped that somebody else may have put in their place. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "../support/harness.h"
#include "corrupt.h"

#define BYTES    UINT64_C(8192)
#define STRANGER 54321 /* a user and a group that nothing here belongs to */

static const struct segment_trust plain = {.permissions = 0600};

static int open_sandbox(void)
{
	const int directory = segment_open_directory(NULL);

	check(directory >= 0);
	return directory;
}

/* Makes an object with a good header; returns its descriptor. */
static int make_object(int directory, const struct segment_trust *trust, struct segment *ret_segment)
{
	int fd;

	check_result(0, segment_create(directory, BYTES, trust, &fd, ret_segment));
	*(struct layout_header *)ret_segment->base = (struct layout_header){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.kind = LAYOUT_DATA,
		.bytes = BYTES,
		.channel_id = 4711,
	};
	return fd;
}

static void plant_object(int directory, const char *name)
{
	struct segment segment;
	const int fd = make_object(directory, &plain, &segment);

	check_result(0, segment_link(directory, fd, name));
	segment_unmap(&segment);
	close(fd);
}

/* Opening must fail with `expected`, read-only and for writing, and touch nothing. */
static void check_refused_trusting(int directory, const char *name, int expected, const struct segment_trust *trust)
{
	for (unsigned writable = 0; writable < 2; writable++) {
		const unsigned descriptors = open_descriptors();
		struct layout_header header = {.magic = 4711};
		int fd = 4711;

		check_result(expected, segment_open(directory, name, LAYOUT_DATA, writable != 0, trust, &fd, &header));
		check(fd == 4711 && header.magic == 4711);
		check_equal(descriptors, open_descriptors());
	}
}

static void check_refused(int directory, const char *name, int expected)
{
	check_refused_trusting(directory, name, expected, &plain);
}

static void check_opens(int directory, const char *name, const struct segment_trust *trust)
{
	struct layout_header header;
	int fd;

	check_result(0, segment_open(directory, name, LAYOUT_DATA, true, trust, &fd, &header));
	check(header.magic == LAYOUT_MAGIC && header.bytes == BYTES && header.channel_id == 4711);
	close(fd);
}

/* Takes what stands under `name` away and closes the directory. */
static void finish(int directory, const char *name)
{
	if (unlinkat(directory, name, 0) != 0)
		check_result(0, unlinkat(directory, name, AT_REMOVEDIR));
	close(directory);
}

/* ---- making ---- */

static void an_object_is_zero_complete_and_without_a_name_at_first(void **state)
{
	const int directory = open_sandbox();
	struct segment segment;
	struct stat status;
	int fd;

	(void)state;
	check_result(0, segment_create(directory, BYTES, &plain, &fd, &segment));
	check_equal(0, sandbox_objects(NULL));
	check_equal(BYTES, segment.bytes);
	for (uint64_t i = 0; i < BYTES; i++)
		check_equal(0, ((const uint8_t *)segment.base)[i]);
	check_result(0, fstat(fd, &status));
	check_equal(BYTES, status.st_size);
	check((uint64_t)status.st_blocks * 512 >= BYTES && status.st_nlink == 0);
	segment_unmap(&segment);
	close(fd);
	close(directory);
}

static void what_was_written_is_there_for_who_opens_it(void **state)
{
	const int directory = open_sandbox();
	struct segment made, opened;
	const int fd = make_object(directory, &plain, &made);
	struct layout_header header;
	int other;

	(void)state;
	check_result(0, segment_link(directory, fd, "a"));
	check_result(0, segment_open(directory, "a", LAYOUT_DATA, false, &plain, &other, &header));
	check(memcmp(&header, made.base, sizeof header) == 0);
	check_result(0, segment_map(other, BYTES, false, &opened));
	((uint8_t *)made.base)[BYTES - 1] = 77;
	check_equal(77, ((const volatile uint8_t *)opened.base)[BYTES - 1]);
	segment_unmap(&opened);
	segment_unmap(&made);
	close(other);
	close(fd);
	finish(directory, "a");
}

static void who_opened_for_reading_cannot_map_for_writing(void **state)
{
	const int directory = open_sandbox();
	struct segment segment = {.bytes = 4711};
	struct layout_header header;
	int fd;

	(void)state;
	plant_object(directory, "a");
	check_result(0, segment_open(directory, "a", LAYOUT_DATA, false, &plain, &fd, &header));
	check_result(-EACCES, segment_map(fd, BYTES, true, &segment));
	check_equal(4711, segment.bytes);
	close(fd);
	finish(directory, "a");
}

static void the_mode_is_as_asked_whatever_the_umask(void **state)
{
	static const uint32_t modes[] = {0600, 0640, 0660, 0666};
	const int directory = open_sandbox();
	const mode_t before = umask(0777);

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(modes); i++) {
		const struct segment_trust trust = {.permissions = modes[i]};
		struct segment segment;
		struct stat status;
		const int fd = make_object(directory, &trust, &segment);

		check_result(0, segment_link(directory, fd, "a"));
		check_result(0, fstatat(directory, "a", &status, 0));
		check_equal(modes[i], status.st_mode & 07777);
		segment_unmap(&segment);
		close(fd);
		segment_unlink(directory, "a");
	}
	umask(before);
	close(directory);
}

static void an_object_gets_the_group_asked_for(void **state)
{
	const struct segment_trust trust = {.permissions = 0660, .has_group = true, .group = STRANGER};
	struct segment segment;
	struct stat status;
	int directory, fd;

	(void)state;
	if (geteuid() != 0)
		skip_because("only root may give a file to any group");
	directory = open_sandbox();
	fd = make_object(directory, &trust, &segment);
	check_result(0, fstat(fd, &status));
	check(status.st_gid == STRANGER && (status.st_mode & 07777) == 0660);
	segment_unmap(&segment);
	close(fd);
	close(directory);
}

static void a_name_is_given_once(void **state)
{
	const int directory = open_sandbox();
	struct segment segment;
	const int fd = make_object(directory, &plain, &segment);

	(void)state;
	plant_object(directory, "a");
	check_result(-EEXIST, segment_link(directory, fd, "a"));
	check(!segment_is_linked(directory, "a", fd));
	check_opens(directory, "a", &plain);
	segment_unmap(&segment);
	close(fd);
	finish(directory, "a");
}

static void a_link_leads_to_its_object_until_it_is_taken_away(void **state)
{
	const int directory = open_sandbox();
	struct segment segment;
	const int fd = make_object(directory, &plain, &segment);

	(void)state;
	check(!segment_is_linked(directory, "a", fd));
	check_result(0, segment_link(directory, fd, "a"));
	check(segment_is_linked(directory, "a", fd));
	segment_unlink(directory, "a");
	check(!segment_is_linked(directory, "a", fd));
	segment_unlink(directory, "a");
	plant_object(directory, "a");
	check(!segment_is_linked(directory, "a", fd));
	((volatile uint8_t *)segment.base)[BYTES - 1] = 1; /* lives on where it is mapped */
	segment_unmap(&segment);
	close(fd);
	finish(directory, "a");
}

static void a_symbolic_link_to_an_object_is_not_the_object(void **state)
{
	const int directory = open_sandbox();
	struct segment segment;
	const int fd = make_object(directory, &plain, &segment);

	(void)state;
	check_result(0, segment_link(directory, fd, "a"));
	check_result(0, symlinkat("a", directory, "b"));
	check(!segment_is_linked(directory, "b", fd));
	segment_unlink(directory, "a");
	segment_unmap(&segment);
	close(fd);
	finish(directory, "b");
}

static void more_than_the_file_system_holds_is_refused_and_leaves_nothing(void **state)
{
	struct segment segment = {.bytes = 4711};
	struct statvfs system;
	int directory, fd = 4711;
	uint64_t bytes;

	(void)state;
	check_result(0, statvfs(sandbox_directory(), &system));
	bytes = (uint64_t)system.f_blocks * system.f_frsize;
	if (bytes == 0)
		skip_because("this file system has no limit");
	directory = open_sandbox();
	check_result(-ENOSPC, segment_create(directory, bytes + BYTES, &plain, &fd, &segment));
	check(fd == 4711 && segment.bytes == 4711);
	close(directory);
}

static void unmapping_nothing_does_nothing(void **state)
{
	struct segment segment = {0};

	(void)state;
	segment_unmap(&segment);
	check(segment.base == NULL && segment.bytes == 0);
}

/* ---- what stands in an object's place ---- */

static void a_name_that_is_not_there_is_not_found(void **state)
{
	const int directory = open_sandbox();

	(void)state;
	check_refused(directory, "a", -ENOENT);
	close(directory);
}

static void a_symbolic_link_is_not_followed(void **state)
{
	const int directory = open_sandbox();

	(void)state;
	plant_object(directory, "a");
	check_result(0, symlinkat("a", directory, "b"));
	check_refused(directory, "b", -ELOOP);
	segment_unlink(directory, "a");
	check_refused(directory, "b", -ELOOP);
	finish(directory, "b");
}

static void a_fifo_is_refused_without_a_hang(void **state)
{
	const int directory = open_sandbox();

	(void)state;
	check_result(0, mkfifoat(directory, "a", 0600));
	check_refused(directory, "a", -EPROTO);
	finish(directory, "a");
}

static void a_directory_is_refused(void **state)
{
	const int directory = open_sandbox();

	(void)state;
	check_result(0, mkdirat(directory, "a", 0700));
	check_refused(directory, "a", -EPROTO);
	finish(directory, "a");
}

static void a_socket_is_refused(void **state)
{
	const int directory = open_sandbox();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	check(strlen(sandbox_path("a")) < sizeof address.sun_path);
	strcpy(address.sun_path, sandbox_path("a"));
	check_result(0, bind(socket_fd, (struct sockaddr *)&address, sizeof address));
	check_refused(directory, "a", -EPROTO);
	close(socket_fd);
	finish(directory, "a");
}

static void a_file_shorter_than_a_header_is_refused(void **state)
{
	static const off_t sizes[] = {0, 1, sizeof(struct layout_header) - 1};
	const int directory = open_sandbox();

	(void)state;
	plant_object(directory, "a");
	for (unsigned i = COUNT_OF(sizes); i > 0; i--) {
		check_result(0, truncate(sandbox_path("a"), sizes[i - 1]));
		check_refused(directory, "a", -EPROTO);
	}
	finish(directory, "a");
}

static void an_object_of_another_size_than_it_says_is_refused(void **state)
{
	static const off_t sizes[] = {sizeof(struct layout_header), 4096, BYTES - 1, BYTES + 1, BYTES + 4096};
	const int directory = open_sandbox();

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
		plant_object(directory, "a");
		check_opens(directory, "a", &plain);
		check_result(0, truncate(sandbox_path("a"), sizes[i]));
		check_refused(directory, "a", -EBADMSG);
		segment_unlink(directory, "a");
	}
	close(directory);
}

static void an_object_with_a_hole_is_refused(void **state)
{
	const int directory = open_sandbox();
	int fd;

	(void)state;
	plant_object(directory, "a");
	fd = open(sandbox_path("a"), O_RDWR | O_CLOEXEC);
	check(fd >= 0);
	check_result(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BYTES - 4096, 4096));
	close(fd);
	check_refused(directory, "a", -EBADMSG);
	finish(directory, "a");
}

static void an_object_that_was_grown_without_memory_is_refused(void **state)
{
	const int directory = open_sandbox();
	struct layout_header header = {
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.kind = LAYOUT_DATA,
		.bytes = UINT64_C(1) << 40,
	};
	const int fd = openat(directory, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	check(fd >= 0);
	check(write(fd, &header, sizeof header) == sizeof header);
	check_result(0, ftruncate(fd, INT64_C(1) << 40));
	close(fd);
	check_refused(directory, "a", -EBADMSG);
	finish(directory, "a");
}

static void an_object_with_a_second_name_is_refused_under_both(void **state)
{
	const int directory = open_sandbox();

	(void)state;
	plant_object(directory, "a");
	check_result(0, linkat(directory, "a", directory, "b", 0));
	check_refused(directory, "a", -EBADMSG);
	check_refused(directory, "b", -EBADMSG);
	segment_unlink(directory, "b");
	check_opens(directory, "a", &plain);
	finish(directory, "a");
}

static void a_header_that_is_not_right_is_refused_by_its_code(void **state)
{
	static const struct corruption table[] = {
		CORRUPT(struct layout_header, magic, 0, .error = -EPROTO),
		CORRUPT(struct layout_header, version, LAYOUT_VERSION + 1, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, features, 1, .error = -EPROTONOSUPPORT),
		CORRUPT(struct layout_header, kind, LAYOUT_CONTROL, .error = -EPROTO),
		CORRUPT(struct layout_header, bytes, BYTES + 1, .error = -EBADMSG),
		CORRUPT(struct layout_header, slot, LAYOUT_SLOTS, .error = -EBADMSG),
	};
	const int directory = open_sandbox();

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		struct segment segment;
		const int fd = make_object(directory, &plain, &segment);

		corrupt(segment.base, &table[i]);
		check_result(0, segment_link(directory, fd, "a"));
		check_refused(directory, "a", table[i].error);
		segment_unlink(directory, "a");
		segment_unmap(&segment);
		close(fd);
	}
	close(directory);
}

/* ---- owners ---- */

static void the_object_of_a_stranger_is_opened_only_by_who_trusts_him(void **state)
{
	static const uint32_t others[] = {1, STRANGER + 1}, him[] = {1, STRANGER};
	const struct segment_trust trust_others = {.uids = others, .uid_count = 2};
	const struct segment_trust trust_him = {.uids = him, .uid_count = 2};
	const struct segment_trust trust_first = {.uids = him, .uid_count = 1};
	const struct segment_trust trust_all = {.any_owner = true};
	int directory;

	(void)state;
	if (geteuid() != 0)
		skip_because("only root may give a file away");
	directory = open_sandbox();
	plant_object(directory, "a");
	check_result(0, chown(sandbox_path("a"), STRANGER, 0));
	check_refused(directory, "a", -EPERM);
	check_refused_trusting(directory, "a", -EPERM, &trust_others);
	check_refused_trusting(directory, "a", -EPERM, &trust_first);
	check_opens(directory, "a", &trust_him);
	check_opens(directory, "a", &trust_all);
	finish(directory, "a");
}

static void the_object_of_a_trusted_group_is_opened(void **state)
{
	const struct segment_trust trust_group = {.has_group = true, .group = STRANGER};
	const struct segment_trust trust_other = {.has_group = true, .group = STRANGER + 1};
	const struct segment_trust without = {.group = STRANGER};
	int directory;

	(void)state;
	if (geteuid() != 0)
		skip_because("only root may give a file away");
	directory = open_sandbox();
	plant_object(directory, "a");
	check_result(0, chown(sandbox_path("a"), STRANGER, STRANGER));
	check_opens(directory, "a", &trust_group);
	check_refused_trusting(directory, "a", -EPERM, &trust_other);
	check_refused_trusting(directory, "a", -EPERM, &without);
	finish(directory, "a");
}

/* ---- directories ---- */

static void check_directory(int expected, const char *path)
{
	const unsigned descriptors = open_descriptors();

	check_result(expected, segment_open_directory(path));
	check_equal(descriptors, open_descriptors());
}

static void only_directories_in_memory_will_do(void **state)
{
	(void)state;
	check_directory(-ENOENT, "/dev/shm/there/is/nothing/here");
	check_directory(-ENOTDIR, "/proc/self/status");
	check_directory(-ENOTSUP, "/proc");
}

static void the_directory_is_the_one_named_else_that_of_the_environment(void **state)
{
	int directory = segment_open_directory("/dev/shm");

	(void)state;
	check(directory >= 0);
	plant_object(directory, "sluice-test-segment");
	check_opens(directory, "sluice-test-segment", &plain);
	finish(directory, "sluice-test-segment");
	directory = open_sandbox();
	plant_object(directory, "a");
	check_equal(1, sandbox_objects(NULL));
	finish(directory, "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(an_object_is_zero_complete_and_without_a_name_at_first),
		promise(what_was_written_is_there_for_who_opens_it),
		promise(who_opened_for_reading_cannot_map_for_writing),
		promise(the_mode_is_as_asked_whatever_the_umask),
		promise(an_object_gets_the_group_asked_for),
		promise(a_name_is_given_once),
		promise(a_link_leads_to_its_object_until_it_is_taken_away),
		promise(a_symbolic_link_to_an_object_is_not_the_object),
		promise(more_than_the_file_system_holds_is_refused_and_leaves_nothing),
		promise(unmapping_nothing_does_nothing),
		promise(a_name_that_is_not_there_is_not_found),
		promise(a_symbolic_link_is_not_followed),
		promise(a_fifo_is_refused_without_a_hang),
		promise(a_directory_is_refused),
		promise(a_socket_is_refused),
		promise(a_file_shorter_than_a_header_is_refused),
		promise(an_object_of_another_size_than_it_says_is_refused),
		promise(an_object_with_a_hole_is_refused),
		promise(an_object_that_was_grown_without_memory_is_refused),
		promise(an_object_with_a_second_name_is_refused_under_both),
		promise(a_header_that_is_not_right_is_refused_by_its_code),
		promise(the_object_of_a_stranger_is_opened_only_by_who_trusts_him),
		promise(the_object_of_a_trusted_group_is_opened),
		promise(only_directories_in_memory_will_do),
		promise(the_directory_is_the_one_named_else_that_of_the_environment),
	};

	return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
