/* SPDX-License-Identifier: Apache-2.0 */
/* Channels on a hugetlbfs: all of a channel on its pages, an empty pool is a full file system. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/harness.h"
#include "mapping.h"

#define PAGE       (UINT64_C(2) << 20)
#define LANE_BYTES (UINT64_C(3) << 20)
#define POOL       "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages"
#define MOST       UINT64_C(12) /* pages that a test may have at one time */

static uint64_t read_pool(void)
{
	FILE *file = fopen(POOL, "re");
	unsigned long long pages = 0;

	if (file && fscanf(file, "%llu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages;
}

/* Pages that the kernel may make when they are asked for, and takes back afterwards: nothing is held in reserve. */
static bool write_pool(uint64_t pages)
{
	FILE *file = fopen(POOL, "we");
	bool written = file && fprintf(file, "%llu", (unsigned long long)pages) > 0;

	if (file)
		written &= !fclose(file);
	return written;
}

/* Mounts one over the sandbox, for this process alone, which may have up to `pages` pages. */
static bool try_to_mount(unsigned pages)
{
	char options[64];

	snprintf(options, sizeof options, "pagesize=2M,size=%llu", (unsigned long long)(pages * PAGE));
	return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("none", sandbox_directory(), "hugetlbfs", 0, options);
}

static bool mounting_is_possible(void)
{
	const pid_t child = fork();
	int status = -1;

	if (!child)
		_exit(!try_to_mount(1));
	return waitpid(child, &status, 0) == child && status == 0;
}

/* Runs `body` in a process of its own, with a pool that holds enough. */
static void run(process_body body, void *shared)
{
	const uint64_t before = read_pool();

	if (!mounting_is_possible())
		skip_because("mounting a hugetlbfs needs root and a mount namespace");
	if (!write_pool(before + MOST))
		skip_because("the pool of huge pages cannot be changed here");
	process_start(body, shared, 0);
	process_status(0);
	write_pool(before);
	processes_finish();
}

static void exchange(void *shared, unsigned index)
{
	struct sluice_producer *producer;
	struct sluice_placement placement;
	struct sluice_channel_stat *stat = NULL;

	(void)shared;
	(void)index;
	check(try_to_mount(MOST));
	producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(), .lane_bytes = LANE_BYTES,
						.flags = SLUICE_HUGE_PAGES | SLUICE_PREFAULT, .node = SLUICE_NODE(0)));
	placement = placement_of(producer);
	check_equal(SLUICE_PAGES_HUGETLB, placement.pages);
	check_equal(PAGE, placement.page_bytes);
	check_equal(2 * PAGE, placement.huge_bytes);
	check_equal(SLUICE_HUGE_PAGES | SLUICE_PREFAULT, placement.obtained & ~(uint32_t)SLUICE_ON_NODE);
	check_equal(2 * PAGE, mapping_bytes(lane_address(producer), "Size:"));
	check_equal(2048 * 1024, mapping_bytes(lane_address(producer), "KernelPageSize:"));
	check_equal(2 * PAGE, mapping_bytes(lane_address(producer), "Private_Hugetlb:") +
				      mapping_bytes(lane_address(producer), "Shared_Hugetlb:"));
	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(3 * PAGE, stat->lanes[0].mapped_bytes);
	check_equal(4 * PAGE, stat->mapped_bytes);
	sluice_channel_stat_free(stat);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
	check_equal(0, sandbox_objects(NULL));
}

static void a_channel_lies_on_huge_pages_all_of_it(void **state)
{
	(void)state;
	run(exchange, NULL);
}

static void receive_asleep(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.spin_ns = SLUICE_NO_SPIN));

	(void)shared;
	(void)index;
	take_numbers(consumer, 0, 100);
	check_result(0, sluice_consumer_close(consumer));
}

static void send_through_a_small_ring(void *shared, unsigned index)
{
	struct sluice_producer *producer;

	(void)shared;
	(void)index;
	check(try_to_mount(MOST));
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	process_start(receive_asleep, NULL, 0);
	wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
	send_numbers(producer, 0, 100);
	processes_finish();
	send_numbers(producer, 7, 1);
	check_result(0, sluice_producer_close(producer));
	/* What was left waits for the next, as on any file system. */
	check(sandbox_objects(NULL) > 0);
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	take_numbers(consumer, 7, 1);
	check_result(0, sluice_consumer_close(consumer));
	check_equal(0, sandbox_objects(NULL));
}

