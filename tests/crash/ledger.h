/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of each message, in memory that the harness and its subject share: who published it for certain, who has it,
 * who released it. "Maybe" is what a call leaves that was cut short. From it follows what must still be delivered, what
 * may be, and what never.
 */
#ifndef CRASH_LEDGER_H
#define CRASH_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include <sluice/sluice.h>

enum certainty { NO = 0, MAYBE = 1, YES = 2 };

/* Who publishes, one lane each. */
enum author { PEER, BYSTANDER, SUBJECT_AUTHOR, DEAD_AUTHOR, LATER, AUTHORS };
/* Who receives. */
enum reader { WITNESS, FRESH, SUBJECT_READER, DEAD_READER, READERS };

#define LEDGER_MESSAGES 128 /* of each author */

struct ledger_entry {
	uint8_t published;         /* enum certainty, as all of these */
	uint8_t held[READERS];     /* received and not released */
	uint8_t released[READERS]; /* broadcast: by each; queue: by one of them */
	uint8_t delivered_least;   /* queue: how often it has been delivered already, as the delivery count tells */
	uint8_t delivered_most;
	bool astray;    /* its holder died, and nobody has seen yet that it was given back */
	uint32_t began; /* its publish, as a reading of the ledger's clock */
	uint32_t ended; /* likewise; 0: it has not for certain */
};

struct ledger {
	bool broadcast;
	bool ordered;       /* SLUICE_ORDERED: what was published first is received first */
	uint8_t assembled;  /* enum certainty: as many consumers as are expected were there at one time */
	bool may_take_back; /* messages of a living holder may go to others */
	uint32_t payload_words;
	uint32_t clock;                   /* counts beginnings and ends of publishes */
	uint32_t written[AUTHORS];        /* messages begun */
	uint32_t next[READERS][AUTHORS];  /* broadcast: what a reader sees next */
	uint32_t floor[READERS][AUTHORS]; /* broadcast: from where on it must see everything */
	bool started[READERS][AUTHORS];   /* broadcast: it has seen something */
	struct ledger_entry entries[AUTHORS][LEDGER_MESSAGES];
	/* Where the harness is, for whoever reports a violation; and the subject's doings. */
	uint64_t point;
	uint64_t address;
	unsigned variant;   /* in which order others come and go: see promises.c */
	bool stopped;       /* the subject was stopped inside the call */
	uint64_t counts[2]; /* subjects killed and stopped so far */
	uint64_t covered;   /* kill points so far: a death there leaves the same as one that was tried */
	uint64_t unreached; /* points that a run did not come to again */
};

struct ledger *ledger_new(void);
void ledger_clear(struct ledger *ledger, uint32_t payload_words);

/* Prints what is wrong and ends this process. Never returns. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The content of message `number` of `author`: fills a reservation's only tensor, or checks a received one. */
void ledger_fill(const struct ledger *ledger, struct sluice_message *message, enum author author, uint32_t number);
void ledger_check_content(const struct ledger *ledger, const struct sluice_message *message);

struct ledger_entry *ledger_entry_of(struct ledger *ledger, const struct sluice_message *message);

/* Around a publish: between the two it may be seen. */
void ledger_begin(struct ledger *ledger, struct ledger_entry *entry);
void ledger_end(struct ledger *ledger, struct ledger_entry *entry);

/* `reader` got a message: ends with a violation if it must not have. */
void ledger_receive(struct ledger *ledger, enum reader reader, const struct sluice_message *message);
void ledger_release(
	struct ledger *ledger, enum reader reader, const struct sluice_message *message, enum certainty how);

/* What `reader` may or does hold becomes `how`: MAYBE before a call that gives it back, NO after it. */
void ledger_held(struct ledger *ledger, enum reader reader, enum certainty how);
/* Everything published and not released may be in `reader`'s hands from now on. */
void ledger_may_hold(struct ledger *ledger, enum reader reader);
/* `reader` died with whatever it held. */
void ledger_death(struct ledger *ledger, enum reader reader);
/* What the dead held has been given back for certain. */
void ledger_recovered(struct ledger *ledger);
/* `reader` joins a broadcast: `others` is the set of readers that live, as bits. */
void ledger_join(struct ledger *ledger, enum reader reader, unsigned others);
/* The same while others go on: it may begin anywhere, and misses nothing from there on. */
void ledger_join_anywhere(struct ledger *ledger, enum reader reader);
/* All that is left may be dropped. */
void ledger_drop(struct ledger *ledger);

/* The first message of `author` that `reader` has not released: not for certain (YES), or certainly not (MAYBE). */
uint32_t ledger_released_to(
	const struct ledger *ledger, enum reader reader, enum author author, enum certainty certainty);
/* Queue: the first message of `author` that somebody may hold, or what was written. */
uint32_t ledger_first_held(const struct ledger *ledger, enum author author);

/* Ends with a violation if a message was lost: `readers` is the set of those that have received all they could. */
void ledger_settle(const struct ledger *ledger, unsigned readers);

#endif
