/* SPDX-License-Identifier: Apache-2.0 */
/* A lane with threads as its writer, its readers, and those who release, take back and set aside. */
#include <errno.h>
#include <sched.h>

#include "clock.h"
#include "consumer_lane.h"
#include "lane.h"
#include "recover.h"
#include "tensor.h"
#include "threads.h"

#define DEPTH   8
#define PAYLOAD 8192

/* ---- a lane in private memory ---- */

struct stage {
	struct layout_control *control;
	struct layout_data *data;
	struct layout_claims *claims;
	struct lane_objects objects; /* the same, as recovery knows it */
	struct lane_writer writer;
	bool broadcast;
	uint64_t messages; /* how many are sent */
	uint64_t taken;    /* queue: how many have been */
	uint32_t *seen;    /* how often each has been released */
};

static const struct lane_schema schema = {
	.tensor_count = 1, .ranks = {1}, .dtypes = {SLUICE_UINT8}, .names = {"bytes"}};

static void stage_open(struct stage *stage, bool broadcast, uint64_t messages)
{
	uint64_t data_bytes = layout_data_bytes(DEPTH, PAYLOAD, NULL);
	uint64_t claims_bytes = layout_claims_bytes(broadcast ? SLUICE_BROADCAST : SLUICE_QUEUE, DEPTH);
	*stage = (struct stage){
		.control = zeroed(sizeof(struct layout_control)),
		.data = zeroed(data_bytes),
		.claims = zeroed(claims_bytes),
		.broadcast = broadcast,
		.messages = messages,
		.seen = calloc(messages, sizeof(uint32_t)),
	};
	assert_non_null(stage->seen);
	stage->control->members[0].word = layout_member_word(1, SLUICE_ROLE_PRODUCER, LAYOUT_MEMBER_ALIVE);
	assert_int_equal(lane_writer_start(&stage->writer, stage->data, PAYLOAD, DEPTH, 64), 0);
	stage->objects = (struct lane_objects){
		.data = {.base = stage->data, .bytes = data_bytes},
		.claims = {.base = stage->claims, .bytes = claims_bytes},
		.geometry = stage->data->geometry,
		.data_fd = -1,
		.claims_fd = -1,
	};
	wrong = 0;
}

static void stage_close(struct stage *stage)
{
	assert_int_equal(wrong, 0);
	lane_writer_stop(&stage->writer);
	free(stage->control);
	free(stage->data);
	free(stage->claims);
	free(stage->seen);
}

/* ---- the writer ---- */

/* One in three rides in its descriptor. */
static bool is_inside(uint64_t sequence)
{
	return sequence % 3 == 0;
}

static uint64_t size_of(uint64_t sequence)
{
	return is_inside(sequence) ? 1 + sequence % 100 : 64 + sequence % 700;
}

static uint8_t byte_of(uint64_t sequence, uint64_t index)
{
	return (uint8_t)(sequence * 7 + index);
}

static uint64_t oldest_needed(const struct stage *stage)
{
	const struct lane_writer *writer = &stage->writer;
	uint64_t oldest = writer->tail;
	if (!stage->broadcast) {
		while (oldest != writer->head && claims_is_done(&stage->claims->u.claims[oldest % DEPTH],
							 claims_lap(oldest, writer->depth_shift)))
			oldest++;
		return oldest;
	}
	oldest = writer->head;
	for (uint32_t slot = 1; slot <= READERS; slot++) {
		uint64_t cursor = layout_cursor_sequence(atomic_load_acquire(&stage->claims->u.cursors[slot].value));
		oldest = cursor < oldest ? cursor : oldest;
	}
	return oldest;
}

static struct lane_room wait_for_room(struct stage *stage, uint64_t bytes)
{
	struct lane_room room;
	while (!lane_writer_find_room(&stage->writer, bytes, &room)) {
		uint64_t oldest = oldest_needed(stage);
		if (oldest == stage->writer.tail) {
			sched_yield();
			continue;
		}
		lane_writer_announce_tail(&stage->writer, oldest);
		lane_writer_free_to(&stage->writer, oldest);
	}
	return room;
}

