/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Releasing behind a stream's work. Messages that are released together form a group, with one ticket. The stream
 * writes the ticket into a word of the consumer's page; entries of the page say for which claim words that counts, so
 * that others can turn it into releases as well (acks.h). Where that cannot be had, an event stands in for the ticket,
 * and only this consumer's calls look at it.
 *
 * Everything under the attachment's mutex: messages may be released by any thread.
 */
#include "cuda.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "acks.h"
#include "atomic.h"
#include "claims.h"
#include "course.h"
#include "doorbell.h"

/* So many events that are not yet there are looked at before the rest is left for the next time. */
#define EVENT_LOOKS 8

/* A consumer whose messages others can release for it need not get up so often. */
#define SHARED_NAP_NS UINT64_C(2000000)

static struct layout_control *control_of(const struct cuda *cuda)
{
	return cuda->consumer->channel.control;
}

/* ---- groups ---- */

static struct cuda_group *new_group(struct cuda *cuda)
{
	struct cuda_group *group = cuda->spare;
	if (group == NULL)
		return calloc(1, sizeof *group);
	cuda->spare = group->next;
	*group = (struct cuda_group){0};
	return group;
}

static void spare_group(struct cuda *cuda, struct cuda_group *group)
{
	group->next = cuda->spare;
	cuda->spare = group;
}

static void append(struct cuda *cuda, struct cuda_group *group)
{
	group->next = NULL;
	if (cuda->last != NULL)
		cuda->last->next = group;
	else
		cuda->first = group;
	cuda->last = group;
	/* relaxed: changed under the mutex; who reads it without looks again soon */
	atomic_store_relaxed(&cuda->pending, cuda->pending + group->count);
}

/* Lets go of what a group holds beside its messages: its event, its word and entries. */
static void give_up_signs(struct cuda *cuda, struct cuda_group *group)
{
	if (group->event != NULL) {
		(void)cuda->driver->EventDestroy(group->event);
		atomic_store_relaxed(&cuda->by_event, cuda->by_event - 1); /* relaxed: see append */
	}
	for (uint64_t bits = group->entries; bits != 0; bits &= bits - 1)
		if (cuda->consumer->channel.config.mode == SLUICE_QUEUE)
			acks_withdraw(control_of(cuda), cuda->consumer->channel.slot, (uint32_t)__builtin_ctzll(bits));
	cuda->used &= ~group->entries;
}

/* Takes a group out; `before` is the one before it, or NULL. */
static void unlink_group(struct cuda *cuda, struct cuda_group *before, struct cuda_group *group)
{
	if (before != NULL)
		before->next = group->next;
	else
		cuda->first = group->next;
	if (cuda->last == group)
		cuda->last = before;
	atomic_store_relaxed(&cuda->pending, cuda->pending - group->count); /* relaxed: see append */
}

static void finish_group(struct cuda *cuda, struct cuda_group *group)
{
	struct sluice_message *next;
	for (struct sluice_message *message = group->messages; message != NULL; message = next) {
		next = message->next_leaving; /* the handle is another's as soon as it is let go */
		consumer_finish_leaving(message);
	}
	give_up_signs(cuda, group);
	spare_group(cuda, group);
}

/* ---- looking whether streams have come so far ---- */

/* What one look may still cost. */
struct looking {
	struct cuda *cuda;
	int events;
	bool entered;
	struct cuda_visit visit;
};

/* Events are asked for in the context. False if that is not to be had. */
static bool enter_once(struct looking *looking)
{
	if (looking->entered)
		return true;
	looking->entered = cuda_driver_enter(looking->cuda->driver, &looking->visit) == CUDA_SUCCESS;
	return looking->entered;
}

static bool event_is_there(struct looking *looking, const struct cuda_group *group)
{
	struct cuda *cuda = looking->cuda;
	if (looking->events == 0 || cuda->failed || !enter_once(looking))
		return false;
	int result = cuda->driver->EventQuery(group->event);
	if (result == CUDA_SUCCESS)
		return true;
	looking->events--;
	/* A capture elsewhere that a driver makes more of than it should passes. */
	if (result != CUDA_NOT_READY && !cuda_is_capture_error(result)) {
		cuda_driver_explain(cuda->driver, "cuEventQuery", result, &cuda->reason);
		cuda->failed = true;
	}
	return false;
}

