/* SPDX-License-Identifier: Apache-2.0 */
/* Opening with names and options that are wrong, and where there is no room: refused with the code of the header, nothing
 * left. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

#define TMPFS 0x01021994

/* Both roles must be refused with `expected`, and nothing may be left or written to the result. */
static void check_refused(int expected, const char *name, const struct sluice_channel_options *channel)
{
	struct sluice_producer *const no_producer = (void *)&expected;
	struct sluice_consumer *const no_consumer = (void *)&expected;
	struct sluice_producer *producer = no_producer;
	struct sluice_consumer *consumer = no_consumer;
	const unsigned descriptors = open_descriptors();

	check_result(expected, sluice_producer_open(name, PRODUCER(.channel = channel), &producer));
	check_result(expected, sluice_consumer_open(name, CONSUMER(.channel = channel), &consumer));
	check(producer == no_producer && consumer == no_consumer);
	check_equal(descriptors, open_descriptors());
	check_equal(0, sandbox_mappings());
	if (expected == -EINVAL) {
		check(sluice_producer_check(name, PRODUCER(.channel = channel)) != NULL);
		check(sluice_consumer_check(name, CONSUMER(.channel = channel)) != NULL);
	}
}

static void names_that_are_not_names_are_refused(void **state)
{
	static const char *const names[] = {
		"", "/", "a/b", "/a", "a/", "../a", ".", "..", ".a", "a b", "a\n", "a+b", "a:b", "\xc3\xa9", "a\x7f"};
	char long_name[SLUICE_MAX_NAME + 2] = {0};

	(void)state;
	memset(long_name, 'n', sizeof long_name - 1);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		check_refused(-EINVAL, names[i], CHANNEL());
	check_refused(-EINVAL, long_name, CHANNEL());
	check_refused(-EINVAL, NULL, CHANNEL());
	check_equal(0, sandbox_objects(NULL));
}

static void names_of_every_allowed_kind_are_taken(void **state)
{
	char long_name[SLUICE_MAX_NAME + 1] = {0};
	const char *const names[] = {long_name, "a", "Z9", "_", "-", "a.b", "0-1_2.data", "a..b", "x."};

	(void)state;
	memset(long_name, 'n', sizeof long_name - 1);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		struct sluice_producer *producer = join_producer(names[i], PRODUCER(.channel = CHANNEL()));
		struct sluice_consumer *consumer = join_consumer(names[i], CONSUMER(.channel = CHANNEL()));

		send_number(producer, i);
		take_numbers(consumer, i, 1);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
		check(sluice_producer_check(names[i], NULL) == NULL && sluice_consumer_check(names[i], NULL) == NULL);
	}
}

static void options_of_an_unknown_size_are_refused(void **state)
{
	static const size_t wrong[] = {0, 1, sizeof(size_t), 4096, SIZE_MAX};
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;

	(void)state;
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		check_refused(-EINVAL, "tokens", CHANNEL(.size = wrong[i]));
		check_result(-EINVAL,
			sluice_producer_open("tokens", PRODUCER(.channel = CHANNEL(), .size = wrong[i]), &producer));
		check_result(-EINVAL,
			sluice_consumer_open("tokens", CONSUMER(.channel = CHANNEL(), .size = wrong[i]), &consumer));
	}
	check_refused(-EINVAL, "tokens", CHANNEL(.size = sizeof(struct sluice_channel_options) - 1));
	check_refused(-EINVAL, "tokens", CHANNEL(.size = sizeof(struct sluice_channel_options) + 1));
	check_equal(0, sandbox_objects(NULL));
}

