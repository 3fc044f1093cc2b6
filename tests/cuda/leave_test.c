/* SPDX-License-Identifier: Apache-2.0 */
/* Releases under way when somebody dies, lives on after being declared dead, detaches, or fails. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pair.h"

/* ---- death ---- */

struct victim {
	struct gauge step;
	uint32_t flags;
	bool let_on; /* the stream gets to the release before the death */
};

static void die_with_copies_under_way(void *argument)
{
	struct victim *victim = argument;
	static struct device_gate gate;
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	uintptr_t memory;
	stream_handle stream;

	device_use(0);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	stream = device_stream();
	memory = device_allocate(BYTES);
	device_hold(stream, &gate);
	for (uint64_t i = 0; i < DEPTH; i++) {
		const struct sluice_message *message = hold(consumer);

		check_result(0, sluice_cuda_upload(message, 0, memory, BYTES, stream));
		check_result(0, sluice_cuda_release(message, stream));
	}
	if (victim->let_on) {
		device_let_on(&gate);
		device_synchronize(stream);
	}
	gauge_set(&victim->step, 1);
	gauge_wait(&victim->step, 2);
}

static void what_a_dead_consumer_had_under_way_is_delivered_again(void)
{
	struct victim *victim = shared_memory(sizeof *victim);
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH)));
	struct sluice_consumer *consumer;
	unsigned process;

	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(producer, i, BYTES, 0));
	process = start_process(die_with_copies_under_way, victim);
	gauge_wait(&victim->step, 1);
	kill_process(process);
	consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	for (uint64_t i = 0; i < DEPTH; i++) {
		const struct sluice_message *message = hold(consumer);

		check_equal(i, sluice_correlation_id(message));
		check_equal(2, sluice_delivery_count(message));
		check(is_pattern(sluice_tensor(message, 0)->data, i, BYTES));
		check_result(0, sluice_release(message));
	}
	check_result(0, send_pattern(producer, DEPTH, BYTES, 0));
	check_result(0, sluice_release(hold(consumer)));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

/* What the stream had come to was released, whoever notices first. */
static void what_was_acknowledged_before_a_death_is_released(void)
{
	struct victim *victim = shared_memory(sizeof *victim);
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH)));
	struct sluice_consumer *consumer;
	const struct sluice_message *message;
	unsigned process;

	victim->let_on = true;
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(producer, i, BYTES, 0));
	process = start_process(die_with_copies_under_way, victim);
	gauge_wait(&victim->step, 1);
	kill_process(process);
	consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	check_result(-EAGAIN, sluice_receive(consumer, 0, &message));
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(producer, 10 + i, BYTES, 0));
	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, sluice_release(hold(consumer)));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

/* ---- late writes ---- */

/* Closes what the library has open of the channel's control object: its lock goes, as with its process. */
static void lose_the_lock(void)
{
	DIR *stream = opendir("/proc/self/fd");
	struct dirent *entry;

	check(stream != NULL);
	while ((entry = readdir(stream))) {
		char path[300], target[300];
		ssize_t length;

		snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
		length = readlink(path, target, sizeof target - 1);
		if (length <= 0)
			continue;
		target[length] = '\0';
		if (strstr(target, "/sluice.tokens"))
			close(atoi(entry->d_name));
	}
	closedir(stream);
}

struct late {
	struct gauge step;
};

/* Releases two messages each behind two streams, is taken for dead, and lets the streams on one after the other. */
static void write_late(void *argument)
{
	struct late *late = argument;
	static struct device_gate gates[2];
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	stream_handle streams[2];

	device_expect_ruins(); /* it cannot close */
	device_use(0);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	for (unsigned i = 0; i < 2; i++) {
		streams[i] = device_stream();
		device_hold(streams[i], &gates[i]);
		check_result(0, sluice_cuda_release(hold(consumer), streams[i]));
		check_result(0, sluice_cuda_release(hold(consumer), streams[i]));
	}
	lose_the_lock();
	gauge_set(&late->step, 1);
	for (uint32_t i = 0; i < 2; i++) {
		gauge_wait(&late->step, 2 + 2 * i);
		device_let_on(&gates[i]);
		device_synchronize(streams[i]);
		gauge_set(&late->step, 3 + 2 * i);
	}
	gauge_wait(&late->step, 6);
	/* What it had is not its any more. */
	check_equal(0, sluice_cuda_collect(consumer));
	_exit(0);
}

