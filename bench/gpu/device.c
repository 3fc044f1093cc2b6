/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct CUctx_st *context;
typedef struct CUstream_st *stream;
typedef unsigned long long address;

/* Name, the first version with these parameters, and the parameters. */
#define CALLS(X)                                                                                                       \
	X(Init, 2000, (unsigned int flags))                                                                            \
	X(GetErrorName, 6000, (int result, const char **name))                                                         \
	X(DeviceGet, 2000, (int *device, int ordinal))                                                                 \
	X(DevicePrimaryCtxRetain, 7000, (context * ret_context, int device))                                           \
	X(CtxSetCurrent, 4000, (context of))                                                                           \
	X(StreamCreate, 2000, (stream * ret_stream, unsigned int flags))                                               \
	X(StreamSynchronize, 2000, (stream of))                                                                        \
	X(MemAlloc, 3020, (address * ret_address, size_t bytes))                                                       \
	X(MemHostAlloc, 2020, (void **ret_memory, size_t bytes, unsigned int flags))                                   \
	X(MemFreeHost, 2000, (void *memory))                                                                           \
	X(MemcpyHtoDAsync, 3020, (address to, const void *from, size_t bytes, stream of))                              \
	X(LaunchHostFunc, 10000, (stream of, void (*call)(void *), void *argument))

/* Those that kernels need. */
#define KERNEL_CALLS(X)                                                                                                \
	X(ModuleLoad, 2000, (void **ret_module, const char *path))                                                     \
	X(ModuleGetFunction, 2000, (void **ret_function, void *module, const char *name))                              \
	X(LaunchKernel, 7000,                                                                                          \
		(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,  \
			unsigned int block_y, unsigned int block_z, unsigned int shared, stream of, void **parameters, \
			void **extra))

/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration */
#define MEMBER(name, since, parameters) int(*name) parameters;

static struct {
	void *library;
	void *kernel;
	CALLS(MEMBER)
	KERNEL_CALLS(MEMBER)
} driver;

typedef int (*finder)(const char *name, void **ret_function, int version, uint64_t flags, int *ret_status);

static void must(const char *call, int result)
{
	const char *name = NULL;

	if (result == 0)
		return;
	if (driver.GetErrorName == NULL || driver.GetErrorName(result, &name) != 0 || name == NULL)
		name = "an unknown error";
	fprintf(stderr, "sluice-bench-gpu: %s failed with %s (%d)\n", call, name, result);
	exit(1);
}

#define MUST(name, ...) must("cu" #name, driver.name(__VA_ARGS__))

/* False if a function that is needed is missing. */
static bool find_functions(finder find)
{
	bool all = true;
	void *found;
	int status;

#define FIND(name, since, parameters)                                                                                  \
	found = NULL;                                                                                                  \
	status = 1;                                                                                                    \
	if (find("cu" #name, &found, since, 0, &status) != 0 || status != 0)                                           \
		found = NULL;                                                                                          \
	memcpy(&driver.name, &found, sizeof found);                                                                    \
	all &= found != NULL;
	CALLS(FIND)
	bool needed = all;
	KERNEL_CALLS(FIND)
#undef FIND
	return needed;
}

const char *device_open(void)
{
	context primary;
	finder find;
	void *found;
	int device;

	driver.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (driver.library == NULL)
		return "there is no CUDA driver here (libcuda.so.1)";
	found = dlsym(driver.library, "cuGetProcAddress_v2");
	memcpy(&find, &found, sizeof find);
	if (found == NULL || !find_functions(find))
		return "the CUDA driver is older than CUDA 12";
	if (driver.Init(0) != 0)
		return "the CUDA driver finds no device it can use: see nvidia-smi";
	MUST(DeviceGet, &device, 0);
	MUST(DevicePrimaryCtxRetain, &primary, device);
	MUST(CtxSetCurrent, primary);
	return NULL;
}

bool device_is_standin(void)
{
	return dlsym(driver.library, "standin_functions") != NULL;
}

struct CUstream_st *device_stream(void)
{
	stream made;

	MUST(StreamCreate, &made, 1); /* does not wait for the default stream */
	return made;
}

void device_synchronize(struct CUstream_st *of)
{
	MUST(StreamSynchronize, of);
}

uintptr_t device_allocate(size_t bytes)
{
	address memory;

	MUST(MemAlloc, &memory, bytes);
	return (uintptr_t)memory;
}

void *device_allocate_pinned(size_t bytes)
{
	void *memory;

	MUST(MemHostAlloc, &memory, bytes, 0);
	return memory;
}

void device_free_pinned(void *memory)
{
	MUST(MemFreeHost, memory);
}

void device_copy(uintptr_t to, const void *from, size_t bytes, struct CUstream_st *of)
{
	MUST(MemcpyHtoDAsync, to, from, bytes, of);
}

void device_call(struct CUstream_st *of, void (*call)(void *argument), void *argument)
{
	MUST(LaunchHostFunc, of, call, argument);
}

/* ---- the kernel ---- */

bool device_has_kernel(const char **ret_why)
{
	void *module;

	*ret_why = "it was built without the CUDA toolkit (nvcc)";
	if (BENCH_KERNELS[0] == '\0')
		return false;
	*ret_why = "the driver cannot load it";
	if (driver.ModuleLoad == NULL || driver.ModuleGetFunction == NULL || driver.LaunchKernel == NULL ||
		driver.ModuleLoad(&module, BENCH_KERNELS) != 0)
		return false;
	return driver.ModuleGetFunction(&driver.kernel, module, "sum_tokens") == 0;
}

void device_sum(uintptr_t from, uint32_t count, uintptr_t to, struct CUstream_st *of)
{
	address source = from;
	address target = to;
	void *parameters[] = {&source, &count, &target};

	MUST(LaunchKernel, driver.kernel, 1, 1, 1, 1024, 1, 1, 0, of, parameters, NULL);
}
