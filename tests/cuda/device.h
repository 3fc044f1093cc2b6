/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests do with the driver themselves: contexts, streams that wait, memory of the device. Each call must succeed.
 */
#ifndef TEST_CUDA_DEVICE_H
#define TEST_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/cuda.h>

#include "standin.h"

typedef struct CUctx_st *context_handle;
typedef struct CUstream_st *stream_handle;

/* True if the driver is the stand-in. Does not start it. */
bool device_is_standin(void);
/* What the stand-in can be told; NULL of a real driver. */
const struct standin *standin(void);
struct standin_counts standin_count(void);

/* After a case: the stand-in has seen nothing wrong, and nothing is left with it. */
void device_check_left(void);
/* The case has broken the device, so that there is more left than there should be. */
void device_expect_ruins(void);

/* Starts the driver and makes the primary context of a device current, as the runtime API does. */
context_handle device_use(int ordinal);
/* The same without making it current. */
context_handle device_retain(int ordinal);
void device_let_go(int ordinal);
/* A context of its own, current from now on. */
context_handle device_new_context(int ordinal);
void device_end_context(context_handle context);
context_handle device_current(void);
void device_set_current(context_handle context);
int device_count(void);

/* In the current context. */
stream_handle device_stream(void);
/* One that the legacy default stream waits for. */
stream_handle device_blocking_stream(void);
void device_end_stream(stream_handle stream);
void device_synchronize(stream_handle stream);
void device_begin_capture(stream_handle stream);
/* The same as torch does it: no thread may do what would spoil it. */
void device_begin_strict_capture(stream_handle stream);
void device_end_capture(stream_handle stream);
/* Of a capture that was spoilt. */
void device_end_spoilt_capture(stream_handle stream);
uintptr_t device_allocate(size_t bytes);
void device_free(uintptr_t address);
void device_read(void *to, uintptr_t from, size_t bytes);

/* A stream that waits until it is let go on, as if a long kernel ran. The gate must outlive that. */
struct device_gate {
	_Atomic uint32_t open;
};
void device_hold(stream_handle stream, struct device_gate *gate);
void device_let_on(struct device_gate *gate);
/* Has the stream call. */
void device_call(stream_handle stream, void (*call)(void *argument), void *argument);

#endif