/* Who finds a foreign number in its word asks the device, and has to wait for it. */
static void *collect_all(void *consumer)
{
	check_equal(0, sluice_cuda_collect(consumer));
	return NULL;
}

static void a_late_write_frees_nothing_of_others(void)
{
	struct late *late = shared_memory(sizeof *late);
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH)));
	const struct sluice_message *messages[DEPTH];
	struct sluice_consumer *consumer;
	static struct device_gate gate;
	stream_handle stream;
	pthread_t collector;
	unsigned process;

	for (uint64_t i = 0; i < DEPTH; i++)
		check_result(0, send_pattern(producer, i, BYTES, 0));
	process = start_process(write_late, late);
	gauge_wait(&late->step, 1);
	/* Takes the slot of the one that it takes for dead, and so its page. */
	consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
	device_use(0);
	stream = device_stream();
	check_result(0, sluice_cuda_attach(consumer, NULL));
	for (uint64_t i = 0; i < DEPTH; i++) {
		messages[i] = hold(consumer);
		check_equal(i, sluice_correlation_id(messages[i]));
		check_equal(i < 4 ? 2 : 1, sluice_delivery_count(messages[i]));
	}
	/* The same word as the other's first, before the other's write comes. */
	device_hold(stream, &gate);
	check_result(0, sluice_cuda_release(messages[0], stream));
	gauge_set(&late->step, 2);
	gauge_wait(&late->step, 3);
	for (unsigned i = 0; i < 100; i++)
		check_result(-EAGAIN, send_pattern(producer, 100, BYTES, 0));
	check_equal(DEPTH, held_messages());
	for (uint64_t i = 0; i < DEPTH; i++)
		check(i == 0 || is_pattern(sluice_tensor(messages[i], 0)->data, i, BYTES));
	check(!pthread_create(&collector, NULL, collect_all, consumer));
	for (const uint64_t end = now_ns() + 20 * MILLISECOND; now_ns() < end; check_pause())
		check_equal(DEPTH, held_messages());
	device_let_on(&gate);
	device_synchronize(stream);
	check(!pthread_join(collector, NULL));
	check_equal(DEPTH - 1, held_messages());
	/* And under the other's write, which hides that this one's has been. */
	check_result(0, sluice_cuda_release_batch(&messages[1], 1, stream));
	check_result(0, sluice_cuda_release_batch(&messages[2], 1, stream));
	check_result(0, sluice_cuda_release_batch(&messages[3], 1, stream));
	device_synchronize(stream);
	gauge_set(&late->step, 4);
	gauge_wait(&late->step, 5);
	check_equal(0, sluice_cuda_collect(consumer));
	check_equal(DEPTH - 4, held_messages());
	gauge_set(&late->step, 6);
	finish_process(process);
	check_equal(DEPTH - 4, held_messages());
	for (uint64_t i = 4; i < DEPTH; i++)
		check_result(0, sluice_release(messages[i]));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
	device_end_stream(stream);
	device_let_go(0);
}

/* ---- leaving ---- */

static uint32_t lanes(void)
{
	struct sluice_channel_stat *stat;
	uint32_t count;

	check_result(0, sluice_channel_stat("tokens", NULL, &stat));
	count = stat->lane_count;
	sluice_channel_stat_free(stat);
	return count;
}

