/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"

#include <errno.h>

#define SHORT_WAIT 1500000

/* ---- scenes that calls share ---- */

void witness(struct stage *stage)
{
	must(stage_open_reader(stage, WITNESS, STAGE_PATIENT));
}

void witness_and_peer(struct stage *stage)
{
	witness(stage);
	must(stage_open_producer(stage, PEER, STAGE_PATIENT));
	if (!stage->broadcast)
		must(stage_open_producer(stage, BYSTANDER, STAGE_PATIENT));
}

/* The same, and always both: order is one of several producers. */
static void witness_and_both(struct stage *stage)
{
	witness(stage);
	must(stage_open_producer(stage, PEER, STAGE_PATIENT));
	must(stage_open_producer(stage, BYSTANDER, STAGE_PATIENT));
}

/* By turns, but not in the order of lanes. */
static void witness_and_mixed(struct stage *stage)
{
	witness_and_both(stage);
	stage_send_many(stage, BYSTANDER, 1);
	stage_send_many(stage, PEER, 2);
	stage_send_many(stage, BYSTANDER, 2);
	stage_send_many(stage, PEER, 1);
}

static void witness_and_three(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, 3);
}

void witness_and_four(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, STAGE_DEPTH);
}

static void keep(struct stage *stage, unsigned count)
{
	stage_receive_many(stage, WITNESS, count);
	stage->readers[WITNESS].kept = count;
}

void open_own_reader(struct stage *stage)
{
	must(stage_open_reader(stage, SUBJECT_READER, STAGE_PATIENT));
}

/* One that has received before, and need not look around first. */
static void settle_down(struct stage *stage)
{
	open_own_reader(stage);
	stage_receive_many(stage, SUBJECT_READER, 1);
	stage_release(stage, SUBJECT_READER, 0);
}

void witness_takes_the_rest(struct stage *stage)
{
	stage_drain(stage);
}

void close_own_reader(struct stage *stage)
{
	stage_close_reader(stage, SUBJECT_READER);
}

/* The result of a call that waits for something which may come while it is stopped, but not if it is not. */
static bool came(struct stage *stage, int result, int otherwise)
{
	if (result != otherwise || stage->ledger->stopped)
		return result != otherwise ? (must(result), true) : false;
	return false;
}

/* ---- reserve, publish, discard ---- */

void fill_own_lane(struct stage *stage)
{
	must(stage_open_producer(stage, SUBJECT_AUTHOR, STAGE_PATIENT));
	stage_send_many(stage, SUBJECT_AUTHOR, STAGE_DEPTH);
}

static void release_two_keep_two(struct stage *stage)
{
	stage_receive_many(stage, WITNESS, STAGE_DEPTH);
	stage_release(stage, WITNESS, 0);
	stage_release(stage, WITNESS, 0);
	stage->readers[WITNESS].kept = 2;
}

static void keep_all(struct stage *stage)
{
	keep(stage, STAGE_DEPTH);
}

/* There is room, unless somebody joined a broadcast meanwhile who needs everything. */
void run_reserve(struct stage *stage)
{
	int result = stage_reserve(stage, SUBJECT_AUTHOR, 0, &stage->reservation);
	if (result != 0)
		stage->reservation = NULL;
	if (result != -EAGAIN || !stage->ledger->stopped || !stage->broadcast)
		must(result);
}

static void run_reserve_waits(struct stage *stage)
{
	int result = stage_reserve(stage, SUBJECT_AUTHOR, SHORT_WAIT, &stage->reservation);
	if (result != -ETIMEDOUT)
		broken("a reservation in a full lane returns %d", result);
	stage->reservation = NULL;
}

void publish_and_leave(struct stage *stage)
{
	if (stage->reservation != NULL)
		stage_publish(stage, SUBJECT_AUTHOR, stage->reservation);
	stage_close_producer(stage, SUBJECT_AUTHOR);
}

static void leave_own_lane(struct stage *stage)
{
	stage_close_producer(stage, SUBJECT_AUTHOR);
}

/* There is none, until the second consumer comes. */
static void run_reserve_early(struct stage *stage)
{
	int result = stage_reserve(stage, SUBJECT_AUTHOR, 0, &stage->reservation);
	if (result == 0 && stage->ledger->assembled == NO)
		broken("there is room before all consumers have come");
	if (result != 0)
		stage->reservation = NULL;
	if (result != -EAGAIN)
		must(result);
}

