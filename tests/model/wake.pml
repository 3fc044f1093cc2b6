/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping and waking: doorbell.c, the waits of consumer_receive.c, producer_wake_consumers in
 * producer_room.c.
 *
 * Publishers and three consumers with an explicit store buffer each, as x86 has them: a plain store waits in the buffer for
 * any time, a locked instruction empties the buffer first, a load looks at memory. In a queue a publisher wakes one sleeper
 * and each message is taken once; with BROADCAST it wakes all and everybody reads everything.
 *
 * With DEATH one publisher or one sleeper may be killed at any step, or one sleep end early for no reason. With LINGER the
 * first consumer waits over a batch: it may find after a wake-up that its batch is over, by size or because a producer waits
 * for room. It then leaves the message to others and passes the wake-up on. With POLL the first consumer's bell is a
 * poller's, in whose place the kernel waits: it may be taken out of the poller at any time, rung or not.
 *
 * No wake-up lost: when nothing moves any more, nobody sleeps beside a message for it, unless somebody was killed between a
 * publish and the wake-up, or a sleeper between its wake-up and its look. Then sleepers that wake by themselves, as they do
 * once a second, find all there is.
 *
 * Left out. Claims: taking is one step (claim.pml). The bitmap's two words are one; a waker that reads them one after the
 * other reads each after its fence. The kernel's futex calls are single steps that empty the caller's store buffer. A death
 * empties the store buffer in time, as any store does.
 *
 * holds: -DPUBLISHERS=1 -DMESSAGES=2
 * holds: -DPUBLISHERS=2 -DMESSAGES=1
 * holds: -DPUBLISHERS=1 -DMESSAGES=1 -DDEATH
 * holds: -DPUBLISHERS=1 -DMESSAGES=1 -DLINGER
 * holds: -DPUBLISHERS=1 -DMESSAGES=1 -DPOLL
 * holds: -DPUBLISHERS=1 -DMESSAGES=2 -DPOLL
 * holds: -DPUBLISHERS=1 -DMESSAGES=2 -DBROADCAST
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DNO_FENCE: the publisher looks for sleepers without a fence after its store
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DNO_FENCE -DBROADCAST: the same
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DNO_SECOND_LOOK: the sleeper does not look again once it is armed
 * refuted: -DPUBLISHERS=1 -DMESSAGES=2 -DBROADCAST -DLATE_CLEAR: the waker clears the bit after it exchanged the word
 * refuted: -DPUBLISHERS=1 -DMESSAGES=2 -DBROADCAST -DSHARED_FLAG: one flag for all sleepers instead of a bit each
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DLINGER -DSWALLOW: who leaves the message to others after a wake-up wakes nobody instead
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DPOLL -DSWALLOW: who is taken out although it was rung wakes nobody instead
 * refuted: -DPUBLISHERS=1 -DMESSAGES=1 -DPOLL -DGLANCE: it looks whether it was rung before it disarms, not by disarming
 */
#define CONSUMERS 3
#define TOTAL     (PUBLISHERS * MESSAGES)

#ifdef SHARED_FLAG
#define BIT(i) 1
#else
#define BIT(i) (1 << (i))
#endif

byte published;          /* events that everybody sees */
byte unpublished;        /* in publishers' store buffers */
byte taken;              /* queue */
byte seen[CONSUMERS];    /* broadcast */
byte map;                /* who sleeps */
bool word[CONSUMERS];    /* the futexes */
bool pending[CONSUMERS]; /* a plain store of zero to the own word waits in the buffer */
bool asleep[CONSUMERS];
bool owed[CONSUMERS];    /* woken, and has not looked since */
bool dead[CONSUMERS];
bool killed[PUBLISHERS];
bool excused; /* somebody died with a wake-up in hand */
bool spare = true; /* one sleep ends for no reason */

#ifdef BROADCAST
#define EVERYBODY    true
#define available(i) (seen[i] < published)
#else
#define EVERYBODY    false
#define available(i) (taken < published)
#endif

#define drain(i)                        \
	word[i] = word[i] && !pending[i]; \
	pending[i] = false

/* doorbell_ring: the bit, then the word, then the kernel. */
inline ring(i)
{
#ifndef LATE_CLEAR
	map = map & ~BIT(i);
#endif
	d_step { /* D4 */
		was_set = word[i];
		word[i] = 0
	}
#ifdef LATE_CLEAR
	map = map & ~BIT(i);
#endif
	d_step {
		if
		:: was_set && asleep[i] ->
			asleep[i] = false;
			owed[i] = true;
			woken = !EVERYBODY
		:: else -> skip
		fi;
		was_set = false;
		at++
	}
}

