/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's streams, a thread each, and events. */
#include "standin_inside.h"

#include <stdlib.h>
#include <string.h>

enum job_kind { JOB_COPY, JOB_WRITE, JOB_CALL, JOB_EVENT, JOB_WAIT, JOB_FREE };

struct job {
	struct job *next;
	enum job_kind kind;
	device_address to;
	const uint8_t *from;
	uint8_t *staged; /* of a copy from memory that is not registered */
	size_t bytes;
	uint64_t value;
	void (*call)(void *argument);
	void *argument;
	int (*free_now)(device_address address);
	event_handle event;
	uint64_t turn; /* of the event */
};

struct CUstream_st {
	context_handle context;
	struct CUstream_st *next; /* of the context */
	struct CUstream_st *next_ended;
	struct CUstream_st *next_without; /* a thread */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct job *first;
	struct job **end;
	bool busy;
	bool quit;
	bool ended;
	struct capture capture;
};

struct CUevent_st {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t recorded; /* counts cuEventRecord */
	uint64_t reached;  /* the last of those that its stream has come to */
	unsigned users;    /* jobs that name it, and its owner */
};

/* ---- events ---- */

static void event_drop(event_handle event)
{
	bool last;

	pthread_mutex_lock(&event->mutex);
	last = --event->users == 0;
	pthread_mutex_unlock(&event->mutex);
	if (!last)
		return;
	pthread_cond_destroy(&event->changed);
	pthread_mutex_destroy(&event->mutex);
	free(event);
}

static void event_reach(event_handle event, uint64_t turn)
{
	pthread_mutex_lock(&event->mutex);
	if (turn > event->reached)
		event->reached = turn;
	pthread_cond_broadcast(&event->changed);
	pthread_mutex_unlock(&event->mutex);
}

static void event_wait(event_handle event, uint64_t turn)
{
	pthread_mutex_lock(&event->mutex);
	while (event->reached < turn)
		pthread_cond_wait(&event->changed, &event->mutex);
	pthread_mutex_unlock(&event->mutex);
}

/* ---- jobs ---- */

static void do_copy(const struct job *job)
{
	uint8_t *to = standin_host_of(job->to, job->bytes);
	const uint8_t *from = job->staged ? job->staged : job->from;

	if (!to)
		standin_violation("a copy to memory that the device does not have");
	else if (!job->staged && standin_registered(from, job->bytes, false) != STANDIN_INSIDE)
		standin_violation("memory unregistered before it was copied");
	else
		memcpy(to, from, job->bytes);
}

static void do_write(const struct job *job)
{
	uint64_t *to = standin_host_of(job->to, sizeof *to);

	if (!to)
		standin_violation("memory unregistered before it was written to");
	else
		__atomic_store_n(to, job->value, __ATOMIC_RELEASE);
}

static void do_job(const struct job *job)
{
	switch (job->kind) {
	case JOB_COPY:
		do_copy(job);
		break;
	case JOB_WRITE:
		do_write(job);
		break;
	case JOB_CALL:
		job->call(job->argument);
		break;
	case JOB_EVENT:
		event_reach(job->event, job->turn);
		break;
	case JOB_WAIT:
		event_wait(job->event, job->turn);
		break;
	case JOB_FREE:
		job->free_now(job->to);
		break;
	}
}

/* Does all that there is; the stream's mutex is held. */
static void do_jobs(struct CUstream_st *stream)
{
	for (struct job *job = stream->first; job; job = stream->first) {
		stream->busy = true;
		stream->first = job->next;
		if (!stream->first)
			stream->end = &stream->first;
		pthread_mutex_unlock(&stream->mutex);
		/* What a broken device was given never happens, but for what only lets others go on. */
		if (!standin_is_broken() || job->kind == JOB_CALL)
			do_job(job);
		if (job->event)
			event_drop(job->event);
		free(job->staged);
		free(job);
		pthread_mutex_lock(&stream->mutex);
	}
	stream->busy = false;
	pthread_cond_broadcast(&stream->changed);
}

static void *work(void *argument)
{
	struct CUstream_st *stream = argument;

	pthread_mutex_lock(&stream->mutex);
	do_jobs(stream);
	while (!stream->quit) {
		pthread_cond_wait(&stream->changed, &stream->mutex);
		do_jobs(stream);
	}
	pthread_mutex_unlock(&stream->mutex);
	return NULL;
}

static enum standin_pace pace;
static struct CUstream_st *without_thread;

