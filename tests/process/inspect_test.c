/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at channels from outside, and removing them: what the figures say, and that looking disturbs nobody. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

static struct sluice_producer *producer;
static struct sluice_consumer *consumer;

static void open_both(const struct sluice_channel_options *channel)
{
	producer = join_producer("tokens", PRODUCER(.channel = channel, .sample_rate_hz = SLUICE_STAMP_ALL));
	consumer = join_consumer("tokens", NULL);
}

static void close_both(void)
{
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static struct sluice_channel_stat *look(void)
{
	struct sluice_channel_stat *stat = NULL;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check(stat != NULL);
	return stat;
}

static const struct sluice_member_stat *member_of(const struct sluice_channel_stat *stat, uint32_t role)
{
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].role == role)
			return &stat->members[i];
	check_failed("no member of this role", __FILE__, __LINE__);
}

static void a_look_tells_who_is_there(void **state)
{
	struct sluice_channel_stat *stat;
	const struct sluice_member_stat *member;

	(void)state;
	open_both(CHANNEL(.permissions = 0640));
	stat = look();
	check(!strcmp(stat->name, "tokens"));
	check_equal(sluice_layout_version(), stat->layout_version);
	check_equal(0640, stat->permissions);
	check_equal(geteuid(), stat->owner_uid);
	check_equal(2, stat->member_count);
	check_equal(1, stat->lane_count);
	check_equal(1, stat->producers_opened);
	check_equal(0, stat->producers_closed);
	check_equal(8, stat->geometry.depth);
	for (uint32_t role = SLUICE_ROLE_PRODUCER; role <= SLUICE_ROLE_CONSUMER; role++) {
		member = member_of(stat, role);
		check_equal(getpid(), member->pid);
		check_equal(geteuid(), member->uid);
		check_equal(1, member->alive);
		check_equal(0, member->asleep);
		check(member->program[0] != 0 && memchr(member->program, 0, sizeof member->program));
		check(member->opened_ns > 0);
	}
	member = member_of(stat, SLUICE_ROLE_PRODUCER);
	check_equal(member->slot, stat->lanes[0].slot);
	check_equal(member->incarnation, stat->lanes[0].incarnation);
	check_equal(getpid(), stat->lanes[0].pid);
	check(stat->lanes[0].mapped_bytes >= stat->lanes[0].lane_bytes);
	check(stat->mapped_bytes > stat->lanes[0].mapped_bytes);
	sluice_channel_stat_free(stat);
	close_both();
}

static void a_look_counts_what_waits_and_what_is_held(void **state)
{
	struct sluice_channel_stat *stat;
	const struct sluice_message *message;
	const struct sluice_tensor_spec spec = {.name = "ids", .dtype = SLUICE_INT8, .ndim = 1, .shape = {10}};
	struct sluice_message *reservation;

	(void)state;
	open_both(CHANNEL());
	for (int i = 0; i < 5; i++)
		send_bytes(producer, i, 1000);
	check_result(0, sluice_reserve(producer, &spec, 1, 0, &reservation));
	check_result(0, sluice_discard(reservation));
	message = hold(consumer);
	check_result(0, sluice_release(message));
	hold(consumer);
	hold(consumer);
	stat = look();
	check_equal(5, stat->lanes[0].published_messages);
	check_equal(5000, stat->lanes[0].published_bytes);
	check_equal(1, stat->lanes[0].discarded_messages);
	check_equal(2, stat->lanes[0].waiting_messages);
	check_equal(2, stat->lanes[0].held_messages);
	check_equal(3, member_of(stat, SLUICE_ROLE_CONSUMER)->received_messages);
	check_equal(3000, member_of(stat, SLUICE_ROLE_CONSUMER)->received_bytes);
	sluice_channel_stat_free(stat);
	check_result(0, sluice_producer_close(producer));
	stat = look();
	check_equal(1, stat->producers_closed);
	check_equal(1, stat->lanes[0].closed);
	sluice_channel_stat_free(stat);
	check_result(0, sluice_consumer_close(consumer));
	consumer = join_consumer("tokens", CONSUMER(.flags = SLUICE_END_OF_STREAM));
	for (int i = 1; i < 5; i++) {
		message = hold(consumer);
		check_equal(i, sluice_correlation_id(message));
		check_result(0, sluice_release(message));
	}
	check_result(-ENODATA, nothing_within(consumer, 0));
	check_result(0, sluice_consumer_close(consumer));
}

