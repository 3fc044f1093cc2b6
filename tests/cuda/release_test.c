/* SPDX-License-Identifier: Apache-2.0 */
/* Releasing behind a stream: nothing is reused before the stream is there, and everything after it. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "pair.h"

/* ---- the promise ---- */

/* Fills a lane, uploads all behind a stream that does not move, and lets the producer try. */
static void poisoned_reuse(struct pair *pair)
{
	struct sluice_cuda_status status;

	fill(pair);
	device_hold(pair->stream, &pair->gate);
	for (uint64_t i = 0; i < DEPTH; i++)
		upload_and_release(pair, hold(pair->consumer), pair->memory + i * BYTES);
	status = status_of(pair->consumer);
	check_equal(DEPTH, status.pending);
	check_equal(DEPTH, status.released);
	for (unsigned i = 0; i < 100; i++) {
		check_result(-EAGAIN, send_pattern(pair->producer, 100, BYTES, 0));
		check_equal(DEPTH, sluice_cuda_collect(pair->consumer));
	}
	device_let_on(&pair->gate);
}

static void memory_is_not_reused_before_the_stream_is_there(void)
{
	struct pair pair = begin(0);

	poisoned_reuse(&pair);
	/* Nobody but the producer does anything now. */
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair.producer, 200 + i, BYTES, PATIENCE));
	device_synchronize(pair.stream);
	for (uint64_t i = 0; i < DEPTH; i++)
		check(has_pattern(pair.memory + i * BYTES, i));
	check_equal(0, sluice_cuda_collect(pair.consumer));
	check_equal(0, status_of(pair.consumer).pending);
	end(&pair);
}

static void by_events_the_consumers_own_calls_release(void)
{
	struct pair pair = begin(SLUICE_CUDA_NO_STREAM_WRITES);
	const struct sluice_message *message;

	check_result(-ENOTSUP, status_of(pair.consumer).write_error);
	check(status_of(pair.consumer).write_reason[0] != '\0');
	poisoned_reuse(&pair);
	device_synchronize(pair.stream);
	check_result(-EAGAIN, send_pattern(pair.producer, 100, BYTES, 0));
	check_result(-EAGAIN, sluice_receive(pair.consumer, 0, &message));
	check_equal(0, status_of(pair.consumer).pending);
	check_equal(DEPTH, status_of(pair.consumer).by_event);
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair.producer, 200 + i, BYTES, 0));
	for (uint64_t i = 0; i < DEPTH; i++)
		check(has_pattern(pair.memory + i * BYTES, i));
	end(&pair);
}

static void in_a_broadcast_too(void)
{
	struct pair pair = begin_with(CHANNEL(.depth = DEPTH, .mode = SLUICE_BROADCAST), 0);
	const struct sluice_message *message;

	poisoned_reuse(&pair);
	device_synchronize(pair.stream);
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair.producer, 200 + i, BYTES, 0));
	for (uint64_t i = 0; i < DEPTH; i++)
		check(has_pattern(pair.memory + i * BYTES, i));
	for (uint64_t i = 0; i < DEPTH; i++) {
		message = hold(pair.consumer);
		check_equal(200 + i, sluice_correlation_id(message));
		check_result(0, sluice_release(message));
	}
	end(&pair);
}

/* ---- one, many, twice ---- */

static void a_released_message_is_dead(void)
{
	struct pair pair = begin(0);
	const struct sluice_message *message;
	uintptr_t address;
	uint64_t offsets[2];

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_hold(pair.stream, &pair.gate);
	check_result(0, sluice_cuda_release(message, pair.stream));
	check_result(-EALREADY, sluice_cuda_release(message, pair.stream));
	check_result(-EALREADY, sluice_release(message));
	check_result(-EALREADY, sluice_cuda_upload(message, 0, pair.memory, BYTES, pair.stream));
	check_result(-EALREADY, sluice_cuda_upload_batch(&message, 1, pair.memory, BYTES, pair.stream, offsets));
	check_equal(-EALREADY, sluice_cuda_batch_bytes(&message, 1));
	check_result(-EALREADY, sluice_cuda_pointer(message, 0, &address));
	check(sluice_tensor(message, 0) == NULL);
	device_let_on(&pair.gate);
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check_result(-EALREADY, sluice_cuda_release(message, pair.stream));
	end(&pair);
}

