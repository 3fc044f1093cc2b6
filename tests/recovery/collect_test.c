/* SPDX-License-Identifier: Apache-2.0 */
/* What is seen of the dead from outside, and the collector: it takes what nobody needs, and never anything else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "deaths.h"

static struct sluice_collected collect(uint32_t flags)
{
	struct sluice_collected collected;

	memset(&collected, 0xff, sizeof collected);
	check_result(0, sluice_channel_collect("tokens", NULL, flags, &collected));
	return collected;
}

static void check_nothing_there(void)
{
	struct sluice_collected collected;

	check_equal(0, sandbox_objects(NULL));
	check_result(-ENOENT, sluice_channel_collect("tokens", NULL, 0, &collected));
	check_result(-ENOENT, sluice_channel_collect("tokens", NULL, SLUICE_COLLECT_DROP, &collected));
}

/* The member of that pid, which must be there. */
static struct sluice_member_stat member_of(pid_t pid)
{
	struct sluice_member_stat member = {0};
	struct sluice_channel_stat *stat;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	for (uint32_t i = 0; i < stat->member_count; i++)
		if (stat->members[i].pid == (uint32_t)pid)
			member = stat->members[i];
	sluice_channel_stat_free(stat);
	check_equal(pid, member.pid);
	return member;
}

static void the_dead_are_shown_before_and_after_they_are_noticed(void **state)
{
	struct scene *scene = new_scene();
	const unsigned producer = start_ready(send_and_stay, scene, 3), consumer = start_ready(hold_and_stay, scene, 2);
	const pid_t pids[2] = {process_pid(producer), process_pid(consumer)};

	(void)state;
	check_equal(1, member_of(pids[0]).alive);
	check_equal(1, member_of(pids[1]).alive);
	kill_hard(producer);
	kill_hard(consumer);
	check_equal(0, member_of(pids[0]).alive);
	check_equal(SLUICE_ROLE_PRODUCER, member_of(pids[0]).role);
	check_equal(0, member_of(pids[1]).alive);
	check_equal(SLUICE_ROLE_CONSUMER, member_of(pids[1]).role);
	check_equal(2, look().held);
	check_equal(2, collect(0).dead_members);
	check_equal(0, collect(0).dead_members);
	check_equal(0, member_of(pids[0]).alive);
	check_equal(0, member_of(pids[1]).alive);
	check_equal(2, member_of(pids[1]).received_messages);
	check_equal(0, look().held);
	check_equal(3, look().waiting);
	clear_away();
}

static void the_collector_keeps_a_backlog_until_it_is_told_to_drop_it(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_collected collected;

	(void)state;
	kill_hard(start_ready(send_and_stay, scene, 3));
	kill_hard(start_ready(hold_and_stay, scene, 1));
	collected = collect(0);
	check_equal(0, collected.channel);
	check_equal(0, collected.lanes);
	check_equal(0, collected.files);
	check_equal(0, collected.dropped_messages);
	check_equal(3, sandbox_objects(NULL));
	collected = collect(SLUICE_COLLECT_DROP);
	check_equal(1, collected.channel);
	check_equal(1, collected.lanes);
	check_equal(3, collected.files);
	check_equal(3, collected.dropped_messages);
	check_nothing_there();
}

static void take_and_stay(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	take_numbers(consumer, 0, index);
	stay(shared);
}

static void the_collector_takes_a_drained_channel_of_the_dead(void **state)
{
	struct scene *scene = new_scene();
	unsigned producer, consumer;
	struct sluice_collected collected;

	(void)state;
	producer = start_ready(send_and_stay, scene, 3);
	consumer = start_ready(take_and_stay, scene, 3);
	kill_hard(producer);
	kill_hard(consumer);
	check_equal(3, sandbox_objects(NULL));
	collected = collect(0);
	check_equal(2, collected.dead_members);
	check_equal(1, collected.channel);
	check_equal(1, collected.lanes);
	check_equal(3, collected.files);
	check_equal(0, collected.dropped_messages);
	check_nothing_there();
}

