/* SPDX-License-Identifier: Apache-2.0 */
#include "promises.h"

#include <errno.h>

#include "clock.h"

#define LOOK_INTERVAL_NS UINT64_C(300000000) /* more than members let pass between two looks at the others */
#define A_LAP_AND_MORE   (2 * STAGE_DEPTH + 1)

/* Bits of a variant. */
#define COLLECT_FIRST  1 /* sluice_channel_collect recovers, else whoever comes or looks next */
#define WITNESS_LEAVES 2 /* with what it holds, which others are to get then */

/* ---- while it is stopped ---- */

static bool at_gate(const struct call *call, int error)
{
	return (call->traits & GATE) != 0 && error == -ETIMEDOUT;
}

/* What waits for a gate in vain, waits no longer than its clock says. */
static void lose_patience(const struct call *call)
{
	if ((call->traits & GATE) != 0)
		clock_rush(STAGE_HASTY);
}

static void newcomer(struct stage *stage, const struct call *call)
{
	lose_patience(call);
	int error = stage_open_reader(stage, FRESH, STAGE_HASTY);
	clock_rush(0);
	if (at_gate(call, error))
		stage->readers[FRESH].handle = NULL;
	else
		must(error);
}

static void collect_meanwhile(const struct call *call)
{
	struct sluice_collected collected = {0};
	clock_rush(4000000000); /* its patience with the gate */
	int error = sluice_channel_collect(STAGE_CHANNEL, NULL, 0, &collected);
	clock_rush(0);
	if (at_gate(call, error) || ((call->traits & GATE) != 0 && error == -ENOENT))
		return;
	must(error);
	if (collected.dead_members > 0 && (call->traits & DIES_DURING) == 0)
		broken("a stopped member is declared dead");
}

/* A waiting member looks after the others too, and needs no gate for it. */
static void look_as_witness(struct stage *stage)
{
	clock_advance(LOOK_INTERVAL_NS);
	(void)stage_receive(stage, WITNESS, 1000);
}