static void a_batch_takes_one_write(void)
{
	struct pair pair = begin(0);
	const struct sluice_message *messages[DEPTH + 1];

	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair.producer, i, 100, 0));
	check_equal(DEPTH, sluice_receive_batch(pair.consumer, DEPTH, 0, 0, 0, messages));
	check_result(0, sluice_release(messages[3]));
	messages[DEPTH] = messages[0]; /* and one twice */
	if (standin())
		standin()->calls("cuStreamWriteValue64");
	check_result(-EALREADY, sluice_cuda_release_batch(messages, DEPTH + 1, pair.stream));
	if (standin())
		check_equal(1, standin()->calls("cuStreamWriteValue64"));
	check_equal(DEPTH - 1, status_of(pair.consumer).released);
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(pair.producer, 10 + i, 100, PATIENCE));
	check_result(-EALREADY, sluice_cuda_release_batch(messages, DEPTH, pair.stream));
	check_result(0, sluice_cuda_release_batch(messages, 0, pair.stream));
	check_result(-EINVAL, sluice_cuda_release_batch(NULL, 1, pair.stream));
	check_result(-EINVAL, sluice_cuda_release(NULL, pair.stream));
	end(&pair);
}

/* More than there are words: the rest goes by events, and none is lost. */
static void more_under_way_than_there_are_words(void)
{
	enum { COUNT = 200 };
	struct pair pair = begin_with(CHANNEL(.depth = 256, .lane_bytes = 1 << 20), 0);
	const struct sluice_message *message;

	device_hold(pair.stream, &pair.gate);
	for (uint64_t i = 0; i < COUNT; i++)
		check_result(0, send_pattern(pair.producer, i, 1000, 0));
	for (uint64_t i = 0; i < COUNT; i++)
		check_result(0, sluice_cuda_release(hold(pair.consumer), pair.stream));
	check_equal(COUNT, status_of(pair.consumer).pending);
	check_equal(COUNT - 64, status_of(pair.consumer).by_event);
	check_equal(COUNT, held_messages());
	device_let_on(&pair.gate);
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check_equal(0, held_messages());
	/* Words are free again. */
	check_result(0, send_pattern(pair.producer, 1, 1000, 0));
	message = hold(pair.consumer);
	check_result(0, sluice_cuda_release(message, pair.stream));
	check_equal(COUNT - 64, status_of(pair.consumer).by_event);
	end(&pair);
}

static void a_slow_stream_holds_no_other_back(void)
{
	for (uint32_t flags = 0; flags <= SLUICE_CUDA_NO_STREAM_WRITES; flags += SLUICE_CUDA_NO_STREAM_WRITES) {
		struct pair pair = begin(flags);
		stream_handle other = device_stream();

		fill(&pair);
		device_hold(pair.stream, &pair.gate);
		check_result(0, sluice_cuda_release(hold(pair.consumer), pair.stream));
		for (uint64_t i = 1; i < DEPTH; i++)
			check_result(0, sluice_cuda_release(hold(pair.consumer), other));
		eventually(sluice_cuda_collect(pair.consumer) == 1);
		check_equal(1, held_messages());
		/* The oldest is what room depends on. */
		check_result(-EAGAIN, send_pattern(pair.producer, 100, BYTES, 0));
		device_let_on(&pair.gate);
		eventually(sluice_cuda_collect(pair.consumer) == 0);
		check_result(0, send_pattern(pair.producer, 100, BYTES, 0));
		device_end_stream(other);
		end(&pair);
	}
}

static void many_laps_in_a_row(void)
{
	struct pair pair = begin(0);

	for (uint64_t i = 0; i < 2000; i++) {
		const struct sluice_message *message;
		const uintptr_t to = pair.memory + i % DEPTH * BYTES;

		check_result(0, send_pattern(pair.producer, i, BYTES, PATIENCE));
		message = hold(pair.consumer);
		check_equal(i, sluice_correlation_id(message));
		check_equal(1, sluice_delivery_count(message));
		upload_and_release(&pair, message, to);
		if (i % 97 == 0) {
			device_synchronize(pair.stream);
			check(has_pattern(to, i));
		}
	}
	end(&pair);
}

struct releasers {
	struct pair *pair;
	int pipe[2];
};

