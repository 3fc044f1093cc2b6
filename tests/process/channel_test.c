/* SPDX-License-Identifier: Apache-2.0 */
/* What a channel is made with and what whoever attaches gets: geometry, insisting, permissions, owners, how many. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support/exchange.h"
#include "../support/harness.h"

#define USER_A  64001
#define USER_B  64002
#define GROUP_G 64010

static void whoever_attaches_gets_what_exists(void **state)
{
	struct sluice_producer *producer, *other;
	struct sluice_consumer *consumer;
	struct sluice_geometry made, found;

	(void)state;
	producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.mode = SLUICE_BROADCAST, .flags = SLUICE_ORDERED, .depth = 32,
					   .lane_bytes = 1 << 17, .expected_consumers = 2, .max_deliveries = 9)));
	check_result(0, sluice_producer_geometry(producer, &made));
	check_equal(SLUICE_BROADCAST, made.mode);
	check_equal(SLUICE_ORDERED, made.flags);
	check_equal(32, made.depth);
	check(made.lane_bytes >= 1 << 17);
	check_equal(2, made.expected_consumers);
	check_equal(9, made.max_deliveries);
	check_equal(64, made.alignment);
	check(made.max_message_bytes > 0 && made.max_message_bytes <= made.lane_bytes / 2);
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.mode = SLUICE_QUEUE, .depth = 64,
							    .lane_bytes = 1 << 20, .max_deliveries = 7)));
	check_result(0, sluice_consumer_geometry(consumer, &found));
	check(!memcmp(&made, &found, sizeof made));
	other = join_producer("tokens", PRODUCER(.lane_bytes = 1 << 18, .depth = 100, .alignment = 256));
	check_result(0, sluice_producer_geometry(other, &found));
	check_equal(128, found.depth);
	check(found.lane_bytes >= 1 << 18 && found.lane_bytes != made.lane_bytes);
	check_equal(256, found.alignment);
	check_equal(SLUICE_BROADCAST, found.mode);
	check_result(0, sluice_producer_close(other));
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

static void sizes_are_the_same_for_all_who_ask(void **state)
{
	static const uint64_t sizes[] = {4096, 4097, 8192, 12288, 65536, 1000000};

	(void)state;
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct sluice_producer *producer =
			join_producer("tokens", PRODUCER(.channel = CHANNEL(.lane_bytes = sizes[i])));
		struct sluice_consumer *consumer = join_consumer("tokens", NULL);
		struct sluice_geometry ours, theirs;
		struct sluice_channel_stat *stat = NULL;

		check_result(0, sluice_producer_geometry(producer, &ours));
		check_result(0, sluice_consumer_geometry(consumer, &theirs));
		check_result(0, sluice_channel_stat("tokens", NULL, &stat));
		check(ours.lane_bytes >= sizes[i]);
		check_equal(ours.lane_bytes, theirs.lane_bytes);
		check_equal(ours.max_message_bytes, theirs.max_message_bytes);
		check_equal(ours.lane_bytes, stat->geometry.lane_bytes);
		check_equal(ours.lane_bytes, stat->lanes[0].lane_bytes);
		sluice_channel_stat_free(stat);
		check_result(0, sluice_consumer_close(consumer));
		check_result(0, sluice_producer_close(producer));
	}
}

static void defaults_are_what_the_header_says(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", NULL);
	struct sluice_geometry geometry;

	(void)state;
	check_result(0, sluice_producer_geometry(producer, &geometry));
	check_equal(SLUICE_QUEUE, geometry.mode);
	check_equal(0, geometry.flags);
	check_equal(1024, geometry.depth);
	check_equal(8 << 20, geometry.lane_bytes);
	check_equal(5, geometry.max_deliveries);
	check_equal(64, geometry.alignment);
	check_result(0, sluice_producer_close(producer));
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.max_deliveries = SLUICE_UNLIMITED)));
	check_result(0, sluice_producer_geometry(producer, &geometry));
	check_equal(0, geometry.max_deliveries);
	check_result(0, sluice_producer_close(producer));
}

static void one_who_insists_is_told_what_differs(void **state)
{
	const struct sluice_channel_options differing[] = {
		*CHANNEL(.mode = SLUICE_BROADCAST, .flags = SLUICE_INSIST),
		*CHANNEL(.flags = SLUICE_INSIST | SLUICE_ORDERED),
		*CHANNEL(.flags = SLUICE_INSIST | SLUICE_PERSISTENT),
		*CHANNEL(.flags = SLUICE_INSIST, .depth = 16),
		*CHANNEL(.flags = SLUICE_INSIST, .lane_bytes = 1 << 20),
		*CHANNEL(.flags = SLUICE_INSIST, .expected_consumers = 3),
		*CHANNEL(.flags = SLUICE_INSIST, .max_deliveries = 3),
	};
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.mode = SLUICE_QUEUE)));
	struct sluice_consumer *consumer = NULL;
	const unsigned objects = sandbox_objects(NULL);

	(void)state;
	for (unsigned i = 0; i < sizeof differing / sizeof *differing; i++) {
		struct sluice_producer *other = NULL;

		check_result(-EEXIST, sluice_consumer_open("tokens", CONSUMER(.channel = &differing[i]), &consumer));
		check_result(-EEXIST, sluice_producer_open("tokens", PRODUCER(.channel = &differing[i]), &other));
		check(!consumer && !other);
	}
	check_equal(objects, sandbox_objects(NULL));
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.mode = SLUICE_QUEUE, .flags = SLUICE_INSIST)));
	check_result(0, sluice_consumer_close(consumer));
	consumer = join_consumer(
		"tokens", CONSUMER(.channel = &(struct sluice_channel_options){
					   .size = sizeof(struct sluice_channel_options), .flags = SLUICE_INSIST}));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void one_who_only_attaches_creates_nothing(void **state)
{
	const struct sluice_channel_options *channel = CHANNEL(.flags = SLUICE_ATTACH_ONLY);
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer = NULL;

	(void)state;
	check_result(-ENOENT, sluice_producer_open("tokens", PRODUCER(.channel = channel), &producer));
	check_result(-ENOENT, sluice_consumer_open("tokens", CONSUMER(.channel = channel), &consumer));
	check(!producer && !consumer);
	check_equal(0, sandbox_objects(NULL));
}

static void channels_of_different_names_and_directories_do_not_meet(void **state)
{
	static char directory[512];
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *namesake, *other;

	(void)state;
	snprintf(directory, sizeof directory, "%s", sandbox_path("volume"));
	check(!mkdir(directory, 0700));
	namesake = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.directory = directory)));
	other = join_consumer("tokens2", CONSUMER(.channel = CHANNEL()));
	send_number(producer, 1);
	check_result(-EAGAIN, nothing_within(namesake, 0));
	check_result(-EAGAIN, nothing_within(other, 0));
	check_result(0, sluice_consumer_close(namesake));
	check_equal(0, directory_objects(directory, NULL));
	check(!rmdir(directory));
	check_result(0, sluice_consumer_close(other));
	other = join_consumer("tokens", NULL);
	take_numbers(other, 1, 1);
	check_result(0, sluice_consumer_close(other));
	check_result(0, sluice_producer_close(producer));
}

/* Each object must have these permissions and, unless it is -1, this group. */
static void check_objects(mode_t permissions, gid_t group)
{
	static sandbox_name names[SANDBOX_NAMES];
	const unsigned count = sandbox_objects(names);
	struct stat status;

	check(count >= 3);
	for (unsigned i = 0; i < count; i++) {
		check(!stat(sandbox_path(names[i]), &status));
		check(S_ISREG(status.st_mode));
		check_equal(permissions, status.st_mode & 07777);
		check_equal(group == (gid_t)-1 ? getegid() : group, status.st_gid);
	}
}

