/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic.h"

/* Never libcuda.so: that is the toolkit's, to be linked with and of no other use. */
#define LIBRARY "libcuda.so.1"

/* ---- errors ---- */

static int errno_of(int result)
{
	if (cuda_is_capture_error(result))
		return -EBUSY;
	switch (result) {
	case CUDA_INVALID_VALUE:
	case CUDA_INVALID_CONTEXT:
	case CUDA_INVALID_HANDLE:
		return -EINVAL;
	case CUDA_OUT_OF_MEMORY:
		return -ENOMEM;
	case CUDA_NOT_INITIALIZED:
		return -ECHILD;
	case CUDA_STUB_LIBRARY:
		return -ENOSYS;
	case CUDA_DEVICE_UNAVAILABLE:
	case CUDA_NO_DEVICE:
	case CUDA_INVALID_DEVICE:
		return -ENODEV;
	case CUDA_OPERATING_SYSTEM:
		return -EACCES;
	case CUDA_NOT_PERMITTED:
		return -EPERM;
	case CUDA_NOT_SUPPORTED:
	case CUDA_REQUIRES_NEWER_DRIVER:
	case CUDA_SYSTEM_NOT_READY:
	case CUDA_SYSTEM_DRIVER_MISMATCH:
	case CUDA_COMPAT_NOT_SUPPORTED:
		return -ENOTSUP;
	default:
		return -EIO;
	}
}

int cuda_explain(int error, struct cuda_reason *reason, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason->text, sizeof reason->text, format, arguments);
	va_end(arguments);
	reason->error = error;
	return error;
}

int cuda_driver_explain(const struct cuda_driver *driver, const char *call, int result, struct cuda_reason *reason)
{
	const char *name = NULL;
	/* After cuInit that can only be the child of a fork: what it inherits of the driver is of no use there. */
	if (result == CUDA_NOT_INITIALIZED)
		return cuda_explain(-ECHILD, reason,
			"%s failed with CUDA_ERROR_NOT_INITIALIZED: CUDA was used before fork; start this process by "
			"exec",
			call);
	if (driver->GetErrorName == NULL || driver->GetErrorName(result, &name) != CUDA_SUCCESS || name == NULL)
		return cuda_explain(errno_of(result), reason, "%s failed with CUresult %d", call, result);
	return cuda_explain(errno_of(result), reason, "%s failed with %s", call, name);
}

/* ---- the library ---- */

typedef int (*get_proc_address)(const char *name, void **ret_function, int version, uint64_t flags, int *ret_status);
typedef int (*get_proc_address_11)(const char *name, void **ret_function, int version, uint64_t flags);

/* How functions are found: CUDA 12 has one parameter more. */
struct finder {
	get_proc_address find;
	get_proc_address_11 find_11;
};

/* ISO C knows no conversion from what dlsym returns. */
static void *symbol(void *library, const char *name, void *ret_function)
{
	void *found = dlsym(library, name);
	memcpy(ret_function, &found, sizeof found);
	return found;
}

/* Returns a result of the driver: CUDA_NOT_SUPPORTED if it has no such function. */
static int find(const struct finder *finder, const char *name, int version, void **ret_function)
{
	int status = 0;
	int result = CUDA_NOT_SUPPORTED;
	*ret_function = NULL;
	if (finder->find != NULL)
		result = finder->find(name, ret_function, version, 0, &status);
	else if (finder->find_11 != NULL)
		result = finder->find_11(name, ret_function, version, 0);
	if (result == CUDA_SUCCESS && status == 0 && *ret_function != NULL)
		return CUDA_SUCCESS;
	*ret_function = NULL;
	return result == CUDA_NOT_INITIALIZED ? CUDA_NOT_INITIALIZED : CUDA_NOT_SUPPORTED;
}

