/* SPDX-License-Identifier: Apache-2.0 */
/* What the processes of a soak do until they are killed or asked to leave. Neither returns. */
#ifndef SOAK_MEMBER_H
#define SOAK_MEMBER_H

#include "journal.h"

/* `member` is the place in the crew, `life` a number that no other start has: both only choose sizes and manners. */
void member_produce(struct journal *journal, unsigned member, uint64_t life) __attribute__((noreturn));
void member_consume(struct journal *journal, unsigned member, uint64_t life) __attribute__((noreturn));

/*
 * Receives, checks and releases all there is, alone. Returns how many messages that were; what is wrong ends the process.
 */
uint64_t member_drain(struct journal *journal);

#endif