/* Uploads and releases what comes through the pipe, behind a stream of its own. */
static void *release_all(void *argument)
{
	const struct releasers *releasers = argument;
	const struct sluice_message *message;
	struct sluice_cuda_status status;
	stream_handle stream;
	uintptr_t memory;
	context_handle context = device_retain(0);

	device_set_current(context);
	stream = device_stream();
	memory = device_allocate(BYTES);
	while (read(releasers->pipe[0], &message, sizeof message) == sizeof message) {
		check_result(0, sluice_cuda_upload(message, 0, memory, BYTES, stream));
		check_result(0, sluice_cuda_release(message, stream));
		check_result(0, sluice_cuda_status(releasers->pair->consumer, &status));
	}
	device_synchronize(stream);
	device_end_stream(stream);
	device_free(memory);
	device_let_go(0);
	return NULL;
}

static void threads_release_while_another_receives(void)
{
	enum { THREADS = 3, COUNT = 1500 };
	struct pair pair = begin(0);
	struct releasers releasers = {.pair = &pair};
	pthread_t threads[THREADS];

	check(!pipe(releasers.pipe));
	for (unsigned i = 0; i < THREADS; i++)
		check(!pthread_create(&threads[i], NULL, release_all, &releasers));
	for (uint64_t i = 0; i < COUNT; i++) {
		const struct sluice_message *message;

		check_result(0, send_pattern(pair.producer, i, BYTES, PATIENCE));
		message = hold(pair.consumer);
		check_equal(i, sluice_correlation_id(message));
		check(write(releasers.pipe[1], &message, sizeof message) == sizeof message);
	}
	close(releasers.pipe[1]);
	for (unsigned i = 0; i < THREADS; i++)
		check(!pthread_join(threads[i], NULL));
	close(releasers.pipe[0]);
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check_equal(COUNT, status_of(pair.consumer).released);
	check_equal(0, held_messages());
	end(&pair);
}

/* ---- who waits ---- */

struct meeting {
	struct gauge step;
	struct gauge room;
};

static void send_until_full_and_one(void *argument)
{
	struct meeting *meeting = argument;
	struct sluice_producer *producer =
		join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH), .spin_ns = SLUICE_NO_SPIN));

	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(producer, i, BYTES, 0));
	gauge_set(&meeting->step, 1);
	check_result(0, send_pattern(producer, DEPTH, BYTES, PATIENCE));
	gauge_set(&meeting->room, 1);
	gauge_wait(&meeting->step, 2);
	check_result(0, sluice_producer_close(producer));
}

static bool somebody_sleeps(uint32_t role)
{
	struct sluice_channel_stat *stat;
	bool found = false;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	for (uint32_t i = 0; i < stat->member_count; i++)
		found |= stat->members[i].role == role && stat->members[i].asleep;
	sluice_channel_stat_free(stat);
	return found;
}

/*
 * A producer that went to sleep before anything was released behind a stream, while the consumer makes no more calls.
 */
static void a_sleeping_producer_finds_room_by_itself(void)
{
	struct meeting *meeting = shared_memory(sizeof *meeting);
	const struct sluice_message *messages[DEPTH];
	struct sluice_consumer *consumer;
	struct device_gate gate;
	stream_handle stream;
	const unsigned producer = start_process(send_until_full_and_one, meeting);

	device_use(0);
	gauge_wait(&meeting->step, 1);
	consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	check_result(0, sluice_cuda_attach(consumer, NULL));
	stream = device_stream();
	check_equal(DEPTH, sluice_receive_batch(consumer, DEPTH, 0, 0, PATIENCE, messages));
	eventually(somebody_sleeps(SLUICE_ROLE_PRODUCER));
	device_hold(stream, &gate);
	check_result(0, sluice_cuda_release_batch(messages, DEPTH, stream));
	check(!gauge_reaches(&meeting->room, 1, 50 * MILLISECOND));
	device_let_on(&gate);
	/* It went to sleep for a second when there was nothing to look for. */
	check(gauge_reaches(&meeting->room, 1, 500 * MILLISECOND));
	gauge_set(&meeting->step, 2);
	finish_process(producer);
	check_result(0, sluice_release(hold(consumer)));
	check_result(0, sluice_consumer_close(consumer));
	device_end_stream(stream);
	device_let_go(0);
}

struct opener {
	struct device_gate gate;
	_Atomic uint64_t opened_ns;
};

