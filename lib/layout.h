/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that says what shared bytes mean. docs/protocol.md is the same in prose, and a test keeps both in step.
 *
 * A channel is one control object and, for each producer, one lane of two objects: data and claims. All integers are
 * little-endian; there are no pointers. Words of different writers lie 128 bytes apart, because neighbouring 64-byte
 * lines are fetched in pairs. Each field says who writes it, who reads it, and in which order where that matters;
 * "gate" means that the writer holds the gate lock, "once" that it is written before the object is linked into place
 * and never again.
 *
 * Everything here may have been written by a hostile or broken process. Code above this floor takes values through the
 * check functions at the end, on private copies.
 */
#ifndef SLUICE_LIB_LAYOUT_H
#define SLUICE_LIB_LAYOUT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/channel.h>
#include <sluice/message.h>
#include <sluice/tensor.h>

#define LAYOUT_MAGIC   UINT64_C(0x0a454349554c5389) /* bytes 89 "SLUICE" 0a: not text, and line-end damage shows */
#define LAYOUT_VERSION 2

#define LAYOUT_LINE         128 /* spacing of words of different writers, bytes */
#define LAYOUT_SLOTS        SLUICE_MAX_MEMBERS
#define LAYOUT_LANES        128
#define LAYOUT_MAP_WORDS    (LAYOUT_SLOTS / 64)
#define LAYOUT_SCHEMAS      64
#define LAYOUT_ASIDE        32
#define LAYOUT_ACKS         64
#define LAYOUT_INLINE_BYTES 128
#define LAYOUT_DIMS         6  /* dimension words that fit a descriptor */
#define LAYOUT_UNIT         64 /* bytes: payload positions in descriptors count these */
#define LAYOUT_MAX_DEPTH    (UINT32_C(1) << 20)
#define LAYOUT_MIN_PAYLOAD  UINT64_C(4096)
#define LAYOUT_MAX_PAYLOAD  (UINT64_C(1) << 37) /* positions in units of 64 bytes fit 32 bits */

/* Bytes of a control object that members lock, far beyond its end: see roster.h and channel.h. */
#define LAYOUT_GATE_BYTE       (UINT64_C(1) << 40)
#define LAYOUT_SLOT_BYTE(slot) ((UINT64_C(1) << 40) + 1 + (uint64_t)(slot))

enum layout_kind { LAYOUT_CONTROL = 1, LAYOUT_DATA = 2, LAYOUT_CLAIMS = 3 };

/* 0x00 magic · 0x08 version · 0x0c kind · 0x10 bytes · 0x18 features · 0x20 channel · 0x28 slot · 0x2c incarnation ·
 * 0x30 created. The first 64 bytes of every object, of every layout version. */
struct layout_header {
	uint64_t magic;       /* once: LAYOUT_MAGIC */
	uint32_t version;     /* once: LAYOUT_VERSION */
	uint32_t kind;        /* once: enum layout_kind */
	uint64_t bytes;       /* once: size of the whole object */
	uint64_t features;    /* once: bits that a reader must understand; none are defined */
	uint64_t channel_id;  /* once: random, the same in all objects of a channel */
	uint32_t slot;        /* once: the producer's roster slot; 0 in control */
	uint32_t incarnation; /* once: of that slot; 0 in control */
	uint64_t created_ns;  /* once: CLOCK_REALTIME */
	uint64_t reserved;    /* zero */
};
static_assert(sizeof(struct layout_header) == 64, "header");

/* ---- log-linear histogram ---- */

/* Values below 2^7 ns share the first octave's buckets; each octave above has 8 buckets; the last takes all above 2^38. */
#define LAYOUT_BUCKETS 256

struct layout_histogram {
	uint64_t buckets[LAYOUT_BUCKETS]; /* writer: the owner's process, atomic add; any reader, relaxed */
};
static_assert(sizeof(struct layout_histogram) == 2048, "histogram");

/* ---- control ---- */

