/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking, releasing and giving back the messages of a queue: claims.h, recover.c and the queue half of consumer_lane.c.
 *
 * One claim word, used for several laps: words of different messages never meet. A producer that reuses the descriptor, two
 * consumers, and two recoverers, of which the first also takes back from the living what they hold too long, so that the
 * holder is a zombie as far as this message goes. The first consumer and the first recoverer may be killed before each of
 * their steps; the second consumer may close. Any of them may be stopped for any time, which is one way of scheduling them.
 *
 * Nothing lost: while a consumer lives, every message is released in the end, or set aside after MAX_DELIVERIES.
 * Nothing twice without the count raised: each claim carries the number of deliveries so far.
 * A zombie releases nothing: a swap that succeeds is its holder's.
 * No reuse under a reader: what a holder reads is its message.
 *
 * Left out. Store buffers: all claim words and the sequence number are changed by locked instructions, and a tail that is
 * seen late only makes a rescan begin earlier. The locks: a flag for each process that lives. Sleeping: consumers poll, and a
 * poll that would find nothing waits for a change; wake.pml has the rest. The redelivery epoch is a flag for each consumer
 * that says that it differs from what that consumer last saw: nothing else is ever asked of it.
 *
 * holds:
 * refuted: -DSPLIT_CLAIM: takes the message first and says who has it afterwards
 * refuted: -DPLAIN_RELEASE: releases by a store instead of a swap from the exact word
 * refuted: -DIGNORE_OWNER: the producer takes any claim of this lap for a release
 * refuted: -DBUMP_IF_RETURNED: recovery raises the redelivery epoch only if it returned something itself
 */
#define LAPS           2
#define MAX_DELIVERIES 2

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

#define HELPER 3 /* the first recoverer */
#define SLOTS  4

short claim;    /* lap 0, released: free for lap 1 */
byte sequence;  /* the descriptor's number: which lap's message is there */
byte payload;   /* whose bytes lie there; 0 while they are written */
byte tail = 1;  /* announced */
bool stale[3];  /* the redelivery epoch is not what this consumer last saw */
bool dead[SLOTS];
bool left[SLOTS];
bool declared[SLOTS];

/* What really happened, for the assertions. */
byte grants;  /* claims so far */
byte current; /* the claim that holds the message; 0 none */
byte count;   /* deliveries of the message that was claimed last */

inline bump()
{
	d_step { stale[1] = true; stale[2] = true } /* R1 */
}

/* K4, or a message set aside (K2): exact, so that only what was seen is changed. */
inline give_back(word, returned)
{
	d_step {
		if
		:: claim != word -> skip
		:: claim == word && deliveries_of(word) < MAX_DELIVERIES ->
			claim = WORD(lap_of(word), RETURNED, deliveries_of(word), owner_of(word));
			current = 0;
			returned = true
		:: claim == word && deliveries_of(word) >= MAX_DELIVERIES ->
			claim = WORD(lap_of(word), SET_ASIDE, deliveries_of(word), owner_of(word));
			assert(count >= MAX_DELIVERIES);
			current = 0
		fi
	}
}

/* K1: the swap that takes the message and says who has it; `mine` stays 0 if another was quicker. */
inline take()
{
	d_step {
		if
		:: claim == word ->
			held = WORD(next, CLAIMED, (lap_of(word) == next -> deliveries_of(word) : 0) + 1, me);
			count = (lap_of(word) == next -> count : 0) + 1;
			assert(current == 0);
			assert(deliveries_of(held) == count);
			grants++;
			current = grants;
			mine = grants;
#ifdef SPLIT_CLAIM
			claim = held % 128
#else
			claim = held
#endif
		:: else -> skip
		fi;
		word = 0
	}
#ifdef SPLIT_CLAIM
	;
	if
	:: mine != 0 -> claim = held
	:: else -> skip
	fi
#endif
}