static void detaching_waits_for_the_stream(void)
{
	for (int close = 0; close < 2; close++) {
		struct pair pair = begin(0);
		const struct sluice_message *held;

		fill(&pair);
		for (uint64_t i = 0; i < DEPTH - 1; i++)
			upload_and_release(&pair, hold(pair.consumer), pair.memory + i * BYTES);
		/* One uploaded and held: its lane may not go either before that is done. */
		held = hold(pair.consumer);
		check_result(0, sluice_cuda_upload(held, 0, pair.memory + (DEPTH - 1) * BYTES, BYTES, pair.stream));
		if (close) {
			check_result(0, sluice_consumer_close(pair.consumer));
			pair.consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
		} else {
			check_result(0, sluice_cuda_detach(pair.consumer));
			check_result(-ENOTCONN, sluice_cuda_detach(pair.consumer));
			check_equal(1, held_messages());
			check_result(0, sluice_release(held));
		}
		for (uint64_t i = 0; i < DEPTH; i++)
			check(has_pattern(pair.memory + i * BYTES, i));
		if (close) {
			const struct sluice_message *message = hold(pair.consumer);

			check_equal(DEPTH - 1, sluice_correlation_id(message));
			check_equal(1, sluice_delivery_count(message)); /* given back, not lost by a death */
			check_result(0, sluice_release(message));
		}
		if (standin())
			check_equal(0, standin_count().registrations);
		check_result(0, send_pattern(pair.producer, 100, BYTES, 0));
		end(&pair);
	}
}

static void an_attachment_may_be_made_anew(void)
{
	struct pair pair = begin(0);

	for (uint64_t round = 0; round < 5; round++) {
		check_result(0, send_pattern(pair.producer, round, BYTES, 0));
		upload_and_release(&pair, hold(pair.consumer), pair.memory);
		device_synchronize(pair.stream);
		check(has_pattern(pair.memory, round));
		check_result(0, sluice_cuda_detach(pair.consumer));
		check_result(0, sluice_cuda_attach(pair.consumer, NULL));
		check_equal(0, status_of(pair.consumer).released);
	}
	end(&pair);
}

static void a_lane_leaves_when_its_last_message_is_there(void)
{
	struct pair pair = begin(0);
	const struct sluice_message *message;

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_hold(pair.stream, &pair.gate);
	upload_and_release(&pair, message, pair.memory);
	check_result(0, sluice_producer_close(pair.producer));
	for (unsigned i = 0; i < 20; i++)
		check_result(-EAGAIN, sluice_receive(pair.consumer, 0, &message));
	check_equal(1, status_of(pair.consumer).lanes);
	device_let_on(&pair.gate);
	eventually(sluice_receive(pair.consumer, 0, &message) == -EAGAIN && status_of(pair.consumer).lanes == 0);
	if (standin())
		check_equal(1, standin_count().registrations); /* its words */
	check(has_pattern(pair.memory, 1));
	pair.producer = NULL;
	check_result(0, sluice_consumer_close(pair.consumer));
	device_end_stream(pair.stream);
	device_free(pair.memory);
	device_let_go(0);
}

/* Another gets the message meanwhile, and takes the lane away with it: the copy goes on out of this one's mapping. */
static void a_lane_that_others_take_away_stays_for_its_copies(void)
{
	const struct sluice_channel_options *channel = CHANNEL(.depth = DEPTH, .take_back_ns = 50 * MILLISECOND);
	struct pair pair = begin_with(channel, 0);
	struct sluice_consumer *other = join_consumer(CONSUMER(.channel = channel));
	const struct sluice_message *message;

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_hold(pair.stream, &pair.gate);
	upload_and_release(&pair, message, pair.memory);
	check_result(0, sluice_producer_close(pair.producer));
	message = hold(other);
	check_equal(2, sluice_delivery_count(message));
	check_result(0, sluice_release(message));
	check_result(-EAGAIN, sluice_receive(other, 0, &message));
	check_result(-EAGAIN, sluice_receive(other, 0, &message));
	check_equal(0, lanes());
	for (unsigned i = 0; i < 3; i++)
		check_result(-EAGAIN, sluice_receive(pair.consumer, 0, &message));
	check_equal(1, status_of(pair.consumer).lanes);
	device_let_on(&pair.gate);
	device_synchronize(pair.stream);
	check(has_pattern(pair.memory, 1));
	eventually(sluice_receive(pair.consumer, 0, &message) == -EAGAIN && status_of(pair.consumer).lanes == 0);
	check_result(0, sluice_consumer_close(other));
	check_result(0, sluice_consumer_close(pair.consumer));
	device_end_stream(pair.stream);
	device_free(pair.memory);
	device_let_go(0);
}

