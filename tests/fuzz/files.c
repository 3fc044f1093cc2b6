/* SPDX-License-Identifier: Apache-2.0 */
#include "files_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox.h"

#define ROOM         (UINT64_C(16) << 20)  /* bytes of all files together; more is ENOSPC */
#define DISTRUSTED   (UINT64_C(128) << 10) /* more than any lane of an image */
#define DESCRIPTIONS 256
#define FIRST_FD     1000000

static struct file files[FILES_MOST]; /* the first is the directory */
static struct {
	struct file *file;
	char text[FILES_NAME];
} names[FILES_NAMES];
static unsigned name_limit; /* none are in use from here on */
static struct description descriptions[DESCRIPTIONS];
static struct description *opened[DESCRIPTIONS];
static int memory_fd = -1;
static uint8_t *memory;
static ino_t last_number;
static uint64_t pages_taken;

/* ---- files ---- */

void files_start(void)
{
	memory_fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (memory_fd < 0 || ftruncate(memory_fd, (off_t)(FILES_MOST * FILES_LARGEST)) != 0)
		fail("no memory");
	memory = mmap(NULL, FILES_MOST * FILES_LARGEST, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	if (memory == MAP_FAILED)
		fail("no memory");
	files[0] = (struct file){.kind = FILES_FOLDER, .mode = 0700, .names = 1, .number = ++last_number};
}

uint8_t *files_bytes(struct file *file)
{
	return memory + (uint64_t)(file - files) * FILES_LARGEST;
}

struct file *files_take(enum files_kind kind, mode_t mode)
{
	for (unsigned i = 1; i < FILES_MOST; i++) {
		struct file *file = &files[i];
		if (file->kind != FILES_FREE)
			continue;
		file->kind = kind;
		file->linkable = false;
		file->mode = mode;
		file->group = getegid();
		file->number = ++last_number;
		file->size = 0;
		return file;
	}
	errno = ENOSPC;
	return NULL;
}

void files_wipe(struct file *file)
{
	memset(files_bytes(file), 0, file->used);
	file->used = 0;
	file->tame = false;
}

static bool is_allocated(const struct file *file, uint64_t page)
{
	return (file->allocated[page / 64] >> page % 64 & 1) != 0;
}

static void forget_page(struct file *file, uint64_t page)
{
	pages_taken -= is_allocated(file, page);
	file->allocated[page / 64] &= ~(UINT64_C(1) << page % 64);
}

static void forget_pages(struct file *file, uint64_t first)
{
	for (uint64_t i = first; i < FILES_PAGES; i++)
		if (file->allocated[i / 64] != 0)
			forget_page(file, i);
}

void files_free_if_unused(struct file *file)
{
	if (file->names > 0 || file->holders > 0)
		return;
	forget_pages(file, 0);
	file->lock_count = 0;
	file->kind = FILES_FREE;
}

uint64_t files_count_pages(const struct file *file)
{
	uint64_t count = 0;
	for (unsigned i = 0; i < FILES_PAGES / 64; i++)
		count += (uint64_t)__builtin_popcountll(file->allocated[i]);
	return count;
}

/* All or nothing. */
bool files_take_pages(struct file *file, uint64_t start, uint64_t end)
{
	uint64_t missing = 0;
	uint64_t first = start / FILES_PAGE;
	uint64_t last = (end + FILES_PAGE - 1) / FILES_PAGE;
	for (uint64_t i = first; i < last; i++)
		missing += !is_allocated(file, i);
	if (pages_taken + missing > ROOM / FILES_PAGE)
		return false;
	pages_taken += missing;
	for (uint64_t i = first; i < last; i++)
		file->allocated[i / 64] |= UINT64_C(1) << i % 64;
	return true;
}

void files_grow(struct file *file, uint64_t size)
{
	file->size = size > file->size ? size : file->size;
	file->used = file->size > file->used ? file->size : file->used;
}

void files_hold(struct file *file)
{
	file->holders++;
}

void files_let_go(struct file *file)
{
	file->holders--;
	files_free_if_unused(file);
}

uint64_t files_size(const struct file *file)
{
	return file->size;
}

void files_write(struct file *file, const void *bytes, uint64_t count, uint64_t offset)
{
	if (file->kind != FILES_REGULAR || offset + count > FILES_LARGEST || count == 0)
		return;
	if (!files_take_pages(file, offset, offset + count))
		return;
	files_grow(file, offset + count);
	memcpy(files_bytes(file) + offset, bytes, count);
}

void files_resize(struct file *file, uint64_t size)
{
	if (size < file->used) {
		memset(files_bytes(file) + size, 0, file->used - size);
		file->used = size;
	}
	forget_pages(file, (size + FILES_PAGE - 1) / FILES_PAGE);
	file->size = size;
	files_grow(file, size);
}

void files_fill_holes(struct file *file)
{
	(void)files_take_pages(file, 0, file->size);
}

void files_punch_page(struct file *file, uint64_t offset)
{
	uint64_t page = offset / FILES_PAGE;
	memset(files_bytes(file) + page * FILES_PAGE, 0, FILES_PAGE);
	forget_page(file, page);
}

void files_distrust(void)
{
	for (unsigned i = 1; i < FILES_MOST; i++)
		files[i].used = files[i].used < DISTRUSTED ? DISTRUSTED : files[i].used;
}

void files_roughen(struct file *file)
{
	file->tame = false;
}

void files_set_mode(struct file *file, mode_t mode)
{
	file->mode = mode & 07777;
}

void files_adopt(struct file *file, uint64_t size, bool tame)
{
	file->size = size;
	file->used = size > file->used ? size : file->used;
	file->tame = tame;
	if (!files_take_pages(file, 0, size))
		fail("no room for an object");
}

/* ---- names ---- */

/* Unlike strcmp, which libFuzzer listens to, for what an input had better contain. */
bool files_same_text(const char *a, const char *b)
{
	while (*a == *b && *a != '\0') {
		a++;
		b++;
	}
	return *a == *b;
}

static int find_name(const char *text)
{
	for (unsigned i = 0; i < name_limit; i++)
		if (names[i].file != NULL && files_same_text(names[i].text, text))
			return (int)i;
	return -1;
}

int files_give_name(struct file *file, const char *text)
{
	unsigned i = 0;
	if (strlen(text) >= FILES_NAME)
		fail("a long name");
	if (find_name(text) >= 0)
		return EEXIST;
	while (i < FILES_NAMES && names[i].file != NULL)
		i++;
	if (i == FILES_NAMES)
		return ENOSPC;
	names[i].file = file;
	memcpy(names[i].text, text, strlen(text) + 1);
	name_limit = i >= name_limit ? i + 1 : name_limit;
	file->names++;
	return 0;
}

static void drop_name(int index)
{
	struct file *file = names[index].file;
	names[index].file = NULL;
	file->names--;
	files_free_if_unused(file);
}

struct file *files_make_used(const char *name, bool *ret_tame)
{
	struct file *file = files_take(FILES_REGULAR, 0600);
	if (file == NULL || files_give_name(file, name) != 0)
		fail("a file cannot be made");
	*ret_tame = file->tame;
	return file;
}

struct file *files_make(const char *name, enum files_kind kind)
{
	bool tame;
	struct file *file = files_make_used(name, &tame);
	files_wipe(file);
	file->kind = kind;
	return file;
}

struct file *files_find(const char *name)
{
	int index = find_name(name);
	return index >= 0 ? names[index].file : NULL;
}

struct file *files_find_ending(const char *end)
{
	for (unsigned i = 0; i < name_limit; i++) {
		size_t length = strlen(names[i].text);
		if (names[i].file != NULL && length >= strlen(end) &&
			files_same_text(names[i].text + length - strlen(end), end))
			return names[i].file;
	}
	return NULL;
}

void files_unlink(const char *name)
{
	int index = find_name(name);
	if (index >= 0)
		drop_name(index);
}

void files_link(struct file *file, const char *name)
{
	(void)files_give_name(file, name);
}

void files_clear(bool none_expected)
{
	for (unsigned i = 0; i < name_limit; i++) {
		if (names[i].file == NULL)
			continue;
		if (none_expected && strncmp(names[i].text, "sluice.", 7) == 0) {
			fprintf(stderr, "fuzz: %s\n", names[i].text);
			fail("a file outlives its channel");
		}
		drop_name((int)i);
	}
	name_limit = 0;
}

/* ---- descriptors ---- */

bool files_has(int fd)
{
	return fd >= FIRST_FD && fd < FIRST_FD + DESCRIPTIONS;
}

/* Of an open descriptor; NULL and EBADF if it is not. */
struct description *files_look_up(int fd)
{
	struct description *description = files_has(fd) ? opened[fd - FIRST_FD] : NULL;
	if (description == NULL)
		errno = EBADF;
	return description;
}

int files_add_fd(struct description *description)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		if (opened[i] != NULL)
			continue;
		opened[i] = description;
		description->holders++;
		return FIRST_FD + i;
	}
	errno = EMFILE;
	return -1;
}