/* K2. False in lib, -ESTALE for the caller, if the message is no longer its own. */
inline release()
{
	d_step {
		assert(current != mine || payload == next);
#ifdef PLAIN_RELEASE
		assert(current == mine);
		claim = held - 4 * CLAIMED;
		current = 0;
#else
		if
		:: claim == held ->
			assert(current == mine);
			claim = held - 4 * CLAIMED;
			current = 0
		:: else -> skip
		fi;
#endif
		held = 0;
		mine = 0;
		next++
	}
}

/* K4 of one that closes: a clean return does not count as a delivery. */
inline give_back_clean()
{
	d_step {
		if
		:: claim == held ->
			assert(current == mine);
			claim = WORD(next, RETURNED, deliveries_of(held) - 1, me);
			count--;
			current = 0
		:: else -> skip
		fi;
		held = 0;
		mine = 0
	}
}

proctype Consumer(byte me)
{
	byte next = 1; /* lap to look at */
	byte mine;
	bool open;
	short word;
	short held;
	{
		do
		:: d_step { stale[me] -> stale[me] = false } /* R2 */
			next = tail                          /* T2 */
		:: d_step { sequence > next -> next++ }      /* C1: overwritten, so it was done with */
		:: sequence == next ->                       /* C1 */
			d_step {
				word = claim; /* C2 */
				open = lap_of(word) < next || (lap_of(word) == next && state_of(word) == RETURNED);
				assert(!open || lap_of(word) == next || done(word, next - 1));
				next = (open -> next : next + 1);
				word = (open -> word : 0)
			}
			if
			:: !open
			:: open -> take();
				if
				:: mine == 0 /* look again */
				:: mine != 0 ->
					/* Reads it; what was taken back may be overwritten under its eyes. */
					assert(current != mine || (sequence == next && payload == next));
					if
					:: release()
					:: me == 2 -> /* closes */
						give_back_clean();
						bump(); /* R1 */
						left[me] = true;
						break
					fi
				fi
			fi
		od
	} unless { dead[me] }
}

proctype Producer()
{
	byte lap = 1;
	do
	:: lap <= LAPS ->
		payload = 0;
		d_step { payload = lap; sequence = lap } /* P1: a reader sees the number first */
#ifdef IGNORE_OWNER
		lap_of(claim) == lap;
#else
		done(claim, lap); /* K3 */
#endif
		d_step { lap++; tail = lap } /* T1 */
	:: else -> break
	od
}

#define is_lost(slot) (dead[slot] && !left[slot] && !declared[slot])

/* recover_member for whoever is found dead, and once recover_overdue, from exactly the word that was watched. */
proctype Recoverer(byte me)
{
	byte slot;
	short word;
	bool returned;
	bool watched;
	{
		do
		:: d_step {
			is_lost(1) || is_lost(HELPER) ->
			slot = (is_lost(1) -> 1 : HELPER)
		   }
			d_step {
				word = claim; /* C2 */
				word = (state_of(word) == CLAIMED && owner_of(word) == slot -> word : -1)
			}
			give_back(word, returned);
#ifdef BUMP_IF_RETURNED
			if
			:: returned -> bump()
			:: else -> skip
			fi;
#else
			bump(); /* whoever returned it may have died before saying so */
#endif
			d_step { declared[slot] = true; slot = 0; word = 0; returned = false } /* X1 */
		:: d_step { me == HELPER && !watched && state_of(claim) == CLAIMED -> word = claim; watched = true }
			give_back(word, returned);
			if
			:: returned -> bump()
			:: else -> skip
			fi;
			d_step { word = 0; returned = false }
		od
	} unless { dead[me] }
}

proctype Killer()
{
	if
	:: dead[1] = true
	:: skip
	fi;
	if
	:: dead[HELPER] = true
	:: skip
	fi
}

#define stays(slot) (!dead[slot] && !left[slot])

proctype Monitor()
{
	timeout;
	assert(state_of(claim) != CLAIMED);
	assert(!(stays(1) || stays(2)) || (sequence == LAPS && done(claim, LAPS)))
}

init {
	atomic {
		run Producer();
		run Consumer(1);
		run Consumer(2);
		run Recoverer(HELPER);
		run Recoverer(0);
		run Killer();
		run Monitor()
	}
}