/* doorbell_ring_one or doorbell_ring_all, beginning with slot `start`. */
inline ring_some(start)
{
	do
	:: d_step { at < CONSUMERS && !woken && !(map & BIT((start + at) % CONSUMERS)) -> at++ }
	:: atomic { at < CONSUMERS && !woken && (map & BIT((start + at) % CONSUMERS)) -> skip }
		ring((start + at) % CONSUMERS)
	:: atomic { at == CONSUMERS || woken -> at = 0; woken = false; break }
	od
}

/* The look at the map after the fence D3. */
inline wake_consumers(start)
{
	if
	:: map == 0
	:: else -> ring_some(start)
	fi
}

proctype Publisher(byte me)
{
	byte n;
	byte at;
	bool woken;
	bool was_set;
	{
		do
		:: n < MESSAGES ->
#ifdef NO_FENCE
			unpublished++; /* a plain store */
#else
			published++; /* P1, P2: an exchange */
#endif
			wake_consumers(n + me);
			n++
		:: else -> break
		od
	} unless { killed[me] }
}

proctype Consumer(byte me)
{
	byte at;
	bool woken;
	bool was_set;
#ifdef POLL
	bool rung;
#endif
	{
		do
		:: d_step {
			available(me) -> drain(me); /* takes it: K1 is locked */
			owed[me] = false;
#ifdef BROADCAST
			seen[me]++
#else
			taken++
#endif
		   }
#ifdef LINGER
		:: atomic { me == 0 && owed[0] -> owed[0] = false }
#ifndef SWALLOW
			wake_consumers(1); /* passes it on */
#endif
			break
#endif
		:: d_step { !available(me) -> owed[me] = false }
			/* doorbell_arm */
			d_step { word[me] = 1; pending[me] = false }
			d_step { map = map | BIT(me) } /* D1, D2 */
			if
#ifndef NO_SECOND_LOOK
			:: available(me)
			:: !available(me) ->
#else
			:: true ->
#endif
				/* FUTEX_WAIT: sleeps only if the word is still 1 */
				asleep[me] = word[me];
#ifdef POLL
				if
				:: !asleep[me]
				:: me == 0 -> goto withdraw
				fi
#else
				!asleep[me]
#endif
			fi;
			/* doorbell_disarm */
			d_step { map = map & ~BIT(me); pending[me] = true }
		od;
#ifdef POLL
		goto gone;
withdraw:
		/* doorbell_withdraw; then what the kernel waits for in its place is ended. */
#ifdef GLANCE
		was_set = word[me];
#endif
		map = map & ~BIT(me);
		d_step {
#ifndef GLANCE
			was_set = word[me];
#endif
			drain(me);
			word[me] = 0;
			rung = !was_set;
			was_set = false
		}
		asleep[me] = false;
#ifndef SWALLOW
		if
		:: rung -> wake_consumers(1) /* passes it on */
		:: else -> skip
		fi;
#endif
gone:
		skip
#endif
	} unless { dead[me] }
}

/* Store buffers empty themselves in their own time. */
proctype Memory()
{
	do
#ifdef NO_FENCE
	:: d_step { unpublished > 0 -> unpublished--; published++ }
#endif
	:: d_step { pending[0] -> drain(0) }
	:: d_step { pending[1] -> drain(1) }
	:: d_step { pending[2] -> drain(2) }
	od
}

inline end_sleep(i)
{
	d_step { asleep[i] && spare -> asleep[i] = false; spare = false }
}

proctype Fate()
{
#ifdef DEATH
	if
	:: d_step { killed[0] = true; excused = true }
	:: d_step { excused = owed[0]; dead[0] = true; asleep[0] = false }
	:: end_sleep(0)
	:: skip
	fi
#else
	skip
#endif
}

#define waits(i) (asleep[i] && available(i))

proctype Monitor()
{
	do
	:: timeout ->
		if
		:: waits(0) || waits(1) || waits(2) ->
			assert(excused);
			/* Sleepers wake by themselves. */
			d_step { asleep[0] = false; asleep[1] = false; asleep[2] = false }
		:: else -> break
		fi
	od;
	assert(unpublished == 0)
}

init {
	byte i;
	atomic {
		for (i : 0 .. PUBLISHERS - 1) {
			run Publisher(i)
		}
		for (i : 0 .. CONSUMERS - 1) {
			run Consumer(i)
		}
		run Memory();
		run Fate();
		run Monitor()
	}
}