/*
 * Something else than the ticket, or what stood there before, was written into the word: by a device whose process had
 * this slot before, was declared dead and lives. Perhaps over the ticket, which then never shows. Asking the device is
 * slow, and this never happens.
 */
static COLD bool ask_device(struct looking *looking)
{
	struct cuda *cuda = looking->cuda;
	if (cuda->failed || !enter_once(looking))
		return false;
	int result = cuda->driver->CtxSynchronize();
	if (result == CUDA_SUCCESS)
		return true;
	cuda_driver_explain(cuda->driver, "cuCtxSynchronize", result, &cuda->reason);
	cuda->failed = true;
	return false;
}

static bool is_done(struct looking *looking, const struct cuda_group *group)
{
	if (group->event != NULL)
		return event_is_there(looking, group);
	/* Q5: as in acks_collect_from */
	uint64_t word = atomic_load_acquire(&looking->cuda->consumer->page->words[group->word]);
	return word == group->ticket || (UNLIKELY(word != group->before) && ask_device(looking));
}

static void collect(struct cuda *cuda)
{
	struct looking looking = {.cuda = cuda, .events = EVENT_LOOKS};
	struct cuda_group *before = NULL;
	struct cuda_group *next;
	for (struct cuda_group *group = cuda->first; group != NULL; group = next) {
		next = group->next;
		if (!is_done(&looking, group)) {
			before = group;
			continue;
		}
		unlink_group(cuda, before, group);
		finish_group(cuda, group);
	}
	if (looking.entered)
		cuda_driver_leave(cuda->driver, &looking.visit);
}

void cuda_collect(struct consumer_attachment *attachment)
{
	struct cuda *cuda = (struct cuda *)attachment;
	if (LIKELY(atomic_load_relaxed(&cuda->pending) == 0)) /* relaxed: see append */
		return;
	pthread_mutex_lock(&cuda->mutex);
	collect(cuda);
	pthread_mutex_unlock(&cuda->mutex);
}

uint64_t cuda_nap_ns(struct consumer_attachment *attachment)
{
	struct cuda *cuda = (struct cuda *)attachment;
	if (LIKELY(atomic_load_relaxed(&cuda->pending) == 0)) /* relaxed: see append */
		return 0;
	bool shared = cuda->consumer->channel.config.mode == SLUICE_QUEUE;
	/* relaxed: only how soon to look */
	return shared && atomic_load_relaxed(&cuda->by_event) == 0 ? SHARED_NAP_NS : ACKS_LOOK_NS;
}

int sluice_cuda_collect(struct sluice_consumer *consumer)
{
	struct cuda *cuda;
	int error = cuda_check_consumer(consumer, &cuda);
	if (error != 0)
		return error;
	pthread_mutex_lock(&cuda->mutex);
	collect(cuda);
	int result = cuda->failed ? -EIO : (int)cuda->pending;
	pthread_mutex_unlock(&cuda->mutex);
	return result;
}

/* ---- the end ---- */

static int synchronize(struct cuda *cuda, struct cuda_reason *reason)
{
	struct cuda_visit visit;
	int result = cuda_driver_enter(cuda->driver, &visit);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(cuda->driver, "cuCtxPushCurrent", result, reason);
	result = cuda->driver->CtxSynchronize();
	cuda_driver_leave(cuda->driver, &visit);
	return result == CUDA_SUCCESS ? 0 : cuda_driver_explain(cuda->driver, "cuCtxSynchronize", result, reason);
}

/* Waits for each release, where all of the context cannot be waited for. Returns 0, or -EIO if the device fails. */
static int wait_for_releases(struct cuda *cuda, struct cuda_reason *reason)
{
	const struct timespec nap = {.tv_nsec = ACKS_LOOK_NS};
	for (collect(cuda); cuda->first != NULL && !cuda->failed; collect(cuda))
		nanosleep(&nap, NULL);
	if (!cuda->failed)
		return 0;
	*reason = cuda->reason;
	return -EIO;
}

