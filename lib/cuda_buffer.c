/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory on the device, for programs without an allocator of their own. It outlives the attachment that it came from.
 */
#include "cuda.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct sluice_cuda_buffer {
	struct cuda_driver *driver; /* kept */
	uintptr_t address;
	uint64_t bytes;
	bool pooled; /* freed in stream order, as it was allocated */
};

static int allocate(struct sluice_cuda_buffer *buffer, cuda_stream stream, struct cuda_reason *reason)
{
	struct cuda_driver *driver = buffer->driver;
	unsigned long long address = 0;
	int error = cuda_driver_check_stream(driver, stream, reason);
	if (error != 0)
		return error;
	buffer->pooled = driver->pools;
	int result = driver->pools ? driver->MemAllocAsync(&address, buffer->bytes, stream)
				   : driver->MemAlloc(&address, buffer->bytes);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, driver->pools ? "cuMemAllocAsync" : "cuMemAlloc", result, reason);
	buffer->address = (uintptr_t)address;
	return 0;
}

int sluice_cuda_buffer_create(struct sluice_consumer *consumer, uint64_t bytes, struct CUstream_st *stream,
	struct sluice_cuda_buffer **ret_buffer)
{
	struct cuda *cuda;
	int error = bytes != 0 && ret_buffer != NULL ? cuda_check_consumer(consumer, &cuda) : -EINVAL;
	if (error != 0)
		return error;
	struct sluice_cuda_buffer *buffer = calloc(1, sizeof *buffer);
	if (buffer == NULL)
		return -ENOMEM;
	buffer->driver = cuda_driver_keep(cuda->driver);
	buffer->bytes = bytes;
	struct cuda_reason reason = {0};
	struct cuda_visit visit;
	int result = cuda_driver_enter(buffer->driver, &visit);
	error = result != CUDA_SUCCESS ? cuda_driver_explain(buffer->driver, "cuCtxPushCurrent", result, &reason)
				       : allocate(buffer, stream, &reason);
	cuda_driver_leave(buffer->driver, &visit);
	if (error != 0) {
		cuda_driver_drop(buffer->driver);
		free(buffer);
		return cuda_note(cuda, &reason);
	}
	*ret_buffer = buffer;
	return 0;
}

/*
 * In the child of a fork the driver must not be called, and the memory is the parent's. The consumer's handle cannot tell: it
 * may have been closed, and be another's by now.
 */
static bool is_inherited(const struct sluice_cuda_buffer *buffer)
{
	return buffer->driver->process != getpid();
}

/* The stream is waited for where memory is not freed in its order. */
static int release_memory(const struct sluice_cuda_buffer *buffer, cuda_stream stream)
{
	struct cuda_driver *driver = buffer->driver;
	struct cuda_reason reason;
	int error = cuda_driver_check_stream(driver, stream, &reason);
	/* What a stream that is captured was given before can be waited for only when the capture has ended. */
	if (error == -EBUSY)
		return error;
	/* Another stream that may not be used is no reason to keep the memory: then the device is waited for. */
	if (error != 0)
		return driver->CtxSynchronize() == CUDA_SUCCESS && driver->MemFree(buffer->address) == CUDA_SUCCESS
			       ? error
			       : -EIO;
	if (buffer->pooled)
		return driver->MemFreeAsync(buffer->address, stream) == CUDA_SUCCESS ? 0 : -EIO;
	error = driver->StreamSynchronize(stream) == CUDA_SUCCESS ? 0 : -EIO;
	return driver->MemFree(buffer->address) == CUDA_SUCCESS ? error : -EIO;
}

int sluice_cuda_buffer_destroy(struct sluice_cuda_buffer *buffer, struct CUstream_st *stream)
{
	struct cuda_visit visit;
	if (buffer == NULL)
		return 0;
	if (is_inherited(buffer))
		return -ECHILD;
	int error = cuda_driver_enter(buffer->driver, &visit) == CUDA_SUCCESS ? release_memory(buffer, stream) : -EIO;
	cuda_driver_leave(buffer->driver, &visit);
	if (error == -EBUSY)
		return error;
	cuda_driver_drop(buffer->driver);
	free(buffer);
	return error;
}

uintptr_t sluice_cuda_buffer_address(const struct sluice_cuda_buffer *buffer)
{
	return buffer != NULL ? buffer->address : 0;
}

uint64_t sluice_cuda_buffer_bytes(const struct sluice_cuda_buffer *buffer)
{
	return buffer != NULL ? buffer->bytes : 0;
}

int sluice_cuda_buffer_device(const struct sluice_cuda_buffer *buffer)
{
	return buffer != NULL ? buffer->driver->device : 0;
}

/* ---- streams behind one another ---- */

static int follow(struct cuda_driver *driver, cuda_stream first, cuda_stream stream, struct cuda_reason *reason)
{
	cuda_event event;
	int error = cuda_driver_check_stream(driver, first, reason);
	if (error == 0)
		error = cuda_driver_check_stream(driver, stream, reason);
	if (error != 0)
		return error;
	int result = driver->EventCreate(&event, CUDA_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuEventCreate", result, reason);
	result = driver->EventRecord(event, first);
	if (result != CUDA_SUCCESS) {
		cuda_driver_explain(driver, "cuEventRecord", result, reason);
	} else {
		result = driver->StreamWaitEvent(stream, event, 0);
		if (result != CUDA_SUCCESS)
			cuda_driver_explain(driver, "cuStreamWaitEvent", result, reason);
	}
	(void)driver->EventDestroy(event); /* which lets it go when nobody waits for it any more */
	return result == CUDA_SUCCESS ? 0 : reason->error;
}

/* The same from outside the context. */
static int enter_and_follow(
	struct cuda_driver *driver, cuda_stream first, cuda_stream stream, struct cuda_reason *reason)
{
	struct cuda_visit visit;
	if (first == stream)
		return 0;
	int result = cuda_driver_enter(driver, &visit);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuCtxPushCurrent", result, reason);
	int error = follow(driver, first, stream, reason);
	cuda_driver_leave(driver, &visit);
	return error;
}

int sluice_cuda_follow(struct sluice_consumer *consumer, struct CUstream_st *first, struct CUstream_st *stream)
{
	struct cuda *cuda;
	struct cuda_reason reason;
	int error = cuda_check_consumer(consumer, &cuda);
	if (error != 0)
		return error;
	error = enter_and_follow(cuda->driver, first, stream, &reason);
	return error != 0 ? cuda_note(cuda, &reason) : 0;
}

int sluice_cuda_buffer_follow(
	const struct sluice_cuda_buffer *buffer, struct CUstream_st *first, struct CUstream_st *stream)
{
	struct cuda_reason reason;
	if (buffer == NULL)
		return -EINVAL;
	if (is_inherited(buffer))
		return -ECHILD;
	return enter_and_follow(buffer->driver, first, stream, &reason);
}
