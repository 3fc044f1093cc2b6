/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver: opened at run time, its entry points, one context of it, and what its errors are here. The only file
 * that knows how the driver is called. Types are declared as far as they are needed, so that no toolkit is.
 */
#ifndef SLUICE_LIB_CUDA_DRIVER_H
#define SLUICE_LIB_CUDA_DRIVER_H

#include <sluice/cuda.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* As cuda.h of the toolkit numbers them. */
enum cuda_result {
	CUDA_SUCCESS = 0,
	CUDA_INVALID_VALUE = 1,
	CUDA_OUT_OF_MEMORY = 2,
	CUDA_NOT_INITIALIZED = 3,
	CUDA_STUB_LIBRARY = 34,
	CUDA_REQUIRES_NEWER_DRIVER = 36,
	CUDA_DEVICE_UNAVAILABLE = 46,
	CUDA_NO_DEVICE = 100,
	CUDA_INVALID_DEVICE = 101,
	CUDA_INVALID_CONTEXT = 201,
	CUDA_OPERATING_SYSTEM = 304,
	CUDA_INVALID_HANDLE = 400,
	CUDA_NOT_READY = 600,
	CUDA_NOT_PERMITTED = 800,
	CUDA_NOT_SUPPORTED = 801,
	CUDA_SYSTEM_NOT_READY = 802,
	CUDA_SYSTEM_DRIVER_MISMATCH = 803,
	CUDA_COMPAT_NOT_SUPPORTED = 804,
	CUDA_CAPTURE_FIRST = 900, /* this one and the next eight are about streams that are captured */
	CUDA_CAPTURE_LAST = 908
};

enum cuda_attribute {
	CUDA_CAN_USE_HOST_POINTER = 91,
	CUDA_READ_ONLY_HOST_REGISTER = 113,
	CUDA_MEMORY_POOLS = 115,
	CUDA_64_BIT_STREAM_MEM_OPS = 122
};

enum cuda_register_flags { CUDA_REGISTER_PORTABLE = 1, CUDA_REGISTER_DEVICEMAP = 2, CUDA_REGISTER_READ_ONLY = 8 };

#define CUDA_EVENT_DISABLE_TIMING 2
#define CUDA_CAPTURE_RELAXED      2

typedef struct CUctx_st *cuda_context;
typedef struct CUstream_st *cuda_stream;
typedef struct CUevent_st *cuda_event;

/* Every entry point that is used: its name, the first version with the parameters that follow, whether there is no doing
 * without, and the parameters. */
#define CUDA_ENTRY_POINTS(X)                                                                                           \
	X(Init, 2000, true, (unsigned int flags))                                                                      \
	X(DriverGetVersion, 2020, true, (int *version))                                                                \
	X(GetErrorName, 6000, true, (int result, const char **text))                                                   \
	X(DeviceGetCount, 2000, true, (int *count))                                                                    \
	X(DeviceGet, 2000, true, (int *device, int ordinal))                                                           \
	X(DeviceGetName, 2000, true, (char *name, int bytes, int device))                                              \
	X(DeviceGetAttribute, 2000, true, (int *value, int attribute, int device))                                     \
	X(DevicePrimaryCtxRetain, 7000, true, (cuda_context * context, int device))                                    \
	X(DevicePrimaryCtxRelease, 11000, true, (int device))                                                          \
	X(CtxGetCurrent, 4000, true, (cuda_context * context))                                                         \
	X(CtxPushCurrent, 4000, true, (cuda_context context))                                                          \
	X(CtxPopCurrent, 4000, true, (cuda_context * context))                                                         \
	X(CtxGetDevice, 2000, true, (int *device))                                                                     \
	X(CtxSynchronize, 2000, true, (void))                                                                          \
	X(MemHostRegister, 6050, true, (void *memory, size_t bytes, unsigned int flags))                               \
	X(MemHostUnregister, 4000, true, (void *memory))                                                               \
	X(MemHostGetDevicePointer, 3020, true, (unsigned long long *address, void *memory, unsigned int flags))        \
	X(MemcpyHtoDAsync, 3020, true,                                                                                 \
		(unsigned long long address, const void *memory, size_t bytes, cuda_stream stream))                    \
	X(MemAlloc, 3020, true, (unsigned long long *address, size_t bytes))                                           \
	X(MemFree, 3020, true, (unsigned long long address))                                                           \
	X(MemAllocAsync, 11020, false, (unsigned long long *address, size_t bytes, cuda_stream stream))                \
	X(MemFreeAsync, 11020, false, (unsigned long long address, cuda_stream stream))                                \
	X(StreamGetCtx, 9020, true, (cuda_stream stream, cuda_context * context))                                      \
	X(StreamIsCapturing, 10000, true, (cuda_stream stream, int *status))                                           \
	X(ThreadExchangeStreamCaptureMode, 10010, true, (int *mode))                                                   \
	X(StreamSynchronize, 2000, true, (cuda_stream stream))                                                         \
	X(StreamWaitEvent, 3020, true, (cuda_stream stream, cuda_event event, unsigned int flags))                     \
	X(StreamWriteValue64, 11070, false,                                                                            \
		(cuda_stream stream, unsigned long long address, uint64_t value, unsigned int flags))                  \
	X(EventCreate, 2000, true, (cuda_event * event, unsigned int flags))                                           \
	X(EventRecord, 2000, true, (cuda_event event, cuda_stream stream))                                             \
	X(EventQuery, 2000, true, (cuda_event event))                                                                  \
	X(EventDestroy, 4000, true, (cuda_event event))

