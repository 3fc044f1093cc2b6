/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of a soak: what became of each message, in memory that the parent owns and no death of a member takes away.
 * Every step is written right before or right after the call that takes it, so that a kill in between leaves a message whose
 * fate is in doubt, and never one of which too much is believed.
 */
#ifndef SOAK_JOURNAL_H
#define SOAK_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SOAK_PRODUCERS 3
#define SOAK_CONSUMERS 3
#define SOAK_MEMBERS   (SOAK_PRODUCERS + SOAK_CONSUMERS)
#define SOAK_CHANNEL   "soak"

enum sent { SENT_NOT, SENT_IN_DOUBT, SENT_SURELY, SENT_DISCARDED };
enum released { RELEASED_NOT, RELEASED_IN_DOUBT, RELEASED_SURELY };

struct journal_entry {
	_Atomic uint64_t counts; /* bit n: received with delivery count n */
	_Atomic uint8_t sent;
	_Atomic uint8_t released; /* in a broadcast: by anybody */
	uint8_t reserved[6];
};

struct journal {
	uint64_t seed;
	uint32_t mode;           /* enum sluice_mode */
	uint64_t capacity;       /* entries */
	_Atomic uint64_t next;   /* the next message's number */
	_Atomic uint64_t wanted; /* producers stop here */
	_Atomic uint64_t received;
	_Atomic uint64_t again;               /* received with a raised count */
	_Atomic uint64_t returned;            /* given back by a clean close */
	_Atomic uint32_t leave[SOAK_MEMBERS]; /* 1: that member is asked to close and end */
	_Atomic uint32_t draining;            /* 1: whatever is there is to be received, nobody is killed any more */
	struct journal_entry entries[];
};

/* Maps a journal that children share; NULL if there is no memory. */
struct journal *journal_new(uint64_t seed, uint32_t mode, uint64_t capacity);
void journal_free(struct journal *journal);

/* What a message carries beside its number, derived from number and seed: so many bytes of such content. */
uint64_t journal_bytes(const struct journal *journal, uint64_t number);
uint64_t journal_content(const struct journal *journal, uint64_t number);

struct sluice_message;
/* Checks a received message against the journal and enters it. Returns NULL, or what is wrong with it. */
const char *journal_receive(struct journal *journal, const struct sluice_message *message, uint64_t *ret_number);
/* A message that is held goes back by a clean close, which is no delivery. */
void journal_return(struct journal *journal, uint64_t number, uint32_t deliveries);

/* Prints what is wrong, up to some messages; returns how many. Everybody has left, and all is drained. */
uint64_t journal_verdict(const struct journal *journal);

#endif