static int submit(struct CUstream_st *stream, struct job job)
{
	struct job *copy = malloc(sizeof *copy);

	if (!copy) {
		free(job.staged);
		return OUT_OF_MEMORY;
	}
	*copy = job;
	pthread_mutex_lock(&stream->mutex);
	copy->next = NULL;
	*stream->end = copy;
	stream->end = &copy->next;
	stream->busy = true;
	pthread_cond_broadcast(&stream->changed);
	if (pace == STANDIN_AT_ONCE)
		do_jobs(stream);
	pthread_mutex_unlock(&stream->mutex);
	return OK;
}

static void wait_until_idle(struct CUstream_st *stream)
{
	pthread_mutex_lock(&stream->mutex);
	if (pace != STANDIN_BY_THREADS)
		do_jobs(stream);
	while (stream->busy || stream->first)
		pthread_cond_wait(&stream->changed, &stream->mutex);
	pthread_mutex_unlock(&stream->mutex);
}

/* ---- streams ---- */

static struct CUstream_st *new_stream(context_handle context, bool blocking)
{
	struct CUstream_st *stream = calloc(1, sizeof *stream);

	if (!stream)
		return NULL;
	stream->context = context;
	stream->capture.context = context;
	stream->capture.blocking = blocking;
	stream->end = &stream->first;
	pthread_mutex_init(&stream->mutex, NULL);
	pthread_cond_init(&stream->changed, NULL);
	if (pace == STANDIN_BY_THREADS && pthread_create(&stream->thread, NULL, work, stream)) {
		free(stream);
		return NULL;
	}
	pthread_mutex_lock(&standin_mutex);
	stream->next = context->streams;
	context->streams = stream;
	if (pace != STANDIN_BY_THREADS) {
		stream->next_without = without_thread;
		without_thread = stream;
	}
	pthread_mutex_unlock(&standin_mutex);
	return stream;
}

/* Ended streams stay where they are: another thread may be looking at all that there are, to wait for them. */
static struct CUstream_st *ended;

static void end_stream(struct CUstream_st *stream)
{
	pthread_mutex_lock(&stream->mutex);
	stream->quit = true;
	pthread_cond_broadcast(&stream->changed);
	if (pace != STANDIN_BY_THREADS)
		do_jobs(stream);
	pthread_mutex_unlock(&stream->mutex);
	if (pace == STANDIN_BY_THREADS)
		pthread_join(stream->thread, NULL);
	if (standin_is_captured(&stream->capture))
		(void)standin_capture_end(&stream->capture);
	__atomic_store_n(&stream->ended, true, __ATOMIC_RELAXED);
	pthread_mutex_lock(&standin_mutex);
	stream->next_ended = ended;
	ended = stream;
	pthread_mutex_unlock(&standin_mutex);
}

static void unlist(struct CUstream_st *stream)
{
	struct CUstream_st **link = &stream->context->streams;

	pthread_mutex_lock(&standin_mutex);
	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	pthread_mutex_unlock(&standin_mutex);
}

void standin_end_streams(context_handle context)
{
	struct CUstream_st *next;

	pthread_mutex_lock(&standin_mutex);
	next = context->streams;
	context->streams = NULL;
	context->legacy = NULL;
	pthread_mutex_unlock(&standin_mutex);
	while (next) {
		struct CUstream_st *stream = next;

		next = stream->next;
		end_stream(stream);
	}
}

int standin_synchronize(context_handle context)
{
	const int result = standin_refuse_waiting(context);
	struct CUstream_st *stream;

	if (result)
		return result;
	pthread_mutex_lock(&standin_mutex);
	stream = context->streams;
	pthread_mutex_unlock(&standin_mutex);
	while (stream) {
		wait_until_idle(stream);
		pthread_mutex_lock(&standin_mutex);
		stream = stream->next;
		pthread_mutex_unlock(&standin_mutex);
	}
	return standin_is_broken() ? ILLEGAL_ADDRESS : OK;
}

void standin_set_pace(enum standin_pace new_pace)
{
	pace = new_pace;
	if (pace != STANDIN_AT_ONCE)
		return;
	for (struct CUstream_st *stream = without_thread; stream; stream = stream->next_without)
		wait_until_idle(stream);
}

/* NULL, 1 and 2 are the current context's default stream. */
static struct CUstream_st *stream_of(context_handle context, stream_handle handle)
{
	if ((uintptr_t)handle > 2)
		return handle;
	if (!context->legacy)
		context->legacy = new_stream(context, false);
	return context->legacy;
}

