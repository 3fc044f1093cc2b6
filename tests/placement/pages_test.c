/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages on a tmpfs, page tables filled beforehand, locked memory: as the kernel counts them in /proc/self/smaps. */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/harness.h"
#include "mapping.h"

#define HUGE       (UINT64_C(2) << 20)
#define LANE_BYTES (UINT64_C(5) << 20) /* two whole huge pages, and something over */

static struct sluice_producer *open_with(uint32_t flags, uint64_t lane_bytes)
{
	return join_producer("tokens", PRODUCER(.channel = CHANNEL(), .flags = flags, .lane_bytes = lane_bytes));
}

/* ---- huge pages ---- */

static void huge_pages_are_those_that_the_kernel_counts(void **state)
{
	struct sluice_producer *producer = open_with(SLUICE_HUGE_PAGES, LANE_BYTES);
	const struct sluice_placement placement = placement_of(producer);
	const void *address = lane_address(producer);

	(void)state;
	check_equal(SLUICE_HUGE_PAGES, placement.asked);
	check_equal(placement.huge_bytes, mapping_bytes(address, "ShmemPmdMapped:"));
	if (placement.huge_error) {
		check_equal(0, placement.obtained);
		check_works(producer, "tokens");
		check_result(0, sluice_producer_close(producer));
		skip_because("this kernel makes no huge pages on a tmpfs");
	}
	check_equal(SLUICE_HUGE_PAGES, placement.obtained);
	check_equal(SLUICE_PAGES_TRANSPARENT, placement.pages);
	check_equal(0, placement.huge_bytes % placement.page_bytes);
	check(mapping_bytes(address, "Size:") - placement.huge_bytes < placement.page_bytes);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void read_through_huge_pages(void *shared, unsigned index)
{
	const uint64_t *expected = shared;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_PREFAULT));
	const struct sluice_message *message = hold(consumer);

	(void)index;
	check_equal(*expected, mapping_bytes(sluice_tensor(message, 0)->data, "ShmemPmdMapped:"));
	check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(consumer));
}

