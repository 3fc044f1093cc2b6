/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping and waking between processes: who is woken, who is not, and that neither the dead nor the quick lose a ring. */
#include "doorbell.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../support/harness.h"
#include "corrupt.h"

#define MOST_SLEEPERS 5

struct room {
	struct layout_bell bells[LAYOUT_SLOTS];
	struct layout_slot_map map;
	struct tally armed;
	struct tally woken;
	struct tally by_slot[LAYOUT_SLOTS];
	uint64_t rounds;
};

/* Slots on both sides of the border between two words of the map. */
static const uint32_t slots[MOST_SLEEPERS] = {0, 5, 63, 64, LAYOUT_SLOTS - 1};

static struct room *room_open(void)
{
	return shared_memory(sizeof(struct room));
}

static struct doorbell bell_of(struct room *room, uint32_t slot)
{
	return doorbell_of(room->bells, &room->map, slot);
}

static void sleep_until_rung(struct doorbell bell)
{
	const uint64_t end = now_ns() + (uint64_t)PATIENCE;

	while (atomic_load_acquire(bell.word) != 0) {
		const int result = doorbell_sleep(bell, (uint64_t)PATIENCE);

		check(result == 0 && now_ns() < end);
	}
}

/* A sleeper process: sleeps once in its slot. */
static void sleep_once(void *shared, unsigned index)
{
	struct room *room = shared;
	const struct doorbell bell = bell_of(room, slots[index]);

	doorbell_arm(bell);
	tally_add(&room->armed);
	sleep_until_rung(bell);
	tally_add(&room->by_slot[slots[index]]);
	tally_add(&room->woken);
}

/* The letter of a process's state; 'S' for one that sleeps in the kernel. */
static char state_of(unsigned process)
{
	char path[64], text[512] = "";
	const char *name_end;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)process_pid(process));
	file = fopen(path, "r");
	check(file && fgets(text, sizeof text, file));
	fclose(file);
	name_end = strrchr(text, ')');
	check(name_end && strlen(name_end) > 2);
	return name_end[2];
}

/* Starts sleepers and comes back when all of them really sleep: after they armed, they sleep nowhere else. The first one. */
static unsigned start_sleepers(struct room *room, unsigned first, unsigned count)
{
	unsigned processes[MOST_SLEEPERS];
	const uint32_t armed = tally_read(&room->armed);

	for (unsigned i = 0; i < count; i++)
		processes[i] = process_start(sleep_once, room, first + i);
	tally_wait(&room->armed, armed + count);
	for (unsigned i = 0; i < count; i++)
		while (state_of(processes[i]) != 'S')
			sched_yield();
	return processes[0];
}

static unsigned armed_slots(const struct room *room)
{
	unsigned count = 0;

	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++)
		count += doorbell_slot_is_armed(&room->map, slot);
	return count;
}

/* ---- one process ---- */

static void arming_and_disarming_show_in_the_map(void **state)
{
	struct room *room = room_open();

	(void)state;
	check(!doorbell_is_armed(&room->map));
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		doorbell_arm(bell_of(room, slot));
		check(doorbell_slot_is_armed(&room->map, slot));
		check_equal(slot + 1, armed_slots(room));
		check_equal(1, room->bells[slot].word);
	}
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		check(doorbell_is_armed(&room->map));
		doorbell_disarm(bell_of(room, slot));
		check(!doorbell_slot_is_armed(&room->map, slot));
		check_equal(LAYOUT_SLOTS - 1 - slot, armed_slots(room));
		check_equal(0, room->bells[slot].word);
	}
	check(!doorbell_is_armed(&room->map));
}

static void one_bit_is_enough_to_be_seen(void **state)
{
	struct room *room = room_open();

	(void)state;
	for (uint32_t slot = 0; slot < LAYOUT_SLOTS; slot++) {
		doorbell_arm(bell_of(room, slot));
		check(doorbell_is_armed(&room->map));
		doorbell_disarm(bell_of(room, slot));
		check(!doorbell_is_armed(&room->map));
	}
}

static void arming_twice_is_arming_once(void **state)
{
	struct room *room = room_open();

	(void)state;
	doorbell_arm(bell_of(room, 7));
	doorbell_arm(bell_of(room, 7));
	check_equal(1, armed_slots(room));
	doorbell_disarm(bell_of(room, 7));
	doorbell_disarm(bell_of(room, 7));
	check_equal(0, armed_slots(room));
}

static void who_withdraws_learns_whether_it_was_rung(void **state)
{
	struct room *room = room_open();
	const struct doorbell bell = bell_of(room, 65);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		doorbell_arm(bell);
		if (i == 1)
			doorbell_ring(bell);
		check_equal(i == 1, doorbell_withdraw(bell));
		check_equal(0, armed_slots(room));
		check_equal(0, room->bells[65].word);
	}
}

