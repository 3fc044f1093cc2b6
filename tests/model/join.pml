/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a broadcast against the producer's reclaim: reclaim_broadcast in producer.c, join_broadcast, the releases and
 * consumer_lane_depart in consumer_lane.c, give_back_broadcast in recover.c.
 *
 * A producer with a lane of two descriptors, and two consumers that enter, attach, read, and leave or are killed at any
 * step; the first slot is used a second time. The announced tail waits in the producer's store buffer, as on x86, until a
 * locked instruction or the fence J2 empties it. A recoverer declares the dead dead.
 *
 * Nothing is overwritten while a consumer that has it in front of it has not released it, nor before anybody has released
 * it. When nothing moves any more and a consumer is there, everything has been published.
 *
 * Reading the tail again after the cursor is written, and counting a consumer from when it enters, each keep a joining
 * consumer safe alone: the mutant takes both away.
 *
 * Left out. The store buffers of consumers: what matters are locked instructions (J0, J1, B1, B2). Payload stores: they
 * follow the fence. Sleeping: who would find nothing waits for a change. A consumer holds one message at a time. That a
 * cursor carries an incarnation: reuse.pml. The bits of the active consumers are read one by one, which allows more than the
 * words that lib reads.
 *
 * holds:
 * refuted: -DNO_TAIL_LOOK -DNO_ACTIVE: the joining consumer neither reads the tail again nor counts before it has attached
 * refuted: -DNO_CURSOR_LOOK: the producer does not read the cursors again after it announced the tail
 * refuted: -DNO_FENCE: the producer's fence J2 is missing
 * refuted: -DBIT_ONLY: a consumer counts while its bit is set, whatever the roster says of it
 */
#define DEPTH    2
#define MESSAGES 3
#define SLOTS    2
#define NONE     255

#define ABSENT 0 /* left, or declared dead */
#define ALIVE  1

/* The lane. Messages count from 0; a descriptor's number is 1 + its message. */
byte number[DEPTH];
byte tail;                /* announced, as others see it */
byte pending_tail = NONE; /* in the producer's store buffer */
byte cursor[SLOTS];       /* 1 + the oldest message not released; 0 none */
byte departed;
bool present[SLOTS];
bool member[SLOTS]; /* the roster */
bool dead[SLOTS];

/* What really happened. */
byte head;            /* messages published */
byte reached;         /* messages released by somebody */
bool changed = true;  /* since the producer last began to look */
bool busy[SLOTS];     /* has not died yet */

proctype Consumer(byte me)
{
	byte next;
	byte again;
	byte lives = (me == 0 -> 2 : 1);
	bool leaves;
	do
	:: lives > 0 && !member[me] ->
		lives--;
		d_step { dead[me] = false; member[me] = ALIVE; busy[me] = true; changed = true } /* M1 */
		{
			d_step { present[me] = true; changed = true } /* J0 */
			if
			:: leaves = true
			:: leaves = false
			fi;
			next = tail; /* T2 */
			do
			:: d_step { cursor[me] = next + 1; changed = true } /* B1, J1 */
#ifdef NO_TAIL_LOOK
				break
#else
				again = tail; /* T2 */
				if
				:: again == next -> break
				:: else -> next = again
				fi
#endif
			od;
			again = 0;
			do
			:: number[next % DEPTH] > next -> /* C1 */
				assert(number[next % DEPTH] == next + 1);
				/* Reads it, then B1: exact, but only its holder and those who recover it change it. */
				d_step {
					assert(number[next % DEPTH] == next + 1);
					next++;
					cursor[me] = next + 1;
					reached = (next > reached -> next : reached);
					changed = true
				}
			:: d_step { leaves -> departed = (next > departed -> next : departed); changed = true } /* B2 */
				d_step { cursor[me] = 0; changed = true } /* B1 */
				d_step { present[me] = false; changed = true }
				d_step { member[me] = ABSENT; busy[me] = false; changed = true; next = 0 }
				break
			od
		} unless { dead[me] -> busy[me] = false; next = 0; again = 0 }
	:: lives == 0 && !member[me] -> break
	od
}

/* Gives back the cursor, then declares the member dead (X1). It does not touch the bit: a successor's would be lost. */
proctype Recoverer()
{
	do
	:: dead[0] && member[0] && !busy[0] ->
		d_step { cursor[0] = 0; changed = true }
		d_step { member[0] = ABSENT; changed = true }
	:: dead[1] && member[1] && !busy[1] ->
		d_step { cursor[1] = 0; changed = true }
		d_step { member[1] = ABSENT; changed = true }
	od
}

/* broadcast_oldest */
inline look(result)
{
	result = NONE;
	slot = 0;
	do
	:: slot < SLOTS ->
		if
		:: present[slot] -> /* J3 */
#ifndef BIT_ONLY
			absent = !member[slot]; /* M2 */
#endif
			d_step {
				if
				:: absent
#ifdef NO_ACTIVE
				:: !absent && cursor[slot] == 0
#else
				:: !absent && cursor[slot] == 0 -> result = (freed < result -> freed : result)
#endif
				:: !absent && cursor[slot] != 0 -> /* B3 */
					result = (cursor[slot] - 1 < result -> cursor[slot] - 1 : result)
				fi;
				absent = false
			}
		:: else
		fi;
		slot++
	:: else -> break
	od;
	if
	:: result == NONE -> result = departed /* B4 */
	:: else
	fi;
	atomic {
		result = (result < freed -> freed : result);
		result = (result > head -> head : result);
		slot = 0
	}
}

proctype Producer()
{
	byte freed; /* its own tail */
	byte oldest;
	byte second;
	byte slot;
	bool absent;
	do
	:: head == MESSAGES -> break
	:: head < MESSAGES && head - freed < DEPTH ->
		d_step {
			assert(head < DEPTH || head - DEPTH < reached); /* somebody has released what is overwritten */
			assert(freed <= head);
			/* P1 is a locked instruction. */
			tail = (pending_tail != NONE -> pending_tail : tail);
			pending_tail = NONE;
			number[head % DEPTH] = head + 1;
			head++
		}
	:: head < MESSAGES && head - freed == DEPTH && changed ->
		changed = false;
		look(oldest);
		if
		:: oldest == freed
		:: else ->
			pending_tail = oldest; /* T1 */
#ifndef NO_FENCE
			d_step { tail = (pending_tail != NONE -> pending_tail : tail); pending_tail = NONE } /* J2 */
#endif
#ifdef NO_CURSOR_LOOK
			second = oldest;
#else
			look(second);
#endif
			d_step {
				freed = (second < oldest -> second : oldest);
				oldest = 0;
				second = 0
			}
		fi
	od
}

proctype Memory()
{
	do
	:: d_step { pending_tail != NONE -> tail = pending_tail; pending_tail = NONE }
	od
}

proctype Killer()
{
	if
	:: d_step { member[0] && busy[0] -> dead[0] = true }
	:: d_step { member[1] && busy[1] -> dead[1] = true }
	:: skip
	fi
}

#define stays(slot) (member[slot] && !dead[slot])

proctype Monitor()
{
	timeout;
	assert(!member[0] || !dead[0]);
	assert(head == MESSAGES || !(stays(0) || stays(1)))
}

init {
	atomic {
		run Producer();
		run Consumer(0);
		run Consumer(1);
		run Recoverer();
		run Memory();
		run Killer();
		run Monitor()
	}
}