static void *let_on_when_the_consumer_sleeps(void *argument)
{
	struct opener *opener = argument;

	eventually(somebody_sleeps(SLUICE_ROLE_CONSUMER));
	opener->opened_ns = now_ns();
	device_let_on(&opener->gate);
	return NULL;
}

/* The same where only the consumer's own calls can release: it sleeps in a receive. */
static void a_sleeping_consumer_looks_for_its_streams(void)
{
	struct meeting *meeting = shared_memory(sizeof *meeting);
	const struct sluice_cuda_options options = {.size = sizeof options, .flags = SLUICE_CUDA_NO_STREAM_WRITES};
	const struct sluice_message *messages[DEPTH];
	struct sluice_consumer *consumer;
	stream_handle stream;
	static struct opener opener;
	pthread_t thread;
	const unsigned producer = start_process(send_until_full_and_one, meeting);

	device_use(0);
	gauge_wait(&meeting->step, 1);
	consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH), .spin_ns = SLUICE_NO_SPIN));
	check_result(0, sluice_cuda_attach(consumer, &options));
	stream = device_stream();
	check_equal(DEPTH, sluice_receive_batch(consumer, DEPTH, 0, 0, PATIENCE, messages));
	eventually(somebody_sleeps(SLUICE_ROLE_PRODUCER));
	device_hold(stream, &opener.gate);
	check_result(0, sluice_cuda_release_batch(messages, DEPTH, stream));
	check(!pthread_create(&thread, NULL, let_on_when_the_consumer_sleeps, &opener));
	/* The producer sends this one when it has room, which is this call's doing. */
	check_result(0, sluice_release(hold(consumer)));
	check(now_ns() - opener.opened_ns < (uint64_t)(500 * MILLISECOND)); /* a sleep as usual ends after a second */
	check(!pthread_join(thread, NULL));
	gauge_set(&meeting->step, 2);
	finish_process(producer);
	check_result(0, sluice_consumer_close(consumer));
	device_end_stream(stream);
	device_let_go(0);
}

/* A poller sleeps in the producer's place; nobody rings. */
static void a_poller_finds_room_by_itself(void)
{
	for (uint32_t backend = SLUICE_POLLER_IO_URING; backend <= SLUICE_POLLER_THREAD; backend++)
		for (int by_fd = 0; by_fd < 2; by_fd++) {
			const struct sluice_poller_options options = {.size = sizeof options, .backend = backend};
			struct sluice_poller_event event;
			struct sluice_poller *poller;
			struct pair pair;
			uint64_t began;

			if (sluice_poller_create(&options, &poller) == -ENOTSUP)
				continue;
			pair = begin(0);
			fill(&pair);
			for (uint64_t i = 0; i < DEPTH; i++) {
				const struct sluice_message *message = hold(pair.consumer);

				if (i == 0)
					device_hold(pair.stream, &pair.gate);
				check_result(0, sluice_cuda_release(message, pair.stream));
			}
			check_result(
				0, sluice_poller_add(poller, &(struct sluice_poller_entry){.producer = pair.producer}));
			if (by_fd)
				check(sluice_poller_fd(poller) >= 0);
			check_equal(0, sluice_poller_wait(poller, &event, 1, 20 * MILLISECOND));
			device_let_on(&pair.gate);
			began = now_ns();
			check_equal(1, sluice_poller_wait(poller, &event, 1, PATIENCE));
			check_equal(SLUICE_POLL_ROOM, event.events);
			check(now_ns() - began <
				(uint64_t)(600 * MILLISECOND)); /* a sleep as usual ends after a second */
			check_result(0, sluice_poller_destroy(poller));
			end(&pair);
		}
}

static const struct check_case cases[] = {
	CASE(memory_is_not_reused_before_the_stream_is_there),
	CASE(by_events_the_consumers_own_calls_release),
	CASE(in_a_broadcast_too),
	CASE(a_released_message_is_dead),
	CASE(a_batch_takes_one_write),
	CASE(more_under_way_than_there_are_words),
	CASE(a_slow_stream_holds_no_other_back),
	CASE(many_laps_in_a_row),
	CASE(threads_release_while_another_receives),
	CASE(a_sleeping_producer_finds_room_by_itself),
	CASE(a_sleeping_consumer_looks_for_its_streams),
	CASE(a_poller_finds_room_by_itself),
};

int main(int count, char **arguments)
{
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
