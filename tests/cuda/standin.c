/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's entry points for devices and contexts; finding entry points; what tests set. */
#include "standin_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTEXT_MAGIC UINT64_C(0x636f6e74657874)
#define MOST_NESTED   16
#define MOST_CONTEXTS 64

pthread_mutex_t standin_mutex = PTHREAD_MUTEX_INITIALIZER;
struct standin_counts standin_counts;

static struct {
	int devices;
	int version;
	bool strict;
	bool broken;
	pid_t owner; /* the process that called cuInit; 0: none did */
	char hidden[64];
	struct CUctx_st primary[MOST_DEVICES];
	struct CUctx_st others[MOST_CONTEXTS];
	unsigned other_count;
	struct {
		int attribute;
		int value;
	} attributes[16];
	unsigned attribute_count;
} world = {.devices = 2, .version = 12040, .strict = true};

static struct {
	const char *name;
	unsigned calls;
	unsigned skip;
	int result;
} entries[] = {
#define ENTRY(name, since) {#name, 0, 0, 0},
	STANDIN_ENTRY_POINTS(ENTRY)
#undef ENTRY
};

static _Thread_local context_handle nested[MOST_NESTED];
static _Thread_local unsigned nested_count;

/* ---- what every call does ---- */

void standin_violation(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(standin_counts.violation, sizeof standin_counts.violation, format, arguments);
	va_end(arguments);
	__atomic_fetch_add(&standin_counts.violations, 1, __ATOMIC_RELAXED);
}

bool standin_is_broken(void)
{
	return __atomic_load_n(&world.broken, __ATOMIC_RELAXED);
}

bool standin_is_strict(void)
{
	return world.strict;
}

int standin_attribute(int attribute)
{
	for (unsigned i = 0; i < world.attribute_count; i++)
		if (world.attributes[i].attribute == attribute)
			return world.attributes[i].value;
	return 1;
}

static unsigned entry_of(const char *name)
{
	unsigned i = 0;

	while (i < sizeof entries / sizeof entries[0] && strcmp(entries[i].name, name) != 0)
		i++;
	if (i == sizeof entries / sizeof entries[0])
		abort();
	return i;
}

/* Whether this call is the one that was to fail. */
static int planned(const char *name)
{
	const unsigned i = entry_of(name);
	int result = OK;

	pthread_mutex_lock(&standin_mutex);
	entries[i].calls++;
	if (entries[i].result) {
		if (entries[i].skip) {
			entries[i].skip--;
		} else {
			result = entries[i].result;
			entries[i].result = OK;
		}
	}
	pthread_mutex_unlock(&standin_mutex);
	return result;
}

int standin_enter(const char *name)
{
	const int result = planned(name);

	if (result)
		return result;
	return world.owner == getpid() ? OK : NOT_INITIALIZED;
}

/* Destroyed, or primary and retained by nobody any more. */
static bool is_gone(context_handle context)
{
	const bool primary = context >= world.primary && context < world.primary + MOST_DEVICES;

	return primary ? __atomic_load_n(&context->retained, __ATOMIC_RELAXED) == 0
		       : __atomic_load_n(&context->destroyed, __ATOMIC_RELAXED);
}

int standin_enter_context(const char *name, context_handle *ret_context)
{
	const int result = standin_enter(name);

	if (result)
		return result;
	if (!nested_count || !nested[nested_count - 1])
		return INVALID_CONTEXT;
	if (is_gone(nested[nested_count - 1])) {
		standin_violation("%s in a context that is gone", name);
		return CONTEXT_IS_DESTROYED;
	}
	*ret_context = nested[nested_count - 1];
	return standin_is_broken() ? ILLEGAL_ADDRESS : OK;
}

/* ---- devices ---- */

static int cuInit(unsigned flags)
{
	const int result = planned("cuInit");

	if (result || flags)
		return result ? result : INVALID_VALUE;
	/* What a real driver does in the child of a process that has used it. */
	if (world.owner && world.owner != getpid())
		return NOT_INITIALIZED;
	if (!world.devices)
		return NO_DEVICE;
	world.owner = getpid();
	return OK;
}

static int cuDriverGetVersion(int *version)
{
	const int result = planned("cuDriverGetVersion");

	*version = world.version;
	return result;
}

