/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acknowledgements of devices: acks_announce, acks_withdraw and acks_collect_from in acks.c.
 *
 * A consumer holds two messages that its device reads, and releases them behind the device's work one after the other, by the
 * same entry and the same word. A zombie, which had this page before, was declared dead and lives, writes an entry of its own
 * into the same place at any time, and its device writes its ticket into the same word. A collector, a producer say, copies the
 * entry field by field, and releases a message if all is as it must be.
 *
 * No message is released while a device reads it. When nothing moves any more the consumer, which looks at the word as well, has
 * released both: a zombie's write over its ticket it meets by asking its device.
 *
 * Left out: several entries and words, the bits that say which entries there are, recovery (claim.pml has what becomes of
 * claims that are given back), sleeping (wake.pml).
 *
 * holds:
 * refuted: -DNO_SEAL: fields that two wrote make an entry
 * refuted: -DNO_SECOND_LOOK -DNO_SEAL -DNO_ZOMBIE: an entry that was filled anew while it was copied
 * refuted: -DSAME_TICKETS: a zombie's device writes what the consumer's will
 * refuted: -DEARLY: the device writes before it has read
 * refuted: -DNO_ASKING: who finds a foreign number in its word waits for its own
 */
#define NONE   0
#define FIRST  1 /* tickets of the consumer */
#define SECOND 2
#ifdef SAME_TICKETS
#define OLD FIRST
#else
#define OLD 3 /* the zombie's, which carries another incarnation */
#endif

#define RELEASED 0
#define HELD     1 /* by the consumer */
#define HELD_OLD 2 /* by the zombie, long given back */

byte ticket; /* the entry */
byte message;
byte claim;
byte seal_ticket; /* what the seal was made of */
byte seal_message;
byte seal_claim;
byte word;
byte claims[2];
bool reading[2];
bool idle[2];
bool over;

/* Q2, the fields, Q1 */
inline announce(t, m, c)
{
	ticket = NONE;
	message = m;
	claim = c;
	d_step {
		seal_ticket = t;
		seal_message = m;
		seal_claim = c
	}
	ticket = t
}

inline let_device_read(m, t)
{
#ifdef EARLY
	word = t;
	reading[m] = false
#else
	reading[m] = false;
	word = t /* Q4 */
#endif
	;
	idle[m] = true
}

proctype Device(byte m; byte t)
{
	let_device_read(m, t)
}

/* One release: has its device write, says what that is worth, waits for it and releases. */
inline release(m, t)
{
	run Device(m, t);
	announce(t, m, HELD);
	do
	:: word == t -> break /* Q5 */
#ifndef NO_ASKING
	:: word == OLD && OLD != t -> idle[m] -> break /* all that it was given is done, its write too */
#endif
	od;
	assert(!reading[m]);
	d_step { /* K2 */
		if
		:: claims[m] == HELD -> claims[m] = RELEASED
		:: else
		fi
	}
	ticket = NONE /* Q2 */
}

proctype Consumer()
{
	release(0, FIRST);
	release(1, SECOND);
	over = true
}

proctype Zombie()
{
	announce(OLD, 1, HELD_OLD);
	ticket = NONE
}

proctype OldDevice()
{
	word = OLD
}

proctype Collector()
{
	byte t, m, c;
	bool sealed;
	do
	:: over -> break
	:: ticket != NONE ->
		t = ticket; /* Q3, and so on */
		m = message;
		c = claim;
		d_step {
			sealed = seal_ticket == t && seal_message == m && seal_claim == c
		}
#ifdef NO_SEAL
		sealed = true;
#endif
		if
#ifdef NO_SECOND_LOOK
		:: t != NONE && sealed && c == HELD && word == t ->
#else
		:: t != NONE && ticket == t && sealed && c == HELD && word == t ->
#endif
			d_step { /* K2 */
				if
				:: claims[m] == HELD ->
					claims[m] = RELEASED;
					assert(!reading[m])
				:: else
				fi
			}
		:: else
		fi
	od
}

proctype Monitor()
{
	timeout ->
	assert(over && claims[0] == RELEASED && claims[1] == RELEASED)
}

init {
	atomic {
		claims[0] = HELD;
		claims[1] = HELD;
		reading[0] = true;
		reading[1] = true;
		run Consumer();
#ifndef NO_ZOMBIE
		run Zombie();
		run OldDevice();
#endif
		run Collector();
		run Monitor()
	}
}