static void members_sleep_and_wake_and_a_backlog_stays(void **state)
{
	(void)state;
	run(send_through_a_small_ring, NULL);
}

static void open_without_enough_pages(void *shared, unsigned index)
{
	bool *outcomes = shared;

	(void)index;
	/* Control, data of two pages and claims are four. */
	check(try_to_mount(5));
	for (unsigned pages = 1; pages < 6; pages++) {
		const unsigned descriptors = open_descriptors();
		struct sluice_producer *producer = NULL;
		char options[64];
		int result;

		umount2(sandbox_directory(), MNT_DETACH);
		snprintf(options, sizeof options, "pagesize=2M,size=%llu", (unsigned long long)(pages * PAGE));
		check(!mount("none", sandbox_directory(), "hugetlbfs", 0, options));
		result = sluice_producer_open("tokens",
			PRODUCER(.channel = CHANNEL(), .lane_bytes = LANE_BYTES, .flags = SLUICE_HUGE_PAGES),
			&producer);
		check_result(pages < 4 ? -ENOSPC : 0, result);
		outcomes[result == 0] = true;
		if (producer)
			check_works(producer, "tokens");
		check_result(0, sluice_producer_close(producer));
		check_equal(0, sandbox_objects(NULL));
		check_equal(0, sandbox_mappings());
		check_equal(descriptors, open_descriptors());
	}
}

static void a_pool_too_small_is_a_full_file_system_and_nothing_is_left(void **state)
{
	bool *outcomes = shared_memory(2 * sizeof *outcomes);

	(void)state;
	run(open_without_enough_pages, outcomes);
	check(outcomes[false] && outcomes[true]);
}

static void open_with_an_empty_pool(void *shared, unsigned index)
{
	struct sluice_producer *producer = NULL;

	(void)shared;
	(void)index;
	check(try_to_mount(MOST));
	check_result(-ENOSPC,
		sluice_producer_open("tokens", PRODUCER(.channel = CHANNEL(), .flags = SLUICE_HUGE_PAGES), &producer));
	check(!producer);
	check_equal(0, sandbox_objects(NULL));
}

static void an_empty_pool_is_a_full_file_system(void **state)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "re");
	unsigned pages = 1;

	(void)state;
	if (file && fscanf(file, "%u", &pages) != 1)
		pages = 1;
	if (file)
		fclose(file);
	if (pages || read_pool())
		skip_because("the pool of huge pages is not empty");
	if (!mounting_is_possible())
		skip_because("mounting a hugetlbfs needs root and a mount namespace");
	process_start(open_with_an_empty_pool, NULL, 0);
	processes_finish();
}

/* How many lanes a look at the channel finds, or its error. */
static int lanes_found(void)
{
	struct sluice_channel_stat *stat;
	int result = sluice_channel_stat("tokens", NULL, &stat);

	if (result == 0) {
		result = (int)stat->lane_count;
		sluice_channel_stat_free(stat);
	}
	return result;
}

static void add_a_page_to_each_object(void *shared, unsigned index)
{
	static sandbox_name names[SANDBOX_NAMES];
	struct sluice_producer *producer;

	(void)shared;
	(void)index;
	check(try_to_mount(MOST));
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(), .lane_bytes = LANE_BYTES));
	for (unsigned i = 0, count = sandbox_objects(names); i < count; i++) {
		const int fd = open(sandbox_path(names[i]), O_RDWR | O_CLOEXEC);
		struct stat status;

		check(fd >= 0 && !fstat(fd, &status));
		check(!posix_fallocate(fd, 0, status.st_size + (off_t)PAGE));
		check_equal(status.st_size + (off_t)PAGE, lseek(fd, 0, SEEK_END));
		check_result(strchr(names[i], '+') ? 0 : -EBADMSG, lanes_found());
		check(!ftruncate(fd, status.st_size));
		check_result(1, lanes_found());
		close(fd);
	}
	check_result(0, sluice_producer_close(producer));
}

static void an_object_with_a_page_too_many_is_refused(void **state)
{
	(void)state;
	run(add_a_page_to_each_object, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_channel_lies_on_huge_pages_all_of_it),
		promise(members_sleep_and_wake_and_a_backlog_stays),
		promise(a_pool_too_small_is_a_full_file_system_and_nothing_is_left),
		promise(an_empty_pool_is_a_full_file_system),
		promise(an_object_with_a_page_too_many_is_refused),
	};

	return cmocka_run_group_tests_name("hugetlbfs", tests, NULL, NULL);
}