static void write_message(struct stage *stage, int number)
{
	struct lane_writer *writer = &stage->writer;
	uint64_t sequence = writer->head;
	uint64_t bytes = size_of(sequence);
	uint64_t room_bytes = is_inside(sequence) ? 0 : align_up(bytes, 64);
	struct lane_room room = wait_for_room(stage, room_bytes);
	uint8_t *base = is_inside(sequence) ? lane_writer_descriptor(writer)->payload : writer->payload + room.offset;
	/* Byte by byte, each a store that the sanitizer sees: it misses a memset that the compiler puts in its place. */
	for (uint64_t i = 0; i < bytes; i++)
		base[i] = byte_of(sequence, i);
	const struct layout_descriptor_head head = {
		.correlation_id = sequence,
		.payload_bytes = bytes,
		.payload_unit = is_inside(sequence) ? 0 : (uint32_t)(room.offset / 64),
		.schema = (uint16_t)number,
		.flags = is_inside(sequence) ? LAYOUT_PAYLOAD_INLINE : 0,
		.dims = {(uint32_t)bytes},
	};
	const struct lane_words words = lane_words_of(&head);
	lane_writer_publish(writer, &words, head.correlation_id, head.ticket, room, room_bytes, false);
}

static void *write_all(void *argument)
{
	struct stage *stage = argument;
	int number = lane_writer_schema(&stage->writer, &schema);
	while (stage->writer.head != stage->messages)
		write_message(stage, number);
	lane_writer_end(&stage->writer);
	return NULL;
}

/* ---- a reader and those who release for it ---- */

struct reader {
	struct stage *stage;
	struct consumer_lane lane;
	struct message_pool pool;
	struct handle handle;
	/* Messages on their way to helpers; a lock orders only the reader and its own helpers. */
	pthread_mutex_t mutex;
	struct sluice_message *handed[DEPTH];
	unsigned handed_count;
	bool done;
	bool stalls; /* now and then it keeps what it took until another has it */
};

static void reader_open(struct reader *reader, struct stage *stage, uint32_t slot)
{
	*reader = (struct reader){.stage = stage, .mutex = PTHREAD_MUTEX_INITIALIZER};
	struct consumer_lane *lane = &reader->lane;
	lane->key = (struct lane_key){0, 1};
	lane->objects = stage->objects;
	lane->claims = stage->claims;
	lane->owner = (struct claims_owner){slot, slot};
	lane->broadcast = stage->broadcast;
	lane->schemas = calloc(LAYOUT_SCHEMAS, sizeof *lane->schemas);
	lane->released = calloc(DEPTH, 1);
	assert_true(lane->schemas != NULL && lane->released != NULL);
	lane_reader_start(&lane->reader, stage->data, &stage->objects.geometry);
	if (!stage->broadcast)
		return;
	lane->cursor_word = layout_cursor_encode(0, slot);
	stage->claims->u.cursors[slot].value = lane->cursor_word;
}

static void reader_close(struct reader *reader)
{
	free(reader->lane.schemas);
	free(reader->lane.released);
	for (uint32_t i = 0; i < reader->pool.count; i += 32)
		free(reader->pool.messages[i]);
	free(reader->pool.messages);
}

static void check_contents(const struct sluice_message *message)
{
	const struct sluice_tensor *tensor = &message->tensors[0];
	const uint8_t *bytes = tensor->data;
	bool good = message->tensor_count == 1 && message->correlation_id == message->sequence &&
		    tensor->bytes == size_of(message->sequence);
	for (uint64_t i = 0; good && i < tensor->bytes; i++)
		good = bytes[i] == byte_of(message->sequence, i);
	expect(good);
}

/* Takes the next message, or NULL if there is none now. */
static struct sluice_message *take_next(struct reader *reader)
{
	struct lane_fault fault;
	enum consumer_lane_found found = consumer_lane_peek(&reader->lane, &fault);
	if (found == LANE_FOUND) {
		struct sluice_message *message = message_pool_take(&reader->pool, &reader->handle);
		found = consumer_lane_take(&reader->lane, message, &fault);
		if (found == LANE_FOUND) {
			message_set_state(message, MESSAGE_HELD);
			return message;
		}
	}
	expect(found == LANE_EMPTY);
	return NULL;
}

static void release(struct reader *reader, struct sluice_message *message)
{
	uint64_t sequence = message->sequence;
	check_contents(message);
	struct lane_release released = consumer_lane_release(message);
	message_set_state(message, MESSAGE_NONE);
	expect(released.error == 0);
	atomic_add_relaxed(&reader->stage->seen[sequence], 1);
}