static void witness_is_done(struct stage *stage)
{
	stage_drain(stage);
}

static void peer_sends_again(struct stage *stage)
{
	stage_send_many(stage, PEER, 1);
}

static void reserve_second(struct stage *stage)
{
	must(stage_open_producer(stage, SUBJECT_AUTHOR, STAGE_PATIENT));
	stage_send_many(stage, SUBJECT_AUTHOR, 1);
	must(stage_reserve(stage, SUBJECT_AUTHOR, 0, &stage->reservation));
	ledger_fill(stage->ledger, stage->reservation, SUBJECT_AUTHOR, 1);
}

static void run_publish(struct stage *stage)
{
	stage_publish(stage, SUBJECT_AUTHOR, stage->reservation);
}

/* One more of a burst, and the look for sleepers that ends it. */
static void run_publish_more(struct stage *stage)
{
	stage_publish_by(stage, SUBJECT_AUTHOR, stage->reservation, sluice_publish_more);
}

static void begin_burst(struct stage *stage)
{
	reserve_second(stage);
	run_publish_more(stage);
}

static void run_flush(struct stage *stage)
{
	must(sluice_flush(stage->producers[SUBJECT_AUTHOR]));
}

static void run_discard(struct stage *stage)
{
	must(sluice_discard(stage->reservation));
}

/* ---- receive, release ---- */

void run_receive(struct stage *stage)
{
	struct stage_reader *self = &stage->readers[SUBJECT_READER];
	ledger_may_hold(stage->ledger, SUBJECT_READER);
	int result = sluice_receive(self->handle, 0, &self->held[0]);
	ledger_held(stage->ledger, SUBJECT_READER, NO);
	if (result == 0)
		stage_take_over(stage, SUBJECT_READER, 1);
	else if (result != -EAGAIN || !stage->ledger->stopped)
		must(result);
}

static void run_receive_batch(struct stage *stage)
{
	struct stage_reader *self = &stage->readers[SUBJECT_READER];
	ledger_may_hold(stage->ledger, SUBJECT_READER);
	int result = sluice_receive_batch(self->handle, 3, 0, 0, 0, self->held);
	ledger_held(stage->ledger, SUBJECT_READER, NO);
	if (result > 0)
		stage_take_over(stage, SUBJECT_READER, (unsigned)result);
	else if (result != -EAGAIN || !stage->ledger->stopped)
		must(result);
	if (result < 3 && !stage->ledger->stopped)
		broken("a batch of %d messages, not 3", result);
}

static void receive_in_time(struct stage *stage, bool expected)
{
	struct stage_reader *self = &stage->readers[SUBJECT_READER];
	ledger_may_hold(stage->ledger, SUBJECT_READER);
	int result = sluice_receive(self->handle, SHORT_WAIT, &self->held[0]);
	ledger_held(stage->ledger, SUBJECT_READER, NO);
	if (came(stage, result, -ETIMEDOUT))
		stage_take_over(stage, SUBJECT_READER, 1);
	else if (expected && !stage->ledger->stopped)
		broken("what a dead consumer held does not come");
}

static void run_receive_waits(struct stage *stage)
{
	receive_in_time(stage, false);
}

void run_receive_recovers(struct stage *stage)
{
	receive_in_time(stage, true);
}

/* The oldest, but not all of one lane. */
static void dead_reader_holds_oldest(struct stage *stage)
{
	witness_and_both(stage);
	stage_send_many(stage, BYSTANDER, 1);
	stage_send_many(stage, PEER, 1);
	stage_start_dead_reader(stage, 2, 0);
	stage_send_many(stage, PEER, 1);
	stage_send_many(stage, BYSTANDER, 1);
}

static void dead_reader_holds_two(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, 2);
	stage_start_dead_reader(stage, 2, 0);
}

static void hold_three(struct stage *stage)
{
	open_own_reader(stage);
	stage_receive_many(stage, SUBJECT_READER, 3);
	stage_release(stage, SUBJECT_READER, 1);
}