int files_open_one(struct file *file, int flags)
{
	for (unsigned i = 0; i < DESCRIPTIONS; i++) {
		if (descriptions[i].file != NULL)
			continue;
		int fd = files_add_fd(&descriptions[i]);
		if (fd < 0)
			return -1;
		descriptions[i].file = file;
		descriptions[i].access = flags & O_ACCMODE;
		files_hold(file);
		return fd;
	}
	errno = ENFILE;
	return -1;
}

static void drop_locks(struct file *file, const struct description *owner)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < file->lock_count; i++)
		if (file->locks[i].owner != owner)
			file->locks[kept++] = file->locks[i];
	file->lock_count = kept;
}

void files_source_done(struct description *description)
{
	if (--description->holders > 0)
		return;
	struct file *file = description->file;
	drop_locks(file, description);
	description->file = NULL;
	files_let_go(file);
}

unsigned files_open(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < DESCRIPTIONS; i++)
		count += opened[i] != NULL;
	return count;
}

struct description *files_source(int fd, bool writable)
{
	struct description *description = files_look_up(fd);
	if (description == NULL)
		return NULL;
	if (description->access == O_WRONLY || (writable && description->access != O_RDWR))
		errno = EACCES;
	else if (description->file->kind != FILES_REGULAR)
		errno = ENODEV;
	else {
		description->holders++;
		return description;
	}
	return NULL;
}

int files_source_place(const struct description *description, uint64_t *ret_offset, unsigned *ret_index)
{
	*ret_index = (unsigned)(description->file - files);
	*ret_offset = *ret_index * FILES_LARGEST;
	return memory_fd;
}

uint8_t *files_source_bytes(const struct description *description)
{
	return files_bytes(description->file);
}

uint64_t files_source_size(const struct description *description)
{
	return description->file->size;
}

bool files_has_reader(const struct file *fifo)
{
	for (unsigned i = 0; i < DESCRIPTIONS; i++)
		if (descriptions[i].file == fifo && descriptions[i].access != O_WRONLY)
			return true;
	return false;
}

struct file *files_root(void)
{
	return &files[0];
}

void files_close(int fd)
{
	struct description *description = opened[fd - FIRST_FD];
	opened[fd - FIRST_FD] = NULL;
	files_source_done(description);
}

const char *files_next_name(unsigned *position)
{
	while (*position < name_limit && names[*position].file == NULL)
		(*position)++;
	return *position < name_limit ? names[(*position)++].text : NULL;
}
