/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are killed, and looks at the channel that they leave. */
#include "deaths.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct scene *new_scene(void)
{
	return shared_memory(sizeof(struct scene));
}

void stay(struct scene *scene)
{
	tally_add(&scene->ready);
	for (;;)
		pause();
}

unsigned start_ready(process_body body, struct scene *scene, unsigned index)
{
	const uint32_t ready = tally_read(&scene->ready);
	const unsigned process = process_start(body, scene, index);

	tally_wait(&scene->ready, ready + 1);
	return process;
}

void kill_hard(unsigned process)
{
	int status;

	check_result(0, kill(process_pid(process), SIGKILL));
	status = process_status(process);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void finish(unsigned process)
{
	const int status = process_status(process);

	check(WIFEXITED(status));
	check_equal(0, WEXITSTATUS(status));
}

void stop(unsigned process)
{
	siginfo_t info;

	check_result(0, kill(process_pid(process), SIGSTOP));
	check_result(0, waitid(P_PID, (id_t)process_pid(process), &info, WSTOPPED));
	check_equal(CLD_STOPPED, info.si_code);
}

void resume(unsigned process)
{
	check_result(0, kill(process_pid(process), SIGCONT));
}

void hold_and_stay(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	for (unsigned i = 0; i < index; i++)
		hold(consumer);
	stay(shared);
}

void send_and_stay(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));

	send_numbers(producer, 0, index);
	stay(shared);
}

void take_again(struct sluice_consumer *consumer, int64_t number, uint32_t deliveries)
{
	const struct sluice_message *message = hold_number(consumer, number);

	check_equal(deliveries, sluice_delivery_count(message));
	check_result(0, sluice_release(message));
}

void check_full_capacity(struct sluice_producer *producer, struct sluice_consumer *consumer, unsigned depth)
{
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < depth; i++)
			check_result(0, try_to_send(producer, i, 0));
		check_result(-EAGAIN, try_to_send(producer, 0, 0));
		take_numbers(consumer, 0, depth);
	}
}

struct view look(void)
{
	struct sluice_channel_stat *stat = NULL;
	struct view view = {0};

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	for (uint32_t i = 0; i < stat->member_count; i++) {
		view.alive += stat->members[i].alive;
		view.dead += !stat->members[i].alive;
	}
	view.lanes = stat->lane_count;
	for (uint32_t i = 0; i < stat->lane_count; i++) {
		view.waiting += stat->lanes[i].waiting_messages;
		view.held += stat->lanes[i].held_messages;
	}
	view.set_aside = stat->set_aside_messages;
	sluice_channel_stat_free(stat);
	return view;
}

void wait_for_dead(unsigned count)
{
	const uint64_t end = now_ns() + PATIENCE;

	while (look().dead < count) {
		check(now_ns() < end);
		sched_yield();
	}
}

void clear_away(void)
{
	check_result(0, sluice_channel_remove("tokens", NULL, SLUICE_REMOVE_FORCE));
	check_equal(0, sandbox_objects(NULL));
}