static int find_stream(const char *name, context_handle context, stream_handle handle, struct CUstream_st **ret_stream)
{
	struct CUstream_st *stream = stream_of(context, handle);

	if (!stream)
		return OUT_OF_MEMORY;
	if (__atomic_load_n(&stream->ended, __ATOMIC_RELAXED)) {
		standin_violation("%s with a stream that was destroyed", name);
		return INVALID_HANDLE;
	}
	*ret_stream = stream;
	return OK;
}

int standin_enter_stream(
	const char *name, stream_handle handle, context_handle *ret_context, struct CUstream_st **ret_stream)
{
	const int result = standin_enter_context(name, ret_context);

	return result ? result : find_stream(name, *ret_context, handle, ret_stream);
}

struct capture *standin_capture_of(struct CUstream_st *stream)
{
	return &stream->capture;
}

/* Whether a stream takes work: one of another context does not, nor one that is captured, or waits for such a one. */
static int find_to_submit(
	const char *name, context_handle context, stream_handle handle, struct CUstream_st **ret_stream)
{
	const int result = find_stream(name, context, handle, ret_stream);

	if (result)
		return result;
	if ((*ret_stream)->context != context) {
		standin_violation("%s with a stream of another context", name);
		return INVALID_CONTEXT;
	}
	if (standin_is_captured(&(*ret_stream)->capture)) {
		standin_violation("%s with a stream that is captured", name);
		return CAPTURE_UNSUPPORTED;
	}
	if (*ret_stream == context->legacy && standin_blocks_legacy(context)) {
		standin_violation("%s with the legacy stream while one that it waits for is captured", name);
		return CAPTURE_IMPLICIT;
	}
	return OK;
}

static int enter_to_submit(const char *name, stream_handle handle, struct CUstream_st **ret_stream)
{
	context_handle context;
	const int result = standin_enter_context(name, &context);

	return result ? result : find_to_submit(name, context, handle, ret_stream);
}

int standin_check_stream(const char *name, context_handle context, stream_handle handle)
{
	struct CUstream_st *stream;

	return find_to_submit(name, context, handle, &stream);
}

static int cuStreamCreate(stream_handle *stream, unsigned flags)
{
	context_handle context;
	const int result = standin_enter_context("cuStreamCreate", &context);

	if (result)
		return result;
	*stream = new_stream(context, !(flags & 1));
	return *stream ? OK : OUT_OF_MEMORY;
}

static int cuStreamDestroy(stream_handle stream)
{
	const int result = standin_enter("cuStreamDestroy");

	if (result)
		return result;
	unlist(stream);
	end_stream(stream);
	return OK;
}

static int cuStreamGetCtx(stream_handle handle, context_handle *ret_context)
{
	context_handle context;
	struct CUstream_st *stream;
	const int result = standin_enter_stream("cuStreamGetCtx", handle, &context, &stream);

	if (!result)
		*ret_context = stream->context;
	return result;
}

static int cuStreamSynchronize(stream_handle handle)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuStreamSynchronize", handle, &stream);

	if (result)
		return result;
	wait_until_idle(stream);
	return standin_is_broken() ? ILLEGAL_ADDRESS : OK;
}

/* ---- what they are given ---- */

static int cuMemcpyHtoDAsync(device_address to, const void *from, size_t bytes, stream_handle handle)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuMemcpyHtoDAsync", handle, &stream);
	struct job job = {.kind = JOB_COPY, .to = to, .from = from, .bytes = bytes};

	if (result)
		return result;
	if (!bytes)
		return OK;
	if (!standin_host_of(to, bytes))
		return INVALID_VALUE;
	switch (standin_registered(from, bytes, false)) {
	case STANDIN_INSIDE:
		__atomic_fetch_add(&standin_counts.copies, 1, __ATOMIC_RELAXED);
		return submit(stream, job);
	case STANDIN_ACROSS:
		standin_violation("a copy across registrations");
		return INVALID_VALUE;
	case STANDIN_OUTSIDE:
		break;
	}
	/* As the real one: staged at once. */
	__atomic_fetch_add(&standin_counts.pageable, 1, __ATOMIC_RELAXED);
	job.staged = malloc(bytes);
	if (!job.staged)
		return OUT_OF_MEMORY;
	memcpy(job.staged, from, bytes);
	return submit(stream, job);
}

