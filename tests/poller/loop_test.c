/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor in an event loop: readable as long as something is ready, quiet when nothing is, and cheap then. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "polling.h"

static int new_loop(void)
{
	int loop = epoll_create1(EPOLL_CLOEXEC);

	check(loop >= 0);
	return loop;
}

static void loop_add(int loop, int descriptor, void *data)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};

	check(!epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event));
}

/* What the loop says in that time, or NULL. The kernel interrupts it as it takes down a ring of the test before. */
static void *loop_wait(int loop, int64_t timeout_ns)
{
	struct epoll_event event;
	int count;

	do
		count = epoll_wait(loop, &event, 1, (int)(timeout_ns / MILLISECOND));
	while (count < 0 && errno == EINTR);
	return count == 1 ? event.data.ptr : NULL;
}

/* Calls the poller, as one does when its descriptor fires, until that is quiet. */
static void go_to_sleep(struct sluice_poller *poller)
{
	const uint64_t end = now_ns() + (uint64_t)PATIENCE;

	do {
		expect_nothing(poller);
		check(now_ns() < end);
	} while (is_readable(sluice_poller_fd(poller), 0));
}

/* Waits in the loop, which must fire, for one event. */
static void expect_in_loop(int loop, struct sluice_poller *poller, uint32_t events, const void *data)
{
	const uint64_t end = now_ns() + (uint64_t)PATIENCE;
	struct sluice_poller_event event;
	int count;

	do {
		check(loop_wait(loop, PATIENCE) == poller);
		check(now_ns() < end);
		count = sluice_poller_wait(poller, &event, 1, 0);
	} while (count == 0);
	check_result(1, count);
	check_equal(events, event.events);
	check(event.data == data);
}

static void the_descriptor_is_readable_at_first_and_quiet_after_a_look(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	int descriptor = sluice_poller_fd(poller);

	(void)state;
	check(descriptor >= 0);
	check_equal(descriptor, sluice_poller_fd(poller));
	check(is_readable(descriptor, 0));
	go_to_sleep(poller);
	check(!is_readable(descriptor, 50 * MILLISECOND));
	poll_consumer(poller, consumer, NULL);
	check(is_readable(descriptor, 0)); /* nobody has looked at it yet */
	go_to_sleep(poller);
	check(!is_readable(descriptor, 50 * MILLISECOND));
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

/* Sends bursts of three on "tokens", each when the consumer sleeps. */
static void send_bursts(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", NULL);

	(void)shared;
	for (unsigned i = 0; i < index; i++) {
		wait_until_asleep("tokens", SLUICE_ROLE_CONSUMER, 1);
		send_numbers(producer, 3 * i, 3);
	}
	check_result(0, sluice_producer_close(producer));
}

static void the_descriptor_stays_readable_until_all_is_received(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *other = join_consumer("other", CONSUMER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	int loop = new_loop();

	(void)state;
	poll_consumer(poller, consumer, consumer);
	poll_consumer(poller, other, other);
	loop_add(loop, sluice_poller_fd(poller), poller);
	process_start(send_bursts, NULL, 30);
	for (unsigned i = 0; i < 90; i++) {
		expect_in_loop(loop, poller, SLUICE_POLL_RECEIVE, consumer);
		take_numbers(consumer, i, 1);
	}
	processes_finish();
	close(loop);
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_consumer_close(other));
}

/* Level-triggered for those who look once and receive all they can. */
static void a_loop_may_receive_all_there_is_for_one_event(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *message;
	int loop = new_loop();

	(void)state;
	poll_consumer(poller, consumer, consumer);
	loop_add(loop, sluice_poller_fd(poller), poller);
	process_start(send_bursts, NULL, 30);
	for (unsigned i = 0; i < 90;) {
		expect_in_loop(loop, poller, SLUICE_POLL_RECEIVE, consumer);
		while (sluice_receive(consumer, 0, &message) == 0) {
			check_equal(i++, number_of(message));
			check_result(0, sluice_release(message));
		}
	}
	processes_finish();
	close(loop);
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

/* Receives `index` messages on "tokens", two whenever the producer sleeps. */
static void receive_pairs(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);

	(void)shared;
	for (unsigned i = 0; i < index; i += 2) {
		wait_until_asleep("tokens", SLUICE_ROLE_PRODUCER, 1);
		take_numbers(consumer, i, 2);
	}
	check_result(0, sluice_consumer_close(consumer));
}

static void room_makes_the_descriptor_readable(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 2)));
	int loop = new_loop();

	(void)state;
	send_numbers(producer, 0, 2);
	poll_producer(poller, producer, 0, producer);
	loop_add(loop, sluice_poller_fd(poller), poller);
	process_start(receive_pairs, NULL, 40);
	for (unsigned i = 2; i < 40; i++) {
		expect_in_loop(loop, poller, SLUICE_POLL_ROOM, producer);
		check_result(0, try_to_send(producer, i, 0));
	}
	go_to_sleep(poller);
	processes_finish();
	close(loop);
	end_poller(poller);
	check_result(0, sluice_producer_close(producer));
}

