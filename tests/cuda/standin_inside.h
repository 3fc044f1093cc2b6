/* SPDX-License-Identifier: Apache-2.0 */
/* What the stand-in's files share. */
#ifndef TEST_CUDA_STANDIN_INSIDE_H
#define TEST_CUDA_STANDIN_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "standin.h"

enum {
	OK = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	NO_DEVICE = 100,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	INVALID_HANDLE = 400,
	NOT_READY = 600,
	ILLEGAL_ADDRESS = 700,
	ALREADY_REGISTERED = 712,
	CONTEXT_IS_DESTROYED = 709,
	NOT_REGISTERED = 713,
	NOT_SUPPORTED = 801,
	CAPTURE_UNSUPPORTED = 900,
	CAPTURE_INVALIDATED = 901,
	CAPTURE_IMPLICIT = 906
};

#define MOST_DEVICES 4

typedef struct CUctx_st *context_handle;
typedef struct CUstream_st *stream_handle;
typedef struct CUevent_st *event_handle;
typedef unsigned long long device_address;

struct CUctx_st {
	uint64_t magic;
	int device;
	unsigned retained; /* primary */
	bool destroyed;
	struct CUstream_st *legacy; /* the default stream */
	struct CUstream_st *streams;
};

/* ---- standin.c ---- */

/* What every entry point begins with: the result to return at once, or OK. */
int standin_enter(const char *name);
/* The same for those that need a context. */
int standin_enter_context(const char *name, context_handle *ret_context);
void standin_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool standin_is_broken(void);
extern pthread_mutex_t standin_mutex; /* of all state but what streams have for themselves */
extern struct standin_counts standin_counts;
int standin_attribute(int attribute);
bool standin_is_strict(void);

/* ---- standin_memory.c ---- */

/* A registration that holds all of [memory, memory + bytes), none of it, or part of it. */
enum standin_where { STANDIN_INSIDE, STANDIN_OUTSIDE, STANDIN_ACROSS };
enum standin_where standin_registered(const void *memory, size_t bytes, bool for_writing);
/* Where the host finds what the device knows by this address; NULL, and a violation, if it is nowhere. */
void *standin_host_of(device_address address, size_t bytes);

/* ---- standin_capture.c ---- */

/* A stream's. `context` and `blocking`, which is whether the legacy stream waits for it, are set once. */
struct capture {
	struct capture *next;
	context_handle context;
	bool blocking;
	bool active;
	bool invalidated;
	int mode;
	pthread_t thread; /* that began it */
};

/* CAPTURE_INVALIDATED if somebody has spoilt it. */
int standin_capture_end(struct capture *capture);
bool standin_is_captured(const struct capture *capture);
/* Whether the legacy stream of a context is of no use because one that it waits for is captured. */
bool standin_blocks_legacy(context_handle context);
/* standin_enter_context for calls that a thread must not make while streams are captured, unless it says that it may. */
int standin_enter_unsafe(const char *name, context_handle *ret_context);
/* For those that wait for all of a context. */
int standin_refuse_waiting(context_handle context);

/* ---- standin_stream.c ---- */

/* standin_enter_context for calls that name a stream, of whatever context. */
int standin_enter_stream(
	const char *name, stream_handle handle, context_handle *ret_context, struct CUstream_st **ret_stream);
struct capture *standin_capture_of(struct CUstream_st *stream);
/* Whether a stream takes work in this context; counts as a violation if not. */
int standin_check_stream(const char *name, context_handle context, stream_handle stream);
/* Has the stream free memory. */
int standin_submit_free(
	context_handle context, stream_handle stream, device_address address, int (*free_now)(device_address));

void standin_set_pace(enum standin_pace pace);
int standin_synchronize(context_handle context);
void standin_end_streams(context_handle context);

/* The entry points themselves, by name. */
#define STANDIN_ENTRY_POINTS(X)                                                                                        \
	X(cuInit, 2000)                                                                                                \
	X(cuDriverGetVersion, 2020)                                                                                    \
	X(cuGetProcAddress, 11030)                                                                                     \
	X(cuGetErrorName, 6000)                                                                                        \
	X(cuDeviceGetCount, 2000)                                                                                      \
	X(cuDeviceGet, 2000)                                                                                           \
	X(cuDeviceGetName, 2000)                                                                                       \
	X(cuDeviceGetAttribute, 2000)                                                                                  \
	X(cuDevicePrimaryCtxRetain, 7000)                                                                              \
	X(cuDevicePrimaryCtxRelease, 11000)                                                                            \
	X(cuCtxGetCurrent, 4000)                                                                                       \
	X(cuCtxSetCurrent, 4000)                                                                                       \
	X(cuCtxPushCurrent, 4000)                                                                                      \
	X(cuCtxPopCurrent, 4000)                                                                                       \
	X(cuCtxGetDevice, 2000)                                                                                        \
	X(cuCtxSynchronize, 2000)                                                                                      \
	X(cuCtxCreate, 3020)                                                                                           \
	X(cuCtxDestroy, 4000)                                                                                          \
	X(cuMemHostRegister, 6050)                                                                                     \
	X(cuMemHostUnregister, 4000)                                                                                   \
	X(cuMemHostGetDevicePointer, 3020)                                                                             \
	X(cuMemcpyHtoDAsync, 3020)                                                                                     \
	X(cuMemcpyDtoH, 3020)                                                                                          \
	X(cuMemHostAlloc, 2020)                                                                                        \
	X(cuMemFreeHost, 2000)                                                                                         \
	X(cuMemAlloc, 3020)                                                                                            \
	X(cuMemFree, 3020)                                                                                             \
	X(cuMemAllocAsync, 11020)                                                                                      \
	X(cuMemFreeAsync, 11020)                                                                                       \
	X(cuStreamCreate, 2000)                                                                                        \
	X(cuStreamDestroy, 4000)                                                                                       \
	X(cuStreamGetCtx, 9020)                                                                                        \
	X(cuStreamIsCapturing, 10000)                                                                                  \
	X(cuStreamBeginCapture, 10010)                                                                                 \
	X(cuThreadExchangeStreamCaptureMode, 10010)                                                                    \
	X(cuStreamEndCapture, 10000)                                                                                   \
	X(cuStreamSynchronize, 2000)                                                                                   \
	X(cuStreamWaitEvent, 3020)                                                                                     \
	X(cuStreamWriteValue64, 11070)                                                                                 \
	X(cuLaunchHostFunc, 10000)                                                                                     \
	X(cuEventCreate, 2000)                                                                                         \
	X(cuEventRecord, 2000)                                                                                         \
	X(cuEventQuery, 2000)                                                                                          \
	X(cuEventDestroy, 4000)

#endif
