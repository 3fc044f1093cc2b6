/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Releases behind a stream's work, cut short: in the consumer that asks for them, and in whoever turns what the device has
 * acknowledged into releases. What the device is done with is never delivered again; what it is not, when its consumer
 * dies, is.
 */
#include "calls.h"

#include <sluice/cuda.h>

#include "device.h"

static void attach(struct stage *stage, enum reader reader)
{
	device_go_on();
	must(sluice_cuda_attach(stage->readers[reader].handle, NULL));
}

/* What `reader` released behind streams is now released so certainly. */
static void left_is(struct stage *stage, enum reader reader, enum certainty how)
{
	struct stage_reader *self = &stage->readers[reader];
	for (unsigned i = 0; i < self->left_count; i++) {
		self->left[i]->released[reader] = (uint8_t)how;
		if (how == YES)
			self->left[i]->held[reader] = NO;
	}
}

/* Releases the first `count` messages behind the default stream, which has done so at once unless the device is held. */
static void leave(struct stage *stage, enum reader reader, unsigned count)
{
	struct stage_reader *self = &stage->readers[reader];
	for (unsigned i = 0; i < count; i++) {
		ledger_check_content(stage->ledger, self->held[i]);
		self->left[self->left_count++] = ledger_entry_of(stage->ledger, self->held[i]);
	}
	must(sluice_cuda_release_batch(self->held, count, NULL));
	self->count -= count;
	for (unsigned i = 0; i < self->count; i++)
		self->held[i] = self->held[i + count];
}

/* ---- releasing ---- */

static void hold_three_attached(struct stage *stage)
{
	open_own_reader(stage);
	attach(stage, SUBJECT_READER);
	stage_receive_many(stage, SUBJECT_READER, 3);
	stage_release(stage, SUBJECT_READER, 1);
}

static void hold_three_busy(struct stage *stage)
{
	hold_three_attached(stage);
	device_hold();
}

static void take_back_soon_attached(struct stage *stage)
{
	stage->take_back_ns = 1000000;
	stage->ledger->may_take_back = true;
	witness_and_four(stage);
}

/* Who asks is not told if the message went to another meanwhile: nobody knows before it is collected. */
static void run_leave(struct stage *stage)
{
	struct ledger_entry *entry = ledger_entry_of(stage->ledger, stage->readers[SUBJECT_READER].held[0]);
	entry->released[SUBJECT_READER] = MAYBE;
	leave(stage, SUBJECT_READER, 1);
	bool gone = stage->ledger->may_take_back && entry->held[SUBJECT_READER] == NO;
	left_is(stage, SUBJECT_READER, gone ? NO : YES);
}

/* The device does not come to it: it is held until the consumer closes, and goes to another if that dies. */
static void run_leave_busy(struct stage *stage)
{
	leave(stage, SUBJECT_READER, 1);
}

/* Closing waits for the device. */
static void close_busy_reader(struct stage *stage)
{
	left_is(stage, SUBJECT_READER, MAYBE);
	struct stage_reader self = stage->readers[SUBJECT_READER];
	stage_close_reader(stage, SUBJECT_READER);
	stage->readers[SUBJECT_READER] = self;
	left_is(stage, SUBJECT_READER, YES);
	stage->readers[SUBJECT_READER] = (struct stage_reader){0};
}

static void leave_two_busy(struct stage *stage)
{
	open_own_reader(stage);
	attach(stage, SUBJECT_READER);
	stage_receive_many(stage, SUBJECT_READER, 2);
	device_hold();
	leave(stage, SUBJECT_READER, 2);
}

/* ---- collecting ---- */

/* The device is done with two, and nobody has noticed. In a broadcast only the consumer itself ever will. */
static void leave_two_unnoticed(struct stage *stage)
{
	leave_two_busy(stage);
	left_is(stage, SUBJECT_READER, stage->broadcast ? MAYBE : YES);
	device_go_on();
}

static void run_collect_own(struct stage *stage)
{
	int pending = sluice_cuda_collect(stage->readers[SUBJECT_READER].handle);
	if (pending != 0)
		broken("%d messages are pending, though the device is done with all", pending);
	left_is(stage, SUBJECT_READER, YES);
}

/* All of the subject's lane is held, the device is done with half, and only a producer short of room will look. */
static void witness_leaves_two(struct stage *stage)
{
	stage_receive_many(stage, WITNESS, STAGE_DEPTH);
	attach(stage, WITNESS);
	leave(stage, WITNESS, 2);
	left_is(stage, WITNESS, YES);
	stage->readers[WITNESS].kept = 2;
}

/* ---- the dead ---- */

/* The device is done with the first and never comes to the second. */
static void leave_by_halves(struct stage *stage)
{
	attach(stage, DEAD_READER);
	leave(stage, DEAD_READER, 1);
	left_is(stage, DEAD_READER, YES);
	device_hold();
	leave(stage, DEAD_READER, 1);
}

static void dead_reader_leaves_by_halves(struct stage *stage)
{
	witness_and_four(stage);
	stage_start_dead_reader_that(stage, 3, leave_by_halves);
}

static void dead_reader_left_by_halves(struct stage *stage)
{
	dead_reader_leaves_by_halves(stage);
	witness_takes_the_rest(stage);
	stage_kill_dead(stage);
}

const struct call cuda_calls[] = {
	{"release behind a stream", at(sluice_cuda_release_batch), READS | ON_DEVICE, witness_and_four,
		hold_three_attached, witness_takes_the_rest, run_leave, close_own_reader},
	{"release behind a busy stream", at(sluice_cuda_release_batch), READS | ON_DEVICE, witness_and_four,
		hold_three_busy, witness_takes_the_rest, run_leave_busy, close_busy_reader},
	{"release behind a stream of what is taken back", at(sluice_cuda_release_batch),
		READS | QUEUE_ONLY | STOP_ONLY | TAKE_BACK | ON_DEVICE, take_back_soon_attached, hold_three_attached,
		NULL, run_leave, close_own_reader},
	{"collect of what a stream is done with", at(sluice_cuda_collect), READS | ON_DEVICE, witness_and_four,
		leave_two_unnoticed, witness_takes_the_rest, run_collect_own, close_own_reader},
	{"receive that collects what a stream is done with", at(sluice_receive), LONG | READS | ON_DEVICE,
		witness_and_four, leave_two_unnoticed, NULL, run_receive, close_own_reader},
	{"reserve that collects what a stream is done with", at(sluice_reserve), LONG | QUEUE_ONLY | ON_DEVICE, witness,
		fill_own_lane, witness_leaves_two, run_reserve, publish_and_leave},
	{"close of a consumer with a busy stream", at(sluice_consumer_close),
		LONG | GATE | ORPHANS | READS | LEAVES | ON_DEVICE, witness_and_four, leave_two_busy,
		witness_takes_the_rest, close_busy_reader, NULL},
	{"receive that recovers what a stream is done with", at(sluice_receive),
		LONG | READS | QUEUE_ONLY | DIES_DURING | ON_DEVICE, dead_reader_leaves_by_halves, open_own_reader,
		stage_kill_dead, run_receive_recovers, close_own_reader},
	{"collect of the dead's, with what a stream is done with", at(sluice_channel_collect),
		LONG | GATE | ORPHANS | QUEUE_ONLY | DIES_DURING | ON_DEVICE, dead_reader_left_by_halves, NULL, NULL,
		run_collect, NULL},
};

const size_t cuda_call_count = sizeof cuda_calls / sizeof cuda_calls[0];
