/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sluice: zero-copy tensor transport between the processes of one pipeline. This header brings in all the others.
 *
 * Start with producer.h and consumer.h. Results are 0 or a count, or a negative errno value (error.h). Options structs
 * start with their size (a larger one than the library knows is -EINVAL) and may be NULL. Handles are opaque. The
 * library starts no threads (but for a poller's descriptor where io_uring is not allowed), installs no signal handlers,
 * prints nothing and reads one environment variable, SLUICE_DIR (CUDA's driver, which sluice_cuda_attach opens, does as it
 * likes).
 *
 * Five functions have the name of a struct: sluice_channel_stat, sluice_cuda_status, sluice_stamps, sluice_tensor and
 * sluice_trace. C++ takes the name alone for the function, so write `struct sluice_tensor` there as in C.
 */
#ifndef SLUICE_SLUICE_H
#define SLUICE_SLUICE_H

#include <sluice/channel.h>
#include <sluice/consumer.h>
#include <sluice/cuda.h>
#include <sluice/error.h>
#include <sluice/export.h>
#include <sluice/message.h>
#include <sluice/poller.h>
#include <sluice/producer.h>
#include <sluice/tensor.h>
#include <sluice/version.h>

#endif