static int find_functions(struct cuda_driver *driver, struct cuda_reason *reason)
{
	struct finder finder = {NULL, NULL};
	if (symbol(driver->library, "cuGetProcAddress_v2", &finder.find) == NULL &&
		symbol(driver->library, "cuGetProcAddress", &finder.find_11) == NULL) {
		cuda_explain(-ENOTSUP, reason, "the CUDA driver is too old: it needs to be of CUDA 11.3 or later");
		return -ENOTSUP;
	}
	const char *missing = NULL;
	int result = CUDA_SUCCESS;
	void *function = NULL;
#define FIND(name, since, required, parameters)                                                                        \
	if (result != CUDA_NOT_INITIALIZED)                                                                            \
		result = find(&finder, "cu" #name, since, &function);                                                  \
	driver->name = (__typeof__(driver->name))function;                                                             \
	if (result != CUDA_SUCCESS && (required))                                                                      \
		missing = "cu" #name;
	CUDA_ENTRY_POINTS(FIND)
#undef FIND
	if (result == CUDA_NOT_INITIALIZED)
		return cuda_driver_explain(driver, "cuGetProcAddress", result, reason);
	if (missing == NULL)
		return 0;
	cuda_explain(-ENOTSUP, reason, "the CUDA driver is too old: it has no %s", missing);
	return -ENOTSUP;
}

static int start_driver(struct cuda_driver *driver, struct cuda_reason *reason)
{
	int count = 0;
	int version = 0;
	int result = driver->Init(0);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuInit", result, reason);
	result = driver->DriverGetVersion(&version);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDriverGetVersion", result, reason);
	driver->version = (uint32_t)version;
	result = driver->DeviceGetCount(&count);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDeviceGetCount", result, reason);
	return count > 0
		       ? 0
		       : cuda_explain(-ENODEV, reason, "there is no CUDA device: see nvidia-smi, CUDA_VISIBLE_DEVICES");
}

static int open_library(struct cuda_driver *driver, struct cuda_reason *reason)
{
	/* It starts threads and registers what is done at exit: once there, it had better stay. */
	driver->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (driver->library == NULL) {
		const char *why = dlerror();
		cuda_explain(-ENOSYS, reason, "there is no CUDA driver: %s", why != NULL ? why : LIBRARY);
		return -ENOSYS;
	}
	int error = find_functions(driver, reason);
	return error != 0 ? error : start_driver(driver, reason);
}

/* ---- the context ---- */

int cuda_driver_enter(const struct cuda_driver *driver, struct cuda_visit *ret_visit)
{
	cuda_context current = NULL;
	*ret_visit = (struct cuda_visit){.mode = CUDA_CAPTURE_RELAXED};
	if (driver->CtxGetCurrent(&current) != CUDA_SUCCESS || current != driver->context) {
		int result = driver->CtxPushCurrent(driver->context);
		if (result != CUDA_SUCCESS)
			return result;
		ret_visit->pushed = true;
	}
	ret_visit->exchanged = driver->ThreadExchangeStreamCaptureMode(&ret_visit->mode) == CUDA_SUCCESS;
	return CUDA_SUCCESS;
}

void cuda_driver_leave(const struct cuda_driver *driver, const struct cuda_visit *visit)
{
	cuda_context popped;
	int mode = visit->mode;
	if (visit->exchanged)
		(void)driver->ThreadExchangeStreamCaptureMode(&mode);
	if (visit->pushed)
		(void)driver->CtxPopCurrent(&popped);
}

static int device_of_context(const struct cuda_driver *driver, int *ret_device, struct cuda_reason *reason)
{
	struct cuda_visit visit;
	int result = cuda_driver_enter(driver, &visit);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuCtxPushCurrent", result, reason);
	result = driver->CtxGetDevice(ret_device);
	cuda_driver_leave(driver, &visit);
	return result == CUDA_SUCCESS ? 0 : cuda_driver_explain(driver, "cuCtxGetDevice", result, reason);
}

static int retain_primary(struct cuda_driver *driver, int ordinal, struct cuda_reason *reason)
{
	int count = 0;
	int device = 0;
	int result = driver->DeviceGetCount(&count);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDeviceGetCount", result, reason);
	if (ordinal < 0 || ordinal >= count)
		return cuda_explain(-ENODEV, reason, "there is no CUDA device %d, but %d from 0 on", ordinal, count);
	result = driver->DeviceGet(&device, ordinal);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDeviceGet", result, reason);
	result = driver->DevicePrimaryCtxRetain(&driver->context, device);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDevicePrimaryCtxRetain", result, reason);
	driver->device = device;
	driver->retained = true;
	return 0;
}

/* A CUdevice is the device's ordinal, as far as there are drivers. */
static int choose_context(
	struct cuda_driver *driver, const struct sluice_cuda_options *options, struct cuda_reason *reason)
{
	bool named = (options->flags & SLUICE_CUDA_DEVICE) != 0;
	driver->context = options->context;
	if (driver->context == NULL) {
		int result = driver->CtxGetCurrent(&driver->context);
		if (result != CUDA_SUCCESS)
			return cuda_driver_explain(driver, "cuCtxGetCurrent", result, reason);
	}
	if (driver->context == NULL)
		return retain_primary(driver, named ? options->device : 0, reason);
	int error = device_of_context(driver, &driver->device, reason);
	if (error != 0)
		return error;
	if (!named || options->device == driver->device)
		return 0;
	if (options->context != NULL)
		return cuda_explain(
			-ENODEV, reason, "the context given is of device %d, not %d", driver->device, options->device);
	return retain_primary(driver, options->device, reason);
}

static int ask_device(struct cuda_driver *driver, struct cuda_reason *reason)
{
	int result = driver->DeviceGetName(driver->device_name, sizeof driver->device_name, driver->device);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuDeviceGetName", result, reason);
	const struct {
		int attribute;
		bool *answer;
	} questions[] = {
		{CUDA_READ_ONLY_HOST_REGISTER, &driver->read_only},
		{CUDA_CAN_USE_HOST_POINTER, &driver->same_address},
		{CUDA_MEMORY_POOLS, &driver->pools},
		{CUDA_64_BIT_STREAM_MEM_OPS, &driver->writes},
	};
	for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
		int value = 0;
		/* One that a driver does not know yet is one that the device does not have. */
		result = driver->DeviceGetAttribute(&value, questions[i].attribute, driver->device);
		if (result != CUDA_SUCCESS && result != CUDA_INVALID_VALUE)
			return cuda_driver_explain(driver, "cuDeviceGetAttribute", result, reason);
		*questions[i].answer = result == CUDA_SUCCESS && value != 0;
	}
	driver->pools = driver->pools && driver->MemAllocAsync != NULL && driver->MemFreeAsync != NULL;
	driver->writes = driver->writes && driver->StreamWriteValue64 != NULL;
	return 0;
}