static void a_broadcast_waits_for_its_slowest(void **state)
{
	struct sluice_consumer *slow;
	struct sluice_channel_stat *stat;

	(void)state;
	open_both(CHANNEL(.mode = SLUICE_BROADCAST));
	slow = join_consumer("tokens", NULL);
	send_numbers(producer, 0, 5);
	take_numbers(consumer, 0, 5);
	take_numbers(slow, 0, 2);
	stat = look();
	check_equal(3, stat->lanes[0].waiting_messages);
	check_equal(0, stat->lanes[0].held_messages);
	sluice_channel_stat_free(stat);
	check_result(0, sluice_consumer_close(slow));
	close_both();
}

static void check_distribution(const struct sluice_distribution *distribution, uint64_t count, uint64_t limit_ns)
{
	check_equal(count, distribution->count);
	check(distribution->p50_ns <= distribution->p95_ns);
	check(distribution->p95_ns <= distribution->p99_ns);
	check(distribution->p99_ns <= distribution->p999_ns);
	check(distribution->p999_ns <= distribution->max_ns);
	/* Nothing took longer than everything, one bucket's width aside. */
	check(distribution->max_ns <= limit_ns + limit_ns / 4 + 64);
}

static void stamped_messages_fill_the_histograms(void **state)
{
	const uint64_t begin_ns = now_ns();
	struct sluice_channel_stat *stat;
	const struct sluice_member_stat *member;
	uint64_t limit_ns;

	(void)state;
	open_both(CHANNEL());
	for (int i = 0; i < 100; i++) {
		send_number(producer, i);
		take_numbers(consumer, i, 1);
	}
	limit_ns = now_ns() - begin_ns;
	stat = look();
	member = member_of(stat, SLUICE_ROLE_CONSUMER);
	check_distribution(&stat->lanes[0].fill_time, 100, limit_ns);
	check_distribution(&member->queue_wait, 100, limit_ns);
	check_distribution(&member->hold_time, 100, limit_ns);
	sluice_channel_stat_free(stat);
	close_both();
}

static void a_look_disturbs_nobody_and_leaves_nothing(void **state)
{
	const unsigned before = open_descriptors();
	unsigned objects, mappings, descriptors;

	(void)state;
	open_both(CHANNEL());
	objects = sandbox_objects(NULL);
	mappings = sandbox_mappings();
	descriptors = open_descriptors();
	check(descriptors > before);
	for (int i = 0; i < 50; i++) {
		send_number(producer, i);
		sluice_channel_stat_free(look());
		take_numbers(consumer, i, 1);
		sluice_channel_stat_free(look());
	}
	check_equal(objects, sandbox_objects(NULL));
	check_equal(mappings, sandbox_mappings());
	check_equal(descriptors, open_descriptors());
	close_both();
	check_equal(0, sandbox_objects(NULL));
}

static void a_list_names_every_channel_in_order_and_none_else(void **state)
{
	static const char *const names[] = {"alpha", "beta.1", "gamma-2", "x"};
	struct sluice_consumer *consumers[4];
	struct sluice_channel_entry *entries = NULL;
	FILE *stranger;

	(void)state;
	check_result(0, sluice_channel_list(NULL, &entries));
	sluice_channel_list_free(entries);
	for (unsigned i = 0; i < 4; i++)
		consumers[i] = join_consumer(names[(i + 2) % 4], CONSUMER(.channel = CHANNEL()));
	producer = join_producer("x", NULL);
	stranger = fopen(sandbox_path("stranger"), "w");
	check(stranger != NULL);
	fclose(stranger);
	check_result(4, sluice_channel_list(sandbox_directory(), &entries));
	for (unsigned i = 0; i < 4; i++) {
		check(!strcmp(names[i], entries[i].name));
		check_result(0, entries[i].error);
		check_equal(sluice_layout_version(), entries[i].layout_version);
	}
	sluice_channel_list_free(entries);
	unlink(sandbox_path("stranger"));
	check_result(0, sluice_producer_close(producer));
	for (unsigned i = 0; i < 4; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
	entries = NULL;
	check_result(-ENOENT, sluice_channel_list(sandbox_path("nowhere"), &entries));
	check(entries == NULL);
}

static void a_channel_with_members_is_removed_only_by_force_and_they_go_on(void **state)
{
	struct sluice_producer *stranger;

	(void)state;
	open_both(CHANNEL());
	check_result(-EBUSY, sluice_channel_remove("tokens", NULL, 0));
	send_numbers(producer, 0, 3);
	check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
	check_equal(0, sandbox_objects(NULL));
	stranger = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_number(stranger, 99);
	take_numbers(consumer, 0, 3);
	send_number(producer, 3);
	take_numbers(consumer, 3, 1);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	close_both();
	check(sandbox_objects(NULL) > 0);
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.flags = SLUICE_ATTACH_ONLY)));
	take_numbers(consumer, 99, 1);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(stranger));
}