static void hold_all_three(struct stage *stage)
{
	open_own_reader(stage);
	stage_receive_many(stage, SUBJECT_READER, 3);
}

/* Of a queue, two of them by one swap. */
static void run_release_batch(struct stage *stage)
{
	struct stage_reader *self = &stage->readers[SUBJECT_READER];
	struct ledger_entry *entries[3];
	for (unsigned i = 0; i < 3; i++) {
		entries[i] = ledger_entry_of(stage->ledger, self->held[i]);
		ledger_release(stage->ledger, SUBJECT_READER, self->held[i], MAYBE);
	}
	must(sluice_release_batch(self->held, 3));
	for (unsigned i = 0; i < 3; i++) {
		entries[i]->released[SUBJECT_READER] = YES;
		entries[i]->held[SUBJECT_READER] = NO;
	}
}

/* The oldest of three, the next of which went before: a broadcast cursor moves by two. */
static void run_release(struct stage *stage)
{
	const struct sluice_message *message = stage->readers[SUBJECT_READER].held[0];
	struct ledger_entry *entry = ledger_entry_of(stage->ledger, message);
	ledger_release(stage->ledger, SUBJECT_READER, message, MAYBE);
	int result = sluice_release(message);
	/* Taken back while it was stopped: then it went to the witness, and is none of ours any more. */
	bool gone = stage->ledger->may_take_back && entry->held[SUBJECT_READER] == NO;
	if (gone && result != -ESTALE)
		broken("a release of what went to another returns %d, not -ESTALE", result);
	if (gone) {
		entry->released[SUBJECT_READER] = NO;
		return;
	}
	must(result);
	entry->released[SUBJECT_READER] = YES;
	entry->held[SUBJECT_READER] = NO;
}

static void take_back_soon(struct stage *stage)
{
	stage->take_back_ns = 1000000;
	stage->ledger->may_take_back = true;
	witness_and_four(stage);
}

/* ---- open ---- */

static void run_open_producer(struct stage *stage)
{
	must(stage_open_producer(stage, SUBJECT_AUTHOR, STAGE_PATIENT));
}

/* Where it begins depends on how far others got meanwhile; from there on it gets everything. */
static void run_open_reader(struct stage *stage)
{
	must(stage_open_reader(stage, SUBJECT_READER, STAGE_PATIENT));
}

static void drain_and_leave(struct stage *stage)
{
	while (stage_receive(stage, SUBJECT_READER, 0) == 0)
		stage_release(stage, SUBJECT_READER, 0);
	if (stage->broadcast)
		ledger_settle(stage->ledger, 1u << SUBJECT_READER);
	stage_close_reader(stage, SUBJECT_READER);
}

static void peer_sends_four(struct stage *stage)
{
	must(stage_open_producer(stage, PEER, STAGE_PATIENT));
	stage_send_many(stage, PEER, STAGE_DEPTH);
}

static void four_done_with(struct stage *stage)
{
	witness(stage);
	peer_sends_four(stage);
	stage_drain(stage);
}

static void two_done_with(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, 2);
	stage_drain(stage);
}

static void send_and_leave(struct stage *stage)
{
	stage_send_many(stage, SUBJECT_AUTHOR, 2);
	stage_close_producer(stage, SUBJECT_AUTHOR);
}

static void two_and_one_kept(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, 2);
	keep(stage, 1);
}

/* A consumer that holds two of four, and a producer with a backlog, both dead and not yet noticed. */
static void two_dead(struct stage *stage)
{
	witness_and_peer(stage);
	stage_send_many(stage, PEER, STAGE_DEPTH);
	stage_start_dead_reader(stage, 2, 0);
	stage_start_dead_producer(stage, 2);
	witness_takes_the_rest(stage);
	stage_kill_dead(stage);
}

/* ---- close ---- */

static void send_three(struct stage *stage)
{
	must(stage_open_producer(stage, SUBJECT_AUTHOR, STAGE_PATIENT));
	stage_send_many(stage, SUBJECT_AUTHOR, 3);
}

static void keep_one(struct stage *stage)
{
	keep(stage, 1);
}

static void come_and_go(struct stage *stage)
{
	witness(stage);
	stage_drain(stage);
	stage_close_reader(stage, WITNESS);
}

