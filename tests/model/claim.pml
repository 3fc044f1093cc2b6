/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking, releasing and giving back the messages of a queue: claims.h, recover.c and the queue half of consumer_lane.c.
 *
 * Up to two producers, each with a lane of one descriptor that is used for several laps: words of different messages never
 * meet. Two consumers, which may hold a message of each lane, and two recoverers. One producer, one consumer and one
 * recoverer may be killed at any step, in any order; that consumer may close instead, and be killed while it closes. With
 * TAKE_BACK that recoverer also takes back from the living what they hold too long, so that the holder is a zombie as far as
 * this message goes; it is then a member itself, and recovered like others. Anybody may be stopped for any time, which is
 * one way of scheduling them.
 *
 * Nothing lost: in the end every message published has been released, or set aside after MAX_DELIVERIES, and a producer that
 * lives is not held up.
 * Nothing twice without the count raised: each claim carries the number of deliveries so far.
 * A zombie releases nothing: a swap that succeeds is its holder's.
 * No reuse under a reader: what a holder reads is its message.
 *
 * Left out. Store buffers: all claim words and the sequence number are changed by locked instructions, and a tail that is
 * seen late only makes a rescan begin earlier. The locks: the roster says who lives. Sleeping: consumers poll, and a poll
 * that would find nothing waits for a change; wake.pml has the rest. The redelivery epoch is a flag for each consumer that
 * says that it differs from what that consumer last saw: nothing else is ever asked of it. A dead producer, of whom nothing
 * is to be given back, and a recoverer that is no member are not recovered: that would only raise the epoch.
 *
 * Made smaller, without losing a case. Consumers are alike, lanes are alike to whoever takes, so it is enough that the first
 * may die. What a recoverer does in one lane does not depend on the order of lanes. A death between two steps that change
 * nothing shared is a death before both. A producer or recoverer that is killed is one that goes no further; nobody looks at
 * it. What is done with stays so until the next lap, so its word need not say who did it. Whether the consumer may die is
 * chosen first: in the end it then is gone, else it is there, and so is the one that must get what is left.
 *
 * holds: -DLANES=1 -DLAPS=2 -DTAKE_BACK
 * holds: -DLANES=2 -DLAPS=2
 * holds: -DLANES=2 -DLAPS=1 -DTAKE_BACK
 * holds: -DLANES=2 -DLAPS=1 -DMAX_DELIVERIES=1
 * refuted: -DLANES=1 -DLAPS=2 -DTAKE_BACK -DSPLIT_CLAIM: takes the message first and says who has it afterwards
 * refuted: -DLANES=2 -DLAPS=2 -DSPLIT_CLAIM: the same
 * refuted: -DLANES=1 -DLAPS=2 -DTAKE_BACK -DPLAIN_RELEASE: releases by a store instead of a swap from the exact word
 * refuted: -DLANES=2 -DLAPS=1 -DTAKE_BACK -DPLAIN_RELEASE: the same
 * refuted: -DLANES=2 -DLAPS=2 -DPLAIN_RETURN: gives back by a store instead of a swap from the exact word
 * refuted: -DLANES=2 -DLAPS=2 -DIGNORE_OWNER: the producer takes any claim of this lap for a release
 * refuted: -DLANES=2 -DLAPS=2 -DBUMP_IF_RETURNED: recovery raises the redelivery epoch only if it returned something itself
 * refuted: -DLANES=2 -DLAPS=2 -DBUMP_EARLY: recovery raises the redelivery epoch before it has come to every lane
 */
#ifndef MAX_DELIVERIES
#define MAX_DELIVERIES 2
#endif

#define RELEASED  0
#define CLAIMED   1
#define RETURNED  2
#define SET_ASIDE 3

#define WORD(lap, state, deliveries, owner) ((lap) + 4 * (state) + 16 * (deliveries) + 128 * (owner))
#define lap_of(word)                        ((word) % 4)
#define state_of(word)                      ((word) / 4 % 4)
#define deliveries_of(word)                 ((word) / 16 % 8)
#define owner_of(word)                      ((word) / 128)
#define done(word, lap) (lap_of(word) == (lap) && (state_of(word) == RELEASED || state_of(word) == SET_ASIDE))

#if LANES == 1
#define LANE(handle)   0
#define HANDLE(lane)   (held[0] == 0 -> 0 : 1)
#define HAS_ROOM(lane) (held[0] == 0 || held[1] == 0)
#else
#define LANE(handle)   (handle)
#define HANDLE(lane)   (lane)
#define HAS_ROOM(lane) (held[lane] == 0)
#endif
/* What a consumer may hold at one time: of a single lane twice, if it gets again what was taken back from it. */
#define HANDLES 2

#define CONSUMER 1 /* the first */
#define HELPER   3 /* the first recoverer */
#define SLOTS    4

/* The roster. */
#define ALIVE    0
#define DEAD     1 /* its lock is free */
#define DECLARED 2 /* dead */
#define LEFT     3