/* ---- all of it ---- */

int cuda_driver_open(
	const struct sluice_cuda_options *options, struct cuda_driver **ret_driver, struct cuda_reason *ret_reason)
{
	struct cuda_driver *driver = calloc(1, sizeof *driver);
	if (driver == NULL)
		return cuda_explain(-ENOMEM, ret_reason, "out of memory");
	driver->references = 1;
	driver->process = getpid();
	int error = open_library(driver, ret_reason);
	if (error == 0)
		error = choose_context(driver, options, ret_reason);
	if (error == 0)
		error = ask_device(driver, ret_reason);
	if (error != 0) {
		cuda_driver_drop(driver);
		return error;
	}
	*ret_driver = driver;
	return 0;
}

struct cuda_driver *cuda_driver_keep(struct cuda_driver *driver)
{
	atomic_add_relaxed(&driver->references, 1); /* relaxed: who keeps has one */
	return driver;
}

void cuda_driver_drop(struct cuda_driver *driver)
{
	if (driver == NULL)
		return;
	/* Y1: pairs with Y1 in cuda_driver_drop of other threads: the last one comes after all that the others did */
	if (atomic_add_full(&driver->references, UINT32_MAX) != 1)
		return;
	if (driver->retained)
		(void)driver->DevicePrimaryCtxRelease(driver->device);
	if (driver->library != NULL)
		dlclose(driver->library);
	free(driver);
}

/* NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD are of whatever context is current. */
static bool is_default(cuda_stream stream)
{
	return (uintptr_t)stream <= 2;
}

/* Whether the stream is of the context. Some calls refuse one that is not, and some take it. */
static int check_owner(struct cuda_driver *driver, cuda_stream stream, struct cuda_reason *reason)
{
	/*
	 * Streams are few and asking is a good part of what a call here costs. One whose handle is used again by another
	 * context would be refused by the driver, or be in order all the same.
	 *
	 * relaxed: any stream that was found good will do
	 */
	if (is_default(stream) || atomic_load_relaxed(&driver->good_stream) == stream)
		return 0;
	cuda_context context = NULL;
	int result = driver->StreamGetCtx(stream, &context);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuStreamGetCtx", result, reason);
	if (context != driver->context)
		return cuda_explain(
			-EINVAL, reason, "the stream is of another context than the consumer was attached with");
	atomic_store_relaxed(&driver->good_stream, stream); /* relaxed: as said */
	return 0;
}

int cuda_driver_check_stream(struct cuda_driver *driver, cuda_stream stream, struct cuda_reason *reason)
{
	int capturing = 0;
	int error = check_owner(driver, stream, reason);
	if (error != 0)
		return error;
	int result = driver->StreamIsCapturing(stream, &capturing);
	if (result != CUDA_SUCCESS)
		return cuda_driver_explain(driver, "cuStreamIsCapturing", result, reason);
	return capturing == 0 ? 0
			      : cuda_explain(-EBUSY, reason,
					"the stream is being captured into a graph, which outlives the message");
}