static void a_backlog_without_members_is_removed_without_force(void **state)
{
	(void)state;
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	send_numbers(producer, 0, 3);
	check_result(0, sluice_producer_close(producer));
	check(sandbox_objects(NULL) > 0);
	check_result(0, sluice_channel_remove("tokens", sandbox_directory(), 0));
	check_equal(0, sandbox_objects(NULL));
	check_result(-ENOENT, sluice_channel_remove("tokens", NULL, 0));
	check_result(-ENOENT, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
}

static char lane_files[2][SLUICE_MAX_NAME + 64];

/* Notes the files of the only lane: all but the channel's control object. */
static void note_lane_files(void)
{
	DIR *stream = opendir(sandbox_directory());
	unsigned count = 0;

	check(stream != NULL);
	for (const struct dirent *entry = readdir(stream); entry; entry = readdir(stream))
		if (strstr(entry->d_name, ".data") || strstr(entry->d_name, ".claims")) {
			check(count < 2);
			snprintf(lane_files[count++], sizeof lane_files[0], "%s", sandbox_path(entry->d_name));
		}
	check_equal(2, count);
	closedir(stream);
}

static void a_lane_whose_files_somebody_took_away_is_counted(void **state)
{
	struct sluice_channel_stat *stat;

	(void)state;
	open_both(NULL);
	stat = look();
	check_equal(0, stat->unreadable_lanes);
	sluice_channel_stat_free(stat);
	note_lane_files();
	check(!unlink(lane_files[0]));
	stat = look();
	check_equal(0, stat->lane_count);
	check_equal(1, stat->unreadable_lanes);
	sluice_channel_stat_free(stat);
	close_both();
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
}

/* However many descriptors a look finds left, it tells of every lane or says why it cannot. */
static void a_look_without_descriptors_says_so(void **state)
{
	struct sluice_channel_stat *stat = NULL;
	struct rlimit limit, tight;
	int result = -EMFILE;
	unsigned refused = 0;

	(void)state;
	open_both(NULL);
	check(!getrlimit(RLIMIT_NOFILE, &limit));
	tight = limit;
	for (tight.rlim_cur = 0; result != 0 && tight.rlim_cur < limit.rlim_cur; tight.rlim_cur++) {
		check(!setrlimit(RLIMIT_NOFILE, &tight));
		result = sluice_channel_stat("tokens", NULL, &stat);
		if (result != 0)
			check_result(-EMFILE, result);
		refused += result != 0;
	}
	check(!setrlimit(RLIMIT_NOFILE, &limit));
	check_result(0, result);
	check(refused > 0);
	check_equal(1, stat->lane_count);
	check_equal(0, stat->unreadable_lanes);
	sluice_channel_stat_free(stat);
	close_both();
}

static void looking_for_what_is_not_there_says_so(void **state)
{
	static const char *const bad_names[] = {"", "a/b", ".hidden", "/x"};
	struct sluice_channel_stat *stat = NULL;

	(void)state;
	check_result(-ENOENT, sluice_channel_stat("tokens", NULL, &stat));
	check_result(-ENOENT, sluice_channel_stat("tokens", sandbox_path("nowhere"), &stat));
	for (unsigned i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
		check_result(-EINVAL, sluice_channel_stat(bad_names[i], NULL, &stat));
		check_result(-EINVAL, sluice_channel_remove(bad_names[i], NULL, 0));
	}
	check(stat == NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(a_look_tells_who_is_there),
		promise(a_look_counts_what_waits_and_what_is_held),
		promise(a_broadcast_waits_for_its_slowest),
		promise(stamped_messages_fill_the_histograms),
		promise(a_look_disturbs_nobody_and_leaves_nothing),
		promise(a_list_names_every_channel_in_order_and_none_else),
		promise(a_channel_with_members_is_removed_only_by_force_and_they_go_on),
		promise(a_backlog_without_members_is_removed_without_force),
		promise(a_lane_whose_files_somebody_took_away_is_counted),
		promise(a_look_without_descriptors_says_so),
		promise(looking_for_what_is_not_there_says_so),
	};

	return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