/* False if the helpers have enough to do. */
static bool hand_over(struct reader *reader, struct sluice_message *message)
{
	pthread_mutex_lock(&reader->mutex);
	bool room = reader->handed_count < DEPTH;
	if (room)
		reader->handed[reader->handed_count++] = message;
	pthread_mutex_unlock(&reader->mutex);
	return room;
}

static void *help(void *argument)
{
	struct reader *reader = argument;
	for (unsigned turn = 0;; turn++) {
		struct sluice_message *message = NULL;
		pthread_mutex_lock(&reader->mutex);
		bool done = reader->done && reader->handed_count == 0;
		if (reader->handed_count > 0) {
			unsigned index = turn % reader->handed_count; /* in any order */
			message = reader->handed[index];
			reader->handed[index] = reader->handed[--reader->handed_count];
		}
		pthread_mutex_unlock(&reader->mutex);
		if (done)
			return NULL;
		if (message != NULL)
			release(reader, message);
		else
			sched_yield();
	}
}

static bool is_done(const struct reader *reader, uint64_t taken)
{
	const struct stage *stage = reader->stage;
	return (stage->broadcast ? taken : atomic_load_relaxed(&stage->taken)) == stage->messages;
}

static void *read_all(void *argument)
{
	struct reader *reader = argument;
	uint64_t taken = 0;
	while (!is_done(reader, taken)) {
		struct sluice_message *message = take_next(reader);
		if (message == NULL) {
			sched_yield();
			continue;
		}
		taken++;
		atomic_add_relaxed(&reader->stage->taken, UINT64_C(1));
		if (message->sequence % 2 == 0 || !hand_over(reader, message))
			release(reader, message);
	}
	pthread_mutex_lock(&reader->mutex);
	reader->done = true;
	pthread_mutex_unlock(&reader->mutex);
	return NULL;
}

static void exchange(bool broadcast, uint64_t messages)
{
	struct stage stage;
	static struct reader readers[READERS];
	pthread_t threads[READERS * (1 + HELPERS) + 1];
	size_t count = 0;
	stage_open(&stage, broadcast, messages);
	for (uint32_t i = 0; i < READERS; i++)
		reader_open(&readers[i], &stage, i + 1);
	for (unsigned i = 0; i < READERS; i++) {
		threads[count++] = start_thread(read_all, &readers[i]);
		for (unsigned k = 0; k < HELPERS; k++)
			threads[count++] = start_thread(help, &readers[i]);
	}
	threads[count++] = start_thread(write_all, &stage);
	while (count > 0)
		join_thread(threads[--count]);
	for (uint64_t i = 0; i < messages; i++)
		assert_int_equal(stage.seen[i], broadcast ? READERS : 1);
	for (unsigned i = 0; i < READERS; i++)
		reader_close(&readers[i]);
	stage_close(&stage);
}

static void each_message_of_a_queue_is_read_by_one_and_its_memory_used_again(void **state)
{
	(void)state;
	exchange(false, scaled(200000));
}

static void a_broadcast_is_read_by_all_and_released_from_any_thread(void **state)
{
	(void)state;
	exchange(true, scaled(200000));
}

/* ---- taking back what is held too long ---- */

/* Keeps every third message until another has it; then its own release must come to nothing. */
static void stall(struct reader *reader, struct sluice_message *message)
{
	uint64_t *claim = message->held.claim;
	while (atomic_load_acquire(claim) == message->held.claimed)
		sched_yield();
	expect(consumer_lane_release(message).error == -ESTALE);
	message_set_state(message, MESSAGE_NONE);
	(void)reader;
}

static void *read_with_stalls(void *argument)
{
	struct reader *reader = argument;
	struct stage *stage = reader->stage;
	uint64_t redelivery = 0;
	while (atomic_load_relaxed(&stage->taken) != stage->messages) {
		uint64_t epoch = atomic_load_acquire(&stage->control->epochs.redelivery);
		if (epoch != redelivery)
			consumer_lane_rescan(&reader->lane);
		redelivery = epoch;
		struct sluice_message *message = take_next(reader);
		if (message == NULL) {
			sched_yield();
		} else if (reader->stalls && message->deliveries == 1) {
			stall(reader, message);
		} else if (consumer_lane_release(message).error == 0) {
			message_set_state(message, MESSAGE_NONE);
			atomic_add_relaxed(&stage->taken, UINT64_C(1));
		} else {
			message_set_state(message, MESSAGE_NONE); /* it took too long for the others' patience */
		}
	}
	return NULL;
}