/* What the channel was created with. Once, all of it. */
struct layout_config {
	uint32_t mode;  /* enum sluice_mode */
	uint32_t flags; /* SLUICE_ORDERED, SLUICE_PERSISTENT */
	uint64_t lane_bytes;
	uint32_t depth;
	uint32_t expected_consumers;
	uint32_t max_deliveries; /* 0: unlimited */
	uint32_t permissions;    /* for objects made later */
	uint32_t group;          /* likewise, if has_group */
	uint32_t has_group;
	uint64_t take_back_ns; /* messages held for longer are given to others; 0: never */
	uint64_t reserved[2];
	char name[SLUICE_MAX_NAME + 1];
};
static_assert(sizeof(struct layout_config) == 128, "config");

/* Read-mostly: consumers look at this line on their way to sleep and once a turn. */
struct layout_epochs {
	uint64_t lanes;            /* gate, add: a lane was linked, ended or removed; consumers, acquire */
	uint64_t redelivery;       /* whoever returns claims, add; consumers, acquire */
	uint64_t membership;       /* gate, add: somebody joined or left; nobody yet: who waits looks at the roster */
	uint64_t assembled;        /* gate: 1 once expected_consumers were there at one time; producers, acquire */
	uint64_t producers_opened; /* gate: since the channel was created */
	uint64_t producers_closed; /* gate: cleanly */
	uint64_t consumers_opened; /* gate: since the channel was created */
	uint64_t set_aside;        /* whoever sets a message aside, add; the tool, relaxed */
	uint64_t reserved[8];
};
static_assert(sizeof(struct layout_epochs) == LAYOUT_LINE, "epochs");

/* A word with a line of its own. */
struct layout_word {
	uint64_t value;
	uint64_t reserved[15];
};
static_assert(sizeof(struct layout_word) == LAYOUT_LINE, "word");

/* One bit per roster slot, on a line of its own. */
struct layout_slot_map {
	uint64_t words[LAYOUT_MAP_WORDS];
	uint64_t reserved[16 - LAYOUT_MAP_WORDS];
};
static_assert(sizeof(struct layout_slot_map) == LAYOUT_LINE, "slot map");

/* An entry of the lane table. Gate, all of it; `state` last with release, read first with acquire. */
enum layout_lane_state { LAYOUT_LANE_NONE = 0, LAYOUT_LANE_LINKED = 1 };
struct layout_lane_entry {
	uint32_t state;
	uint32_t slot;
	uint32_t incarnation;
	uint32_t reserved;
};
static_assert(sizeof(struct layout_lane_entry) == 16, "lane entry");

/* State of a roster slot: bits 0-7 state, 8-15 role, 32-63 incarnation. */
enum layout_member_state {
	LAYOUT_MEMBER_NONE = 0,  /* never used */
	LAYOUT_MEMBER_ALIVE = 1, /* its holder has not left; dead if its lock byte is free */
	LAYOUT_MEMBER_LEFT = 2,  /* left cleanly */
	LAYOUT_MEMBER_DEAD = 3   /* died, and what it left has been recovered */
};

static inline uint64_t layout_member_word(uint32_t incarnation, enum sluice_role role, enum layout_member_state state)
{
	return (uint64_t)incarnation << 32 | (uint64_t)role << 8 | (uint64_t)state;
}

