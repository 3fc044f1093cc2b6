/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An opener against the last one out: try_join, channel_leave and remove_if_last in channel.c, removing by name in remove.c.
 *
 * Two processes that open the channel, the first of them twice, may leave a backlog, and leave; the first may be killed at
 * any step. A third removes the channel by name. Each object that is ever created has a number; the name leads to one of
 * them or to none. A process opens the object, opens it again by name for its locks, takes the gate there and looks whether
 * the name still leads to both.
 *
 * Members that live are always in the object that the name leads to. Nobody takes away the name of an object that has a
 * living member, nor, but for the one that removes by name, of one with a backlog. Nobody removes a lane of a channel that
 * the name leads to.
 *
 * Left out. What is inside the objects but a backlog and one lane's file. Joins that fail for other reasons. Removing by
 * force. The gate's time-out: who leaves without the gate removes nothing. A process that is killed lets go of its locks in
 * the same step, as its last file descriptor closes.
 *
 * holds:
 * refuted: -DNO_CHECK: an opener does not look where the name leads once it has the gate
 * refuted: -DBLIND_REMOVE: who removes by name does not look where the name leads once it has the gate
 * refuted: -DALL_LANES: who removes by name removes all lanes of that name, whichever channel they are of
 */
#define OBJECTS 6 /* three lives and a remover take away four names at most */
#define OPENERS 2
#define REMOVER 2

byte name;              /* object that the name leads to; 0 none */
byte created;
byte gate[OBJECTS];     /* 1 + who has the gate */
bool backlog[OBJECTS];
bool lane[OBJECTS];     /* a lane's file of this channel exists */
byte member[OPENERS];   /* the object in which this process has a slot and is alive; 0 none */
bool dead[OPENERS];
byte holds_gate[OPENERS]; /* of which object, for its death */

#define lives_in(object) (member[0] == (object) || member[1] == (object))

inline unlink()
{
	d_step {
		assert(name == 0 || !lives_in(name));
		name = 0
	}
}

inline lock_gate(object)
{
	d_step { gate[object] == 0 -> gate[object] = 1 + me; holds_gate[me] = object }
}

inline unlock_gate()
{
	d_step { gate[holds_gate[me]] = 0; holds_gate[me] = 0 }
}

proctype Opener(byte me)
{
	byte control;
	byte lock;
	byte lives = 2 - me;
	{
		do
		:: lives == 0 -> break
		:: lives > 0 ->
			control = name; /* open_control */
			if
			:: control != 0
			:: control == 0 ->
				d_step { /* create_control: linked whole, or somebody else was quicker */
					if
					:: name == 0 ->
						assert(created < OBJECTS - 1);
						created++;
						name = created;
						control = created
					:: else -> skip
					fi
				}
			fi;
			lock = (control != 0 -> name : 0); /* open_lock */
			if
			:: lock == 0
			:: lock != 0 ->
				lock_gate(lock);
#ifdef NO_CHECK
				if
				:: true ->
#else
				if
				:: name != control || name != lock -> unlock_gate()
				:: name == control && name == lock ->
#endif
					member[me] = lock; /* roster_enter, the byte locked before */
					assert(name == control && name == lock);
					lane[control] = true; /* lane_table_link */
					unlock_gate();
					lives--;
					if
					:: backlog[control] = true
					:: backlog[control] = false
					:: skip
					fi;
					assert(name == control);
					lock_gate(lock);
					member[me] = 0; /* roster_leave */
					if
					:: !backlog[control] && !lives_in(control) -> /* remove_if_last */
						lane[control] = false;
						if
						:: name == control ->
							assert(!backlog[name]);
							unlink()
						:: else
						fi
					:: else
					fi;
					unlock_gate()
				fi
			fi;
			d_step { control = 0; lock = 0 }
		od
	} unless { dead[me] }
}

/* sluice_channel_remove */
proctype Remover()
{
	byte control;
	byte current;
	byte i;
	bool listed[OBJECTS];
	control = name;
	if
	:: control == 0
	:: else ->
		d_step { gate[control] == 0 -> gate[control] = 1 + REMOVER };
		if
#ifdef BLIND_REMOVE
		:: !lives_in(control) -> unlink()
#else
		:: !lives_in(control) && name == control -> unlink()
#endif
		:: else
		fi;
		gate[control] = 0
	fi;
	/* Lanes: first which there are, then to which channel the name leads. What is there and not of that channel never will be. */
	do
	:: i < OBJECTS -> listed[i] = lane[i]; i++
	:: else -> break
	od;
	current = name;
	i = 0;
	do
	:: i < OBJECTS ->
		if
#ifdef ALL_LANES
		:: lane[i] ->
#else
		:: listed[i] && i != current ->
#endif
			assert(i != name);
			lane[i] = false
		:: else
		fi;
		i++
	:: else -> break
	od
}

inline kill(who)
{
	d_step {
		dead[who] = true;
		member[who] = 0;
		gate[holds_gate[who]] = 0;
		holds_gate[who] = 0
	}
}

proctype Killer()
{
	if
	:: kill(0)
	:: skip
	fi
}

proctype Monitor()
{
	do
	:: d_step { (member[0] != 0 && member[0] != name) || (member[1] != 0 && member[1] != name) -> assert(false) }
	:: timeout -> break
	od
}

init {
	atomic {
		run Opener(0);
		run Opener(1);
		run Remover();
		run Killer();
		run Monitor()
	}
}
