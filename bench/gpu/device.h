/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark asks of the CUDA driver itself, opened at run time like the library's: a stream, memory, copies
 * that do not come from Sluice, a kernel. A call that fails ends the program with its name.
 */
#ifndef BENCH_GPU_DEVICE_H
#define BENCH_GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/cuda.h>

/* Opens the driver and makes device 0's primary context current. NULL, or why not as a sentence. */
const char *device_open(void);

/* The tests' driver, whose figures mean nothing. */
bool device_is_standin(void);

struct CUstream_st *device_stream(void);
void device_synchronize(struct CUstream_st *stream);

uintptr_t device_allocate(size_t bytes);
void *device_allocate_pinned(size_t bytes);
void device_free_pinned(void *memory);

/* A copy in stream order, from memory of any kind. */
void device_copy(uintptr_t to, const void *from, size_t bytes, struct CUstream_st *stream);

/* Has the driver call `call` behind the stream's work. */
void device_call(struct CUstream_st *stream, void (*call)(void *argument), void *argument);

/* The kernel of kernels.cu. False, and why as a sentence, if there is none. */
bool device_has_kernel(const char **ret_why);
/* Adds up `count` integers at `from` into one at `to`. */
void device_sum(uintptr_t from, uint32_t count, uintptr_t to, struct CUstream_st *stream);

#endif