static void objects_have_the_permissions_asked_for_under_any_umask(void **state)
{
	const mode_t permissions[] = {0, 0600, 0640, 0660, 0666};
	const mode_t umasks[] = {0777, 0, 022};
	const mode_t before = umask(0);

	(void)state;
	for (unsigned i = 0; i < sizeof permissions / sizeof *permissions; i++) {
		for (unsigned j = 0; j < sizeof umasks / sizeof *umasks; j++) {
			struct sluice_producer *producer;
			struct sluice_consumer *consumer;

			umask(umasks[j]);
			producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.permissions = permissions[i])));
			consumer = join_consumer("tokens", NULL);
			umask(0);
			check_objects(permissions[i] ? permissions[i] : 0600, (gid_t)-1);
			check_result(0, sluice_consumer_close(consumer));
			check_result(0, sluice_producer_close(producer));
		}
	}
	umask(before);
}

static bool other_users_are_possible(void)
{
	if (geteuid())
		return false;
	check(!chmod(sandbox_directory(), 0777));
	return true;
}

static void objects_have_the_group_asked_for(void **state)
{
	struct sluice_producer *producer;

	(void)state;
	if (!other_users_are_possible())
		skip_because("only root can give files to any group");
	producer = join_producer(
		"tokens", PRODUCER(.channel = CHANNEL(.permissions = 0660, .flags = SLUICE_GROUP, .group = GROUP_G)));
	check_objects(0660, GROUP_G);
	check_result(0, sluice_producer_close(producer));
}