static void the_end_of_the_stream_comes_after_the_last_release(void)
{
	struct pair pair = begin(0);
	struct sluice_consumer *other =
		join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH), .flags = SLUICE_END_OF_STREAM));
	const struct sluice_message *message;

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	device_hold(pair.stream, &pair.gate);
	upload_and_release(&pair, message, pair.memory);
	check_result(0, sluice_producer_close(pair.producer));
	check_result(-ETIMEDOUT, sluice_receive(other, 20 * MILLISECOND, &message));
	device_let_on(&pair.gate);
	/* The one that released makes no call: others notice within about a second. */
	check_result(-ENODATA, sluice_receive(other, PATIENCE, &message));
	check_result(0, sluice_consumer_close(other));
	pair.producer = NULL;
	check_result(0, sluice_consumer_close(pair.consumer));
	device_end_stream(pair.stream);
	device_free(pair.memory);
	device_let_go(0);
}

/* ---- what goes wrong ---- */

static void a_release_that_fails_leaves_the_message_held(void)
{
	static const char *const calls[] = {"cuEventCreate", "cuEventRecord", "cuStreamIsCapturing", "cuStreamGetCtx"};

	for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		struct pair pair = begin(SLUICE_CUDA_NO_STREAM_WRITES);
		const struct sluice_message *message;
		struct sluice_cuda_status status;

		check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
		message = hold(pair.consumer);
		standin()->fail(calls[i], 0, 999);
		check_result(-EIO, sluice_cuda_release(message, pair.stream));
		status = status_of(pair.consumer);
		check_result(-EIO, status.error);
		check(strstr(status.reason, calls[i]) != NULL && strstr(status.reason, "CUDA_ERROR_UNKNOWN") != NULL);
		check_equal(0, status.pending);
		check_equal(1, held_messages());
		check(is_pattern(sluice_tensor(message, 0)->data, 1, BYTES));
		check_result(0, sluice_cuda_release(message, pair.stream));
		end(&pair);
	}
}

static void events_stand_in_when_writes_fail(void)
{
	struct pair pair = begin(0);
	struct sluice_cuda_status status;

	for (uint64_t i = 0; i < 2; i++) {
		check_result(0, send_pattern(pair.producer, i, BYTES, 0));
		standin()->fail("cuStreamWriteValue64", 0, 801);
		check_result(0, sluice_cuda_release(hold(pair.consumer), pair.stream));
	}
	status = status_of(pair.consumer);
	check_equal(2, status.by_event);
	check_result(-ENOTSUP, status.write_error);
	check_equal(0, status.features & SLUICE_CUDA_STREAM_WRITES);
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	standin()->fail("cuStreamWriteValue64", 0, 0);
	end(&pair);
}

static void other_streams_are_refused(void)
{
	struct pair pair = begin(0);
	const struct sluice_message *message;
	context_handle own = device_current();
	context_handle context = device_new_context(0);
	stream_handle stream = device_stream();

	device_set_current(own);
	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	message = hold(pair.consumer);
	check_result(-EINVAL, sluice_cuda_release(message, stream));
	check(strcasestr(status_of(pair.consumer).reason, "context") != NULL);
	check_result(-EINVAL, sluice_cuda_upload(message, 0, pair.memory, BYTES, stream));
	device_begin_capture(pair.stream);
	check_result(-EBUSY, sluice_cuda_release(message, pair.stream));
	check_result(-EBUSY, sluice_cuda_upload(message, 0, pair.memory, BYTES, pair.stream));
	device_end_capture(pair.stream);
	check_result(0, sluice_cuda_release(message, pair.stream));
	/* The default stream, with no context current at all. */
	device_set_current(NULL);
	check_result(0, send_pattern(pair.producer, 2, BYTES, 0));
	message = hold(pair.consumer);
	check_result(0, sluice_cuda_upload(message, 0, pair.memory, BYTES, NULL));
	check_result(0, sluice_cuda_release(message, NULL));
	eventually(sluice_cuda_collect(pair.consumer) == 0);
	check(device_current() == NULL);
	device_set_current(context);
	device_end_stream(stream);
	device_end_context(context);
	device_set_current(own);
	end(&pair);
}