static void run_close_producer(struct stage *stage)
{
	stage_close_producer(stage, SUBJECT_AUTHOR);
}

static void run_close_reader(struct stage *stage)
{
	stage_close_reader(stage, SUBJECT_READER);
}

static void hold_two(struct stage *stage)
{
	open_own_reader(stage);
	stage_receive_many(stage, SUBJECT_READER, 2);
}

static void peer_sends_two(struct stage *stage)
{
	must(stage_open_producer(stage, PEER, STAGE_PATIENT));
	stage_send_many(stage, PEER, 2);
}

static void drain_as_subject(struct stage *stage)
{
	hold_two(stage);
	stage_release(stage, SUBJECT_READER, 0);
	stage_release(stage, SUBJECT_READER, 0);
}

static void peer_leaves(struct stage *stage)
{
	stage_close_producer(stage, PEER);
}

/* ---- collect ---- */

static void run_collect_with(uint32_t flags)
{
	struct sluice_collected collected;
	int result = sluice_channel_collect(STAGE_CHANNEL, NULL, flags, &collected);
	if (result != -ENOENT)
		must(result);
}

void run_collect(struct stage *stage)
{
	(void)stage;
	run_collect_with(0);
}

static void run_collect_drop(struct stage *stage)
{
	ledger_drop(stage->ledger);
	run_collect_with(SLUICE_COLLECT_DROP);
}

/* Nobody lives and nothing waits: the channel is to be taken away. */
static void deserted(struct stage *stage)
{
	stage_start_dead_producer(stage, 2);
	stage_start_dead_reader(stage, 2, 2);
	stage_kill_dead(stage);
}

static void deserted_with_backlog(struct stage *stage)
{
	stage_start_dead_producer(stage, 3);
	stage_start_dead_reader(stage, 2, 1);
	stage_kill_dead(stage);
}