/* A channel that user A made, and what others get who open it. */
struct visit {
	uint32_t permissions;
	uint32_t flags;
	bool welcome; /* user A trusts user B */
	bool allowed; /* user B trusts user A */
	int result;   /* of user B's attempt to join */
	uint32_t pid; /* user B's */
	struct tally made;
	struct tally visited;
	struct tally left;
};

static void become(uid_t user)
{
	const gid_t group = GROUP_G;

	check(!setgroups(1, &group));
	check(!setresgid(user, user, user));
	check(!setresuid(user, user, user));
}

static const uint32_t both_users[] = {USER_A, USER_B};

static struct sluice_channel_options visited_channel(const struct visit *visit, bool allowed)
{
	return *CHANNEL(.permissions = visit->permissions, .flags = visit->flags, .group = GROUP_G,
		.allowed_uids = allowed ? both_users : NULL, .allowed_uid_count = allowed ? 2 : 0);
}

/* The lane of one who is not trusted is told once, with its owner, and is then left alone. */
static void check_distrust(const struct visit *visit, struct sluice_consumer *consumer)
{
	struct sluice_fault fault;

	check_result(-EBADMSG, nothing_within(consumer, PATIENCE));
	check_result(0, sluice_consumer_fault(consumer, &fault));
	check_equal(UINT64_MAX, fault.sequence);
	check_equal(visit->pid, fault.pid);
	check(fault.program[0] && fault.reason[0]);
	check_result(-EAGAIN, nothing_within(consumer, 0));
}

/* Who looks at a channel of a group sees the lanes of that group's other users. */
static void check_lane_is_seen(void)
{
	struct sluice_channel_stat *stat = NULL;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	check_equal(1, stat->lane_count);
	check_equal(0, stat->unreadable_lanes);
	check_equal(USER_B, stat->lanes[0].uid);
	sluice_channel_stat_free(stat);
}

static void receive_a_visitor(void *shared, unsigned index)
{
	struct visit *visit = shared;
	struct sluice_channel_options channel = visited_channel(visit, visit->welcome);
	struct sluice_consumer *consumer;

	(void)index;
	become(USER_A);
	consumer = join_consumer("tokens", CONSUMER(.channel = &channel));
	tally_add(&visit->made);
	tally_wait(&visit->visited, 1);
	if (visit->result == 0 && (visit->flags & SLUICE_GROUP) != 0)
		check_lane_is_seen();
	if (visit->result == 0 && (visit->welcome || visit->flags))
		take_numbers(consumer, 5, 1);
	else if (visit->result == 0)
		check_distrust(visit, consumer);
	check_result(0, sluice_consumer_close(consumer));
	tally_add(&visit->left);
}

static void pay_a_visit(void *shared, unsigned index)
{
	struct visit *visit = shared;
	struct sluice_channel_options channel = visited_channel(visit, visit->allowed);
	struct sluice_producer *producer = NULL;

	(void)index;
	tally_wait(&visit->made, 1);
	become(USER_B);
	check_result(visit->result, sluice_producer_open("tokens", PRODUCER(.channel = &channel), &producer));
	check((visit->result == 0) == (producer != NULL));
	visit->pid = (uint32_t)getpid();
	if (producer)
		send_number(producer, 5);
	tally_add(&visit->visited);
	tally_wait(&visit->left, 1);
	check_result(0, sluice_producer_close(producer));
}

static void run_visit(struct visit wanted)
{
	struct visit *visit = shared_memory(sizeof *visit);

	if (!other_users_are_possible())
		skip_because("only root can become two other users");
	*visit = wanted;
	process_start(receive_a_visitor, visit, 0);
	process_start(pay_a_visit, visit, 0);
	processes_finish();
	if (wanted.result == 0 && !wanted.welcome && !wanted.flags)
		check_result(0, sluice_channel_remove("tokens", NULL, 0));
	check_equal(0, sandbox_objects(NULL));
}

static void a_channel_of_another_user_is_closed_to_others_by_its_permissions(void **state)
{
	(void)state;
	run_visit((struct visit){.permissions = 0600, .welcome = true, .allowed = true, .result = -EACCES});
}

static void a_channel_of_another_user_is_not_trusted(void **state)
{
	(void)state;
	run_visit((struct visit){.permissions = 0666, .welcome = true, .result = -EPERM});
}