static void when_the_device_fails_messages_go_to_others(void)
{
	for (uint32_t flags = 0; flags <= SLUICE_CUDA_NO_STREAM_WRITES; flags += SLUICE_CUDA_NO_STREAM_WRITES) {
		const struct sluice_cuda_options options = {.size = sizeof options, .flags = flags};
		struct sluice_producer *producer;
		struct sluice_consumer *consumer, *other;
		const struct sluice_message *message;
		static struct device_gate gate;
		stream_handle stream;

		if (flags)
			break; /* one broken device a process */
		device_expect_ruins();
		device_use(0);
		producer = join_producer(PRODUCER(.channel = CHANNEL(.depth = DEPTH)));
		consumer = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
		check_result(0, sluice_cuda_attach(consumer, &options));
		stream = device_stream();
		check_result(0, send_pattern(producer, 1, BYTES, 0));
		check_result(0, send_pattern(producer, 2, BYTES, 0));
		device_hold(stream, &gate);
		check_result(0, sluice_cuda_release(hold(consumer), stream));
		message = hold(consumer);
		standin()->break_devices();
		device_let_on(&gate);
		check_result(-EIO, sluice_cuda_release(message, stream));
		check(is_pattern(sluice_tensor(message, 0)->data, 2, BYTES));
		check_result(0, sluice_release(message));
		other = join_consumer(CONSUMER(.channel = CHANNEL(.depth = DEPTH)));
		check_result(-EIO, sluice_cuda_detach(consumer));
		check_result(-ENOTCONN, sluice_cuda_collect(consumer));
		message = hold(other);
		check_equal(1, sluice_correlation_id(message));
		check_equal(2, sluice_delivery_count(message)); /* the device may have failed over it */
		check_result(0, sluice_release(message));
		check_result(0, sluice_consumer_close(other));
		check_result(0, sluice_consumer_close(consumer));
		check_result(0, sluice_producer_close(producer));
	}
}

static void an_event_that_fails_says_so(void)
{
	struct pair pair = begin(SLUICE_CUDA_NO_STREAM_WRITES);

	check_result(0, send_pattern(pair.producer, 1, BYTES, 0));
	check_result(0, sluice_cuda_release(hold(pair.consumer), pair.stream));
	device_synchronize(pair.stream);
	standin()->fail("cuEventQuery", 0, 999);
	check_result(-EIO, sluice_cuda_collect(pair.consumer));
	check(strstr(status_of(pair.consumer).reason, "cuEventQuery") != NULL);
	/* The device works for all that detaching finds: then nothing was lost. */
	check_result(0, sluice_cuda_detach(pair.consumer));
	check_equal(0, held_messages());
	end(&pair);
}

static const struct check_case cases[] = {
	CASE(what_a_dead_consumer_had_under_way_is_delivered_again),
	CASE(what_was_acknowledged_before_a_death_is_released),
	CASE(a_late_write_frees_nothing_of_others),
	CASE(detaching_waits_for_the_stream),
	CASE(an_attachment_may_be_made_anew),
	CASE(a_lane_leaves_when_its_last_message_is_there),
	CASE(a_lane_that_others_take_away_stays_for_its_copies),
	CASE(the_end_of_the_stream_comes_after_the_last_release),
	STANDIN(a_release_that_fails_leaves_the_message_held),
	STANDIN(events_stand_in_when_writes_fail),
	CASE(other_streams_are_refused),
	STANDIN(when_the_device_fails_messages_go_to_others),
	STANDIN(an_event_that_fails_says_so),
};

int main(int count, char **arguments)
{
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