const struct call calls[] = {
	{"reserve", at(sluice_reserve), EITHER_KIND, witness, fill_own_lane, release_two_keep_two, run_reserve,
		publish_and_leave},
	{"reserve that waits", at(sluice_reserve), LONG, witness, fill_own_lane, keep_all, run_reserve_waits,
		leave_own_lane},
	{"publish", at(sluice_publish), EITHER_KIND, witness, reserve_second, NULL, run_publish, leave_own_lane},
	{"publish_more", at(sluice_publish_more), EITHER_KIND, witness, reserve_second, NULL, run_publish_more,
		leave_own_lane},
	{"flush", at(sluice_flush), 0, witness, begin_burst, NULL, run_flush, leave_own_lane},
	{"discard", at(sluice_discard), 0, witness, reserve_second, NULL, run_discard, leave_own_lane},
	{"receive", at(sluice_receive), EITHER_KIND | READS, witness_and_four, settle_down, NULL, run_receive,
		close_own_reader},
	{"receive_batch", at(sluice_receive_batch), READS, witness_and_four, settle_down, NULL, run_receive_batch,
		close_own_reader},
	{"first receive", at(sluice_receive), LONG | READS, witness_and_three, open_own_reader, NULL, run_receive,
		close_own_reader},
	{"receive that waits", at(sluice_receive), LONG | READS, witness_and_peer, open_own_reader, NULL,
		run_receive_waits, close_own_reader},
	{"receive that recovers", at(sluice_receive), LONG | READS | QUEUE_ONLY | DIES_DURING, dead_reader_holds_two,
		open_own_reader, stage_kill_dead, run_receive_recovers, close_own_reader},
	{"release", at(sluice_release), EITHER_KIND | READS, witness_and_four, hold_three, witness_takes_the_rest,
		run_release, close_own_reader},
	{"release_batch", at(sluice_release_batch), READS, witness_and_four, hold_all_three, witness_takes_the_rest,
		run_release_batch, close_own_reader},
	{"release of what is taken back", at(sluice_release), READS | QUEUE_ONLY | STOP_ONLY | TAKE_BACK,
		take_back_soon, hold_three, NULL, run_release, close_own_reader},
	{"publish, ordered", at(sluice_publish), ORDERED, witness_and_peer, reserve_second, peer_sends_again,
		run_publish, leave_own_lane},
	{"receive, ordered", at(sluice_receive), ORDERED | READS, witness_and_mixed, settle_down, NULL, run_receive,
		close_own_reader},
	{"receive_batch, ordered", at(sluice_receive_batch), LONG | ORDERED | READS, witness_and_mixed, settle_down,
		NULL, run_receive_batch, close_own_reader},
	{"receive that recovers, ordered", at(sluice_receive), LONG | ORDERED | READS | QUEUE_ONLY | DIES_DURING,
		dead_reader_holds_oldest, open_own_reader, stage_kill_dead, run_receive_recovers, close_own_reader},
	{"release, ordered", at(sluice_release), ORDERED | READS, witness_and_mixed, hold_three, witness_takes_the_rest,
		run_release, close_own_reader},
	{"reserve before all are there", at(sluice_reserve), LONG | EXPECTED, witness, fill_own_lane, witness_is_done,
		run_reserve_early, publish_and_leave},
	{"publish before all are there", at(sluice_publish), EXPECTED, witness, reserve_second, witness_is_done,
		run_publish, leave_own_lane},
	{"receive before all are there", at(sluice_receive), EXPECTED | READS, peer_sends_four, settle_down, NULL,
		run_receive, close_own_reader},
	{"release before all are there", at(sluice_release), EXPECTED | READS, peer_sends_four, hold_three, NULL,
		run_release, close_own_reader},
	{"open of the last that is expected", at(sluice_consumer_open), LONG | GATE | ORPHANS | JOINS | EXPECTED,
		four_done_with, NULL, NULL, run_open_reader, drain_and_leave},
	{"open of the first producer", at(sluice_producer_open), LONG | GATE | ORPHANS, NULL, NULL, NULL,
		run_open_producer, send_and_leave},
	{"open of another producer", at(sluice_producer_open), LONG | GATE | ORPHANS, two_and_one_kept, NULL, NULL,
		run_open_producer, send_and_leave},
	{"open of a producer that recovers", at(sluice_producer_open), LONG | GATE | ORPHANS | DIES_DURING, two_dead,
		NULL, NULL, run_open_producer, send_and_leave},
	{"open of the first consumer", at(sluice_consumer_open), LONG | GATE | ORPHANS | JOINS, NULL, NULL, NULL,
		run_open_reader, drain_and_leave},
	{"open of another consumer", at(sluice_consumer_open), LONG | GATE | ORPHANS | JOINS, two_done_with, NULL, NULL,
		run_open_reader, drain_and_leave},
	{"open of a consumer that recovers", at(sluice_consumer_open), LONG | GATE | ORPHANS | JOINS | DIES_DURING,
		two_dead, NULL, NULL, run_open_reader, drain_and_leave},
	{"close of a producer", at(sluice_producer_close), LONG | GATE | ORPHANS, witness, send_three, keep_one,
		run_close_producer, NULL},
	{"close of the last producer", at(sluice_producer_close), LONG | GATE | ORPHANS, NULL, send_three, come_and_go,
		run_close_producer, NULL},
	{"close of the last producer with a backlog", at(sluice_producer_close), LONG | GATE | ORPHANS, NULL,
		send_three, NULL, run_close_producer, NULL},
	{"close of a consumer", at(sluice_consumer_close), LONG | GATE | ORPHANS | READS | LEAVES, witness_and_three,
		hold_two, witness_takes_the_rest, run_close_reader, NULL},
	{"close of the last consumer", at(sluice_consumer_close), LONG | GATE | ORPHANS | READS | LEAVES,
		peer_sends_two, drain_as_subject, peer_leaves, run_close_reader, NULL},
	{"collect", at(sluice_channel_collect), LONG | GATE | ORPHANS | DIES_DURING, two_dead, NULL, NULL, run_collect,
		NULL},
	{"collect of a deserted channel", at(sluice_channel_collect), LONG | GATE | ORPHANS | DIES_DURING, deserted,
		NULL, NULL, run_collect, NULL},
	{"collect that drops a backlog", at(sluice_channel_collect), LONG | GATE | ORPHANS | DIES_DURING | DROPS,
		deserted_with_backlog, NULL, NULL, run_collect_drop, NULL},
};

const size_t call_count = sizeof calls / sizeof calls[0];
