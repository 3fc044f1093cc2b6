/* SPDX-License-Identifier: Apache-2.0 */
/* What both fuzzers do with a channel. */
#ifndef FUZZ_EXCHANGE_H
#define FUZZ_EXCHANGE_H

#include <stddef.h>

#include <sluice/sluice.h>

#define MESSAGE_KINDS 4

/*
 * Publishes a message: in the descriptor; in the payload, several tensors; dimensions in the payload; shrunk to nothing. The
 * next MESSAGE_KINDS kinds are the same as part of a burst.
 */
void publish_kind(struct sluice_producer *producer, unsigned kind, int64_t timeout_ns);

/* Reads all there is to a held message, and ends the run if a tensor lies outside its mapping or contradicts itself. */
void read_message(const struct sluice_message *message);

/* After a refusal: there must be a reason. */
void check_fault(struct sluice_consumer *consumer);

/* List and stat. */
void look_at_channels(const char *name);

#endif
