/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver that stands in for CUDA's, as this harness uses it: its streams have no threads, so that each run is like the
 * other, and are held or let on by hand.
 */
#ifndef CRASH_DEVICE_H
#define CRASH_DEVICE_H

#include <stdbool.h>

/* False if there is no such driver: it is found by LD_LIBRARY_PATH, which tests/cuda/meson.build sets. */
bool device_is_there(void);

/* Streams do at once what they are given, and what they were held from doing. */
void device_go_on(void);
/* Streams do nothing of what they are given from now on. */
void device_hold(void);

#endif