static int cuMemcpyDtoH(void *to, device_address from, size_t bytes)
{
	context_handle context;
	int result = standin_enter_unsafe("cuMemcpyDtoH", &context);
	const void *host;

	if (result)
		return result;
	host = standin_host_of(from, bytes);
	if (!host)
		return INVALID_VALUE;
	if (context->legacy)
		wait_until_idle(context->legacy);
	memcpy(to, host, bytes);
	return OK;
}

static int cuStreamWriteValue64(stream_handle handle, device_address to, uint64_t value, unsigned flags)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuStreamWriteValue64", handle, &stream);
	const uint64_t *host;

	if (result || flags)
		return result ? result : NOT_SUPPORTED;
	host = standin_host_of(to, sizeof *host);
	if (!host || (uintptr_t)host % sizeof *host || standin_registered(host, sizeof *host, true) != STANDIN_INSIDE) {
		standin_violation("a stream write to memory that is not registered for writing");
		return INVALID_VALUE;
	}
	__atomic_fetch_add(&standin_counts.writes, 1, __ATOMIC_RELAXED);
	return submit(stream, (struct job){.kind = JOB_WRITE, .to = to, .value = value});
}

static int cuLaunchHostFunc(stream_handle handle, void (*call)(void *argument), void *argument)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuLaunchHostFunc", handle, &stream);

	return result ? result : submit(stream, (struct job){.kind = JOB_CALL, .call = call, .argument = argument});
}

int standin_submit_free(
	context_handle context, stream_handle handle, device_address address, int (*free_now)(device_address))
{
	struct CUstream_st *stream;
	const int result = find_to_submit("cuMemFreeAsync", context, handle, &stream);

	return result ? result : submit(stream, (struct job){.kind = JOB_FREE, .to = address, .free_now = free_now});
}

/* ---- events ---- */

static int cuEventCreate(event_handle *event, unsigned flags)
{
	context_handle context;
	const int result = standin_enter_context("cuEventCreate", &context);

	(void)flags;
	if (result)
		return result;
	*event = calloc(1, sizeof **event);
	if (!*event)
		return OUT_OF_MEMORY;
	pthread_mutex_init(&(*event)->mutex, NULL);
	pthread_cond_init(&(*event)->changed, NULL);
	(*event)->users = 1;
	__atomic_fetch_add(&standin_counts.events, 1, __ATOMIC_RELAXED);
	return OK;
}

static int give_event(struct CUstream_st *stream, event_handle event, enum job_kind kind)
{
	struct job job = {.kind = kind, .event = event};

	pthread_mutex_lock(&event->mutex);
	event->recorded += kind == JOB_EVENT;
	event->users++;
	job.turn = event->recorded;
	pthread_mutex_unlock(&event->mutex);
	return submit(stream, job);
}

static int cuEventRecord(event_handle event, stream_handle handle)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuEventRecord", handle, &stream);

	return result ? result : give_event(stream, event, JOB_EVENT);
}

static int cuStreamWaitEvent(stream_handle handle, event_handle event, unsigned flags)
{
	struct CUstream_st *stream;
	const int result = enter_to_submit("cuStreamWaitEvent", handle, &stream);

	(void)flags;
	return result ? result : give_event(stream, event, JOB_WAIT);
}

static int cuEventQuery(event_handle event)
{
	context_handle context;
	int result = standin_enter_unsafe("cuEventQuery", &context);

	if (result)
		return result;
	pthread_mutex_lock(&event->mutex);
	result = event->reached >= event->recorded ? OK : NOT_READY;
	pthread_mutex_unlock(&event->mutex);
	return result;
}

static int cuEventDestroy(event_handle event)
{
	const int result = standin_enter("cuEventDestroy");

	if (result)
		return result;
	__atomic_fetch_sub(&standin_counts.events, 1, __ATOMIC_RELAXED);
	event_drop(event);
	return OK;
}

/* ---- by name ---- */

#define EXPORT(name) extern __typeof__(name) standin_##name __attribute__((alias(#name)));

EXPORT(cuStreamCreate)
EXPORT(cuStreamDestroy)
EXPORT(cuStreamGetCtx)
EXPORT(cuStreamSynchronize)
EXPORT(cuMemcpyHtoDAsync)
EXPORT(cuMemcpyDtoH)
EXPORT(cuStreamWriteValue64)
EXPORT(cuLaunchHostFunc)
EXPORT(cuEventCreate)
EXPORT(cuEventRecord)
EXPORT(cuStreamWaitEvent)
EXPORT(cuEventQuery)
EXPORT(cuEventDestroy)