static void channel_options_out_of_range_are_refused(void **state)
{
	const struct sluice_channel_options wrong[] = {
		*CHANNEL(.mode = 3),
		*CHANNEL(.mode = UINT32_MAX),
		*CHANNEL(.flags = 32),
		*CHANNEL(.flags = 1u << 31),
		*CHANNEL(.depth = 1),
		*CHANNEL(.depth = (1 << 20) + 1),
		*CHANNEL(.depth = UINT32_MAX),
		*CHANNEL(.lane_bytes = 1),
		*CHANNEL(.lane_bytes = 4095),
		*CHANNEL(.lane_bytes = UINT64_MAX),
		*CHANNEL(.lane_bytes = UINT64_MAX - 4095),
		*CHANNEL(.lane_bytes = INT64_MAX),
		*CHANNEL(.permissions = 04600),
		*CHANNEL(.permissions = UINT32_MAX),
		*CHANNEL(.allowed_uid_count = 1),
		*CHANNEL(.open_timeout_ns = -1),
		*CHANNEL(.take_back_ns = -1),
		*CHANNEL(.mode = SLUICE_BROADCAST, .take_back_ns = 1),
		*CHANNEL(.mode = SLUICE_QUEUE, .expected_consumers = 1),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
		check_refused(-EINVAL, "tokens", &wrong[i]);
	check_equal(0, sandbox_objects(NULL));
}

static void member_options_out_of_range_are_refused(void **state)
{
	const struct sluice_producer_options producers[] = {
		*PRODUCER(.channel = CHANNEL(), .alignment = 1),
		*PRODUCER(.channel = CHANNEL(), .alignment = 32),
		*PRODUCER(.channel = CHANNEL(), .alignment = 65),
		*PRODUCER(.channel = CHANNEL(), .alignment = 96),
		*PRODUCER(.channel = CHANNEL(), .alignment = 8192),
		*PRODUCER(.channel = CHANNEL(), .depth = 1),
		*PRODUCER(.channel = CHANNEL(), .depth = (1 << 20) + 1),
		*PRODUCER(.channel = CHANNEL(), .lane_bytes = 4095),
		*PRODUCER(.channel = CHANNEL(), .lane_bytes = UINT64_MAX),
	};
	const struct sluice_consumer_options consumers[] = {
		*CONSUMER(.channel = CHANNEL(), .flags = 4),
		*CONSUMER(.channel = CHANNEL(), .flags = UINT32_MAX),
		*CONSUMER(.channel = CHANNEL(), .expected_producers = 1),
		*CONSUMER(.channel = CHANNEL(.mode = SLUICE_QUEUE), .flags = SLUICE_START_NEWEST),
	};
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;

	(void)state;
	for (unsigned i = 0; i < sizeof producers / sizeof *producers; i++) {
		check_result(-EINVAL, sluice_producer_open("tokens", &producers[i], &producer));
		check(sluice_producer_check("tokens", &producers[i]) != NULL);
	}
	for (unsigned i = 0; i < sizeof consumers / sizeof *consumers; i++) {
		check_result(-EINVAL, sluice_consumer_open("tokens", &consumers[i], &consumer));
		check(sluice_consumer_check("tokens", &consumers[i]) != NULL);
	}
	check(!producer && !consumer);
	check_equal(0, sandbox_objects(NULL));
}

/* What a check says begins with the option, in the words of the struct. */
static void check_blames(const char *option, const char *objection)
{
	check(objection != NULL);
	if (strncmp(objection, option, strlen(option)) != 0)
		fail_msg("expected a sentence about %s, got: %s", option, objection);
}

static void a_check_names_the_option(void **state)
{
	const uint32_t uid = 0;
	const struct {
		const char *option;
		struct sluice_channel_options options;
	} channels[] = {
		{"size", *CHANNEL(.size = 1)},
		{"mode", *CHANNEL(.mode = 3)},
		{"flags", *CHANNEL(.flags = SLUICE_REPORT_GONE)},
		{"lane_bytes", *CHANNEL(.lane_bytes = SLUICE_MIN_LANE_BYTES - 1)},
		{"lane_bytes", *CHANNEL(.lane_bytes = SLUICE_MAX_LANE_BYTES + 1)},
		{"depth", *CHANNEL(.depth = 1)},
		{"depth", *CHANNEL(.depth = SLUICE_MAX_DEPTH + 1)},
		{"expected_consumers", *CHANNEL(.expected_consumers = SLUICE_MAX_MEMBERS + 1)},
		{"max_deliveries", *CHANNEL(.max_deliveries = SLUICE_MAX_DELIVERIES + 1)},
		{"permissions", *CHANNEL(.permissions = 01000)},
		{"allowed_uid_count", *CHANNEL(.allowed_uid_count = SLUICE_MAX_UIDS + 1, .allowed_uids = &uid)},
		{"allowed_uids", *CHANNEL(.allowed_uid_count = 1)},
		{"open_timeout_ns", *CHANNEL(.open_timeout_ns = -1)},
		{"take_back_ns", *CHANNEL(.take_back_ns = -1)},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof channels / sizeof *channels; i++) {
		const struct sluice_channel_options *channel = &channels[i].options;
		check_blames(channels[i].option, sluice_producer_check("tokens", PRODUCER(.channel = channel)));
		check_blames(channels[i].option, sluice_consumer_check("tokens", CONSUMER(.channel = channel)));
		check_refused(-EINVAL, "tokens", channel);
	}
	check_blames("a channel's name", sluice_producer_check("a/b", NULL));
	check_blames("size", sluice_producer_check("tokens", PRODUCER(.size = 1)));
	check_blames("alignment", sluice_producer_check("tokens", PRODUCER(.alignment = 96)));
	check_blames("device", sluice_producer_check("tokens", PRODUCER(.device = "gpu0")));
	check_blames("node and device", sluice_producer_check("tokens", PRODUCER(.node = 1, .device = "00:00.0")));
	check_blames("spin_ns", sluice_producer_check("tokens", PRODUCER(.spin_ns = -2)));
	check_blames("flags", sluice_producer_check("tokens", PRODUCER(.flags = SLUICE_END_OF_STREAM)));
	check_blames("size", sluice_consumer_check("tokens", CONSUMER(.size = 1)));
	check_blames("flags", sluice_consumer_check("tokens", CONSUMER(.flags = SLUICE_LOCK_MEMORY)));
	check_blames("spin_ns", sluice_consumer_check("tokens", CONSUMER(.spin_ns = -2)));
	check(sluice_producer_check("tokens", PRODUCER(.channel = CHANNEL(), .device = "00:00.0")) == NULL);
	check(sluice_consumer_check("tokens", CONSUMER(.channel = CHANNEL())) == NULL);
}

static void a_directory_that_is_not_there_or_not_memory_is_refused(void **state)
{
	struct statfs root;

	(void)state;
	check_refused(-ENOENT, "tokens", CHANNEL(.directory = sandbox_path("nowhere")));
	check_refused(-ENOTSUP, "tokens", CHANNEL(.directory = "/proc"));
	if (!statfs("/", &root) && root.f_type != TMPFS)
		check_refused(-ENOTSUP, "tokens", CHANNEL(.directory = "/"));
}

static void the_directory_of_the_environment_gives_way_to_that_of_the_options(void **state)
{
	struct sluice_consumer *consumer;

	(void)state;
	check(!setenv("SLUICE_DIR", sandbox_path("nowhere"), 1));
	check_refused(-ENOENT, "tokens", CHANNEL());
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.directory = sandbox_directory())));
	check(sandbox_objects(NULL) > 0);
	check_result(0, sluice_consumer_close(consumer));
	check(!setenv("SLUICE_DIR", sandbox_directory(), 1));
}