static inline uint32_t layout_member_incarnation(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

static inline enum sluice_role layout_member_role(uint64_t word)
{
	return (enum sluice_role)(word >> 8 & 0xff);
}

static inline enum layout_member_state layout_member_state(uint64_t word)
{
	return (enum layout_member_state)(word & 0xff);
}

struct layout_member {
	uint64_t word;      /* the slot's lock holder, release after the rest; anyone, acquire; the dead: exact swap */
	uint32_t pid;       /* the holder, before `word`: for people to read */
	uint32_t uid;       /* likewise */
	uint64_t opened_ns; /* likewise, CLOCK_REALTIME */
	char program[SLUICE_PROGRAM_BYTES]; /* likewise */
	uint64_t reserved[9];
};
static_assert(sizeof(struct layout_member) == LAYOUT_LINE, "member");

/* A sleep word: 1 while its member is about to sleep or asleep, exchanged to 0 by the waker. See doorbell.h. */
struct layout_bell {
	uint32_t word; /* the member stores 1, wakers exchange 0; a futex */
	uint32_t reserved[31];
};
static_assert(sizeof(struct layout_bell) == LAYOUT_LINE, "bell");

/* A message that was set aside. Slots of this ring are taken by adding to `aside_count`. */
struct layout_aside {
	uint64_t correlation_id;
	uint64_t sequence;
	uint64_t noticed_ns; /* CLOCK_REALTIME */
	uint32_t lane_slot;
	uint32_t lane_incarnation;
	uint32_t killer_slot;
	uint32_t killer_pid;
	uint32_t deliveries;
	uint32_t state; /* release last: 1 complete */
	uint64_t reserved[2];
};
static_assert(sizeof(struct layout_aside) == 64, "aside");

/*
 * Messages in a row of one lane that their consumer released behind a GPU's work: done with once the GPU has written
 * the ticket into the word. The consumer, all of it: `ticket` 0 before the rest and last, release; others: acquire,
 * first and again after the rest.
 */
struct layout_ack {
	uint64_t ticket;   /* what the GPU writes; never used twice; 0: no entry */
	uint64_t sequence; /* of the first message */
	uint64_t claim;    /* the word by which it is held; those that follow are held by the same but for the lap */
	uint32_t lane_slot;
	uint32_t lane_incarnation;
	uint32_t count; /* of messages */
	uint32_t word;  /* index into `words` */
	uint64_t seal;  /* layout_ack_seal of all of the above: what two wrote has none */
};
static_assert(sizeof(struct layout_ack) == 48, "ack");

/*
 * A former holder of the slot that was declared dead and lives may write into an entry of the next one, and what stands
 * there then is partly the one's and partly the other's.
 */
static inline uint64_t layout_ack_seal(const struct layout_ack *ack)
{
	const uint64_t words[] = {ack->ticket, ack->sequence, ack->claim,
		(uint64_t)ack->lane_incarnation << 32 | ack->lane_slot, (uint64_t)ack->word << 32 | ack->count};
	uint64_t seal = 0;
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
		seal = (seal ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		seal ^= seal >> 32;
	}
	return seal;
}

/* What one consumer writes and others only read. */
struct layout_consumer_page {
	uint64_t received_messages; /* this and the next four: the consumer's thread, relaxed; the tool */
	uint64_t received_bytes;
	uint64_t sleeps;
	uint64_t faults;
	uint64_t reserved0[12];
	uint64_t wakeups_sent; /* any thread of the consumer's process, atomic add; the tool */
	uint64_t reserved1[15];
	struct layout_histogram queue_wait; /* any thread of the consumer's process, atomic add; the tool */
	struct layout_histogram hold_time;  /* likewise */
	/* On lines of their own, because a device writes there. */
	uint64_t words[LAYOUT_ACKS]; /* a GPU, tickets; the consumer, producers short of room and recoverers, acquire */
	uint64_t pending; /* bit map of `acks` in use: the consumer's process, full or and and; others, acquire */
	uint64_t reserved2[15];
	struct layout_ack acks[LAYOUT_ACKS];
	uint64_t reserved3[16];
};
static_assert(offsetof(struct layout_consumer_page, words) == 0x1100, "words");
static_assert(offsetof(struct layout_consumer_page, pending) == 0x1300, "pending");
static_assert(offsetof(struct layout_consumer_page, acks) == 0x1380, "acks");
static_assert(sizeof(struct layout_consumer_page) == 8192, "consumer page");

/*
 * 0x0000 header · 0x0040 config · 0x0100 epochs · 0x0180 ticket · 0x0200 sleeping consumers · 0x0280 sleeping producers ·
 * 0x0300 active consumers · 0x0380 aside count · 0x0400 lane table · 0x0c00 aside ring · 0x1400 acknowledging ·
 * 0x2000 roster · 0x6000 bells · 0xa000 consumer pages · 0x10a000 end
 */
struct layout_control {
	struct layout_header header;
	struct layout_config config;
	uint64_t reserved0[8];
	struct layout_epochs epochs;
	struct layout_word ticket;                 /* `ordered` producers, add, before the message's sequence number */
	struct layout_slot_map sleeping_consumers; /* sleeper sets, wakers clear; publishers look after a full fence */
	struct layout_slot_map sleeping_producers; /* sleeper sets, wakers clear; releasers look after a full fence */
	struct layout_slot_map active_consumers;   /* gate; broadcast producers, after a full fence */
	struct layout_word aside_count;            /* whoever sets a message aside, add */
	struct layout_lane_entry lanes[LAYOUT_LANES];
	struct layout_aside aside[LAYOUT_ASIDE];
	struct layout_slot_map acknowledging; /* the consumer sets and clears; producers short of room and others */
	uint64_t reserved1[368];
	struct layout_member members[LAYOUT_SLOTS];
	struct layout_bell bells[LAYOUT_SLOTS];
	struct layout_consumer_page consumers[LAYOUT_SLOTS];
};
static_assert(offsetof(struct layout_control, config) == 0x40, "config");
static_assert(offsetof(struct layout_control, epochs) == 0x100, "epochs");
static_assert(offsetof(struct layout_control, ticket) == 0x180, "ticket");
static_assert(offsetof(struct layout_control, sleeping_consumers) == 0x200, "sleeping consumers");
static_assert(offsetof(struct layout_control, sleeping_producers) == 0x280, "sleeping producers");
static_assert(offsetof(struct layout_control, active_consumers) == 0x300, "active consumers");
static_assert(offsetof(struct layout_control, aside_count) == 0x380, "aside count");
static_assert(offsetof(struct layout_control, lanes) == 0x400, "lanes");
static_assert(offsetof(struct layout_control, aside) == 0xc00, "aside");
static_assert(offsetof(struct layout_control, acknowledging) == 0x1400, "acknowledging");
static_assert(offsetof(struct layout_control, members) == 0x2000, "members");
static_assert(offsetof(struct layout_control, bells) == 0x6000, "bells");
static_assert(offsetof(struct layout_control, consumers) == 0xa000, "consumers");
static_assert(sizeof(struct layout_control) == 0x10a000, "control");

/* ---- lane data: written by its producer alone, mapped read-only by everybody else ---- */

struct layout_lane_geometry { /* once, all of it */
	uint32_t depth;       /* descriptors, a power of two */
	uint32_t alignment;   /* of payloads, a power of two */
	uint64_t payload_offset;
	uint64_t payload_bytes;
	uint32_t pid; /* of the producer, for people to read */
	uint32_t uid;
	char program[SLUICE_PROGRAM_BYTES];
	uint64_t reserved[8];
};
static_assert(sizeof(struct layout_lane_geometry) == 128, "lane geometry");

/* Where the data object's memory lies, against what its producer asked for; once, all of it. Zero: nothing was asked. */
enum layout_pages { LAYOUT_PAGES_SMALL = 0, LAYOUT_PAGES_TRANSPARENT = 1, LAYOUT_PAGES_HUGETLB = 2 };

#define LAYOUT_MAX_NODES     1024       /* memory nodes of a machine: Linux has no more */
#define LAYOUT_NODES_SEVERAL UINT32_MAX /* in place of a node: the pages looked at lie on more than one */

struct layout_placement {
	uint32_t asked;          /* SLUICE_HUGE_PAGES, SLUICE_PREFAULT, SLUICE_LOCK_MEMORY, SLUICE_ON_NODE */
	uint32_t pages;          /* enum layout_pages: what huge_bytes lie on */
	uint32_t asked_node;     /* 1 + node; 0: none, or not known */
	uint32_t node;           /* 1 + node that pages were found on; 0: not looked; LAYOUT_NODES_SEVERAL */
	uint32_t node_error;     /* this and the next three: 0, or the errno with which it was refused */
	uint32_t huge_error;     /* also when only some pages are huge */
	uint32_t prefault_error; /* of data or claims */
	uint32_t lock_error;     /* likewise */
	uint64_t page_bytes;     /* size of a huge page */
	uint64_t huge_bytes;     /* of the data object */
	uint64_t reserved[2];
};
static_assert(sizeof(struct layout_placement) == 64, "placement");

/* Read-mostly words of a producer. */
struct layout_lane_state_line {
	uint64_t final; /* 0 while open, then 1 + the number of messages ever published: release; readers, acquire */
	uint64_t schema_count; /* release after the schema itself; readers, acquire */
	uint64_t enough; /* before it sleeps: release; who releases, acquire: wake me when all below are done with */
	uint64_t reserved[13];
};
static_assert(sizeof(struct layout_lane_state_line) == LAYOUT_LINE, "lane state");

struct layout_schema_tensor {
	char name[SLUICE_MAX_TENSOR_NAME + 1]; /* NUL-terminated */
	uint32_t dtype;
	uint32_t ndim;
};
static_assert(sizeof(struct layout_schema_tensor) == 40, "schema tensor");

struct layout_schema {
	uint32_t tensor_count;
	uint32_t reserved0;
	struct layout_schema_tensor tensors[SLUICE_MAX_TENSORS];
	uint64_t reserved1[7];
};
static_assert(sizeof(struct layout_schema) == 704, "schema");

/* Written by the producer's thread, read by the tool, relaxed. */
struct layout_lane_stats {
	uint64_t published_messages;
	uint64_t published_bytes;
	uint64_t discarded_messages;
	uint64_t stalls;
	uint64_t wakeups_sent;
	uint64_t reserved0[11];
	struct layout_histogram fill_time;
	uint64_t reserved1[240];
};
static_assert(sizeof(struct layout_lane_stats) == 4096, "lane stats");

/* Bits of a descriptor's flags. */
enum layout_descriptor_flags {
	LAYOUT_PAYLOAD_INLINE = 1,  /* the tensors lie in the descriptor itself */
	LAYOUT_DIMS_IN_PAYLOAD = 2, /* dimension words lie at the start of the payload, 64 bits each */
	LAYOUT_STAMPED = 4,         /* annex.reserve_ns and publish_ns are set */
	LAYOUT_TRACED = 8,          /* annex.trace_id, parent_id and trace_flags are set */
	LAYOUT_DEADLINE = 16,       /* annex.deadline_ns is set */
	LAYOUT_KNOWN_FLAGS = 31
};

/* The line that a consumer polls: flag and description travel together. */
struct layout_descriptor_head {
	uint64_t sequence; /* 1 + sequence number, written last: the ready flag */
	uint64_t correlation_id;
	uint64_t ticket;        /* `ordered`: place in the channel's order; else 0 */
	uint64_t payload_bytes; /* extent from the payload's start to the end of the last tensor */
	uint32_t payload_unit;  /* where the payload starts, in units of 64 bytes from payload_offset; 0 when inline */
	uint16_t schema;
	uint16_t flags; /* enum layout_descriptor_flags */
	uint32_t dims
		[LAYOUT_DIMS]; /* dimensions of all tensors in order, then where tensors 1, 2 ... start, in units of 64 bytes */
};
static_assert(sizeof(struct layout_descriptor_head) == 64, "descriptor head");

struct layout_descriptor_annex {
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	uint64_t reserve_ns;  /* likewise */
	uint64_t publish_ns;  /* likewise */
	uint8_t trace_id[16];
	uint8_t parent_id[8];
	uint8_t trace_flags;
	uint8_t reserved[15];
};
static_assert(sizeof(struct layout_descriptor_annex) == 64, "descriptor annex");

struct layout_descriptor {
	struct layout_descriptor_head head;
	uint8_t payload[LAYOUT_INLINE_BYTES];
	struct layout_descriptor_annex annex;
};
static_assert(sizeof(struct layout_descriptor) == 256, "descriptor");

/*
 * 0x0000 header · 0x0040 geometry · 0x00c0 placement · 0x0100 state · 0x0180 tail · 0x1000 stats · 0x2000 schemas ·
 * 0xd000 descriptors · payload_offset payload · payload_offset + payload_bytes end
 */
struct layout_data {
	struct layout_header header;
	struct layout_lane_geometry geometry;
	struct layout_placement placement;
	struct layout_lane_state_line state;
	struct layout_word tail; /* release: messages below it may be overwritten; joiners, acquire */
	uint64_t reserved[448];
	struct layout_lane_stats stats;
	struct layout_schema schemas[LAYOUT_SCHEMAS];
	struct layout_descriptor descriptors[];
};
static_assert(offsetof(struct layout_data, geometry) == 0x40, "geometry");
static_assert(offsetof(struct layout_data, placement) == 0xc0, "placement");
static_assert(offsetof(struct layout_data, state) == 0x100, "state");
static_assert(offsetof(struct layout_data, tail) == 0x180, "tail");
static_assert(offsetof(struct layout_data, stats) == 0x1000, "stats");
static_assert(offsetof(struct layout_data, schemas) == 0x2000, "schemas");
static_assert(offsetof(struct layout_data, descriptors) == 0xd000, "descriptors");

/* ---- lane claims: written by consumers ---- */

/* Queue: one word a descriptor. Broadcast: one cursor a roster slot, each on a line of its own. */
struct layout_claims {
	struct layout_header header;
	uint64_t reserved0[8];
	struct layout_word departed; /* broadcast: consumers that leave, maximum of their cursors */
	uint64_t reserved1[480];
	union {
		uint64_t claims[1];
		struct layout_word cursors[1];
	} u;
};
static_assert(offsetof(struct layout_claims, departed) == 0x80, "departed");
static_assert(offsetof(struct layout_claims, u) == 0x1000, "claims");

/*
 * A claim word, least significant bit first: 32 bits lap, 2 state, 6 deliveries, 7 slot, 17 incarnation. The lap of
 * message n in a lane of depth d is n / d + 1, so that index and lap name the message. Zero is lap 0, released: free
 * for lap 1.
 */
enum layout_claim_state { LAYOUT_RELEASED = 0, LAYOUT_CLAIMED = 1, LAYOUT_RETURNED = 2, LAYOUT_SET_ASIDE = 3 };

#define LAYOUT_INCARNATION_BITS 17
#define LAYOUT_INCARNATION_MASK ((UINT32_C(1) << LAYOUT_INCARNATION_BITS) - 1)
#define LAYOUT_MAX_DELIVERIES   63

/* Lap and state, of which LAYOUT_RELEASED is 0. */
#define LAYOUT_CLAIM_PLACE ((UINT64_C(1) << 34) - 1)

struct layout_claim {
	uint32_t lap;
	enum layout_claim_state state;
	uint32_t deliveries; /* saturates at LAYOUT_MAX_DELIVERIES */
	uint32_t slot;
	uint32_t incarnation; /* its low LAYOUT_INCARNATION_BITS */
};

static inline uint64_t layout_claim_encode(struct layout_claim claim)
{
	return (uint64_t)claim.lap | (uint64_t)claim.state << 32 | (uint64_t)claim.deliveries << 34 |
	       (uint64_t)claim.slot << 40 | (uint64_t)(claim.incarnation & LAYOUT_INCARNATION_MASK) << 47;
}

static inline struct layout_claim layout_claim_decode(uint64_t word)
{
	return (struct layout_claim){
		.lap = (uint32_t)word,
		.state = (enum layout_claim_state)(word >> 32 & 3),
		.deliveries = (uint32_t)(word >> 34 & 63),
		.slot = (uint32_t)(word >> 40 & 127),
		.incarnation = (uint32_t)(word >> 47),
	};
}

/* A broadcast cursor: 47 bits sequence of the oldest message not yet released, 17 bits incarnation, never 0 while in use. */
#define LAYOUT_CURSOR_BITS 47

static inline uint64_t layout_cursor_encode(uint64_t sequence, uint32_t incarnation)
{
	return (sequence & ((UINT64_C(1) << LAYOUT_CURSOR_BITS) - 1)) |
	       (uint64_t)(incarnation & LAYOUT_INCARNATION_MASK) << LAYOUT_CURSOR_BITS;
}

static inline uint64_t layout_cursor_sequence(uint64_t word)
{
	return word & ((UINT64_C(1) << LAYOUT_CURSOR_BITS) - 1);
}

static inline uint32_t layout_cursor_incarnation(uint64_t word)
{
	return (uint32_t)(word >> LAYOUT_CURSOR_BITS);
}

/*
 * What a GPU writes when it is done with a message: 47 bits number, 17 bits incarnation of the consumer's slot, never 0.
 * So a write that is late, of a former holder of the slot, acknowledges nothing of its next one.
 */
#define LAYOUT_TICKET_BITS 47

static inline uint64_t layout_ticket_encode(uint64_t number, uint32_t incarnation)
{
	return (number & ((UINT64_C(1) << LAYOUT_TICKET_BITS) - 1)) | (uint64_t)(incarnation & LAYOUT_INCARNATION_MASK)
									      << LAYOUT_TICKET_BITS;
}

static inline uint64_t layout_ticket_number(uint64_t word)
{
	return word & ((UINT64_C(1) << LAYOUT_TICKET_BITS) - 1);
}

static inline uint32_t layout_ticket_incarnation(uint64_t word)
{
	return (uint32_t)(word >> LAYOUT_TICKET_BITS);
}

/* ---- sizes ---- */

/* Payload sizes are such that half a lane is a multiple of every alignment. */
static inline uint64_t layout_round_payload(uint64_t bytes)
{
	const uint64_t step = 2 * LAYOUT_MIN_PAYLOAD;
	return (bytes + step - 1) / step * step;
}

uint64_t layout_data_bytes(uint32_t depth, uint64_t payload_bytes, uint64_t *ret_payload_offset);
uint64_t layout_claims_bytes(uint32_t mode, uint32_t depth);

/* ---- names ---- */

#define LAYOUT_NAME_BYTES 128 /* longest file name here, NUL included */

/* 0 or -EINVAL: 1 to SLUICE_MAX_NAME letters, digits, '.', '_', '-', not starting with '.'. */
int layout_check_name(const char *name);
void layout_control_name(const char *name, char ret_name[LAYOUT_NAME_BYTES]);
void layout_lane_name(const char *name, uint64_t channel_id, uint32_t slot, uint32_t incarnation, enum layout_kind kind,
	char ret_name[LAYOUT_NAME_BYTES]);
/* Whose the lane's object with this file name is; false if it is not the name of one. */
bool layout_lane_owner(const char *entry, uint64_t *ret_channel_id, uint32_t *ret_slot, uint32_t *ret_incarnation);
/* What the file name `entry` is: 0 nothing of Sluice's, LAYOUT_CONTROL, or LAYOUT_DATA for both objects of a lane. */
int layout_parse_name(const char *entry, char ret_name[SLUICE_MAX_NAME + 1]);

/* ---- checks of untrusted values; each returns NULL or the reason, a static string ---- */

/* -EPROTO (not Sluice's), -EPROTONOSUPPORT (another layout version or feature), -EBADMSG (contradicts itself), or 0. */
int layout_check_header(const struct layout_header *header, enum layout_kind kind, uint64_t file_bytes);
/* `name`: the name that the channel was found by. */
const char *layout_check_config(const struct layout_config *config, const char *name);
const char *layout_check_geometry(const struct layout_lane_geometry *geometry, uint64_t file_bytes);
const char *layout_check_placement(const struct layout_placement *placement, uint64_t mapped_bytes);
const char *layout_check_schema(const struct layout_schema *schema);

#endif