static void a_loop_watches_pollers_beside_other_things(void **state)
{
	struct sluice_poller *pollers[2] = {new_poller(NEVER), new_poller(NEVER)};
	struct sluice_consumer *consumers[2];
	struct sluice_producer *producers[2];
	int loop = new_loop(), ends[2];

	(void)state;
	check(!pipe(ends));
	loop_add(loop, ends[0], ends);
	for (int i = 0; i < 2; i++) {
		consumers[i] = join_consumer(i ? "a" : "b", CONSUMER(.channel = CHANNEL()));
		producers[i] = join_producer(i ? "a" : "b", NULL);
		poll_consumer(pollers[i], consumers[i], consumers[i]);
		loop_add(loop, sluice_poller_fd(pollers[i]), pollers[i]);
		go_to_sleep(pollers[i]);
	}
	check(loop_wait(loop, 0) == NULL);
	for (int i = 0; i < 20; i++) {
		send_number(producers[i % 2], i);
		expect_in_loop(loop, pollers[i % 2], SLUICE_POLL_RECEIVE, consumers[i % 2]);
		take_numbers(consumers[i % 2], i, 1);
		go_to_sleep(pollers[i % 2]);
		check(write(ends[1], "x", 1) == 1);
		check(loop_wait(loop, PATIENCE) == ends);
		check(read(ends[0], &(char){0}, 1) == 1);
	}
	for (int i = 0; i < 2; i++) {
		end_poller(pollers[i]);
		check_result(0, sluice_producer_close(producers[i]));
		check_result(0, sluice_consumer_close(consumers[i]));
		close(ends[i]);
	}
	close(loop);
}

/* ---- with other calls in between ---- */

static void a_receive_that_sleeps_leaves_the_descriptor_to_tell(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	struct sluice_producer *producer = join_producer("tokens", NULL);
	int loop = new_loop();

	(void)state;
	poll_consumer(poller, consumer, consumer);
	loop_add(loop, sluice_poller_fd(poller), poller);
	for (int i = 0; i < 3; i++) {
		go_to_sleep(poller);
		if (i == 0)
			check_result(-ETIMEDOUT, nothing_within(consumer, MILLISECOND));
		else if (i == 1)
			check_result(-ETIMEDOUT, sluice_consumer_wait(consumer, 5, MILLISECOND));
		else
			check_result(-EAGAIN, nothing_within(consumer, 0));
		send_number(producer, i);
		expect_in_loop(loop, poller, SLUICE_POLL_RECEIVE, consumer);
		take_numbers(consumer, i, 1);
	}
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	close(loop);
	end_poller(poller);
}

/* The letter of a process's state; 'S' for one that sleeps in the kernel. */
static char state_of(pid_t process)
{
	char path[64], text[512] = "";
	const char *name_end;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
	file = fopen(path, "r");
	check(file && fgets(text, sizeof text, file));
	fclose(file);
	name_end = strrchr(text, ')');
	check(name_end && strlen(name_end) > 2);
	return name_end[2];
}

/* Sends `index` messages, each when told, and when its parent sleeps. */
static void send_when_told(void *shared, unsigned index)
{
	struct sluice_producer *producer = join_producer("tokens", NULL);

	for (unsigned i = 0; i < index; i++) {
		tally_wait(shared, i + 1);
		while (state_of(getppid()) != 'S')
			continue;
		send_number(producer, i);
	}
	check_result(0, sluice_producer_close(producer));
}

/* A ring finds both who sleep in one place: the poller and the call. A lost one would cost each round a second. */
static void a_receive_is_woken_although_a_poller_sleeps_in_its_place(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .spin_ns = SLUICE_NO_SPIN));
	struct tally *told = shared_memory(sizeof *told);
	const uint64_t begin = now_ns();

	(void)state;
	poll_consumer(poller, consumer, consumer);
	check(sluice_poller_fd(poller) >= 0);
	process_start(send_when_told, told, 20);
	for (unsigned i = 0; i < 20; i++) {
		go_to_sleep(poller);
		tally_add(told);
		take_numbers(consumer, i, 1);
	}
	check(now_ns() - begin < 10 * (uint64_t)SECOND);
	processes_finish();
	end_poller(poller);
	check_result(0, sluice_consumer_close(consumer));
}

/* ---- threads ---- */

static void *look_and_end(void *poller)
{
	go_to_sleep(poller);
	return NULL;
}

