/* SPDX-License-Identifier: Apache-2.0 */
/* Registering shared memory with the driver, so that the device reads it by DMA, and in place. */
#include "cuda.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "place.h"

/* Drivers have had limits on one registration. */
uint64_t cuda_chunk_bytes = UINT64_C(1) << 30;

static uint64_t chunk_bytes_at(const struct cuda_pin *pin, uint32_t index)
{
	uint64_t before = index * pin->chunk_bytes;
	return pin->bytes - before < pin->chunk_bytes ? pin->bytes - before : pin->chunk_bytes;
}

/*
 * Registers memory that this process can only read. Where the device cannot have it read-only the driver takes the
 * pages for writing, which the mapping allows some drivers and not others.
 */
static int register_read_only(const struct cuda_driver *driver, void *memory, uint64_t bytes)
{
	const unsigned int flags = CUDA_REGISTER_PORTABLE | CUDA_REGISTER_DEVICEMAP;
	if (!driver->read_only)
		return driver->MemHostRegister(memory, bytes, flags);
	return driver->MemHostRegister(memory, bytes, flags | CUDA_REGISTER_READ_ONLY);
}

static int say_why(const struct cuda_driver *driver, const char *call, int result, struct cuda_reason *reason)
{
	int error = cuda_driver_explain(driver, call, result, reason);
	return reason->error =
		       error == -EINVAL || error == -ENODEV || error == -EBUSY || error == -ENOSYS ? -EIO : error;
}

/* Registers all chunks or none. The context was entered. */
static void register_chunks(const struct cuda_driver *driver, struct cuda_pin *pin)
{
	uint32_t done = 0;
	int result = CUDA_SUCCESS;
	while (done < pin->chunks && result == CUDA_SUCCESS) {
		void *memory = pin->base + done * pin->chunk_bytes;
		result = register_read_only(driver, memory, chunk_bytes_at(pin, done));
		done += result == CUDA_SUCCESS;
	}
	if (result == CUDA_SUCCESS)
		return;
	say_why(driver, "cuMemHostRegister", result, &pin->reason);
	while (done-- > 0)
		(void)driver->MemHostUnregister(pin->base + done * pin->chunk_bytes);
}

static void find_addresses(const struct cuda_driver *driver, struct cuda_pin *pin)
{
	for (uint32_t i = 0; i < pin->chunks; i++) {
		unsigned long long address = 0;
		int result = driver->MemHostGetDevicePointer(&address, pin->base + i * pin->chunk_bytes, 0);
		if (result != CUDA_SUCCESS) {
			say_why(driver, "cuMemHostGetDevicePointer", result, &pin->unseen);
			return;
		}
		pin->addresses[i] = (uintptr_t)address;
	}
}

/* What is mapped is. Not all drivers register less. */
static uint64_t whole_pages(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	return (bytes + page - 1) / page * page;
}

static struct cuda_pin *new_pin(const struct consumer_lane *lane)
{
	const struct segment *data = &lane->objects.data;
	uint64_t chunks = (whole_pages(data->mapped_bytes) + cuda_chunk_bytes - 1) / cuda_chunk_bytes;
	struct cuda_pin *pin = calloc(1, sizeof *pin + chunks * sizeof pin->addresses[0]);
	if (pin == NULL)
		return NULL;
	pin->base = data->base;
	pin->bytes = whole_pages(data->mapped_bytes);
	pin->chunk_bytes = cuda_chunk_bytes;
	pin->chunks = (uint32_t)chunks;
	return pin;
}

static void count_lane(struct cuda *cuda, const struct cuda_pin *pin)
{
	pthread_mutex_lock(&cuda->mutex);
	cuda->figures.lanes++;
	if (pin != NULL && pin->reason.error == 0) {
		cuda->figures.pinned_lanes++;
		cuda->figures.pinned_bytes += pin->bytes;
	} else if (pin != NULL) {
		cuda->pin_reason = pin->reason;
	} else {
		cuda_explain(-ENOMEM, &cuda->pin_reason, "out of memory");
	}
	pthread_mutex_unlock(&cuda->mutex);
}

