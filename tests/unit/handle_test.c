/* SPDX-License-Identifier: Apache-2.0 */
/* What every handle starts with: closed ones say so, children of a fork are told, and memory is not reused too soon. */
#include "handle.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

#include "../support/harness.h"
#include "corrupt.h"

#define RESTING 16 /* closed handles that wait at least before the oldest serves again */

struct probe {
	struct handle handle;
	uint64_t retired_as; /* number of its retirement, counted from 1 */
	uint8_t rest[200];
};

static uint64_t retired; /* handles retired by these tests */

static struct probe *open_probe(enum handle_kind kind)
{
	struct probe *probe = handle_new(kind, sizeof *probe);

	check(probe != NULL);
	check_result(-EBADF, handle_check(&probe->handle));
	handle_publish(&probe->handle);
	check_result(0, handle_check(&probe->handle));
	return probe;
}

static void close_probe(struct probe *probe)
{
	probe->retired_as = ++retired;
	handle_retire(&probe->handle);
	check_result(-EBADF, handle_check(&probe->handle));
}

static void a_handle_answers_from_publish_to_retire_only(void **state)
{
	struct probe *probe = open_probe(HANDLE_PRODUCER);

	(void)state;
	check_equal(HANDLE_PRODUCER, probe->handle.kind);
	check(probe->handle.lock_fd == -1);
	close_probe(probe);
	check_result(-EBADF, handle_check(&probe->handle));
}

static void a_closed_handle_serves_again_only_after_others_rest(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct probe *probe = open_probe(HANDLE_PRODUCER);

		check(probe->retired_as == 0 || retired - probe->retired_as >= RESTING);
		close_probe(probe);
	}
}

/* Opens producers until one has never been used: then none of the closed handles is a producer's. */
static unsigned open_all_rested(struct probe **probes, unsigned most)
{
	unsigned count = 0;

	do {
		check(count < most);
		probes[count] = open_probe(HANDLE_PRODUCER);
	} while (probes[count++]->retired_as != 0);
	return count;
}

static void handles_of_the_other_kind_do_not_rest_in_its_place(void **state)
{
	struct probe *others[2 * RESTING], *probes[8 * RESTING], *last, *next;
	unsigned count;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(others); i++)
		others[i] = open_probe(HANDLE_CONSUMER);
	for (unsigned i = 0; i < COUNT_OF(others); i++)
		close_probe(others[i]);
	count = open_all_rested(probes, COUNT_OF(probes));
	last = probes[--count];
	close_probe(last);
	next = open_probe(HANDLE_PRODUCER); /* no other was closed since */
	check(next != last);
	check_result(-EBADF, handle_check(&last->handle));
	close_probe(next);
	while (count > 0)
		close_probe(probes[--count]);
}

static void a_handle_serves_its_own_kind_only(void **state)
{
	struct probe *probes[3 * RESTING];

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(probes); i++)
		probes[i] = open_probe(HANDLE_PRODUCER);
	for (unsigned i = 0; i < COUNT_OF(probes); i++)
		close_probe(probes[i]);
	for (unsigned i = 0; i < 100; i++) {
		struct probe *other = open_probe(HANDLE_CONSUMER);

		check_equal(HANDLE_CONSUMER, other->handle.kind);
		for (unsigned k = 0; k < COUNT_OF(probes); k++)
			check(other != probes[k]);
		close_probe(other);
	}
}

static void memory_is_bounded_by_the_handles_open_at_one_time(void **state)
{
	static struct probe *seen[1000];
	unsigned count = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(seen); i++) {
		struct probe *probe = open_probe(HANDLE_PRODUCER);
		unsigned k = 0;

		while (k < count && seen[k] != probe)
			k++;
		if (k == count)
			seen[count++] = probe;
		close_probe(probe);
	}
	check(count <= 5 * RESTING); /* with those that the tests before have left to rest */
}

static void open_handles_are_all_different(void **state)
{
	struct probe *probes[3 * RESTING];

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(probes); i++) {
		probes[i] = open_probe(HANDLE_PRODUCER);
		for (unsigned k = 0; k < i; k++)
			check(probes[k] != probes[i]);
	}
	for (unsigned i = 0; i < COUNT_OF(probes); i++)
		close_probe(probes[i]);
}

/* ---- locks ---- */