static int cuGetErrorName(int code, const char **text)
{
	static const struct {
		int code;
		const char *name;
	} names[] = {{OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"}, {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
		{ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {800, "CUDA_ERROR_NOT_PERMITTED"},
		{NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"}, {999, "CUDA_ERROR_UNKNOWN"}};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (names[i].code == code) {
			*text = names[i].name;
			return OK;
		}
	*text = NULL;
	return INVALID_VALUE;
}

static int cuDeviceGetCount(int *count)
{
	const int result = standin_enter("cuDeviceGetCount");

	if (!result)
		*count = world.devices;
	return result;
}

static int cuDeviceGet(int *device, int ordinal)
{
	const int result = standin_enter("cuDeviceGet");

	if (result)
		return result;
	*device = ordinal;
	return ordinal >= 0 && ordinal < world.devices ? OK : INVALID_DEVICE;
}

static int cuDeviceGetName(char *name, int bytes, int device)
{
	const int result = standin_enter("cuDeviceGetName");

	if (!result)
		snprintf(name, (size_t)bytes, "stand-in %d", device);
	return result;
}

static int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	const int result = standin_enter("cuDeviceGetAttribute");

	if (result)
		return result;
	*value = standin_attribute(attribute);
	return device >= 0 && device < world.devices ? OK : INVALID_DEVICE;
}

/* ---- contexts ---- */

static int cuDevicePrimaryCtxRetain(context_handle *context, int device)
{
	const int result = standin_enter("cuDevicePrimaryCtxRetain");

	if (result)
		return result;
	if (device < 0 || device >= world.devices)
		return INVALID_DEVICE;
	pthread_mutex_lock(&standin_mutex);
	world.primary[device].magic = CONTEXT_MAGIC;
	world.primary[device].device = device;
	__atomic_fetch_add(&world.primary[device].retained, 1, __ATOMIC_RELAXED);
	standin_counts.retained++;
	pthread_mutex_unlock(&standin_mutex);
	*context = &world.primary[device];
	return OK;
}

static int cuDevicePrimaryCtxRelease(int device)
{
	const int result = standin_enter("cuDevicePrimaryCtxRelease");
	bool last;

	if (result)
		return result;
	pthread_mutex_lock(&standin_mutex);
	if (!world.primary[device].retained) {
		pthread_mutex_unlock(&standin_mutex);
		standin_violation("a primary context released more often than retained");
		return INVALID_CONTEXT;
	}
	last = __atomic_sub_fetch(&world.primary[device].retained, 1, __ATOMIC_RELAXED) == 0;
	standin_counts.retained--;
	pthread_mutex_unlock(&standin_mutex);
	if (last)
		standin_end_streams(&world.primary[device]);
	return OK;
}

static int cuCtxCreate(context_handle *context, unsigned flags, int device)
{
	const int result = standin_enter("cuCtxCreate");

	(void)flags;
	if (result)
		return result;
	if (world.other_count == MOST_CONTEXTS)
		return OUT_OF_MEMORY;
	*context = &world.others[world.other_count++];
	(*context)->magic = CONTEXT_MAGIC;
	(*context)->device = device;
	nested[nested_count++] = *context;
	return OK;
}

/* The memory stays, so that who uses it afterwards is found out. */
static int cuCtxDestroy(context_handle context)
{
	const int result = standin_enter("cuCtxDestroy");

	if (result)
		return result;
	standin_end_streams(context);
	__atomic_store_n(&context->destroyed, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < nested_count; i++)
		if (nested[i] == context)
			nested[i] = NULL;
	return OK;
}

static int cuCtxGetCurrent(context_handle *context)
{
	const int result = standin_enter("cuCtxGetCurrent");

	if (!result)
		*context = nested_count ? nested[nested_count - 1] : NULL;
	return result;
}

static int cuCtxSetCurrent(context_handle context)
{
	const int result = standin_enter("cuCtxSetCurrent");

	if (result)
		return result;
	if (!nested_count)
		nested_count = 1;
	nested[nested_count - 1] = context;
	return OK;
}

static int cuCtxPushCurrent(context_handle context)
{
	const int result = standin_enter("cuCtxPushCurrent");

	if (result)
		return result;
	if (!context || context->magic != CONTEXT_MAGIC)
		return INVALID_CONTEXT;
	if (is_gone(context)) {
		standin_violation("a context pushed that is gone");
		return CONTEXT_IS_DESTROYED;
	}
	if (nested_count == MOST_NESTED) {
		standin_violation("contexts pushed and not popped");
		return INVALID_VALUE;
	}
	nested[nested_count++] = context;
	return OK;
}

static int cuCtxPopCurrent(context_handle *context)
{
	const int result = standin_enter("cuCtxPopCurrent");

	if (result)
		return result;
	if (!nested_count) {
		standin_violation("a context popped that was not pushed");
		return INVALID_CONTEXT;
	}
	*context = nested[--nested_count];
	return OK;
}

static int cuCtxGetDevice(int *device)
{
	context_handle context;
	const int result = standin_enter_context("cuCtxGetDevice", &context);

	if (!result)
		*device = context->device;
	return result;
}

static int cuCtxSynchronize(void)
{
	context_handle context;
	const int result = standin_enter_context("cuCtxSynchronize", &context);

	return result ? result : standin_synchronize(context);
}

/* ---- finding entry points ---- */

#define HERE(name)                                                                                                     \
	if (!strcmp(symbol, #name))                                                                                    \
		return (void (*)(void))(name);
#define DECLARED(name) extern void standin_##name(void);
#define ELSEWHERE(name)                                                                                                \
	if (!strcmp(symbol, #name))                                                                                    \
		return standin_##name;

#define OTHERS(X)                                                                                                      \
	X(cuMemHostRegister)                                                                                           \
	X(cuMemHostUnregister)                                                                                         \
	X(cuMemHostGetDevicePointer)                                                                                   \
	X(cuMemcpyHtoDAsync)                                                                                           \
	X(cuMemcpyDtoH)                                                                                                \
	X(cuMemHostAlloc)                                                                                              \
	X(cuMemFreeHost)                                                                                               \
	X(cuMemAlloc)                                                                                                  \
	X(cuMemFree)                                                                                                   \
	X(cuMemAllocAsync)                                                                                             \
	X(cuMemFreeAsync)                                                                                              \
	X(cuStreamCreate)                                                                                              \
	X(cuStreamDestroy)                                                                                             \
	X(cuStreamGetCtx)                                                                                              \
	X(cuStreamIsCapturing)                                                                                         \
	X(cuStreamBeginCapture)                                                                                        \
	X(cuStreamEndCapture)                                                                                          \
	X(cuThreadExchangeStreamCaptureMode)                                                                           \
	X(cuStreamSynchronize)                                                                                         \
	X(cuStreamWaitEvent)                                                                                           \
	X(cuStreamWriteValue64)                                                                                        \
	X(cuLaunchHostFunc)                                                                                            \
	X(cuEventCreate)                                                                                               \
	X(cuEventRecord)                                                                                               \
	X(cuEventQuery)                                                                                                \
	X(cuEventDestroy)

OTHERS(DECLARED)

static void (*function_of(const char *symbol))(void)
{
	HERE(cuInit)
	HERE(cuDriverGetVersion)
	HERE(cuGetErrorName)
	HERE(cuDeviceGetCount)
	HERE(cuDeviceGet)
	HERE(cuDeviceGetName)
	HERE(cuDeviceGetAttribute)
	HERE(cuDevicePrimaryCtxRetain)
	HERE(cuDevicePrimaryCtxRelease)
	HERE(cuCtxCreate)
	HERE(cuCtxDestroy)
	HERE(cuCtxGetCurrent)
	HERE(cuCtxSetCurrent)
	HERE(cuCtxPushCurrent)
	HERE(cuCtxPopCurrent)
	HERE(cuCtxGetDevice)
	HERE(cuCtxSynchronize)
	OTHERS(ELSEWHERE)
	return NULL;
}

static int since(const char *symbol)
{
#define SINCE(name, version)                                                                                           \
	if (!strcmp(symbol, #name))                                                                                    \
		return version;
	STANDIN_ENTRY_POINTS(SINCE)
#undef SINCE
	return 0;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status);
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags);

/* Statuses: 0 found, 1 no such symbol, 2 none of that version. */
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
	void (*found)(void) = function_of(symbol);
	const int added = since(symbol);
	const int result = planned("cuGetProcAddress");

	if (result || flags)
		return result ? result : INVALID_VALUE;
	*function = NULL;
	*status = !found || !strcmp(symbol, world.hidden) || added > world.version ? 1 : version < added ? 2 : 0;
	if (!*status)
		memcpy(function, &found, sizeof found);
	return OK;
}

int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags)
{
	int status = 0;
	const int result = cuGetProcAddress_v2(symbol, function, version, flags, &status);

	return result ? result : status ? 500 : OK;
}

/* ---- for tests ---- */

static void fail(const char *name, unsigned skip, int result)
{
	pthread_mutex_lock(&standin_mutex);
	entries[entry_of(name)].skip = skip;
	entries[entry_of(name)].result = result;
	pthread_mutex_unlock(&standin_mutex);
}

static unsigned calls(const char *name)
{
	unsigned count;

	pthread_mutex_lock(&standin_mutex);
	count = entries[entry_of(name)].calls;
	entries[entry_of(name)].calls = 0;
	pthread_mutex_unlock(&standin_mutex);
	return count;
}

static void set_attribute(int attribute, int value)
{
	unsigned i = 0;

	while (i < world.attribute_count && world.attributes[i].attribute != attribute)
		i++;
	world.attributes[i].attribute = attribute;
	world.attributes[i].value = value;
	world.attribute_count += i == world.attribute_count;
}

static void set_version(int version)
{
	world.version = version;
}

static void hide(const char *name)
{
	snprintf(world.hidden, sizeof world.hidden, "%s", name ? name : "");
}

static void set_devices(int count)
{
	world.devices = count;
}

static void set_strict(bool strict)
{
	world.strict = strict;
}

static void count_all(struct standin_counts *ret_counts)
{
	pthread_mutex_lock(&standin_mutex);
	*ret_counts = standin_counts;
	pthread_mutex_unlock(&standin_mutex);
}

static void break_devices(void)
{
	__atomic_store_n(&world.broken, true, __ATOMIC_RELAXED);
}

extern const struct standin standin_functions;

const struct standin standin_functions = {
	.size = sizeof(struct standin),
	.fail = fail,
	.calls = calls,
	.set_attribute = set_attribute,
	.set_version = set_version,
	.hide = hide,
	.set_devices = set_devices,
	.set_strict = set_strict,
	.set_pace = standin_set_pace,
	.count = count_all,
	.break_devices = break_devices,
};