static void a_channel_of_an_allowed_user_is_trusted(void **state)
{
	(void)state;
	run_visit((struct visit){.permissions = 0666, .welcome = true, .allowed = true});
}

static void a_lane_of_a_user_who_is_not_trusted_is_told_once_and_left_alone(void **state)
{
	(void)state;
	run_visit((struct visit){.permissions = 0666, .allowed = true});
}

static void a_channel_of_the_common_group_is_trusted(void **state)
{
	(void)state;
	run_visit((struct visit){.permissions = 0660, .flags = SLUICE_GROUP});
}

/* So many members in one process need more descriptors than a shell gives. */
static void need_descriptors(void)
{
	struct rlimit limit;

	check(!getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	check(!setrlimit(RLIMIT_NOFILE, &limit));
}

static void a_channel_has_room_for_128_consumers(void **state)
{
	struct sluice_consumer *consumers[SLUICE_MAX_MEMBERS], *more = NULL;
	struct sluice_producer *producer = NULL;
	unsigned objects;

	(void)state;
	need_descriptors();
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++)
		consumers[i] = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.lane_bytes = 4096)));
	objects = sandbox_objects(NULL);
	check_result(-EUSERS, sluice_consumer_open("tokens", NULL, &more));
	check_result(-EUSERS, sluice_producer_open("tokens", NULL, &producer));
	check(!more && !producer);
	check_equal(objects, sandbox_objects(NULL));
	check_result(0, sluice_consumer_close(consumers[77]));
	producer = join_producer("tokens", NULL);
	send_number(producer, 3);
	take_numbers(consumers[127], 3, 1);
	check_result(0, sluice_producer_close(producer));
	consumers[77] = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
}

static void a_channel_has_room_for_127_producers_beside_a_consumer(void **state)
{
	struct sluice_producer *producers[SLUICE_MAX_MEMBERS - 1], *more = NULL;
	struct sluice_consumer *consumer;
	unsigned objects;

	(void)state;
	need_descriptors();
	consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL(.lane_bytes = 4096, .depth = 4)));
	for (int64_t i = 0; i < SLUICE_MAX_MEMBERS - 1; i++) {
		producers[i] = join_producer("tokens", NULL);
		send_number(producers[i], i);
	}
	objects = sandbox_objects(NULL);
	check_result(-EUSERS, sluice_producer_open("tokens", NULL, &more));
	check(!more);
	check_equal(objects, sandbox_objects(NULL));
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS - 1; i++)
		check(take(consumer) < SLUICE_MAX_MEMBERS);
	check_result(-EAGAIN, nothing_within(consumer, 0));
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS - 1; i++)
		check_result(0, sluice_producer_close(producers[i]));
	check_result(0, sluice_consumer_close(consumer));
}

static void lanes_with_a_backlog_count_until_they_are_drained(void **state)
{
	struct sluice_producer *producer = NULL;
	struct sluice_consumer *consumer;

	(void)state;
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++) {
		producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.lane_bytes = 4096, .depth = 2)));
		send_number(producer, i);
		check_result(0, sluice_producer_close(producer));
	}
	producer = NULL;
	check_result(-EUSERS, sluice_producer_open("tokens", NULL, &producer));
	check(producer == NULL);
	consumer = join_consumer("tokens", NULL);
	for (unsigned i = 0; i < SLUICE_MAX_MEMBERS; i++)
		check(take(consumer) < SLUICE_MAX_MEMBERS);
	producer = join_producer("tokens", NULL);
	send_number(producer, 1000);
	take_numbers(consumer, 1000, 1);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(whoever_attaches_gets_what_exists),
		promise(sizes_are_the_same_for_all_who_ask),
		promise(defaults_are_what_the_header_says),
		promise(one_who_insists_is_told_what_differs),
		promise(one_who_only_attaches_creates_nothing),
		promise(channels_of_different_names_and_directories_do_not_meet),
		promise(objects_have_the_permissions_asked_for_under_any_umask),
		promise(objects_have_the_group_asked_for),
		promise(a_channel_of_another_user_is_closed_to_others_by_its_permissions),
		promise(a_channel_of_another_user_is_not_trusted),
		promise(a_channel_of_an_allowed_user_is_trusted),
		promise(a_lane_of_a_user_who_is_not_trusted_is_told_once_and_left_alone),
		promise(a_channel_of_the_common_group_is_trusted),
		promise(a_channel_has_room_for_128_consumers),
		promise(a_channel_has_room_for_127_producers_beside_a_consumer),
		promise(lanes_with_a_backlog_count_until_they_are_drained),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