/* Puts a small file system of its own in the sandbox's place, for this process alone. */
static void mount_memory(const char *options)
{
	umount2(sandbox_directory(), MNT_DETACH);
	check(!mount("tmpfs", sandbox_directory(), "tmpfs", 0, options));
}

static void enter_a_mount_namespace(void)
{
	check(!unshare(CLONE_NEWNS));
	check(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static bool mounting_is_possible(void)
{
	pid_t child = fork();
	int status = -1;

	if (!child)
		_exit(unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
			mount("tmpfs", sandbox_directory(), "tmpfs", 0, "size=64k"));
	return waitpid(child, &status, 0) == child && status == 0;
}

/* Either both members join and a message passes, or what does not fit is refused; then nothing is left. */
static bool try_channel(const struct sluice_channel_options *channel)
{
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;
	const unsigned descriptors = open_descriptors();
	int result = sluice_producer_open("tokens", PRODUCER(.channel = channel), &producer);

	if (result == 0) {
		result = sluice_consumer_open("tokens", CONSUMER(.channel = channel), &consumer);
		if (result == 0) {
			send_bytes(producer, 3, 2048);
			check_equal(3, sluice_correlation_id(hold(consumer)));
			check_result(0, sluice_consumer_close(consumer));
			consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_START_NEWEST));
			check_result(0, sluice_release(hold(consumer)));
			check_result(0, sluice_consumer_close(consumer));
		}
		check_result(0, sluice_producer_close(producer));
	} else {
		check(!producer);
	}
	check(result == 0 || result == -ENOSPC);
	check_equal(0, sandbox_objects(NULL));
	check_equal(descriptors, open_descriptors());
	check_equal(0, sandbox_mappings());
	return result == 0;
}