static void the_collector_takes_drained_lanes_from_a_channel_in_use(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_collected collected;
	unsigned dead;
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	(void)state;
	dead = start_ready(send_and_stay, scene, 0);
	kill_hard(dead);
	check_equal(5, sandbox_objects(NULL));
	collected = collect(SLUICE_COLLECT_DROP);
	check_equal(1, collected.dead_members);
	check_equal(1, collected.lanes);
	check_equal(2, collected.files);
	check_equal(0, collected.channel);
	check_equal(3, sandbox_objects(NULL));
	check_result(0, sluice_producer_close(producer));
	check_nothing_there();
}

static void a_channel_with_a_living_member_keeps_everything(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_collected collected;
	struct sluice_consumer *consumer;
	unsigned stopped;

	(void)state;
	stopped = start_ready(send_and_stay, scene, 3);
	stop(stopped);
	for (int i = 0; i < 3; i++) {
		collected = collect(SLUICE_COLLECT_DROP);
		check_equal(0, collected.channel + collected.lanes + collected.files + collected.dead_members);
		check_equal(0, collected.dropped_messages);
	}
	resume(stopped);
	consumer = join_consumer("tokens", NULL);
	kill_hard(stopped);
	/* Now only a consumer lives: what the dead one published is for it. */
	collected = collect(SLUICE_COLLECT_DROP);
	check_equal(1, collected.dead_members);
	check_equal(0, collected.channel + collected.lanes + collected.files);
	take_numbers(consumer, 0, 3);
	check_result(0, sluice_consumer_close(consumer));
	check_nothing_there();
}

static void lanes_that_lost_their_channel_are_taken(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_channel_entry *entries;
	struct sluice_collected collected;

	(void)state;
	kill_hard(start_ready(send_and_stay, scene, 3));
	kill_hard(start_ready(send_and_stay, scene, 1));
	check_result(0, unlink(sandbox_path("sluice.tokens")));
	check_equal(4, sandbox_objects(NULL));
	check_result(1, sluice_channel_list(NULL, &entries));
	check_result(-ENOENT, entries[0].error);
	sluice_channel_list_free(entries);
	collected = collect(0);
	check_equal(4, collected.files);
	check_equal(0, collected.channel);
	check_nothing_there();
}

static void lanes_of_a_lost_channel_are_taken_beside_a_living_one_of_the_name(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;

	(void)state;
	kill_hard(start_ready(send_and_stay, scene, 3));
	check_result(0, unlink(sandbox_path("sluice.tokens")));
	producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	consumer = join_consumer("tokens", NULL);
	send_number(producer, 7);
	check_equal(5, sandbox_objects(NULL));
	check_equal(2, collect(0).files);
	check_equal(3, sandbox_objects(NULL));
	take_numbers(consumer, 7, 1);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_nothing_there();
}

/* A producer that dies between giving its objects their names and entering them in the table leaves such. */
static void half_made_lanes_of_a_living_channel_are_taken(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	static sandbox_name names[SANDBOX_NAMES];
	char name[512];

	(void)state;
	send_number(producer, 7);
	check_equal(3, sandbox_objects(names));
	for (unsigned i = 0; i < 3; i++) {
		char *place = strstr(names[i], ".0.1.");

		if (!place)
			continue;
		snprintf(name, sizeof name, "%.*s.9.9.%s", (int)(place - names[i]), names[i], place + 5);
		check_result(0, link(sandbox_path(names[i]), sandbox_path(name)));
	}
	check_equal(5, sandbox_objects(NULL));
	check_equal(2, collect(0).files);
	check_equal(3, sandbox_objects(NULL));
	take_numbers(consumer, 7, 1);
	check_full_capacity(producer, consumer, 8);
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	check_nothing_there();
}

/* Objects of every version begin with magic, then version. */
static void change_version(const char *name)
{
	const uint32_t version = 999;
	const int file = open(sandbox_path(name), O_RDWR | O_CLOEXEC);

	check(file >= 0);
	check_equal(sizeof version, pwrite(file, &version, sizeof version, 8));
	close(file);
}

static void an_object_of_another_layout_is_taken_when_nobody_has_it_open(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_collected collected;
	unsigned living;

	(void)state;
	living = start_ready(send_and_stay, scene, 2);
	change_version("sluice.tokens");
	collected = collect(SLUICE_COLLECT_DROP);
	check_equal(0, collected.channel + collected.files);
	check_equal(3, sandbox_objects(NULL));
	kill_hard(living);
	collected = collect(0);
	check_equal(1, collected.channel);
	check_equal(3, collected.files);
	check_nothing_there();
}

