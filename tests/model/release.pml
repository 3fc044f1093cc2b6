/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Releasing against a producer that sleeps for want of room: producer_wait_for_room in producer_room.c,
 * sluice_release in consumer_release.c and linger in consumer_receive.c.
 *
 * The producer needs the room of the first two or of all three messages in its lane, which are reclaimed in order. Before
 * it arms its bell it says how many (`enough`), and whoever releases one rings only if the oldest and the last of those are
 * done with. Two consumers hold a message each and release it at some time. A third holds the last one and lingers over its
 * batch: it releases when it sees that a producer waits, and sleeps until then. Store buffers matter in one place, between a
 * release and the look for a sleeping producer: the mutant's release waits in a buffer. One of the releasers may be killed
 * between a release and the wake-up, which may cost the producer one sleep until it wakes by itself.
 *
 * When nothing moves any more, the producer has its room.
 *
 * Left out: which word says that a message is released (claim.pml, join.pml), the messages that may come while the consumer
 * lingers, its time-out, consumers that find nothing and ring for less than enough.
 *
 * holds:
 * refuted: -DNO_FENCE: the consumer looks for a sleeping producer without a fence after its release
 * refuted: -DNO_SECOND_LOOK: the producer does not look for room again once it is armed
 * refuted: -DNO_LINGER_LOOK: the lingering consumer does not look for a waiting producer again once it is armed
 * refuted: -DONLY_LAST: only who releases the last of the messages rings, though an older one may be released after it
 * refuted: -DNO_CALL: the producer does not wake lingering consumers before it sleeps
 */
#define PRODUCER 0
#define LINGERER 1
#define MESSAGES 3

bool released[MESSAGES];
bool unreleased[MESSAGES]; /* in the store buffer */
byte tail;                 /* as announced */
byte enough;
bool sleeping[2]; /* bit of the producer in its map, of the lingering consumer in the other */
bool word[2];
bool asleep[2];
bool finished;
bool dead[MESSAGES];
bool excused;

inline ring(who)
{
	sleeping[who] = false;
	d_step { /* D4 */
		was_set = word[who];
		word[who] = false
	}
	d_step {
		asleep[who] = asleep[who] && !was_set;
		was_set = false
	}
}

inline arm(who)
{
	word[who] = true;
	sleeping[who] = true /* D1, D2 */
}

inline sleep(who)
{
	asleep[who] = word[who];
	!asleep[who]
}

inline disarm(who)
{
	sleeping[who] = false;
	word[who] = false
}

#ifdef ONLY_LAST
#define frees_enough(index) (index == enough - 1)
#else
#define frees_enough(index) (released[tail] && released[enough - 1]) /* K3 */
#endif

inline release(index)
{
#ifdef NO_FENCE
	unreleased[index] = true;
#else
	released[index] = true; /* K2 or B1, and D3 */
#endif
	if
	:: sleeping[PRODUCER] ->
		if
		:: tail < MESSAGES && frees_enough(index) -> ring(PRODUCER)
		:: else
		fi
	:: else
	fi
}

proctype Releaser(byte index)
{
	bool was_set;
	{
		release(index)
	} unless { dead[index] }
}

proctype Lingerer()
{
	bool was_set;
	{
		do
		:: sleeping[PRODUCER] -> break
		:: else ->
			arm(LINGERER);
#ifndef NO_LINGER_LOOK
			if
			:: sleeping[PRODUCER] ->
				disarm(LINGERER);
				break
			:: else
			fi;
#endif
			sleep(LINGERER);
			disarm(LINGERER)
		od;
		release(2)
	} unless { dead[2] }
}

#define has_room (tail >= need)

inline reclaim()
{
	do
	:: tail < MESSAGES && released[tail] -> tail++ /* K3, T1 */
	:: else -> break
	od
}

proctype Producer()
{
	byte need;
	bool was_set;
	if
	:: need = 2
	:: need = 3
	fi;
	do
	:: reclaim();
		if
		:: has_room -> break
		:: else
		fi;
		enough = need; /* W1 */
		arm(PRODUCER);
#ifndef NO_SECOND_LOOK
		reclaim();
		if
		:: has_room ->
			disarm(PRODUCER);
			break
		:: else
		fi;
#endif
#ifndef NO_CALL
		if
		:: sleeping[LINGERER] -> ring(LINGERER)
		:: else
		fi;
#endif
		sleep(PRODUCER);
		disarm(PRODUCER)
	od;
	finished = true
}

proctype Memory()
{
	do
	:: d_step { unreleased[0] -> unreleased[0] = false; released[0] = true }
	:: d_step { unreleased[1] -> unreleased[1] = false; released[1] = true }
	:: d_step { unreleased[2] -> unreleased[2] = false; released[2] = true }
	od
}

proctype Fate()
{
	if
	:: d_step { released[0] -> dead[0] = true; excused = true }
	:: d_step { released[1] -> dead[1] = true; excused = true }
	:: d_step { released[2] -> dead[2] = true; excused = true }
	:: skip
	fi
}

proctype Monitor()
{
	do
	:: timeout ->
		if
		:: !finished && asleep[PRODUCER] ->
			assert(excused);
			asleep[PRODUCER] = false /* wakes by itself */
		:: else -> break
		fi
	od;
	assert(finished)
}

init {
	atomic {
		run Producer();
		run Releaser(0);
		run Releaser(1);
		run Lingerer();
		run Memory();
		run Fate();
		run Monitor()
	}
}