void cuda_pin_lane(struct cuda *cuda, struct consumer_lane *lane)
{
	const struct cuda_driver *driver = cuda->driver;
	struct cuda_pin *pin = new_pin(lane);
	struct cuda_visit visit;
	int result = pin != NULL ? cuda_driver_enter(driver, &visit) : CUDA_SUCCESS;
	if (pin != NULL && result != CUDA_SUCCESS) {
		say_why(driver, "cuCtxPushCurrent", result, &pin->reason);
	} else if (pin != NULL) {
		/* Page by page is slower, and done by the driver with locks held. */
		(void)place_prefault(pin->base, pin->bytes, false);
		register_chunks(driver, pin);
		if (pin->reason.error == 0)
			find_addresses(driver, pin);
		cuda_driver_leave(driver, &visit);
	}
	lane->attachment = pin;
	count_lane(cuda, pin);
}

void cuda_unpin_lane(struct cuda *cuda, struct consumer_lane *lane)
{
	const struct cuda_driver *driver = cuda->driver;
	struct cuda_pin *pin = lane->attachment;
	lane->attachment = NULL;
	bool pinned = pin != NULL && pin->reason.error == 0;
	struct cuda_visit visit;
	/*
	 * What cannot be unregistered any more, its context being gone, is not registered either, or stays until exit.
	 */
	if (pinned && cuda_driver_enter(driver, &visit) == CUDA_SUCCESS) {
		for (uint32_t i = 0; i < pin->chunks; i++) {
			struct cuda_reason reason;
			int result = driver->MemHostUnregister(pin->base + i * pin->chunk_bytes);
			if (result == CUDA_SUCCESS)
				continue;
			cuda_driver_explain(driver, "cuMemHostUnregister", result, &reason);
			(void)cuda_note(cuda, &reason);
		}
		cuda_driver_leave(driver, &visit);
	}
	pthread_mutex_lock(&cuda->mutex);
	cuda->figures.lanes--;
	cuda->figures.pinned_lanes -= pinned;
	cuda->figures.pinned_bytes -= pinned ? pin->bytes : 0;
	pthread_mutex_unlock(&cuda->mutex);
	free(pin);
}

/* ---- acknowledgement words ---- */

/* Registers the pages that hold the words, whole ones; the mapping has at least these. The context was entered. */
static int register_words(struct cuda *cuda)
{
	const struct cuda_driver *driver = cuda->driver;
	uint64_t *words = cuda->consumer->page->words;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t begin = (uintptr_t)words / page * page;
	uintptr_t end = ((uintptr_t)words + sizeof cuda->consumer->page->words + page - 1) / page * page;
	uint8_t *memory = (uint8_t *)words - ((uintptr_t)words - begin);
	unsigned long long address = 0;
	int result = driver->MemHostRegister(memory, end - begin, CUDA_REGISTER_PORTABLE | CUDA_REGISTER_DEVICEMAP);
	if (result != CUDA_SUCCESS)
		return say_why(driver, "cuMemHostRegister", result, &cuda->write_reason);
	result = driver->MemHostGetDevicePointer(&address, words, 0);
	if (result != CUDA_SUCCESS) {
		(void)driver->MemHostUnregister(memory);
		return say_why(driver, "cuMemHostGetDevicePointer", result, &cuda->write_reason);
	}
	cuda->words_page = memory;
	cuda->words_bytes = end - begin;
	cuda->words_address = (uintptr_t)address;
	return 0;
}

void cuda_pin_words(struct cuda *cuda)
{
	const struct cuda_driver *driver = cuda->driver;
	cuda->writes = false;
	if ((cuda->flags & SLUICE_CUDA_NO_STREAM_WRITES) != 0) {
		cuda_explain(-ENOTSUP, &cuda->write_reason, "SLUICE_CUDA_NO_STREAM_WRITES was given");
		return;
	}
	if (!driver->writes) {
		cuda_explain(-ENOTSUP, &cuda->write_reason,
			"the device or its driver has no stream memory operations of 64 bits");
		return;
	}
	struct cuda_visit visit;
	int result = cuda_driver_enter(driver, &visit);
	if (result != CUDA_SUCCESS) {
		say_why(driver, "cuCtxPushCurrent", result, &cuda->write_reason);
		return;
	}
	cuda->writes = register_words(cuda) == 0;
	cuda_driver_leave(driver, &visit);
	cuda->figures.pinned_bytes += cuda->writes ? cuda->words_bytes : 0;
}

void cuda_unpin_words(struct cuda *cuda)
{
	struct cuda_visit visit;
	cuda->writes = false;
	if (cuda->words_page == NULL)
		return;
	if (cuda_driver_enter(cuda->driver, &visit) == CUDA_SUCCESS) {
		(void)cuda->driver->MemHostUnregister(cuda->words_page);
		cuda_driver_leave(cuda->driver, &visit);
	}
	cuda->words_page = NULL;
}