static void a_persistent_channel_stays(void **state)
{
	struct sluice_producer *producer =
		join_producer("tokens", PRODUCER(.channel = CHANNEL(.flags = SLUICE_PERSISTENT)));

	(void)state;
	check_result(0, sluice_producer_close(producer));
	check_equal(0, collect(0).channel);
	check_equal(1, sandbox_objects(NULL));
	check_result(0, sluice_channel_remove("tokens", NULL, 0));
	check_nothing_there();
}

static void other_channels_and_strange_files_are_left_alone(void **state)
{
	struct scene *scene = new_scene();
	struct sluice_producer *other = join_producer("token", PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer;
	int file;

	(void)state;
	send_number(other, 1);
	file = open(sandbox_path("sluice.tokens.notes"), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	check(file >= 0);
	close(file);
	kill_hard(start_ready(send_and_stay, scene, 1));
	check_equal(3, collect(SLUICE_COLLECT_DROP).files);
	check_equal(4, sandbox_objects(NULL));
	consumer = join_consumer("token", NULL);
	take_numbers(consumer, 1, 1);
	check_result(0, sluice_producer_close(other));
	check_result(0, sluice_consumer_close(consumer));
	check_equal(1, sandbox_objects(NULL));
	check_result(0, unlink(sandbox_path("sluice.tokens.notes")));
}

/* Opens, exchanges a message with itself and closes, as others do the same and collect. */
static void open_exchange_close(void *shared, unsigned index)
{
	const struct scene *scene = shared;

	for (int64_t round = 0; round < scene->number; round++) {
		char name[16];
		struct sluice_producer *producer;
		struct sluice_consumer *consumer;

		snprintf(name, sizeof name, "tokens%u", index);
		producer = join_producer(name, PRODUCER(.channel = CHANNEL(.lane_bytes = 4096, .depth = 2)));
		send_number(producer, round);
		consumer = join_consumer(name, CONSUMER(.channel = CHANNEL(.flags = SLUICE_ATTACH_ONLY)));
		take_numbers(consumer, round, 1);
		check_result(0, sluice_producer_close(producer));
		check_result(0, sluice_consumer_close(consumer));
	}
}

static void collect_all_the_time(void *shared, unsigned index)
{
	struct scene *scene = shared;
	char name[16];

	snprintf(name, sizeof name, "tokens%u", index);
	tally_add(&scene->ready);
	while (!tally_read(&scene->go)) {
		struct sluice_collected collected;
		int result = sluice_channel_collect(name, NULL, SLUICE_COLLECT_DROP, &collected);

		check(result == 0 || result == -ENOENT);
		check(result || collected.dropped_messages == 0);
	}
}

/* A member lives from before a message is published until after it is received: nothing may be collected in between. */
static void a_collector_beside_openers_takes_nothing_that_is_used(void **state)
{
	struct scene *scene = new_scene();
	unsigned collector, user;

	(void)state;
	scene->number = (int64_t)scaled(1500);
	collector = start_ready(collect_all_the_time, scene, 0);
	user = process_start(open_exchange_close, scene, 0);
	finish(user);
	tally_add(&scene->go);
	finish(collector);
	check_equal(0, sandbox_objects(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(the_dead_are_shown_before_and_after_they_are_noticed),
		promise(the_collector_keeps_a_backlog_until_it_is_told_to_drop_it),
		promise(the_collector_takes_a_drained_channel_of_the_dead),
		promise(the_collector_takes_drained_lanes_from_a_channel_in_use),
		promise(a_channel_with_a_living_member_keeps_everything),
		promise(lanes_that_lost_their_channel_are_taken),
		promise(lanes_of_a_lost_channel_are_taken_beside_a_living_one_of_the_name),
		promise(half_made_lanes_of_a_living_channel_are_taken),
		promise(an_object_of_another_layout_is_taken_when_nobody_has_it_open),
		promise(a_persistent_channel_stays),
		promise(other_channels_and_strange_files_are_left_alone),
		promise(a_collector_beside_openers_takes_nothing_that_is_used),
	};

	return cmocka_run_group_tests_name("recovery: collect", tests, NULL, NULL);
}