static void ringing_where_nobody_sleeps_wakes_nobody(void **state)
{
	struct room *room = room_open();

	(void)state;
	check(!doorbell_ring(bell_of(room, 3)));
	check(!doorbell_ring_one(room->bells, &room->map, 0));
	check_equal(0, doorbell_ring_all(room->bells, &room->map));
	doorbell_arm(bell_of(room, 3));
	doorbell_disarm(bell_of(room, 3));
	check(!doorbell_ring(bell_of(room, 3)));
}

static void who_was_rung_before_sleeping_does_not_sleep(void **state)
{
	struct room *room = room_open();
	const struct doorbell bell = bell_of(room, 64);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t begin = now_ns();

		doorbell_arm(bell);
		if (i == 0)
			check(!doorbell_ring(bell)); /* true only for who really slept */
		else if (i == 1)
			check(!doorbell_ring_one(room->bells, &room->map, 0));
		else
			check_equal(0, doorbell_ring_all(room->bells, &room->map));
		check_result(0, doorbell_sleep(bell, (uint64_t)PATIENCE));
		check(now_ns() - begin < (uint64_t)PATIENCE / 2);
		check(!doorbell_is_armed(&room->map));
	}
}

static void a_sleep_that_nobody_ends_ends_by_its_time_out(void **state)
{
	struct room *room = room_open();
	const struct doorbell bell = bell_of(room, 1);
	const uint64_t begin = now_ns();

	(void)state;
	doorbell_arm(bell);
	check_result(-ETIMEDOUT, doorbell_sleep(bell, 3 * MILLISECOND));
	check(now_ns() - begin >= 3 * MILLISECOND);
	check(doorbell_slot_is_armed(&room->map, 1)); /* until it is taken back */
	check_result(-ETIMEDOUT, doorbell_sleep(bell, 0));
	doorbell_disarm(bell);
	check_result(0, doorbell_sleep(bell, (uint64_t)PATIENCE));
}

static void do_nothing(int signal)
{
	(void)signal;
}

static void a_signal_ends_a_sleep(void **state)
{
	const struct itimerval often = {.it_value.tv_usec = 2000, .it_interval.tv_usec = 2000};
	const struct itimerval never = {0};
	struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
	struct room *room = room_open();

	(void)state;
	alarm(0); /* the harness's limit shares the timer */
	check_result(0, sigaction(SIGALRM, &action, &before));
	check_result(0, setitimer(ITIMER_REAL, &often, NULL));
	doorbell_arm(bell_of(room, 1));
	check_result(-EINTR, doorbell_sleep(bell_of(room, 1), (uint64_t)PATIENCE));
	check_result(0, setitimer(ITIMER_REAL, &never, NULL));
	check_result(0, sigaction(SIGALRM, &before, NULL));
}

/* ---- several processes ---- */

static void ringing_one_wakes_exactly_one(void **state)
{
	struct room *room = room_open();

	(void)state;
	start_sleepers(room, 0, MOST_SLEEPERS);
	for (uint32_t i = 1; i <= MOST_SLEEPERS; i++) {
		check(doorbell_ring_one(room->bells, &room->map, 0));
		tally_wait(&room->woken, i);
		check_equal(MOST_SLEEPERS - i, armed_slots(room));
		for (unsigned k = 0; k < MOST_SLEEPERS; k++)
			check_equal(k < i, tally_read(&room->by_slot[slots[k]]));
	}
	check(!doorbell_ring_one(room->bells, &room->map, 0));
	processes_finish();
	check_equal(MOST_SLEEPERS, tally_read(&room->woken));
}

static void ringing_one_begins_where_it_is_told(void **state)
{
	static const struct {
		uint32_t start, woken;
	} table[] = {{6, 63}, {64, 64}, {65, LAYOUT_SLOTS - 1}, {127, 0}, {1, 5}};
	struct room *room = room_open();

	(void)state;
	start_sleepers(room, 0, MOST_SLEEPERS);
	for (unsigned i = 0; i < COUNT_OF(table); i++) {
		check(doorbell_ring_one(room->bells, &room->map, table[i].start));
		tally_wait(&room->by_slot[table[i].woken], 1);
		check_equal(MOST_SLEEPERS - 1 - i, armed_slots(room));
	}
	processes_finish();
}

static void ringing_all_wakes_all(void **state)
{
	struct room *room = room_open();

	(void)state;
	start_sleepers(room, 0, MOST_SLEEPERS);
	check_equal(MOST_SLEEPERS, doorbell_ring_all(room->bells, &room->map));
	tally_wait(&room->woken, MOST_SLEEPERS);
	check(!doorbell_is_armed(&room->map));
	check_equal(0, doorbell_ring_all(room->bells, &room->map));
	processes_finish();
}

static void ringing_one_member_leaves_the_others_asleep(void **state)
{
	struct room *room = room_open();

	(void)state;
	start_sleepers(room, 0, MOST_SLEEPERS);
	check(doorbell_ring(bell_of(room, 63)));
	tally_wait(&room->by_slot[63], 1);
	check_equal(MOST_SLEEPERS - 1, armed_slots(room));
	check(!doorbell_ring(bell_of(room, 63)));
	check(tally_read(&room->woken) <= 1);
	check_equal(MOST_SLEEPERS - 1, doorbell_ring_all(room->bells, &room->map));
	processes_finish();
}