int cuda_settle(struct cuda *cuda, bool closing, struct cuda_reason *reason)
{
	pthread_mutex_lock(&cuda->mutex);
	collect(cuda);
	/* Also for uploads of messages that are still held: their lanes are unmapped next. */
	int error = synchronize(cuda, reason);
	if (error == -EBUSY && !closing) {
		pthread_mutex_unlock(&cuda->mutex);
		return error;
	}
	if (error == -EBUSY)
		error = wait_for_releases(cuda, reason);
	struct cuda_visit visit;
	bool entered = cuda_driver_enter(cuda->driver, &visit) == CUDA_SUCCESS;
	if (error != 0)
		consumer_return_leaving(cuda->consumer);
	while (cuda->first != NULL) {
		struct cuda_group *group = cuda->first;
		unlink_group(cuda, NULL, group);
		group->messages = error == 0 ? group->messages : NULL;
		finish_group(cuda, group);
	}
	if (entered)
		cuda_driver_leave(cuda->driver, &visit);
	pthread_mutex_unlock(&cuda->mutex);
	return error;
}

/* ---- release ---- */

/* The lowest bit that is not in `used`; LAYOUT_ACKS if there is none. */
static uint32_t free_entry(uint64_t used)
{
	return used == UINT64_MAX ? LAYOUT_ACKS : (uint32_t)__builtin_ctzll(~used);
}

/* Has the stream write the group's ticket. False: not possible now, or not at all. */
static bool write_ticket(struct cuda *cuda, struct cuda_group *group, cuda_stream stream)
{
	uint32_t word = free_entry(cuda->used);
	if (!cuda->writes || word == LAYOUT_ACKS)
		return false;
	group->word = word;
	group->ticket = layout_ticket_encode(++cuda->last_ticket, cuda->consumer->channel.incarnation);
	/* relaxed: only compared */
	group->before = atomic_load_relaxed(&cuda->consumer->page->words[word]);
	/*
	 * Q4: the device's write comes after all that the stream was given before, with a fence for the whole system in
	 * between (no CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER), pairs with Q5 in acks_collect_from
	 */
	int result = cuda->driver->StreamWriteValue64(
		stream, cuda->words_address + word * sizeof(uint64_t), group->ticket, 0);
	if (result != CUDA_SUCCESS) {
		cuda_driver_explain(cuda->driver, "cuStreamWriteValue64", result, &cuda->write_reason);
		cuda->writes = false; /* events will do, or say what is wrong */
		return false;
	}
	group->entries = UINT64_C(1) << word;
	cuda->used |= group->entries;
	return true;
}

static int record_event(struct cuda *cuda, struct cuda_group *group, cuda_stream stream, struct cuda_reason *reason)
{
	const struct cuda_driver *driver = cuda->driver;
	int result = driver->EventCreate(&group->event, CUDA_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS) {
		group->event = NULL;
		return cuda_driver_explain(driver, "cuEventCreate", result, reason);
	}
	result = driver->EventRecord(group->event, stream);
	if (result != CUDA_SUCCESS) {
		(void)driver->EventDestroy(group->event);
		group->event = NULL;
		return cuda_driver_explain(driver, "cuEventRecord", result, reason);
	}
	atomic_store_relaxed(&cuda->by_event, cuda->by_event + 1); /* relaxed: see append */
	cuda->figures.by_event += group->count;
	return 0;
}

/* True if `message` follows the run in its lane, held by the word that the run's entry will say. */
static bool extends(const struct acks_run *run, const struct consumer_lane *lane, const struct sluice_message *message)
{
	uint64_t sequence = run->sequence + run->count;
	uint64_t held = (run->claim & ~(uint64_t)UINT32_MAX) | claims_lap(sequence, lane->reader.depth_shift);
	return message->held.lane == lane && message->sequence == sequence && message->held.claimed == held;
}

/* The messages at `*message` that one entry can speak of. */
static struct acks_run next_run(struct sluice_message **message, uint32_t word)
{
	const struct consumer_lane *lane = (*message)->held.lane;
	struct acks_run run = {lane->key, (*message)->sequence, (*message)->held.claimed, 1, word};
	for (*message = (*message)->next_leaving; *message != NULL && extends(&run, lane, *message);
		*message = (*message)->next_leaving)
		run.count++;
	return run;
}

/*
 * Tells others what the ticket is worth. What finds no free entry is left to this consumer. A producer that sleeps has
 * not counted on an acknowledgement: from now on it looks for one.
 */