/* Objects get their names by way of /proc. */
static void open_without_proc(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)shared, (void)index;
	enter_a_mount_namespace();
	check(!mount("tmpfs", "/proc", "tmpfs", 0, NULL));
	check_result(-ENOTSUP, sluice_producer_open("tokens", NULL, &(struct sluice_producer *){NULL}));
	check_result(-ENOTSUP, sluice_producer_open("other", NULL, &(struct sluice_producer *){NULL}));
	check(!umount2("/proc", MNT_DETACH));
	check_result(0, sluice_consumer_close(consumer));
}

static void without_proc_neither_a_channel_nor_a_lane_can_be_made(void **state)
{
	(void)state;
	if (!mounting_is_possible())
		skip_because("mounting needs root and a mount namespace");
	process_start(open_without_proc, NULL, 0);
	processes_finish();
	check_equal(0, sandbox_objects(NULL));
}

static void fill_small_file_systems(void *shared, unsigned index)
{
	bool *outcomes = shared;
	char options[64];

	(void)index;
	enter_a_mount_namespace();
	for (unsigned pages = 1; pages < 1024; pages += pages < 8 || (pages > 260 && pages < 300) ? 1 : 7) {
		snprintf(options, sizeof options, "size=%uk", pages * 4);
		mount_memory(options);
		outcomes[try_channel(CHANNEL())] = true;
	}
	umount2(sandbox_directory(), MNT_DETACH);
}

static void a_file_system_too_small_is_refused_at_open_and_nothing_is_left(void **state)
{
	bool *outcomes = shared_memory(2 * sizeof *outcomes);

	(void)state;
	if (!mounting_is_possible())
		skip_because("mounting needs root and a mount namespace");
	process_start(fill_small_file_systems, outcomes, 0);
	processes_finish();
	check(outcomes[false] && outcomes[true]);
}

static void run_out_of_inodes(void *shared, unsigned index)
{
	bool *outcomes = shared;
	char options[64];

	(void)index;
	enter_a_mount_namespace();
	for (unsigned inodes = 1; inodes < 8; inodes++) {
		snprintf(options, sizeof options, "size=16m,nr_inodes=%u", inodes);
		mount_memory(options);
		outcomes[try_channel(CHANNEL())] = true;
	}
	umount2(sandbox_directory(), MNT_DETACH);
}

static void a_file_system_without_inodes_is_refused_at_open_and_nothing_is_left(void **state)
{
	bool *outcomes = shared_memory(2 * sizeof *outcomes);

	(void)state;
	if (!mounting_is_possible())
		skip_because("mounting needs root and a mount namespace");
	process_start(run_out_of_inodes, outcomes, 0);
	processes_finish();
	check(outcomes[false] && outcomes[true]);
}

/* Fills what is left of the file system to the last byte. */
static void fill_the_rest(void)
{
	static const char page[4096];
	int file = open(sandbox_path("rest"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	check(file >= 0);
	while (write(file, page, sizeof page) > 0)
		continue;
	check_equal(ENOSPC, errno);
	close(file);
}

static void use_a_full_file_system(void *shared, unsigned index)
{
	struct sluice_producer *producer, *more = NULL;
	struct sluice_consumer *consumer, *another;

	(void)shared;
	(void)index;
	enter_a_mount_namespace();
	mount_memory("size=4m");
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.lane_bytes = 1 << 20, .depth = 256)));
	consumer = join_consumer("tokens", NULL);
	fill_the_rest();
	another = join_consumer("tokens", NULL); /* needs no memory of its own */
	check_result(-ENOSPC, sluice_producer_open("tokens", NULL, &more));
	check_result(-ENOSPC, sluice_producer_open("other", NULL, &more));
	for (unsigned i = 0; i < 1000; i++) {
		const struct sluice_message *message;

		send_bytes(producer, i, i % 7 ? (i * 977) % 65536 : 400000);
		message = hold(i % 2 ? consumer : another);
		check_equal(i, sluice_correlation_id(message));
		check_result(0, sluice_release(message));
	}
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_consumer_close(another));
	check(!unlink(sandbox_path("rest")));
	check_equal(0, sandbox_objects(NULL));
	umount2(sandbox_directory(), MNT_DETACH);
}

static void a_file_system_that_fills_later_never_faults_who_is_in(void **state)
{
	(void)state;
	if (!mounting_is_possible())
		skip_because("mounting needs root and a mount namespace");
	process_start(use_a_full_file_system, NULL, 0);
	processes_finish();
}