/* Kills a sleeper in its sleep; its word and its bit stay behind. */
static void leave_a_dead_sleeper(struct room *room)
{
	const unsigned process = process_start(sleep_once, room, 0);

	tally_wait(&room->armed, 1);
	while (state_of(process) != 'S')
		sched_yield();
	kill(process_pid(process), SIGKILL);
	process_status(process);
	check(doorbell_slot_is_armed(&room->map, slots[0]));
}

static void the_bit_of_a_dead_sleeper_is_cleared_and_rings_nobody(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct room *room = room_open();

		leave_a_dead_sleeper(room);
		if (i == 0)
			check(!doorbell_ring(bell_of(room, slots[0])));
		else if (i == 1)
			check(!doorbell_ring_one(room->bells, &room->map, 0));
		else
			check_equal(0, doorbell_ring_all(room->bells, &room->map));
		check(!doorbell_is_armed(&room->map));
	}
}

static void a_dead_sleeper_does_not_keep_the_ring_from_a_living_one(void **state)
{
	struct room *room = room_open();
	unsigned living;

	(void)state;
	leave_a_dead_sleeper(room);
	living = start_sleepers(room, 3, 1);
	check(doorbell_ring_one(room->bells, &room->map, 0));
	check_equal(0, process_status(living));
	check_equal(1, tally_read(&room->by_slot[slots[3]]));
	check(!doorbell_is_armed(&room->map));
}

/* ---- nothing is lost ---- */

/* Given as the program's argument, to play longer than a test may: then only this is done, without a time limit. */
static uint64_t asked_rounds;

/* Busy for some 0 to 2000 turns: about as long as arming, a look, and the way into the kernel take. */
static void dawdle(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	/* A quarter of them not at all. */
	const uint64_t turns = (*seed >> 62) == 0 ? 0 : (*seed >> 40) % 2000;

	for (volatile uint64_t i = 0; i < turns;)
		i = i + 1;
}

/* What the two processes of a ping-pong wait for, by turns: even numbers are the first one's to answer. */
struct exchange {
	struct room room;
	uint64_t ball;
};

static void play(void *shared, unsigned player)
{
	struct exchange *exchange = shared;
	struct room *room = &exchange->room;
	const struct doorbell bell = bell_of(room, player);
	uint64_t seed = player + 1;

	if (asked_rounds != 0)
		alarm(0);
	for (uint64_t ball = player; ball < room->rounds; ball += 2) {
		while (atomic_load_acquire(&exchange->ball) != ball) {
			doorbell_arm(bell);
			if (atomic_load_acquire(&exchange->ball) != ball) {
				dawdle(&seed);
				check_result(0, doorbell_sleep(bell, (uint64_t)PATIENCE));
			}
			doorbell_disarm(bell);
		}
		dawdle(&seed);
		atomic_exchange_full(&exchange->ball, ball + 1);
		atomic_fence_after_rmw();
		if (doorbell_is_armed(&room->map))
			doorbell_ring_one(room->bells, &room->map, 1 - player);
	}
}

static void no_ring_is_lost_between_two_who_always_sleep(void **state)
{
	struct exchange *exchange = shared_memory(sizeof *exchange);

	(void)state;
	exchange->room.rounds = asked_rounds != 0 ? asked_rounds : scaled(40000);
	if (asked_rounds != 0)
		alarm(0);
	process_start(play, exchange, 0);
	process_start(play, exchange, 1);
	processes_finish();
	check_equal(exchange->room.rounds, exchange->ball);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest only[] = {promise(no_ring_is_lost_between_two_who_always_sleep)};
	const struct CMUnitTest tests[] = {
		promise(arming_and_disarming_show_in_the_map),
		promise(one_bit_is_enough_to_be_seen),
		promise(arming_twice_is_arming_once),
		promise(who_withdraws_learns_whether_it_was_rung),
		promise(ringing_where_nobody_sleeps_wakes_nobody),
		promise(who_was_rung_before_sleeping_does_not_sleep),
		promise(a_sleep_that_nobody_ends_ends_by_its_time_out),
		promise(a_signal_ends_a_sleep),
		promise(ringing_one_wakes_exactly_one),
		promise(ringing_one_begins_where_it_is_told),
		promise(ringing_all_wakes_all),
		promise(ringing_one_member_leaves_the_others_asleep),
		promise(the_bit_of_a_dead_sleeper_is_cleared_and_rings_nobody),
		promise(a_dead_sleeper_does_not_keep_the_ring_from_a_living_one),
		promise(no_ring_is_lost_between_two_who_always_sleep),
	};

	asked_rounds = count > 1 ? strtoull(arguments[1], NULL, 10) : 0;
	if (asked_rounds != 0)
		return cmocka_run_group_tests_name("doorbell", only, NULL, NULL);
	return cmocka_run_group_tests_name("doorbell", tests, NULL, NULL);
}