/* True if it is about streams that are captured: such an error is -EBUSY, as no other is. */
static inline bool cuda_is_capture_error(int result)
{
	return result >= CUDA_CAPTURE_FIRST && result <= CUDA_CAPTURE_LAST;
}

/* A sentence for people and the errno that goes with it. */
struct cuda_reason {
	int error;
	char text[SLUICE_CUDA_TEXT_BYTES];
};

struct cuda_driver {
	uint32_t references;
	void *library;
	pid_t process; /* that opened it: the driver is of no use in a child */
	uint32_t version;
	cuda_context context;
	int device;        /* ordinal */
	bool retained;     /* the context, which so is the primary one */
	bool read_only;    /* what the device can do: register for reading only, */
	bool same_address; /* read what is registered where the CPU does, */
	bool pools;        /* allocate in stream order, */
	bool writes;       /* write 64 bits behind a stream's work */
	char device_name[64];
	cuda_stream good_stream; /* the last one that was found to be of the context */
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration */
#define CUDA_MEMBER(name, since, required, parameters) int(*name) parameters;
	CUDA_ENTRY_POINTS(CUDA_MEMBER)
#undef CUDA_MEMBER
};

/*
 * Opens the driver and takes a context of it, as sluice_cuda_attach says; `options` were checked. `*ret_driver` is the
 * caller's, with one reference. Returns 0 or a negative errno and why.
 */
int cuda_driver_open(
	const struct sluice_cuda_options *options, struct cuda_driver **ret_driver, struct cuda_reason *ret_reason);

/* One more reference, and one less: the last one lets the context and the driver go. NULL is fine. Any thread. */
struct cuda_driver *cuda_driver_keep(struct cuda_driver *driver);
void cuda_driver_drop(struct cuda_driver *driver);

/* What is to be as it was when the context is left. */
struct cuda_visit {
	bool pushed;    /* the context was not the current one */
	bool exchanged; /* `mode` is the thread's */
	int mode;
};

/*
 * Makes the context current, and the one before it again; to leave after entering failed is fine. In between the thread
 * may call what would spoil a capture that is under way elsewhere in the process, as of a torch.cuda.graph: registering
 * and freeing memory, asking for events. None of that has to do with a stream that is captured, for such a one is refused.
 * Returns a result of the driver.
 */
int cuda_driver_enter(const struct cuda_driver *driver, struct cuda_visit *ret_visit);
void cuda_driver_leave(const struct cuda_driver *driver, const struct cuda_visit *visit);

/* Says in `reason` that `call` failed with `result`, and returns the errno for it. */
int cuda_driver_explain(const struct cuda_driver *driver, const char *call, int result, struct cuda_reason *reason);

/* Likewise of a failure that is none of the driver's. */
int cuda_explain(int error, struct cuda_reason *reason, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Whether `stream` may be used, in the context that was entered. Returns 0, -EINVAL, -EBUSY or -EIO, and why. */
int cuda_driver_check_stream(struct cuda_driver *driver, cuda_stream stream, struct cuda_reason *reason);

#endif
