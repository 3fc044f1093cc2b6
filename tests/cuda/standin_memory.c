/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's memory: what is registered, and what is on the device, which is the process's own memory. */
#include "standin_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_PIECES   512
#define REGISTER_MOST (UINT64_C(1) << 30)

enum { PORTABLE = 1, DEVICEMAP = 2, READ_ONLY = 8 };
enum { POOLED = 1 }; /* of what was allocated in stream order */

#define CAN_USE_HOST_POINTER 91
#define CAN_READ_ONLY        113

/* Where the device sees registered memory if not where the CPU does: each registration elsewhere. */
#define DEVICE_SIDE UINT64_C(0x4000000000000000)

struct piece {
	uint8_t *base;
	size_t bytes;
	unsigned flags;
	device_address device; /* of a registration */
};

static struct piece registered[MOST_PIECES];
static struct piece allocated[MOST_PIECES];

static struct piece *find(struct piece *pieces, const void *memory)
{
	for (unsigned i = 0; i < MOST_PIECES; i++)
		if (pieces[i].bytes && (const uint8_t *)memory >= pieces[i].base &&
			(const uint8_t *)memory < pieces[i].base + pieces[i].bytes)
			return &pieces[i];
	return NULL;
}

static struct piece *add(struct piece *pieces, uint8_t *base, size_t bytes)
{
	for (unsigned i = 0; i < MOST_PIECES; i++)
		if (!pieces[i].bytes) {
			pieces[i] = (struct piece){.base = base, .bytes = bytes};
			return &pieces[i];
		}
	return NULL;
}

static bool overlaps(const uint8_t *base, size_t bytes)
{
	for (unsigned i = 0; i < MOST_PIECES; i++)
		if (registered[i].bytes && base < registered[i].base + registered[i].bytes &&
			registered[i].base < base + bytes)
			return true;
	return false;
}

/* Whether every page is mapped, and so that this process may write to it if that is asked. */
static bool is_mapped(const uint8_t *base, size_t bytes, bool writable)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	uintptr_t at = (uintptr_t)base;
	char line[1024];

	while (maps && at < (uintptr_t)base + bytes && fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		char rights[8];

		if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && at >= from && at < to &&
			(!writable || rights[1] == 'w'))
			at = to;
	}
	if (maps)
		fclose(maps);
	return at >= (uintptr_t)base + bytes;
}

static int cuMemHostRegister(void *memory, size_t bytes, unsigned flags)
{
	context_handle context;
	const int result = standin_enter_unsafe("cuMemHostRegister", &context);
	const bool read_only = (flags & READ_ONLY) != 0;
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	struct piece *piece;

	if (result)
		return result;
	if (!bytes || bytes > REGISTER_MOST || (uintptr_t)memory % page || bytes % page ||
		(flags & ~(unsigned)(PORTABLE | DEVICEMAP | READ_ONLY)) || !is_mapped(memory, bytes, false)) {
		standin_violation("%zu bytes at %p were to be registered with flags %#x", bytes, memory, flags);
		return INVALID_VALUE;
	}
	if (!is_mapped(memory, bytes, !read_only && standin_is_strict()))
		return INVALID_VALUE;
	if (read_only && !standin_attribute(CAN_READ_ONLY)) {
		standin_violation("read-only registration where the device has none");
		return NOT_SUPPORTED;
	}
	pthread_mutex_lock(&standin_mutex);
	if (overlaps(memory, bytes)) {
		pthread_mutex_unlock(&standin_mutex);
		standin_violation("memory registered twice");
		return ALREADY_REGISTERED;
	}
	piece = add(registered, memory, bytes);
	if (piece) {
		piece->flags = flags;
		piece->device = standin_attribute(CAN_USE_HOST_POINTER)
					? (device_address)(uintptr_t)memory
					: DEVICE_SIDE + ((device_address)(piece - registered) << 44);
		standin_counts.registrations++;
		standin_counts.registered_ever++;
		standin_counts.read_only += read_only;
		standin_counts.registered_bytes += bytes;
		standin_counts.largest = bytes > standin_counts.largest ? bytes : standin_counts.largest;
	}
	pthread_mutex_unlock(&standin_mutex);
	return piece ? OK : OUT_OF_MEMORY;
}

static int cuMemHostUnregister(void *memory)
{
	context_handle context;
	const int result = standin_enter_unsafe("cuMemHostUnregister", &context);
	struct piece *piece;

	if (result)
		return result;
	pthread_mutex_lock(&standin_mutex);
	piece = find(registered, memory);
	if (piece && piece->base == memory) {
		standin_counts.registrations--;
		standin_counts.registered_bytes -= piece->bytes;
		if (!is_mapped(piece->base, piece->bytes, false))
			standin_violation("memory unmapped while it was registered");
		*piece = (struct piece){0};
		pthread_mutex_unlock(&standin_mutex);
		return OK;
	}
	pthread_mutex_unlock(&standin_mutex);
	standin_violation("memory unregistered that was not registered");
	return NOT_REGISTERED;
}

static int cuMemHostGetDevicePointer(device_address *address, void *memory, unsigned flags)
{
	context_handle context;
	const int result = standin_enter_context("cuMemHostGetDevicePointer", &context);
	struct piece *piece;

	if (result || flags)
		return result ? result : INVALID_VALUE;
	pthread_mutex_lock(&standin_mutex);
	piece = find(registered, memory);
	if (piece && (piece->flags & DEVICEMAP))
		*address = piece->device + (device_address)((uint8_t *)memory - piece->base);
	else
		piece = NULL;
	pthread_mutex_unlock(&standin_mutex);
	return piece ? OK : INVALID_VALUE;
}

