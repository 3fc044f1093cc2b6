/* SPDX-License-Identifier: Apache-2.0 */
#include "mappings.h"

#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <stddef.h>
#include <sys/mman.h>

#include "files.h"
#include "sandbox.h"

#define GUARD (UINT64_C(64) << 10)
#define SMALL (UINT64_C(256) << 10) /* what most views can hold; others, all of a file */
#define VIEWS 1024

struct view {
	uint8_t *base;
	uint64_t capacity;
	uint64_t bytes;             /* mapped, from the start */
	struct description *source; /* NULL: not in use */
	struct view *next;
	bool writable;
};

uint8_t *mappings_start;
static uint64_t reserved = GUARD; /* bytes from there on that views have */
static ptrdiff_t origin_distance[MAPPINGS_ROOM / GUARD];
static struct view views[VIEWS];
static unsigned view_count;
static struct view *views_of[FILES_MOST];
static struct view *in_use[VIEWS];
static unsigned in_use_count;

void *__real_mmap64(void *base, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *base, size_t bytes);
void *__wrap_mmap64(void *base, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *base, size_t bytes);

void mappings_reserve(void)
{
	mappings_start =
		__real_mmap64(NULL, MAPPINGS_ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mappings_start == MAP_FAILED)
		fail("no room for mappings");
}

const uint8_t *mappings_origin(const void *address)
{
	return (const uint8_t *)address +
	       origin_distance[((const uint8_t *)address - mappings_start) / (ptrdiff_t)GUARD];
}

static void note_origin(const uint8_t *base, uint64_t capacity, const uint8_t *origin)
{
	for (uint64_t offset = 0; offset < capacity; offset += GUARD)
		origin_distance[(uint64_t)(base + offset - mappings_start) / GUARD] = origin - base;
}

static struct view *make_view(const struct description *source, uint64_t capacity, bool writable)
{
	uint64_t offset;
	unsigned index;
	int fd = files_source_place(source, &offset, &index);
	if (view_count == VIEWS || reserved + capacity + GUARD > MAPPINGS_ROOM)
		return NULL;
	void *base = __real_mmap64(mappings_start + reserved, capacity, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
	if (base == MAP_FAILED)
		fail("no view of a file");
	reserved += capacity + GUARD;
	note_origin(base, capacity, files_source_bytes(source));
	__asan_poison_memory_region(base, capacity);
	struct view *view = &views[view_count++];
	*view = (struct view){.base = base, .capacity = capacity, .next = views_of[index], .writable = writable};
	views_of[index] = view;
	return view;
}

static struct view *find_view(const struct description *source, uint64_t bytes, bool writable)
{
	uint64_t offset;
	unsigned index;
	files_source_place(source, &offset, &index);
	struct view *view = views_of[index];
	while (view != NULL && (view->source != NULL || view->writable != writable || view->capacity < bytes))
		view = view->next;
	return view != NULL ? view : make_view(source, bytes <= SMALL ? SMALL : FILES_LARGEST, writable);
}

static void *map(size_t bytes, bool writable, int fd)
{
	struct description *source = files_source(fd, writable);
	if (source == NULL)
		return MAP_FAILED;
	if (bytes == 0 || (bytes + 4095) / 4096 > (files_source_size(source) + 4095) / 4096)
		fail("a mapping beyond its file");
	struct view *view = find_view(source, bytes, writable);
	if (view == NULL) {
		files_source_done(source);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	view->source = source;
	view->bytes = bytes;
	in_use[in_use_count++] = view;
	__asan_unpoison_memory_region(view->base, bytes);
	return view->base;
}

void *__wrap_mmap64(void *base, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (!files_has(fd))
		return __real_mmap64(base, bytes, protection, flags, fd, offset);
	if (offset != 0 || (flags & ~MAP_FIXED) != MAP_SHARED || (base != NULL) != ((flags & MAP_FIXED) != 0))
		fail("a mapping of another kind");
	/* A large object at an address that suits huge pages: the views here have no choice of theirs. */
	if (base != NULL)
		__real_munmap(base, bytes);
	return map(bytes, (protection & PROT_WRITE) != 0, fd);
}

int __wrap_munmap(void *base, size_t bytes)
{
	for (unsigned i = 0; i < in_use_count; i++) {
		struct view *view = in_use[i];
		if (view->base != base)
			continue;
		if (view->bytes != bytes)
			fail("a mapping is taken away in part");
		in_use[i] = in_use[--in_use_count];
		__asan_poison_memory_region(base, bytes);
		files_source_done(view->source);
		view->source = NULL;
		return 0;
	}
	return __real_munmap(base, bytes);
}

unsigned mappings_count(void)
{
	return in_use_count;
}

bool mappings_hold(const void *data, uint64_t bytes)
{
	const uint8_t *start = data;
	for (unsigned i = 0; i < in_use_count; i++)
		if (start >= in_use[i]->base && (uint64_t)(start - in_use[i]->base) <= in_use[i]->bytes &&
			bytes <= in_use[i]->bytes - (uint64_t)(start - in_use[i]->base))
			return true;
	return false;
}