static void run_out_of_descriptors(void *shared, unsigned index)
{
	bool *outcomes = shared;
	const unsigned lowest = open_descriptors();

	(void)index;
	for (unsigned more = 0; more < 16; more++) {
		struct rlimit limit;
		struct sluice_producer *producer = NULL;
		struct sluice_consumer *consumer = NULL;
		int results[2];

		check(!getrlimit(RLIMIT_NOFILE, &limit));
		limit.rlim_cur = lowest + more;
		check(!setrlimit(RLIMIT_NOFILE, &limit));
		results[0] = sluice_producer_open("tokens", PRODUCER(.channel = CHANNEL()), &producer);
		check_result(0, results[0] ? 0 : sluice_producer_close(producer));
		results[1] = sluice_consumer_open("tokens", CONSUMER(.channel = CHANNEL()), &consumer);
		check_result(0, results[1] ? 0 : sluice_consumer_close(consumer));
		limit.rlim_cur = limit.rlim_max;
		check(!setrlimit(RLIMIT_NOFILE, &limit));
		for (unsigned i = 0; i < 2; i++) {
			check(results[i] == 0 || results[i] == -EMFILE);
			outcomes[results[i] == 0] = true;
		}
		check_equal(0, sandbox_objects(NULL));
		check_equal(lowest, open_descriptors());
		check_equal(0, sandbox_mappings());
	}
}

static void too_few_descriptors_are_refused_at_open_and_nothing_is_left(void **state)
{
	bool *outcomes = shared_memory(2 * sizeof *outcomes);

	(void)state;
	process_start(run_out_of_descriptors, outcomes, 0);
	processes_finish();
	check(outcomes[false] && outcomes[true]);
}

static void limit_descriptors(rlim_t most)
{
	struct rlimit limit;

	check(!getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
	check(!setrlimit(RLIMIT_NOFILE, &limit));
}

/* Reads one lane, and cannot map the second one until it may open files again. */
static void receive_without_descriptors(void *shared, unsigned index)
{
	struct tally *tallies = shared;
	struct sluice_poller_event event = {0};
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	struct sluice_poller *poller = NULL;

	(void)index;
	check_result(0, sluice_poller_create(NULL, &poller));
	check_result(0, sluice_poller_add(poller, &(struct sluice_poller_entry){.consumer = consumer}));
	limit_descriptors(0);
	tally_add(&tallies[0]);
	tally_wait(&tallies[1], 1);
	send_number(producer, 1);
	take_numbers(consumer, 1, 1);
	check_result(-EMFILE, nothing_within(consumer, 0));
	check_result(-EMFILE, nothing_within(consumer, SLUICE_FOREVER));
	check_result(1, sluice_poller_wait(poller, &event, 1, SLUICE_FOREVER));
	check_equal(SLUICE_POLL_ERROR, event.events);
	check_result(-EMFILE, event.error);
	check_result(-EMFILE, nothing_within(consumer, 0)); /* what the poller found, told once */
	limit_descriptors(RLIM_INFINITY);
	take_numbers(consumer, 2, 1);
	check_result(0, sluice_poller_destroy(poller));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void a_lane_that_comes_while_descriptors_are_short_is_read_later(void **state)
{
	struct tally *tallies = shared_memory(2 * sizeof *tallies);
	struct sluice_producer *producer;

	(void)state;
	process_start(receive_without_descriptors, tallies, 0);
	tally_wait(&tallies[0], 1);
	producer = join_producer("tokens", NULL);
	send_number(producer, 2);
	tally_add(&tallies[1]);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(names_that_are_not_names_are_refused),
		promise(names_of_every_allowed_kind_are_taken),
		promise(options_of_an_unknown_size_are_refused),
		promise(channel_options_out_of_range_are_refused),
		promise(a_check_names_the_option),
		promise(member_options_out_of_range_are_refused),
		promise(a_directory_that_is_not_there_or_not_memory_is_refused),
		promise(the_directory_of_the_environment_gives_way_to_that_of_the_options),
		promise(without_proc_neither_a_channel_nor_a_lane_can_be_made),
		promise(a_file_system_too_small_is_refused_at_open_and_nothing_is_left),
		promise(a_file_system_without_inodes_is_refused_at_open_and_nothing_is_left),
		promise(a_file_system_that_fills_later_never_faults_who_is_in),
		promise(too_few_descriptors_are_refused_at_open_and_nothing_is_left),
		promise(a_lane_that_comes_while_descriptors_are_short_is_read_later),
	};

	return cmocka_run_group_tests_name("open", tests, NULL, NULL);
}