static void consumers_map_huge_pages_whole(void **state)
{
	struct sluice_producer *producer = open_with(SLUICE_HUGE_PAGES, LANE_BYTES);
	uint64_t *huge_bytes = shared_memory(sizeof *huge_bytes);

	(void)state;
	*huge_bytes = placement_of(producer).huge_bytes;
	send_bytes(producer, 1, 1000);
	process_start(read_through_huge_pages, huge_bytes, 0);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

static void a_lane_smaller_than_a_huge_page_opens_and_says_so(void **state)
{
	struct sluice_producer *producer = open_with(SLUICE_HUGE_PAGES, 65536);
	const struct sluice_placement placement = placement_of(producer);

	(void)state;
	check_equal(SLUICE_HUGE_PAGES, placement.asked);
	check_equal(0, placement.obtained);
	check(placement.huge_error == -ERANGE || placement.huge_error == -EOPNOTSUPP);
	check_equal(SLUICE_PAGES_SMALL, placement.pages);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void open_without_huge_pages(void *shared, unsigned index)
{
	struct sluice_producer *producer;
	struct sluice_placement placement;

	(void)shared;
	(void)index;
	check(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	producer = open_with(SLUICE_HUGE_PAGES, LANE_BYTES);
	placement = placement_of(producer);
	check_equal(0, placement.obtained);
	check(placement.huge_error < 0);
	check_equal(SLUICE_PAGES_SMALL, placement.pages);
	check_equal(0, placement.huge_bytes);
	check_equal(0, mapping_bytes(lane_address(producer), "ShmemPmdMapped:"));
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void without_huge_pages_the_lane_opens_and_says_so(void **state)
{
	(void)state;
	process_start(open_without_huge_pages, NULL, 0);
	processes_finish();
}

/* ---- prefault ---- */

static void a_prefaulted_lane_is_in_the_page_tables(void **state)
{
	struct sluice_producer *producer = open_with(0, LANE_BYTES);
	const void *address = lane_address(producer);

	(void)state;
	check(mapping_bytes(address, "Rss:") < LANE_BYTES / 2);
	check_result(0, sluice_producer_close(producer));
	producer = open_with(SLUICE_PREFAULT, LANE_BYTES);
	address = lane_address(producer);
	if (placement_of(producer).prefault_error) {
		check_result(-EINVAL, placement_of(producer).prefault_error);
		check_equal(0, placement_of(producer).obtained);
	} else {
		check_equal(SLUICE_PREFAULT, placement_of(producer).obtained);
		check_equal(mapping_bytes(address, "Size:"), mapping_bytes(address, "Rss:"));
	}
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void read_prefaulted(void *shared, unsigned prefaulted)
{
	const uint32_t flags = prefaulted ? SLUICE_PREFAULT : 0;
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.flags = flags));
	const struct sluice_message *message = hold(consumer);
	const void *address = sluice_tensor(message, 0)->data;

	(void)shared;
	if (prefaulted)
		check_equal(mapping_bytes(address, "Size:"), mapping_bytes(address, "Rss:"));
	else
		check(mapping_bytes(address, "Rss:") < LANE_BYTES / 2);
	check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_consumer_prefaults_on_request(void **state)
{
	struct sluice_producer *producer = open_with(SLUICE_PREFAULT, LANE_BYTES);

	(void)state;
	for (unsigned prefaulted = 0; prefaulted < 2 && !placement_of(producer).prefault_error; prefaulted++) {
		send_bytes(producer, 1, 1000);
		process_start(read_prefaulted, NULL, prefaulted);
		processes_finish();
	}
	check_result(0, sluice_producer_close(producer));
}

/* ---- lock ---- */

static uint64_t locked_bytes(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	unsigned long kib = 0;

	check(status != NULL);
	while (fgets(line, sizeof line, status))
		sscanf(line, "VmLck: %lu kB", &kib);
	fclose(status);
	return (uint64_t)kib * 1024;
}

static void locked_memory_is_what_the_kernel_counts(void **state)
{
	struct sluice_producer *producer = open_with(SLUICE_LOCK_MEMORY, 65536);
	const struct sluice_placement placement = placement_of(producer);

	(void)state;
	check_equal(SLUICE_LOCK_MEMORY, placement.asked);
	if (placement.lock_error) {
		check_equal(0, placement.obtained);
		check_equal(0, locked_bytes());
	} else {
		const uint64_t bytes = mapping_bytes(lane_address(producer), "Size:");

		check_equal(SLUICE_LOCK_MEMORY, placement.obtained);
		check_equal(bytes, mapping_bytes(lane_address(producer), "Locked:"));
		check(locked_bytes() > bytes); /* claims too */
	}
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
	check_equal(0, locked_bytes());
}

static void lose_the_right_to_lock(uint64_t limit)
{
	const struct rlimit memlock = {limit, limit};
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	check(!setrlimit(RLIMIT_MEMLOCK, &memlock));
	check(!syscall(SYS_capget, &header, sets));
	sets[CAP_IPC_LOCK / 32].effective &= ~(1U << CAP_IPC_LOCK % 32);
	check(!syscall(SYS_capset, &header, sets));
}

static void open_under_a_limit(void *shared, unsigned limit)
{
	const uint32_t wishes = SLUICE_LOCK_MEMORY | SLUICE_PREFAULT;
	struct sluice_producer *producer;
	struct sluice_placement placement;

	(void)shared;
	lose_the_right_to_lock(limit);
	producer = open_with(wishes, LANE_BYTES);
	placement = placement_of(producer);
	check_equal(wishes, placement.asked);
	check_result(limit ? -ENOMEM : -EPERM, placement.lock_error);
	/* One wish refused refuses no other. */
	check(placement.prefault_error || placement.obtained == SLUICE_PREFAULT);
	check(locked_bytes() <= limit);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void skip_unless_limit_may_be(uint64_t bytes)
{
	struct rlimit memlock;

	check(!getrlimit(RLIMIT_MEMLOCK, &memlock));
	if (bytes > memlock.rlim_max && geteuid() != 0)
		skip_because("the limit of locked memory is lower here, and not ours to raise");
}

static void under_a_memlock_limit_the_lane_opens_and_says_so(void **state)
{
	(void)state;
	skip_unless_limit_may_be(65536);
	process_start(open_under_a_limit, NULL, 65536);
	process_start(open_under_a_limit, NULL, 0);
	processes_finish();
}

static void a_limit_that_suffices_for_data_but_not_for_claims_is_told_too(void **state)
{
	(void)state;
	skip_unless_limit_may_be(LANE_BYTES + 60 * 1024);
	/* Eight descriptors and what stands before them take 56 KiB, eight claims 8 KiB. */
	process_start(open_under_a_limit, NULL, LANE_BYTES + 60 * 1024);
	processes_finish();
}

/* ---- options ---- */

static void callers_who_know_no_placement_are_served(void **state)
{
	struct sluice_producer_options options = {
		.size = offsetof(struct sluice_producer_options, node),
		.channel = CHANNEL(),
		.node = UINT32_MAX - 7, /* bytes that are not the caller's */
		.device = "nonsense",
	};
	struct sluice_producer *producer = join_producer("tokens", &options);

	(void)state;
	check_equal(0, placement_of(producer).asked);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
	producer = NULL;
	for (size_t size = offsetof(struct sluice_producer_options, node) - 8; size <= sizeof options + 8; size++) {
		options.size = size;
		if (size != offsetof(struct sluice_producer_options, node) && size != sizeof options)
			check_result(-EINVAL, sluice_producer_open("tokens", &options, &producer));
	}
	check(!producer);
}

static void flags_that_are_not_options_are_refused(void **state)
{
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;

	(void)state;
	check_result(-EINVAL,
		sluice_producer_open("tokens", PRODUCER(.channel = CHANNEL(), .flags = SLUICE_ON_NODE), &producer));
	for (uint32_t flag = SLUICE_HUGE_PAGES; flag <= SLUICE_ON_NODE; flag *= 2)
		if (flag != SLUICE_PREFAULT)
			check_result(-EINVAL, sluice_consumer_open("tokens", CONSUMER(.flags = flag), &consumer));
	check(!producer && !consumer);
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(huge_pages_are_those_that_the_kernel_counts),
		promise(consumers_map_huge_pages_whole),
		promise(a_lane_smaller_than_a_huge_page_opens_and_says_so),
		promise(without_huge_pages_the_lane_opens_and_says_so),
		promise(a_prefaulted_lane_is_in_the_page_tables),
		promise(a_consumer_prefaults_on_request),
		promise(locked_memory_is_what_the_kernel_counts),
		promise(under_a_memlock_limit_the_lane_opens_and_says_so),
		promise(a_limit_that_suffices_for_data_but_not_for_claims_is_told_too),
		promise(callers_who_know_no_placement_are_served),
		promise(flags_that_are_not_options_are_refused),
	};

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