static void announce(struct cuda *cuda, struct cuda_group *group)
{
	struct layout_control *control = control_of(cuda);
	uint32_t slot = cuda->consumer->channel.slot;
	uint32_t entry = group->word;
	for (struct sluice_message *message = group->messages; message != NULL && entry < LAYOUT_ACKS;
		entry = free_entry(cuda->used)) {
		struct acks_run run = next_run(&message, group->word);
		group->entries |= UINT64_C(1) << entry;
		cuda->used |= group->entries;
		acks_announce(control, slot, entry, group->ticket, &run);
		atomic_fence_after_rmw(); /* D3: Q1 before, the look for sleepers after, pairs with D2 in doorbell_arm */
		consumer_wake_producer(cuda->consumer, run.lane.slot % LAYOUT_SLOTS);
	}
}

/* Has the stream tell when it is here. The mutex is held and the context entered. Returns 0 or a negative errno. */
static int let_stream_tell(struct cuda *cuda, struct cuda_group *group, cuda_stream stream, struct cuda_reason *reason)
{
	int error = cuda_driver_check_stream(cuda->driver, stream, reason);
	if (error != 0)
		return error;
	if (!write_ticket(cuda, group, stream))
		return record_event(cuda, group, stream, reason);
	if (cuda->consumer->channel.config.mode == SLUICE_QUEUE)
		announce(cuda, group);
	return 0;
}

/* Chains those that are held. Others have been released before. */
static bool gather(struct cuda_group *group, const struct sluice_message *const *messages, size_t count)
{
	struct sluice_message **end = &group->messages;
	for (size_t i = 0; i < count; i++) {
		struct sluice_message *message = (struct sluice_message *)(uintptr_t)messages[i];
		if (message_state(message) != MESSAGE_HELD)
			continue;
		message_set_state(message, MESSAGE_LEAVING);
		*end = message;
		end = &message->next_leaving;
		group->count++;
	}
	*end = NULL;
	return group->count == count;
}

static void scatter(struct cuda_group *group)
{
	for (struct sluice_message *message = group->messages; message != NULL; message = message->next_leaving)
		message_set_state(message, MESSAGE_HELD);
}

/* Releases a group that was gathered. Returns 0, or a negative errno and then all of it is held as before. */
static int send_off(struct cuda *cuda, struct cuda_group *group, cuda_stream stream)
{
	struct cuda_reason reason = {0};
	struct cuda_visit visit;
	int result = cuda_driver_enter(cuda->driver, &visit);
	int error = result != CUDA_SUCCESS ? cuda_driver_explain(cuda->driver, "cuCtxPushCurrent", result, &reason)
					   : let_stream_tell(cuda, group, stream, &reason);
	cuda_driver_leave(cuda->driver, &visit);
	if (error != 0) {
		scatter(group);
		spare_group(cuda, group);
		cuda->reason = reason;
		return error;
	}
	cuda->figures.released += group->count;
	append(cuda, group);
	return 0;
}

int sluice_cuda_release_batch(const struct sluice_message *const *messages, size_t count, struct CUstream_st *stream)
{
	struct cuda *cuda;
	if (count == 0)
		return 0;
	if (messages == NULL)
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		if (messages[i] == NULL || messages[i]->handle != messages[0]->handle)
			return -EINVAL;
	int error = handle_check(messages[0]->handle);
	if (error != 0)
		return error;
	/* A producer's message is none that can be released. */
	if (messages[0]->handle->kind != HANDLE_CONSUMER)
		return -EALREADY;
	error = cuda_check_consumer((struct sluice_consumer *)messages[0]->handle, &cuda);
	if (error != 0)
		return error;

	pthread_mutex_lock(&cuda->mutex);
	struct cuda_group *group = new_group(cuda);
	bool all = group != NULL && gather(group, messages, count);
	if (group == NULL) {
		error = -ENOMEM;
	} else if (group->count == 0) {
		spare_group(cuda, group);
	} else {
		error = send_off(cuda, group, stream);
	}
	pthread_mutex_unlock(&cuda->mutex);
	return error != 0 || all ? error : -EALREADY;
}

int sluice_cuda_release(const struct sluice_message *message, struct CUstream_st *stream)
{
	return message != NULL ? sluice_cuda_release_batch(&message, 1, stream) : -EINVAL;
}
