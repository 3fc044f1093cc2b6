/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stand-in's rules for the capture of streams into graphs: what a thread must not call while a stream is captured,
 * though the stream is none of its own. A call that breaks them fails, and so does the capture, as with the real driver.
 */
#include "standin_inside.h"

enum { GLOBAL, THREAD_LOCAL, RELAXED };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct capture *captures; /* under way */
static _Thread_local int mode;

static void capture_begin(struct capture *capture, int how)
{
	pthread_mutex_lock(&mutex);
	capture->mode = how;
	capture->thread = pthread_self();
	capture->active = true;
	capture->invalidated = false;
	capture->next = captures;
	captures = capture;
	pthread_mutex_unlock(&mutex);
}

int standin_capture_end(struct capture *capture)
{
	struct capture **link = &captures;
	bool invalidated;

	pthread_mutex_lock(&mutex);
	while (*link && *link != capture)
		link = &(*link)->next;
	if (*link)
		*link = capture->next;
	invalidated = capture->invalidated;
	capture->active = false;
	pthread_mutex_unlock(&mutex);
	return invalidated ? CAPTURE_INVALIDATED : OK;
}

bool standin_is_captured(const struct capture *capture)
{
	bool active;

	pthread_mutex_lock(&mutex);
	active = capture->active;
	pthread_mutex_unlock(&mutex);
	return active;
}

bool standin_blocks_legacy(context_handle context)
{
	bool found = false;

	pthread_mutex_lock(&mutex);
	for (struct capture *each = captures; each; each = each->next)
		found |= each->context == context && each->blocking;
	pthread_mutex_unlock(&mutex);
	return found;
}

/* Whether this thread's calls would spoil a capture, by its mode and the capture's. */
static bool spoils(const struct capture *capture)
{
	const bool own = pthread_equal(capture->thread, pthread_self());

	if (mode == RELAXED)
		return false;
	return own ? capture->mode != RELAXED : mode == GLOBAL && capture->mode == GLOBAL;
}

int standin_enter_unsafe(const char *name, context_handle *ret_context)
{
	const int result = standin_enter_context(name, ret_context);
	bool spoilt = false;

	if (result)
		return result;
	pthread_mutex_lock(&mutex);
	for (struct capture *each = captures; each; each = each->next)
		if (spoils(each))
			spoilt = each->invalidated = true;
	pthread_mutex_unlock(&mutex);
	if (!spoilt)
		return OK;
	standin_violation("%s while a stream is captured", name);
	return CAPTURE_UNSUPPORTED;
}

/* In whatever mode: what a captured stream was given cannot be waited for. */
int standin_refuse_waiting(context_handle context)
{
	bool spoilt = false;

	pthread_mutex_lock(&mutex);
	for (struct capture *each = captures; each; each = each->next)
		if (each->context == context)
			spoilt = each->invalidated = true;
	pthread_mutex_unlock(&mutex);
	return spoilt ? CAPTURE_UNSUPPORTED : OK;
}

static int cuThreadExchangeStreamCaptureMode(int *exchanged)
{
	const int result = standin_enter("cuThreadExchangeStreamCaptureMode");
	const int before = mode;

	if (result)
		return result;
	if (*exchanged < GLOBAL || *exchanged > RELAXED)
		return INVALID_VALUE;
	mode = *exchanged;
	*exchanged = before;
	return OK;
}

/* Refuses a stream of another context, as some drivers may. */
static int cuStreamIsCapturing(stream_handle handle, int *status)
{
	context_handle context;
	struct CUstream_st *stream;
	const int result = standin_enter_stream("cuStreamIsCapturing", handle, &context, &stream);

	if (result)
		return result;
	if (standin_capture_of(stream)->context != context)
		return INVALID_HANDLE;
	if (stream == context->legacy && standin_blocks_legacy(context))
		return CAPTURE_IMPLICIT;
	*status = standin_is_captured(standin_capture_of(stream));
	return OK;
}

static int cuStreamBeginCapture(stream_handle handle, int how)
{
	context_handle context;
	struct CUstream_st *stream;
	const int result = standin_enter_stream("cuStreamBeginCapture", handle, &context, &stream);

	if (result)
		return result;
	if (stream == context->legacy)
		return CAPTURE_UNSUPPORTED;
	capture_begin(standin_capture_of(stream), how);
	return OK;
}

static int cuStreamEndCapture(stream_handle handle, void **graph)
{
	context_handle context;
	struct CUstream_st *stream;
	const int result = standin_enter_stream("cuStreamEndCapture", handle, &context, &stream);

	*graph = NULL;
	return result ? result : standin_capture_end(standin_capture_of(stream));
}

/* ---- by name ---- */

#define EXPORT(name) extern __typeof__(name) standin_##name __attribute__((alias(#name)));

EXPORT(cuStreamIsCapturing)
EXPORT(cuStreamBeginCapture)
EXPORT(cuStreamEndCapture)
EXPORT(cuThreadExchangeStreamCaptureMode)
