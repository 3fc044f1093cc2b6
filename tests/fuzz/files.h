/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of a tmpfs that exists only in this program. The linker sends the library's system calls on files through
 * here (--wrap); what does not concern this directory goes on to the kernel. A fuzzer would otherwise spend nine tenths of
 * its time in the kernel, making, mapping and freeing files, and an input would depend on what else the machine does.
 *
 * It behaves as Linux does for a process that may do everything, as far as the library goes: unnamed files that get a name,
 * holes, locks of open file descriptions that last as long as a descriptor or a mapping of the description, links, FIFOs,
 * directories. tests/fuzz/files_test.c compares it with the kernel. Anything it was not made for ends the run.
 */
#ifndef FUZZ_FILES_H
#define FUZZ_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FILES_DIRECTORY "/fuzz"
#define FILES_LARGEST   (UINT64_C(2) << 20) /* bytes of a file; more is EFBIG */
#define FILES_NAME      128                 /* bytes of a name, and its end */

enum files_kind { FILES_FREE, FILES_REGULAR, FILES_LINK, FILES_FIFO, FILES_FOLDER };

struct file;

/* Once a process. */
void files_start(void);
/* Takes all names away. If `none_expected`, an object of Sluice's that is still there is a leak. */
void files_clear(bool none_expected);
/* Descriptors that are open. */
unsigned files_open(void);

/* ---- for the fuzzer itself, past the library's calls ---- */

/* A new file with a name, which must be free. Size 0, mode 0600. */
struct file *files_make(const char *name, enum files_kind kind);
/* The file with that name, or one whose name ends so; NULL if there is none. */
struct file *files_find(const char *name);
struct file *files_find_ending(const char *end);
/* A file stays as long as somebody holds it, whatever becomes of its name. */
void files_hold(struct file *file);
void files_let_go(struct file *file);

uint64_t files_size(const struct file *file);
/* All that it could ever hold, readable and writable; what lies beyond its size is zero. */
uint8_t *files_bytes(struct file *file);
void files_write(struct file *file, const void *bytes, uint64_t count, uint64_t offset);
/* What is added is a hole. */
void files_resize(struct file *file, uint64_t size);
void files_fill_holes(struct file *file);
void files_punch_page(struct file *file, uint64_t offset);
void files_set_mode(struct file *file, mode_t mode);
void files_unlink(const char *name);
void files_link(struct file *file, const char *name);
/*
 * For image.c: like files_make of a regular file, but with the bytes that the last file in its place left, and `files_adopt`
 * says when they are what they should be. A file's bytes are tame if nobody but the library has written to them since, apart
 * from what the next one will look at anyway.
 */
struct file *files_make_used(const char *name, bool *ret_tame);
void files_adopt(struct file *file, uint64_t size, bool tame);
void files_roughen(struct file *file);
/* A thread may have written to files while they were being let go of: whatever is small enough for it is wiped before use. */
void files_distrust(void);

/* ---- for mappings.c ---- */

struct description;

/* The open file behind `fd`, which is held until `files_source_done`; NULL and errno if it cannot be mapped so. */
struct description *files_source(int fd, bool writable);
void files_source_done(struct description *description);
/* Where its bytes lie: a descriptor of the kernel's, an offset there, and which of so many files it is. */
#define FILES_MOST 160
int files_source_place(const struct description *description, uint64_t *ret_offset, unsigned *ret_index);
uint8_t *files_source_bytes(const struct description *description);
uint64_t files_source_size(const struct description *description);
/* Whether this program has `fd`, rather than the kernel. */
bool files_has(int fd);

#endif
