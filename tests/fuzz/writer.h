/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Somebody else who writes to a channel's memory: between the library's calls, in the middle of them, or from a thread. In the
 * middle means before so many loads of shared memory, which the compiler reports. Whatever is written before a load could
 * have been written at any time since the one before it, for all that the library can tell, so that every interleaving is
 * among these and can be repeated; the thread is there for what is not a load of the library's own.
 */
#ifndef FUZZ_WRITER_H
#define FUZZ_WRITER_H

#include <stddef.h>

#include "files.h"
#include "regions.h"
#include "sandbox.h"

enum writer_way { WRITER_WITHIN_CALLS, WRITER_THREAD };

/* Once a process. */
void writer_start(void);

/* Reads what is to be written. Returns how many writes there are. */
size_t writer_read(struct input *input);
/* Whether one of them reaches a control object's consumer pages. */
bool writer_reaches_consumers(void);

/* Where an object's bytes lie from now on; NULL: it is left alone. */
void writer_aim(enum object object, struct file *file);

/* One write, now. */
void writer_write(size_t index);
/* All of them, over and over, until `writer_rest`. */
void writer_work(enum writer_way way);
void writer_rest(void);

#endif