/* Counted as allocated on the device, not as registered: it is the caller's own and no lane. */
static int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
	context_handle context;
	int result = standin_enter_unsafe("cuMemHostAlloc", &context);
	struct piece *piece;

	(void)flags;
	if (result)
		return result;
	*memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	if (!*memory)
		return OUT_OF_MEMORY;
	pthread_mutex_lock(&standin_mutex);
	piece = add(registered, *memory, bytes);
	if (piece)
		piece->device = (device_address)(uintptr_t)*memory;
	pthread_mutex_unlock(&standin_mutex);
	return piece ? OK : OUT_OF_MEMORY;
}

static int cuMemFreeHost(void *memory)
{
	context_handle context;
	const int result = standin_enter_unsafe("cuMemFreeHost", &context);
	struct piece *piece;

	if (result)
		return result;
	pthread_mutex_lock(&standin_mutex);
	piece = find(registered, memory);
	if (piece && piece->base == memory)
		*piece = (struct piece){0};
	pthread_mutex_unlock(&standin_mutex);
	free(memory);
	return OK;
}

enum standin_where standin_registered(const void *memory, size_t bytes, bool for_writing)
{
	enum standin_where where = STANDIN_OUTSIDE;
	struct piece *first, *last;

	pthread_mutex_lock(&standin_mutex);
	first = find(registered, memory);
	last = find(registered, (const uint8_t *)memory + bytes - 1);
	if (first && first == last && !(for_writing && (first->flags & READ_ONLY)))
		where = STANDIN_INSIDE;
	else if (first || last)
		where = STANDIN_ACROSS;
	pthread_mutex_unlock(&standin_mutex);
	return where;
}

void *standin_host_of(device_address address, size_t bytes)
{
	uint8_t *host = NULL;

	pthread_mutex_lock(&standin_mutex);
	for (unsigned i = 0; i < MOST_PIECES && !host; i++) {
		if (registered[i].bytes && address >= registered[i].device &&
			address + bytes <= registered[i].device + registered[i].bytes)
			host = registered[i].base + (address - registered[i].device);
		else if (allocated[i].bytes && address >= (uintptr_t)allocated[i].base &&
			 address + bytes <= (uintptr_t)allocated[i].base + allocated[i].bytes)
			host = allocated[i].base + (address - (uintptr_t)allocated[i].base);
	}
	pthread_mutex_unlock(&standin_mutex);
	return host;
}

static int allocate(device_address *address, size_t bytes, unsigned flags)
{
	uint8_t *memory = bytes ? aligned_alloc(256, (bytes + 255) / 256 * 256) : NULL;
	struct piece *piece;

	if (!memory)
		return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
	memset(memory, 0xdd, bytes);
	pthread_mutex_lock(&standin_mutex);
	piece = add(allocated, memory, bytes);
	if (piece) {
		piece->flags = flags;
		standin_counts.allocations++;
	}
	pthread_mutex_unlock(&standin_mutex);
	if (!piece) {
		free(memory);
		return OUT_OF_MEMORY;
	}
	*address = (device_address)(uintptr_t)memory;
	return OK;
}

/* Memory may still be written to by copies under way, which find it gone. */
static int give_back(device_address address)
{
	struct piece *piece;

	pthread_mutex_lock(&standin_mutex);
	piece = find(allocated, (const void *)(uintptr_t)address);
	if (piece && (uintptr_t)piece->base == address) {
		free(piece->base);
		*piece = (struct piece){0};
		standin_counts.allocations--;
	} else {
		piece = NULL;
	}
	pthread_mutex_unlock(&standin_mutex);
	if (!piece)
		standin_violation("device memory freed that was not allocated");
	return piece ? OK : INVALID_VALUE;
}

static int cuMemAlloc(device_address *address, size_t bytes)
{
	context_handle context;
	const int result = standin_enter_unsafe("cuMemAlloc", &context);

	return result ? result : allocate(address, bytes, 0);
}

static int cuMemFree(device_address address)
{
	context_handle context;
	int result = standin_enter_unsafe("cuMemFree", &context);

	if (!result)
		result = standin_synchronize(context); /* as the real one does */
	return result ? result : give_back(address);
}

static int cuMemAllocAsync(device_address *address, size_t bytes, stream_handle stream)
{
	context_handle context;
	int result = standin_enter_context("cuMemAllocAsync", &context);

	if (!result)
		result = standin_check_stream("cuMemAllocAsync", context, stream);
	return result ? result : allocate(address, bytes, POOLED);
}

static int cuMemFreeAsync(device_address address, stream_handle stream)
{
	context_handle context;
	const int result = standin_enter_context("cuMemFreeAsync", &context);
	struct piece *piece;

	if (result)
		return result;
	pthread_mutex_lock(&standin_mutex);
	piece = find(allocated, (const void *)(uintptr_t)address);
	if (piece && !(piece->flags & POOLED))
		piece = NULL;
	pthread_mutex_unlock(&standin_mutex);
	if (!piece) {
		standin_violation("memory freed in stream order that was not allocated so");
		return INVALID_VALUE;
	}
	return standin_submit_free(context, stream, address, give_back);
}

/* ---- by name ---- */

#define EXPORT(name) extern __typeof__(name) standin_##name __attribute__((alias(#name)));

EXPORT(cuMemHostRegister)
EXPORT(cuMemHostUnregister)
EXPORT(cuMemHostGetDevicePointer)
EXPORT(cuMemHostAlloc)
EXPORT(cuMemFreeHost)
EXPORT(cuMemAlloc)
EXPORT(cuMemFree)
EXPORT(cuMemAllocAsync)
EXPORT(cuMemFreeAsync)
