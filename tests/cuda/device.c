/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "check.h"

/* The entry points that tests use, with their first versions. */
#define CALLS(X)                                                                                                       \
	X(Init, 2000, (unsigned flags))                                                                                \
	X(DeviceGetCount, 2000, (int *count))                                                                          \
	X(DeviceGet, 2000, (int *device, int ordinal))                                                                 \
	X(DevicePrimaryCtxRetain, 7000, (context_handle * context, int device))                                        \
	X(DevicePrimaryCtxRelease, 11000, (int device))                                                                \
	X(CtxCreate, 3020, (context_handle * context, unsigned flags, int device))                                     \
	X(CtxDestroy, 4000, (context_handle context))                                                                  \
	X(CtxGetCurrent, 4000, (context_handle * context))                                                             \
	X(CtxSetCurrent, 4000, (context_handle context))                                                               \
	X(StreamCreate, 2000, (stream_handle * stream, unsigned flags))                                                \
	X(StreamDestroy, 4000, (stream_handle stream))                                                                 \
	X(StreamSynchronize, 2000, (stream_handle stream))                                                             \
	X(StreamBeginCapture, 10010, (stream_handle stream, int mode))                                                 \
	X(StreamEndCapture, 10000, (stream_handle stream, void **graph))                                               \
	X(LaunchHostFunc, 10000, (stream_handle stream, void (*call)(void *), void *argument))                         \
	X(MemAlloc, 3020, (unsigned long long *address, size_t bytes))                                                 \
	X(MemFree, 3020, (unsigned long long address))                                                                 \
	X(MemcpyDtoH, 3020, (void *to, unsigned long long from, size_t bytes))

static struct {
	void *library;
	const struct standin *standin;
	bool started;
	bool ruined;
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration */
#define MEMBER(name, since, parameters) int(*name) parameters;
	CALLS(MEMBER)
#undef MEMBER
} driver;

typedef int (*finder)(const char *, void **, int, uint64_t, int *);

static void open_driver(void)
{
	if (driver.library)
		return;
	driver.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (driver.library)
		driver.standin = dlsym(driver.library, STANDIN_SYMBOL);
}

static void start_driver(void)
{
	finder find;
	void *found;
	int status;

	open_driver();
	check(driver.library != NULL);
	if (driver.started)
		return;
	found = dlsym(driver.library, "cuGetProcAddress_v2");
	check(found != NULL);
	memcpy(&find, &found, sizeof find);
#define FIND(name, since, parameters)                                                                                  \
	check_equal(0, find("cu" #name, &found, since, 0, &status));                                                   \
	check(found != NULL);                                                                                          \
	memcpy(&driver.name, &found, sizeof found);
	CALLS(FIND)
#undef FIND
	check_equal(0, driver.Init(0));
	driver.started = true;
}

bool device_is_standin(void)
{
	open_driver();
	return driver.standin != NULL;
}

const struct standin *standin(void)
{
	open_driver();
	return driver.standin;
}

struct standin_counts standin_count(void)
{
	struct standin_counts counts;

	check(standin() != NULL);
	standin()->count(&counts);
	return counts;
}

void device_expect_ruins(void)
{
	driver.ruined = true;
}

void device_check_left(void)
{
	struct standin_counts counts;

	if (!driver.library || !driver.standin)
		return;
	driver.standin->count(&counts);
	if (counts.violations)
		fprintf(stderr, "the driver complains: %s\n", counts.violation);
	check_equal(0, counts.violations);
	if (driver.ruined)
		return;
	check_equal(0, counts.registrations);
	check_equal(0, counts.events);
	check_equal(0, counts.allocations);
	check_equal(0, counts.retained);
}

/* ---- contexts ---- */

context_handle device_retain(int ordinal)
{
	context_handle context;
	int device;

	start_driver();
	check_equal(0, driver.DeviceGet(&device, ordinal));
	check_equal(0, driver.DevicePrimaryCtxRetain(&context, device));
	return context;
}

context_handle device_use(int ordinal)
{
	context_handle context = device_retain(ordinal);

	check_equal(0, driver.CtxSetCurrent(context));
	return context;
}

void device_let_go(int ordinal)
{
	check_equal(0, driver.CtxSetCurrent(NULL));
	check_equal(0, driver.DevicePrimaryCtxRelease(ordinal));
}

context_handle device_new_context(int ordinal)
{
	context_handle context;

	start_driver();
	check_equal(0, driver.CtxCreate(&context, 0, ordinal));
	return context;
}

void device_end_context(context_handle context)
{
	check_equal(0, driver.CtxDestroy(context));
}

context_handle device_current(void)
{
	context_handle context;

	start_driver();
	check_equal(0, driver.CtxGetCurrent(&context));
	return context;
}

void device_set_current(context_handle context)
{
	start_driver();
	check_equal(0, driver.CtxSetCurrent(context));
}

int device_count(void)
{
	int count;

	start_driver();
	check_equal(0, driver.DeviceGetCount(&count));
	return count;
}

/* ---- streams and memory ---- */

stream_handle device_stream(void)
{
	stream_handle stream;

	check_equal(0, driver.StreamCreate(&stream, 1)); /* waits for no default stream */
	return stream;
}

stream_handle device_blocking_stream(void)
{
	stream_handle stream;

	check_equal(0, driver.StreamCreate(&stream, 0));
	return stream;
}

void device_end_stream(stream_handle stream)
{
	check_equal(0, driver.StreamDestroy(stream));
}

void device_synchronize(stream_handle stream)
{
	check_equal(0, driver.StreamSynchronize(stream));
}

void device_begin_capture(stream_handle stream)
{
	check_equal(0, driver.StreamBeginCapture(stream, 2)); /* relaxed: other threads and streams go on */
}

void device_begin_strict_capture(stream_handle stream)
{
	check_equal(0, driver.StreamBeginCapture(stream, 0));
}

void device_end_spoilt_capture(stream_handle stream)
{
	void *graph;

	check(driver.StreamEndCapture(stream, &graph) != 0);
}

void device_end_capture(stream_handle stream)
{
	void *graph; /* stays */

	check_equal(0, driver.StreamEndCapture(stream, &graph));
}

uintptr_t device_allocate(size_t bytes)
{
	unsigned long long address;

	check_equal(0, driver.MemAlloc(&address, bytes));
	return (uintptr_t)address;
}

void device_free(uintptr_t address)
{
	check_equal(0, driver.MemFree(address));
}

void device_read(void *to, uintptr_t from, size_t bytes)
{
	check_equal(0, driver.MemcpyDtoH(to, from, bytes));
}

/* ---- gates ---- */

static void wait_for_gate(void *argument)
{
	struct device_gate *gate = argument;
	const struct timespec moment = {.tv_nsec = 50000};

	while (!atomic_load(&gate->open))
		nanosleep(&moment, NULL);
}

void device_hold(stream_handle stream, struct device_gate *gate)
{
	atomic_store(&gate->open, 0);
	check_equal(0, driver.LaunchHostFunc(stream, wait_for_gate, gate));
}

void device_let_on(struct device_gate *gate)
{
	atomic_store(&gate->open, 1);
}

void device_call(stream_handle stream, void (*call)(void *argument), void *argument)
{
	check_equal(0, driver.LaunchHostFunc(stream, call, argument));
}