static int open_directory(void)
{
	const int directory = open(sandbox_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	check(directory >= 0);
	return directory;
}

/* A file whose first byte is locked through the handle; returns another descriptor of it, which sees the lock. */
static int lock_a_file(struct probe *probe)
{
	const int directory = open_directory();
	const int other = openat(directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const int fd = handle_open_lock(&probe->handle, directory, "lock", O_NOFOLLOW);

	check(other >= 0 && fd >= 0 && probe->handle.lock_fd == fd);
	check((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	check_result(0, sys_lock_byte(fd, 0));
	check_result(1, sys_byte_is_locked(other, 0));
	close(directory);
	return other;
}

static void closing_the_lock_descriptor_frees_the_lock(void **state)
{
	struct probe *probe = open_probe(HANDLE_PRODUCER);
	const int other = lock_a_file(probe);

	(void)state;
	handle_close_lock(&probe->handle);
	check(probe->handle.lock_fd == -1);
	check_result(0, sys_byte_is_locked(other, 0));
	handle_close_lock(&probe->handle);
	close_probe(probe);
	close(other);
	unlink(sandbox_path("lock"));
}

static void a_lock_file_that_is_not_there_or_a_link_is_not_opened(void **state)
{
	struct probe *probe = open_probe(HANDLE_PRODUCER);
	const int directory = open_directory();

	(void)state;
	check_result(-ENOENT, handle_open_lock(&probe->handle, directory, "lock", O_NOFOLLOW));
	check(probe->handle.lock_fd == -1);
	check_result(0, symlinkat("other", directory, "lock"));
	check_result(-ELOOP, handle_open_lock(&probe->handle, directory, "lock", O_NOFOLLOW));
	check(probe->handle.lock_fd == -1);
	handle_close_lock(&probe->handle);
	close_probe(probe);
	unlinkat(directory, "lock", 0);
	close(directory);
}

/* ---- fork ---- */

struct inheritance {
	struct probe *open[2 * RESTING], *closed;
	int lock_fd, other_fd;
	struct tally checked;
};

static void look_at_inherited_handles(void *shared, unsigned index)
{
	struct inheritance *inheritance = shared;

	(void)index;
	for (unsigned i = 0; i < COUNT_OF(inheritance->open); i++)
		check_result(-ECHILD, handle_check(&inheritance->open[i]->handle));
	check_result(-EBADF, handle_check(&inheritance->closed->handle));
	check(fcntl(inheritance->lock_fd, F_GETFD) == -1 && errno == EBADF);
	check(inheritance->open[0]->handle.lock_fd == -1);
	check(fcntl(inheritance->other_fd, F_GETFD) >= 0);
	check_result(1, sys_byte_is_locked(inheritance->other_fd, 0)); /* it is still the parent's */
	tally_add(&inheritance->checked);
}

static struct inheritance *make_inheritance(void)
{
	struct inheritance *inheritance = shared_memory(sizeof *inheritance);

	for (unsigned i = 0; i < COUNT_OF(inheritance->open); i++)
		inheritance->open[i] = open_probe(i % 2 ? HANDLE_PRODUCER : HANDLE_CONSUMER);
	inheritance->closed = open_probe(HANDLE_PRODUCER);
	close_probe(inheritance->closed);
	inheritance->other_fd = lock_a_file(inheritance->open[0]);
	inheritance->lock_fd = inheritance->open[0]->handle.lock_fd;
	return inheritance;
}

static void end_inheritance(struct inheritance *inheritance)
{
	handle_close_lock(&inheritance->open[0]->handle);
	check_result(0, sys_byte_is_locked(inheritance->other_fd, 0));
	for (unsigned i = 0; i < COUNT_OF(inheritance->open); i++)
		close_probe(inheritance->open[i]);
	close(inheritance->other_fd);
	unlink(sandbox_path("lock"));
}

static void a_child_is_told_so_and_has_no_lock_descriptor(void **state)
{
	struct inheritance *inheritance = make_inheritance();

	(void)state;
	process_start(look_at_inherited_handles, inheritance, 0);
	processes_finish();
	check_equal(1, tally_read(&inheritance->checked));
	for (unsigned i = 0; i < COUNT_OF(inheritance->open); i++)
		check_result(0, handle_check(&inheritance->open[i]->handle));
	check_result(1, sys_byte_is_locked(inheritance->other_fd, 0));
	end_inheritance(inheritance);
}

static void wait_for_the_end(void *shared, unsigned index)
{
	struct inheritance *inheritance = shared;

	(void)index;
	tally_add(&inheritance->checked);
	tally_wait(&inheritance->checked, 2);
}

static void a_living_child_does_not_keep_its_parents_lock(void **state)
{
	struct inheritance *inheritance = make_inheritance();

	(void)state;
	process_start(wait_for_the_end, inheritance, 0);
	tally_wait(&inheritance->checked, 1);
	end_inheritance(inheritance);
	tally_add(&inheritance->checked);
	processes_finish();
}

/* A child opens handles of its own, of memory that rested in its parent too; so does its child. */
static void open_own_handles(void *shared, unsigned index)
{
	struct inheritance *inheritance = shared;

	(void)index;
	for (unsigned i = 0; i < 3 * RESTING; i++) {
		struct probe *probe = open_probe(HANDLE_PRODUCER);

		for (unsigned k = 0; k < COUNT_OF(inheritance->open); k++)
			check(probe != inheritance->open[k]);
		close_probe(probe);
	}
	for (unsigned i = 0; i < COUNT_OF(inheritance->open); i++)
		check_result(-ECHILD, handle_check(&inheritance->open[i]->handle));
	tally_add(&inheritance->checked);
}

static void a_child_may_open_handles_of_its_own(void **state)
{
	struct inheritance *inheritance = make_inheritance();

	(void)state;
	process_start(open_own_handles, inheritance, 0);
	processes_finish();
	check_equal(1, tally_read(&inheritance->checked));
	end_inheritance(inheritance);
}

/* ---- watching ---- */

struct watcher {
	struct handle_watch watch; /* first: what a notice gets */
	unsigned closes;
	unsigned sleeps;
};

static void count_news(struct handle_watch *watch, enum handle_news news)
{
	struct watcher *watcher = (struct watcher *)watch;

	watcher->closes += news == HANDLE_CLOSES;
	watcher->sleeps += news == HANDLE_SLEEPS;
}

static void one_watches_a_handle_until_it_closes(void **state)
{
	struct watcher first = {.watch = {.owner = &first, .notice = count_news}};
	struct watcher second = {.watch = {.owner = &first, .notice = count_news}};
	struct watcher other = {.watch = {.owner = &other, .notice = count_news}};
	struct probe *probe = open_probe(HANDLE_PRODUCER);

	(void)state;
	handle_tell_if_watched(&probe->handle, HANDLE_SLEEPS); /* nobody */
	check_result(0, handle_begin_watch(&probe->handle, &first.watch));
	check_result(-EEXIST, handle_begin_watch(&probe->handle, &second.watch));
	check_result(-EBUSY, handle_begin_watch(&probe->handle, &other.watch));
	handle_tell_if_watched(&probe->handle, HANDLE_SLEEPS);
	handle_end_watch(&probe->handle, &other.watch); /* it is not the one */
	handle_tell_if_watched(&probe->handle, HANDLE_SLEEPS);
	check_equal(2, first.sleeps);
	handle_end_watch(&probe->handle, &first.watch);
	handle_tell_if_watched(&probe->handle, HANDLE_SLEEPS);
	check_equal(2, first.sleeps);
	check_result(0, handle_begin_watch(&probe->handle, &other.watch));
	handle_tell_if_watched(&probe->handle, HANDLE_CLOSES);
	handle_tell_if_watched(&probe->handle, HANDLE_CLOSES);
	check_equal(1, other.closes);
	check_equal(0, first.closes + second.closes + second.sleeps + other.sleeps);
	close_probe(probe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_handle_answers_from_publish_to_retire_only),
		promise(a_closed_handle_serves_again_only_after_others_rest),
		promise(memory_is_bounded_by_the_handles_open_at_one_time),
		promise(handles_of_the_other_kind_do_not_rest_in_its_place),
		promise(a_handle_serves_its_own_kind_only),
		promise(open_handles_are_all_different),
		promise(closing_the_lock_descriptor_frees_the_lock),
		promise(a_lock_file_that_is_not_there_or_a_link_is_not_opened),
		promise(a_child_is_told_so_and_has_no_lock_descriptor),
		promise(a_living_child_does_not_keep_its_parents_lock),
		promise(a_child_may_open_handles_of_its_own),
		promise(one_watches_a_handle_until_it_closes),
	};

	return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
