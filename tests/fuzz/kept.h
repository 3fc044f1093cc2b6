/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One control object that serves every input. It is large, and making and freeing its pages would be most of a fuzzer's work:
 * so when the library takes its name away (--wrap of unlinkat), it only moves aside, and comes back with fresh contents.
 */
#ifndef FUZZ_KEPT_H
#define FUZZ_KEPT_H

#include <stdbool.h>
#include <stdint.h>

/* An object of `size` bytes called `name` with these contents. Returns its descriptor, which stays. */
int kept_plant(const char *name, const uint8_t *contents, uint64_t size);

/* It is no longer a file as the library would make it, and must not serve again. */
void kept_spoil(void);
/* Lets go of it if it was spoiled. */
void kept_drop_spoiled(void);

/* A mapping of it for writing. */
uint8_t *kept_bytes(void);

/* Makes any object: whole pages, space allocated, empty ones not written. Returns its descriptor. */
int object_make(const char *name, const uint8_t *contents, uint64_t size);

#endif
