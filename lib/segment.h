/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory objects in a directory: made complete before they have a name, checked before they are mapped.
 * Knows that objects start with a header; what else is in them is the business of those above.
 */
#ifndef SLUICE_LIB_SEGMENT_H
#define SLUICE_LIB_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "place.h"

/* A mapping. All zero: none. */
struct segment {
	void *base;
	uint64_t bytes;        /* of the object */
	uint64_t mapped_bytes; /* the same, on a hugetlbfs rounded up to its pages */
};

/* Who may own an object, and how new ones are made. */
struct segment_trust {
	uint32_t permissions; /* of new objects */
	bool has_group;
	uint32_t group; /* of new objects; objects of that group are trusted */
	uint32_t uid_count;
	const uint32_t *uids; /* owners trusted beside this process's effective user */
	bool any_owner;       /* for root's tools: whoever may read all memory anyhow loses nothing */
};

/*
 * Opens the directory for objects: `directory`, else $SLUICE_DIR, else /dev/shm. The descriptor is the caller's.
 * Returns it, -ENOENT, -EACCES, -ENOTDIR or -ENOTSUP (not on a tmpfs).
 */
int segment_open_directory(const char *directory);

/*
 * Makes an object without a name in `directory_fd`, zeroed, its space really allocated, and maps it for writing.
 * `*ret_fd` and `*ret_segment` are the caller's. Returns 0, -ENOSPC, -ENOMEM, -EACCES, -EPERM (the group) ...
 */
int segment_create(
	int directory_fd, uint64_t bytes, const struct segment_trust *trust, int *ret_fd, struct segment *ret_segment);

/*
 * As segment_create, of memory that lies as `place` wishes where that can be had; `placement` gathers what came of it,
 * and may be given for several objects one after the other. What cannot be had is no error.
 */
int segment_create_at(int directory_fd, uint64_t bytes, const struct segment_trust *trust, const struct place *place,
	struct layout_placement *placement, int *ret_fd, struct segment *ret_segment);

/* The path by which an object without a name can be opened once more. */
#define SEGMENT_PATH_BYTES 32
void segment_path(int fd, char ret_path[SEGMENT_PATH_BYTES]);

/* Gives an object its name, at once and for good. Returns 0, -EEXIST, -ENOTSUP (no /proc) ... */
int segment_link(int directory_fd, int fd, const char *name);

/*
 * Opens an object by name and checks type, owner, links, allocated size and header. `*ret_fd` is the caller's;
 * `*ret_header` is a private copy. Returns 0, -ENOENT, -EACCES, -ELOOP, -EPERM, -EPROTO, -EPROTONOSUPPORT, -EBADMSG ...
 */
int segment_open(int directory_fd, const char *name, enum layout_kind kind, bool writable,
	const struct segment_trust *trust, int *ret_fd, struct layout_header *ret_header);

/* Maps a whole object. Returns 0, -ENOMEM, -EACCES. */
int segment_map(int fd, uint64_t bytes, bool writable, struct segment *ret_segment);

/* Unmaps and forgets; nothing to do for one that is all zero. */
void segment_unmap(struct segment *segment);

/* True while `name` leads to the object behind `fd`. */
bool segment_is_linked(int directory_fd, const char *name, int fd);

/* Takes an object's name away. An object without it lives on where it is mapped. */
void segment_unlink(int directory_fd, const char *name);

#endif