static uint32_t lower(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The oldest message of `author` that somebody may still need. */
static uint32_t oldest_needed(const struct stage *stage, const struct call *call, enum author author)
{
	const struct ledger *ledger = stage->ledger;
	if (!stage->broadcast)
		return ledger_first_held(ledger, author);
	if ((call->traits & JOINS) != 0 || ledger->assembled == NO)
		return 0;
	uint32_t oldest = ledger->written[author];
	unsigned readers = stage_open_readers(stage);
	if ((call->traits & READS) != 0)
		readers |= 1u << SUBJECT_READER;
	for (unsigned reader = 0; reader < READERS; reader++)
		if ((readers >> reader & 1) != 0)
			oldest = lower(oldest, ledger_released_to(ledger, reader, author, YES));
	return oldest;
}

static void run_laps(struct stage *stage, const struct call *call, enum author author)
{
	stage_drain(stage);
	for (unsigned i = 0; i < A_LAP_AND_MORE; i++) {
		if (stage_send(stage, author) != 0) {
			uint32_t written = stage->ledger->written[author];
			if (written < oldest_needed(stage, call, author) + STAGE_DEPTH)
				broken("a producer is blocked at message %u though nobody needs its lane", written);
			break;
		}
		stage_drain(stage);
	}
}

/* Somebody who comes to a channel without producers, and whose messages are received only later. */
static void another_producer(struct stage *stage, const struct call *call)
{
	lose_patience(call);
	int error = stage_open_producer(stage, LATER, STAGE_HASTY);
	clock_rush(0);
	if (at_gate(call, error)) {
		stage->producers[LATER] = NULL;
		return;
	}
	must(error);
	stage_send_many(stage, LATER, 3);
}

static void take_back(struct stage *stage)
{
	stage_drain(stage);
	look_as_witness(stage);
	look_as_witness(stage);
	while (stage_receive(stage, WITNESS, 0) == 0)
		continue;
	if (stage->readers[WITNESS].count == 0)
		broken("nothing is taken back from a consumer that holds it for too long");
	stage->readers[WITNESS].kept = stage->readers[WITNESS].count;
}

void promises_while_stopped(struct stage *stage, const struct call *call)
{
	bool collect_first = (stage->ledger->variant & COLLECT_FIRST) != 0;
	stage->ledger->stopped = true;
	if ((call->traits & TAKE_BACK) != 0) {
		take_back(stage);
		return;
	}
	stage->subject_reads = (call->traits & (READS | LEAVES)) == READS;
	if ((call->traits & JOINS) != 0)
		ledger_join_anywhere(stage->ledger, SUBJECT_READER);
	if (collect_first)
		collect_meanwhile(call);
	newcomer(stage, call);
	if (!collect_first)
		collect_meanwhile(call);
	if (stage->readers[WITNESS].handle != NULL)
		look_as_witness(stage);
	if (stage->producers[PEER] != NULL)
		run_laps(stage, call, PEER);
	else
		another_producer(stage, call);
	if (stage->producers[BYSTANDER] != NULL)
		run_laps(stage, call, BYSTANDER);
}

void promises_when_returned(struct stage *stage, const struct call *call)
{
	if ((call->traits & TAKE_BACK) == 0)
		return;
	/* What a late release gave away is overwritten now. */
	for (unsigned i = 0; i < STAGE_DEPTH && stage_send(stage, PEER) == 0; i++)
		continue;
	while (stage->readers[WITNESS].count > 0)
		stage_release(stage, WITNESS, 0);
	stage_let_go(stage);
}

/* ---- afterwards ---- */

static void check_roster(void)
{
	struct sluice_channel_stat *stat;
	must(sluice_channel_stat(STAGE_CHANNEL, NULL, &stat));
	for (uint32_t i = 0; i < stat->lane_count; i++)
		if (!stat->lanes[i].alive)
			broken("a drained lane of slot %u, incarnation %u is still there", stat->lanes[i].slot,
				stat->lanes[i].incarnation);
	sluice_channel_stat_free(stat);
}

/* A lane takes as many messages as it is deep, no more and no less, again and again. */
static void check_capacity(struct stage *stage, enum author author)
{
	for (unsigned lap = 0; lap < 2; lap++) {
		unsigned sent = 0;
		while (sent <= STAGE_DEPTH && stage_send(stage, author) == 0)
			sent++;
		if (sent != STAGE_DEPTH)
			broken("a lane of depth %d takes %u messages", STAGE_DEPTH, sent);
		stage_drain(stage);
	}
}

/* Before all who are expected were there, nothing is overwritten; then the last of them comes, and gets everything. */
static void assemble(struct stage *stage)
{
	for (unsigned author = 0; author < AUTHORS && stage->ledger->assembled == NO; author++)
		while (stage->producers[author] != NULL && stage_send(stage, (enum author)author) == 0)
			if (stage->ledger->written[author] > STAGE_DEPTH)
				broken("a message is overwritten before all consumers have come");
	if (stage->ledger->assembled == YES || stage->readers[WITNESS].handle != NULL)
		return;
	must(stage_open_reader(stage, WITNESS, STAGE_PATIENT));
	stage_drain(stage);
	ledger_settle(stage->ledger, stage_open_readers(stage));
}

static void check_empty(const struct call *call)
{
	if (stage_files() == 0)
		return;
	struct sluice_collected collected;
	if ((call->traits & ORPHANS) == 0)
		broken("%u files are left behind", stage_files());
	must(sluice_channel_collect(STAGE_CHANNEL, NULL, 0, &collected));
	if (stage_files() != 0)
		broken("%u files are left behind that collecting does not remove", stage_files());
}

/* Who was there all the time gets what is left, without anybody new who would look at it afresh. */
static void witness_takes_over(struct stage *stage, bool recovered)
{
	if (!recovered)
		look_as_witness(stage);
	stage_let_go(stage);
	stage_drain(stage);
	ledger_settle(stage->ledger, stage_open_readers(stage));
}

static void leave(struct stage *stage)
{
	for (unsigned author = 0; author < AUTHORS; author++)
		if (stage->producers[author] != NULL)
			stage_close_producer(stage, author);
	for (unsigned reader = WITNESS; reader <= FRESH; reader++)
		if (stage->readers[reader].handle != NULL)
			stage_close_reader(stage, reader);
}

void promises_afterwards(struct stage *stage, const struct call *call)
{
	unsigned variant = stage->ledger->variant;
	stage->subject_reads = false;
	if ((variant & COLLECT_FIRST) != 0) {
		struct sluice_collected collected;
		int error = sluice_channel_collect(STAGE_CHANNEL, NULL, 0, &collected);
		if (error != -ENOENT)
			must(error);
		ledger_recovered(stage->ledger);
	}
	if ((variant & WITNESS_LEAVES) == 0 && stage->readers[WITNESS].handle != NULL)
		witness_takes_over(stage, (variant & COLLECT_FIRST) != 0);
	if (stage->readers[FRESH].handle == NULL)
		must(stage_open_reader(stage, FRESH, STAGE_PATIENT));
	if ((variant & WITNESS_LEAVES) != 0 && stage->readers[WITNESS].handle != NULL)
		stage_close_reader(stage, WITNESS);
	stage_let_go(stage);
	stage_drain(stage);
	stage_drain(stage); /* once more, now that the dead's lanes are drained */
	ledger_settle(stage->ledger, stage_open_readers(stage));
	assemble(stage);
	check_roster();

	if (stage->producers[LATER] == NULL)
		must(stage_open_producer(stage, LATER, STAGE_PATIENT));
	for (unsigned author = 0; author < AUTHORS; author++)
		if (stage->producers[author] != NULL)
			check_capacity(stage, author);
	ledger_settle(stage->ledger, stage_open_readers(stage));
	leave(stage);
	check_empty(call);
}
