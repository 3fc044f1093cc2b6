/* SPDX-License-Identifier: Apache-2.0 */
/* A producer, as a poller sees it, which sleeps in its place until there is room. */
#ifndef SLUICE_LIB_PRODUCER_H
#define SLUICE_LIB_PRODUCER_H

#include <sluice/producer.h>

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "handle.h"

struct handle *producer_handle(struct sluice_producer *producer);
struct channel *producer_channel(struct sluice_producer *producer);

/* True if it was opened with SLUICE_REPORT_GONE. */
bool producer_reports_gone(const struct sluice_producer *producer);

/* True if a message of `bytes` payload bytes fits into its lane when that is empty. */
bool producer_can_hold(const struct sluice_producer *producer, uint64_t bytes);

/*
 * True if there is room now, after taking back what consumers are done with, for a message of `bytes` payload bytes; 0:
 * for what was last asked to be reserved.
 */
bool producer_has_room(struct sluice_producer *producer, uint64_t bytes);

/* What a producer that waits does for the channel now and then. `now_ns` is CLOCK_MONOTONIC. */
void producer_look_after(struct sluice_producer *producer, uint64_t now_ns);

/* What it does before its bell is armed; `bytes` as in producer_has_room. */
void producer_before_arming(struct sluice_producer *producer, uint64_t bytes);

/* What it does once its bell is armed and there still is no room, before it sleeps. */
void producer_before_sleep(struct sluice_producer *producer);

#endif