/* The kernel ends what a thread waits for by io_uring when the thread ends. */
static void the_descriptor_tells_also_after_the_thread_that_waited_has_ended(void **state)
{
	struct sluice_poller *poller = new_poller(NEVER);
	struct sluice_consumer *consumer = join_consumer("tokens", CONSUMER(.channel = CHANNEL()));
	struct sluice_producer *producer = join_producer("tokens", NULL);
	int loop = new_loop();

	(void)state;
	poll_consumer(poller, consumer, consumer);
	loop_add(loop, sluice_poller_fd(poller), poller);
	for (int i = 0; i < 20; i++) {
		pthread_t thread;

		check(!pthread_create(&thread, NULL, look_and_end, poller));
		check(!pthread_join(thread, NULL));
		if (i % 3 == 0)
			go_to_sleep(poller); /* in this thread */
		send_number(producer, i);
		expect_in_loop(loop, poller, SLUICE_POLL_RECEIVE, consumer);
		take_numbers(consumer, i, 1);
	}
	check_result(0, sluice_producer_close(producer));
	check_result(0, sluice_consumer_close(consumer));
	close(loop);
	end_poller(poller);
}

/* ---- quiet times ---- */

/* How often threads of this process have gone to sleep. */
static uint64_t sleeps_of_all_threads(void)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	uint64_t sum = 0;

	check(threads != NULL);
	while ((entry = readdir(threads))) {
		char path[300], line[128];
		FILE *file;

		snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
		file = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
		while (file && fgets(line, sizeof line, file))
			if (!strncmp(line, "voluntary_ctxt_switches:", 24))
				sum += strtoull(line + 24, NULL, 10);
		if (file)
			fclose(file);
	}
	closedir(threads);
	return sum;
}

/* Ten at the most are promised for a pair; it takes one thread's timer, and two sleeps more where there is a helper. */
static void an_idle_loop_wakes_a_few_times_a_second_at_most(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumers[4];
	int loop = new_loop();
	uint64_t end, before;
	unsigned fired = 0;
	char name[] = "channel-0";

	(void)state;
	for (int i = 0; i < 4; i++) {
		name[8] = (char)('0' + i);
		consumers[i] = join_consumer(name, CONSUMER(.channel = CHANNEL()));
		poll_consumer(poller, consumers[i], NULL);
	}
	loop_add(loop, sluice_poller_fd(poller), poller);
	go_to_sleep(poller);
	before = sleeps_of_all_threads();
	end = now_ns() + 4 * (uint64_t)SECOND;
	for (uint64_t now = now_ns(); now < end; now = now_ns())
		if (loop_wait(loop, (int64_t)(end - now) + MILLISECOND) == poller) {
			expect_nothing(poller);
			fired++;
		}
	print_message("in 4 s: fired %u times, threads slept %llu times\n", fired,
		(unsigned long long)(sleeps_of_all_threads() - before));
	check(fired >= 2 && fired <= 8);
	check(sleeps_of_all_threads() - before <= 16);
	for (int i = 0; i < 4; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
	close(loop);
	end_poller(poller);
}

static void join_and_stay(void *shared, unsigned index)
{
	(void)index;
	send_numbers(join_producer("tokens", NULL), 0, 1);
	tally_add(shared);
	for (;;)
		pause();
}

static void a_death_makes_the_descriptor_readable(void **state)
{
	struct sluice_poller *poller = new_poller(0);
	struct sluice_consumer *consumer =
		join_consumer("tokens", CONSUMER(.channel = CHANNEL(), .flags = SLUICE_REPORT_GONE));
	struct tally *ready = shared_memory(sizeof *ready);
	int loop = new_loop();
	unsigned producer = process_start(join_and_stay, ready, 0);

	(void)state;
	poll_consumer(poller, consumer, consumer);
	loop_add(loop, sluice_poller_fd(poller), poller);
	tally_wait(ready, 1);
	expect_in_loop(loop, poller, SLUICE_POLL_RECEIVE, consumer);
	take_numbers(consumer, 0, 1);
	go_to_sleep(poller);
	kill(process_pid(producer), SIGKILL);
	check(WIFSIGNALED(process_status(producer)));
	expect_in_loop(loop, poller, SLUICE_POLL_HANGUP, consumer);
	check_result(0, sluice_consumer_close(consumer));
	close(loop);
	end_poller(poller);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		promise(an_idle_loop_wakes_a_few_times_a_second_at_most),
		promise(the_descriptor_is_readable_at_first_and_quiet_after_a_look),
		promise(the_descriptor_stays_readable_until_all_is_received),
		promise(a_loop_may_receive_all_there_is_for_one_event),
		promise(room_makes_the_descriptor_readable),
		promise(a_loop_watches_pollers_beside_other_things),
		promise(a_receive_that_sleeps_leaves_the_descriptor_to_tell),
		promise(a_receive_is_woken_although_a_poller_sleeps_in_its_place),
		promise(the_descriptor_tells_also_after_the_thread_that_waited_has_ended),
		promise(a_death_makes_the_descriptor_readable),
	};

	return cmocka_run_group_tests_name("poller: loop", tests, NULL, NULL);
}

int main(int count, char **arguments)
{
	return polling_main(count, arguments, "loop_test", run);
}