#define PATIENCE_NS 2000000

static void *watch(void *argument)
{
	struct stage *stage = argument;
	struct recover_watch watch = {0};
	const struct lane_table table = {.control = stage->control, .directory_fd = -1, .mode = SLUICE_QUEUE};
	while (atomic_load_relaxed(&stage->taken) != stage->messages) {
		int back = recover_overdue(
			&table, (struct lane_key){0, 1}, &stage->objects, &watch, clock_monotonic_ns(), PATIENCE_NS, 0);
		expect(back >= 0);
		sched_yield();
	}
	recover_watch_free(&watch);
	return NULL;
}

static void what_a_stalled_reader_holds_goes_to_another(void **state)
{
	struct stage stage;
	static struct reader readers[READERS];
	pthread_t threads[READERS + 3];
	size_t count = 0;
	(void)state;
	stage_open(&stage, false, scaled(2000));
	for (uint32_t i = 0; i < READERS; i++) {
		reader_open(&readers[i], &stage, i + 1);
		readers[i].stalls = i == 0;
	}
	for (unsigned i = 0; i < READERS; i++)
		threads[count++] = start_thread(read_with_stalls, &readers[i]);
	threads[count++] = start_thread(watch, &stage);
	threads[count++] = start_thread(watch, &stage);
	threads[count++] = start_thread(write_all, &stage);
	while (count > 0)
		join_thread(threads[--count]);
	for (unsigned i = 0; i < READERS; i++)
		reader_close(&readers[i]);
	stage_close(&stage);
}

/* ---- setting aside ---- */

/* Takes and never releases: the watchers give all of it up at once. */
static void *hoard(void *argument)
{
	struct reader *reader = argument;
	struct stage *stage = reader->stage;
	while (atomic_load_relaxed(&stage->taken) != stage->messages) {
		struct sluice_message *message = take_next(reader);
		if (message == NULL) {
			sched_yield();
			continue;
		}
		uint64_t *claim = message->held.claim;
		while (atomic_load_acquire(claim) == message->held.claimed)
			sched_yield();
		message_set_state(message, MESSAGE_NONE);
		atomic_add_relaxed(&stage->taken, UINT64_C(1));
	}
	return NULL;
}

static void *give_up(void *argument)
{
	struct stage *stage = argument;
	struct recover_watch watch = {0};
	const struct lane_table table = {.control = stage->control, .directory_fd = -1, .mode = SLUICE_QUEUE};
	while (atomic_load_relaxed(&stage->taken) != stage->messages) {
		expect(recover_overdue(&table, (struct lane_key){0, 1}, &stage->objects, &watch, clock_monotonic_ns(),
			       1, 1) >= 0);
		sched_yield();
	}
	recover_watch_free(&watch);
	return NULL;
}

static void two_who_give_up_on_messages_keep_a_record_of_each(void **state)
{
	struct stage stage;
	static struct reader reader;
	pthread_t threads[4];
	size_t count = 0;
	(void)state;
	stage_open(&stage, false, scaled(20000));
	reader_open(&reader, &stage, 1);
	threads[count++] = start_thread(hoard, &reader);
	threads[count++] = start_thread(give_up, &stage);
	threads[count++] = start_thread(give_up, &stage);
	threads[count++] = start_thread(write_all, &stage);
	while (count > 0)
		join_thread(threads[--count]);
	assert_true(atomic_load_relaxed(&stage.control->aside_count.value) >= stage.messages);
	reader_close(&reader);
	stage_close(&stage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(each_message_of_a_queue_is_read_by_one_and_its_memory_used_again),
		promise(a_broadcast_is_read_by_all_and_released_from_any_thread),
		promise(what_a_stalled_reader_holds_goes_to_another),
		promise(two_who_give_up_on_messages_keep_a_record_of_each),
	};
	return cmocka_run_group_tests_name("threads of a lane", tests, NULL, NULL);
}
