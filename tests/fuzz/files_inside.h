/* SPDX-License-Identifier: Apache-2.0 */
/* What calls.c, the system calls, sees of files.c, the files: see files.h for both. */
#ifndef FUZZ_FILES_INSIDE_H
#define FUZZ_FILES_INSIDE_H

#include "files.h"

#define FILES_PAGE  4096
#define FILES_PAGES (FILES_LARGEST / FILES_PAGE)
#define FILES_LOCKS 160 /* on one file */
#define FILES_NAMES 192 /* in the directory */

struct lock {
	uint64_t offset;
	const struct description *owner;
};

struct file {
	enum files_kind kind;
	bool linkable; /* never had a name, and may get one */
	bool tame;     /* see files_make_used */
	mode_t mode;
	gid_t group;
	uint32_t names;
	uint32_t holders;
	ino_t number;
	uint64_t size;
	uint64_t used; /* bytes from here on are zero */
	uint64_t allocated[FILES_PAGES / 64];
	unsigned lock_count;
	struct lock locks[FILES_LOCKS];
};

struct description {
	struct file *file; /* NULL: free */
	int access;
	uint32_t holders;
};

/* The directory itself. */
struct file *files_root(void);

/* A file without a name, of size 0; NULL and errno if there are too many. Freed unless somebody holds or names it. */
struct file *files_take(enum files_kind kind, mode_t mode);
void files_wipe(struct file *file);
void files_free_if_unused(struct file *file);

/* Fills holes from byte `start` to `end`, or none if there is no room. */
bool files_take_pages(struct file *file, uint64_t start, uint64_t end);
uint64_t files_count_pages(const struct file *file);
/* To at least that size. */
void files_grow(struct file *file, uint64_t size);

/* 0 or an errno. */
int files_give_name(struct file *file, const char *text);
/* The name in that place of the directory or after it, and the place behind it; NULL at the end. */
const char *files_next_name(unsigned *position);
bool files_same_text(const char *a, const char *b);

/* Of an open descriptor; NULL and EBADF if it is not. */
struct description *files_look_up(int fd);
/* Open a file, or an open file once more. -1 and errno if there are too many. */
int files_open_one(struct file *file, int flags);
int files_add_fd(struct description *description);
void files_close(int fd);
bool files_has_reader(const struct file *fifo);

#endif