short claim[LANES];   /* lap 0, released: free for lap 1 */
byte sequence[LANES]; /* the descriptor's number: which lap's message is there */
byte payload[LANES];  /* whose bytes lie there; 0 while they are written */
byte tail[LANES];     /* announced, less 1 */
bool stale[3];
byte roster[SLOTS];
bool mortal[SLOTS]; /* will leave or be killed */

/* What really happened, for the assertions. */
short current[LANES]; /* the claim that holds the message; 0 nobody's */
byte count[LANES];    /* deliveries of the message that was claimed last */

/* R1 */
#define raise_epoch()                         \
	stale[1] = roster[CONSUMER] == ALIVE; \
	stale[2] = true

/* K4, or a message set aside (K2): exact, so that only what was seen is changed. */
inline give_back(l, word, returned)
{
	d_step {
		if
#ifndef PLAIN_RETURN
		:: claim[l] != word -> skip
		:: claim[l] == word && deliveries_of(word) < MAX_DELIVERIES ->
#else
		:: deliveries_of(word) < MAX_DELIVERIES ->
#endif
			claim[l] = WORD(lap_of(word), RETURNED, deliveries_of(word), owner_of(word));
			current[l] = (current[l] == word -> 0 : current[l]);
			returned = true
#ifndef PLAIN_RETURN
		:: claim[l] == word && deliveries_of(word) >= MAX_DELIVERIES ->
#else
		:: deliveries_of(word) >= MAX_DELIVERIES ->
#endif
			claim[l] = WORD(lap_of(word), SET_ASIDE, 0, 0);
			assert(count[l] >= MAX_DELIVERIES);
			count[l] = 0;
			current[l] = (current[l] == word -> 0 : current[l])
		fi;
		word = 0
	}
}

/* K2. False in lib, -ESTALE for the caller, if the message is no longer its own. */
inline release(handle)
{
	d_step {
		held[handle] != 0 ->
#ifdef PLAIN_RELEASE
		assert(current[LANE(handle)] == held[handle]);
		claim[LANE(handle)] = WORD(lap_of(held[handle]), RELEASED, 0, 0);
		count[LANE(handle)] = 0;
		current[LANE(handle)] = 0;
#else
		if
		:: claim[LANE(handle)] == held[handle] ->
			assert(current[LANE(handle)] == held[handle]);
			claim[LANE(handle)] = WORD(lap_of(held[handle]), RELEASED, 0, 0);
			count[LANE(handle)] = 0;
			current[LANE(handle)] = 0
		:: else -> skip
		fi;
#endif
		held[handle] = 0
	}
}

/* K4 of one that closes: a clean return does not count as a delivery. */
inline give_back_clean(handle)
{
	d_step {
		if
		:: held[handle] != 0 && claim[LANE(handle)] == held[handle] ->
			assert(current[LANE(handle)] == held[handle]);
			claim[LANE(handle)] = WORD(lap_of(held[handle]), RETURNED, deliveries_of(held[handle]) - 1, me);
			count[LANE(handle)]--;
			current[LANE(handle)] = 0
		:: else -> skip
		fi;
		held[handle] = 0
	}
}

inline begin_at(lap)
{
	next[0] = lap;
	next[LANES - 1] = lap
}

/* The first consumer is gone, and what it knew forgotten. */
inline vanish(how)
{
	d_step {
		mortal[me] ->
		mortal[me] = false;
		roster[CONSUMER] = how;
		stale[CONSUMER] = false;
		begin_at(0);
		lane = 0;
		word = 0;
		held[0] = 0;
		held[1] = 0
	}
}

/* K1: the swap that takes the message and says who has it, if nobody was quicker. */
inline take()
{
	d_step {
		word != -1 ->
		if
		:: claim[lane] == word ->
			hand = HANDLE(lane);
			held[hand] = WORD(next[lane], CLAIMED, (lap_of(word) == next[lane] -> deliveries_of(word) : 0) + 1, me);
			count[lane] = (lap_of(word) == next[lane] -> count[lane] : 0) + 1;
			assert(current[lane] == 0);
			assert(deliveries_of(held[hand]) == count[lane]);
			/* Copies the descriptor. */
			assert(sequence[lane] == next[lane] && payload[lane] == next[lane]);
			current[lane] = held[hand];
#ifdef SPLIT_CLAIM
			claim[lane] = held[hand] % 128;
			word = held[hand]
#else
			claim[lane] = held[hand];
			word = 0
#endif
			next[lane]++;
			hand = 0
		:: else -> word = 0
		fi;
#ifndef SPLIT_CLAIM
		lane = 0
#endif
	}
#ifdef SPLIT_CLAIM
	;
	if
	:: d_step { word != 0 -> claim[lane] = word; word = 0 }
	:: word == 0
	:: vanish(DEAD) -> goto over
	fi
#endif
}

