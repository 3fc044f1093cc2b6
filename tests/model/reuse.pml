/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A roster slot that is used again while its last holder is being recovered: recover.c, roster.c, enter in channel.c.
 *
 * A consumer of incarnation 1 claims a message of a queue lane, sets its cursor in a broadcast lane, and dies at any step, or
 * leaves. Two recoverers look at the slot at any time, and may be stopped or killed at any step; an opener recovers as they
 * do and then takes the slot, under the gate, as incarnation 2. It claims and moves its cursor in turn.
 *
 * Nothing of the successor's is changed by anybody else: its claim, its cursor, its word in the roster. When nothing moves
 * any more, the dead one's claim has been returned and its cursor is gone, and whoever returned it has said so, unless nobody
 * has looked. A slot is only given to a successor when that is so.
 *
 * Left out. Store buffers: every write is a swap, or is made before the locked instruction that lets others see it. The
 * gate: one opener. More than one claim: each is recovered by itself. A test of a lock and the word before it are two steps.
 *
 * holds:
 * refuted: -DDECLARE_FIRST: the member is declared dead before its claims are returned
 * refuted: -DPLAIN_ROSTER: declared dead by a store instead of a swap from the exact word
 * refuted: -DPLAIN_CURSOR: the cursor is cleared by a store
 * refuted: -DLOCK_FIRST: the lock is tested before the incarnation is read
 */
#define FREE 0
#define LEFT 1
#define DEAD 2

#define ALIVE(incarnation) (10 + (incarnation))

byte word = FREE;   /* the roster's: FREE, LEFT, DEAD, or alive with an incarnation */
byte locked;        /* which incarnation's process holds the slot's lock; 0 none */
byte claim[3];      /* of messages 1, 2: the incarnation that holds it; 0 nobody */
byte cursor;        /* the incarnation whose it is; 0 none */
bool unsaid;        /* returned, and the redelivery epoch not raised since */
bool dead[4];       /* the member, then recoverers */

#define RELEASED 9
#define MEMBER   0

/* recover_member, for an incarnation that was read before its lock was found free. */
inline recover(incarnation)
{
#ifdef DECLARE_FIRST
	d_step { word = (word == ALIVE(incarnation) -> DEAD : word) };
#endif
	seen = claim[1]; /* C2 */
	if
	:: seen == incarnation ->
		d_step { /* K4 */
			if
			:: claim[1] == seen -> claim[1] = 0; unsaid = true
			:: else -> skip
			fi
		}
	:: else
	fi;
	seen = cursor; /* B3 */
	if
	:: seen == incarnation ->
		d_step { /* B1 */
#ifdef PLAIN_CURSOR
			cursor = 0
#else
			cursor = (cursor == seen -> 0 : cursor)
#endif
		}
	:: else
	fi;
	seen = 0;
	unsaid = false; /* R1 */
#ifdef PLAIN_ROSTER
	word = DEAD;
#endif
#ifndef DECLARE_FIRST
	d_step { word = (word == ALIVE(incarnation) -> DEAD : word) } /* X1 */
#endif
}

/* recover_dead: the incarnation first, the lock second. */
inline look_at_slot()
{
#ifdef LOCK_FIRST
	free = locked == 0;
	found = word;
#else
	found = word;
	free = locked == 0;
#endif
	if
	:: found >= 10 && free -> recover(found - 10)
	:: else
	fi;
	atomic { found = 0; free = false }
}

proctype Member()
{
	{
		d_step { locked = 1; word = ALIVE(1) } /* M1; the first to come */
		cursor = 1;
		claim[1] = 1; /* K1 */
		if
		:: skip
		:: claim[1] = RELEASED;
			cursor = 0;
			word = LEFT
		fi;
		locked = 0
	} unless { dead[MEMBER] -> locked = 0 }
}

proctype Recoverer(byte me)
{
	byte found;
	byte seen;
	bool free;
	{
		word != FREE;
		look_at_slot();
		word != FREE;
		look_at_slot()
	} unless { dead[me] }
}

inline check_own()
{
	assert(word == ALIVE(2) && locked == 2 && claim[2] == 2 && cursor == 2)
}

proctype Opener()
{
	byte found;
	byte seen;
	bool free;
	do
	:: word != FREE && locked == 0 ->
		look_at_slot();
		/* roster_lock_slot: not one that is alive; then its lock. */
		if
		:: word < 10 && locked == 0 ->
			locked = 2;
			break
		:: else
		fi
	od;
	assert(claim[1] != 1 && cursor != 1);
	word = ALIVE(2); /* M1 */
	cursor = 2;
	claim[2] = 2;
	check_own();
	/* All the others go on meanwhile. */
	check_own()
}

proctype Killer()
{
	if
	:: word != FREE -> dead[MEMBER] = true
	:: skip
	fi;
	if
	:: dead[1] = true
	:: skip
	fi
}

proctype Monitor()
{
	timeout;
	assert(word == ALIVE(2) && locked == 2 && claim[2] == 2 && cursor == 2);
	assert(claim[1] == 0 || claim[1] == RELEASED);
	assert(!unsaid)
}

init {
	atomic {
		run Member();
		run Recoverer(1);
		run Recoverer(2);
		run Opener();
		run Killer();
		run Monitor()
	}
}