proctype Consumer(byte me)
{
	byte next[LANES];
	byte lane;
	byte hand;
	short word;
	short held[HANDLES];
	d_step { begin_at(1) }
	do
	:: d_step { stale[me] -> stale[me] = false } /* R2 */
		if
		:: next[0] = tail[0] + 1 /* T2 */
		:: vanish(DEAD) -> goto over
		fi;
#if LANES == 2
		if
		:: next[1] = tail[1] + 1
		:: vanish(DEAD) -> goto over
		fi
#endif
	:: atomic {
			if
			:: sequence[0] >= next[0] && HAS_ROOM(0) -> lane = 0 /* C1 */
#if LANES == 2
			:: sequence[1] >= next[1] && HAS_ROOM(1) -> lane = 1 /* C1 */
#endif
			fi;
			next[lane] = sequence[lane]
		}
		d_step {
			word = claim[lane]; /* C2 */
			if
			:: lap_of(word) < next[lane] ->
				assert(done(word, next[lane] - 1))
			:: lap_of(word) == next[lane] && state_of(word) == RETURNED
			:: else ->
				word = -1;
				next[lane]++;
				lane = 0
			fi
		}
		if
		:: word == -1 -> word = 0
		:: take()
		:: vanish(DEAD) -> goto over
		fi
	:: release(0)
	:: release(1)
	:: mortal[me] -> /* closes */
		give_back_clean(0);
		if
		:: give_back_clean(1)
		:: vanish(DEAD) -> goto over
		fi;
		if
		:: d_step { raise_epoch() }
		:: vanish(DEAD) -> goto over
		fi;
		vanish(LEFT);
		break
	:: vanish(DEAD) -> break
	od;
over:
	skip
}

proctype Producer(byte lane)
{
	byte lap = 1;
	do
	:: d_step {
			lap <= LAPS ->
			assert(current[lane] == 0);
			payload[lane] = 0
		}
		if
		:: d_step { payload[lane] = lap; sequence[lane] = lap } /* P1: a reader sees the number first */
		:: lane == 0 -> break /* killed */
		fi;
		if
#ifdef IGNORE_OWNER
		:: lap_of(claim[lane]) == lap
#else
		:: done(claim[lane], lap) /* K3 */
#endif
		:: lane == 0 -> break
		fi;
		d_step { tail[lane] = lap; lap++ } /* T1 */
	:: lap > LAPS || lane == 0 -> break
	od;
	lap = 0
}

inline vanish_helper()
{
	d_step {
		mortal[me] ->
		mortal[me] = false;
		roster[HELPER] = DEAD;
		slot = 0;
		word = 0;
		returned = false;
		watched = false
	}
}

/* recover_member in one lane */
inline look_for(l, slot)
{
	d_step {
		word = claim[l]; /* C2 */
		word = (state_of(word) == CLAIMED && owner_of(word) == slot -> word : 0)
	}
	if
	:: word != 0 -> give_back(l, word, returned)
	:: word == 0
	:: vanish_helper() -> goto over
	fi
}

proctype Recoverer(byte me)
{
	byte slot;
	short word;
	bool returned;
	bool watched;
	do
	:: atomic {
			if
			:: roster[CONSUMER] == DEAD -> slot = CONSUMER
#ifdef TAKE_BACK
			:: roster[HELPER] == DEAD -> slot = HELPER
#endif
			fi
		}
		look_for(0, slot);
#ifdef BUMP_EARLY
		d_step { raise_epoch() }
#endif
#if LANES == 2
		look_for(1, slot);
#endif
#ifndef BUMP_EARLY
		if
#ifdef BUMP_IF_RETURNED
		:: !returned
		:: d_step { returned -> raise_epoch() }
#else
		:: d_step { raise_epoch() } /* whoever returned it may have died before saying so */
#endif
		:: vanish_helper() -> goto over
		fi;
#endif
		d_step { /* X1 */
			roster[slot] = (roster[slot] == DEAD -> DECLARED : roster[slot]);
			slot = 0;
			returned = false
		}
#ifdef TAKE_BACK
	/* recover_overdue, once, from exactly the word that was watched */
	:: d_step { me == HELPER && !watched && state_of(claim[0]) == CLAIMED -> word = claim[0]; watched = true }
		if
		:: give_back(0, word, returned)
		:: vanish_helper() -> goto over
		fi;
		if
		:: !returned
		:: d_step { returned -> raise_epoch(); returned = false }
		:: vanish_helper() -> goto over
		fi
#endif
	:: vanish_helper() -> break
	od;
over:
	skip
}

#define all_done(l) (state_of(claim[l]) != CLAIMED && (sequence[l] == 0 || done(claim[l], sequence[l])))

init {
	atomic {
		if
		:: mortal[CONSUMER] = true
		:: skip
		fi;
		if
		:: mortal[HELPER] = true
		:: skip
		fi;
		run Producer(0);
#if LANES == 2
		run Producer(1);
#endif
		run Consumer(1);
		run Consumer(2);
		run Recoverer(HELPER);
		run Recoverer(0)
	};
	timeout;
	assert(all_done(0));
#if LANES == 2
	assert(all_done(1) && sequence[1] == LAPS);
#endif
	assert(current[0] == 0)
}
