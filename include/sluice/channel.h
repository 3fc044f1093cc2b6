/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels: how one is made, what one looks like, and looking at one from outside.
 *
 * A channel is a name in a directory of shared memory (a tmpfs or a hugetlbfs; `/dev/shm` unless the option or the
 * environment variable SLUICE_DIR says otherwise). The first producer or consumer to open it creates it with its options;
 * whoever comes later gets what exists. The last one to leave removes it, unless messages are waiting or it is persistent.
 *
 * Caveats: all members run on one machine under one kernel. A member must not be on a network or disk file system.
 * Members of the same user can spoil a channel by truncating its files; other users cannot, unless the options let them
 * in.
 */
#ifndef SLUICE_CHANNEL_H
#define SLUICE_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_MAX_NAME      63  /* bytes of a channel's name: letters, digits, '.', '_', '-', not starting with '.' */
#define SLUICE_MAX_MEMBERS   128 /* producers and consumers of one channel at one time, and lanes */
#define SLUICE_PROGRAM_BYTES 32  /* a member's program name, NUL included */

/* What options may ask for. */
#define SLUICE_MIN_LANE_BYTES 4096
#define SLUICE_MAX_LANE_BYTES (UINT64_C(128) << 30)
#define SLUICE_MAX_DEPTH      1048576 /* messages in a lane; at least 2 */
#define SLUICE_MAX_DELIVERIES 63
#define SLUICE_MAX_UIDS       16

/* Time-outs are relative, in nanoseconds. 0: do not wait, -EAGAIN. Negative: already past, one look, then -ETIMEDOUT. */
#define SLUICE_FOREVER INT64_MAX

/*
 * How long to spin before a sleep, as an option `spin_ns` of producers and consumers, in nanoseconds. 0, the default, is
 * learnt from how long the waits before took: about twice that, up to 50 us; hardly at all if they are longer, or if what it
 * waited for did not come while it spun; not at all on a machine of one CPU. A thread that may run on one CPU only when it
 * opens begins with next to none, and spins once that has shown to help, as it does where the others have their own CPUs.
 */
#define SLUICE_NO_SPIN   (-1)      /* sleep at once */
#define SLUICE_SPIN_ONLY INT64_MAX /* never sleep: for a core of one's own */

/*
 * How messages are handed out; fixed when the channel is created. Whoever attaches gets what exists, also another mode
 * than it asked for: look at the geometry, or insist (SLUICE_INSIST).
 */
enum sluice_mode {
	SLUICE_MODE_DEFAULT = 0, /* queue when creating, whatever exists when attaching */
	SLUICE_QUEUE = 1,        /* each message goes to one consumer */
	SLUICE_BROADCAST = 2     /* each message goes to every consumer */
};

/* Bits of sluice_channel_options.flags. */
enum sluice_channel_flags {
	SLUICE_ORDERED = 1,     /* hand out the oldest of all producers first, not fair turns; kept by the channel */
	SLUICE_PERSISTENT = 2,  /* the last one out leaves the channel in place; kept by the channel */
	SLUICE_ATTACH_ONLY = 4, /* do not create: -ENOENT if there is no such channel */
	SLUICE_INSIST = 8,      /* -EEXIST if what exists is not what is asked for here; the two above count always */
	SLUICE_GROUP = 16       /* `group` is set */
};

/*
 * A flag of producers and consumers: a call that would wait returns -EPIPE when the last counterpart is gone, be it
 * that it left or that it died. Without it the call waits for the next one. Only one that lived when this member
 * opened, or came later, can be gone. A death is noticed within about a second.
 */
#define SLUICE_REPORT_GONE 256

/*
 * How a lane's memory is to be: bits of sluice_producer_options.flags; of consumers SLUICE_PREFAULT only. What cannot be
 * had (no permission, no huge page free, a limit) is done without, and told: sluice_producer_placement, `sluice stat`.
 */
enum sluice_memory_flags {
	SLUICE_HUGE_PAGES = 512,   /* on a tmpfs: transparent ones; whole ones only, so lanes from 2 MiB */
	SLUICE_PREFAULT = 1024,    /* in the page tables before the first message; consumers: of each lane they find */
	SLUICE_LOCK_MEMORY = 2048, /* never swapped out while the producer has it; counts against RLIMIT_MEMLOCK */
	SLUICE_ON_NODE = 4096      /* not an option: that a node was asked for, in struct sluice_placement */
};

#define SLUICE_UNLIMITED UINT32_MAX

/*
 * Options of a channel. Zero means the default everywhere. `size` is sizeof(struct sluice_channel_options). An option that
 * is of the one mode is refused together with the other.
 */
struct sluice_channel_options {
	size_t size;
	uint32_t mode;  /* enum sluice_mode */
	uint32_t flags; /* enum sluice_channel_flags */
	uint64_t
		lane_bytes; /* payload of a lane that asks for none; default 8 MiB, 4 KiB to 128 GiB, rounded up to 8 KiB */
	uint32_t depth;     /* messages a lane can hold, rounded up to a power of two; default 1024, 2 to 2^20 */
	uint32_t expected_consumers; /* broadcast: messages are kept until this many consumers were there at one time */
	uint32_t max_deliveries;     /* of a message before it is set aside; default 5; up to 63, or SLUICE_UNLIMITED */
	uint32_t permissions;        /* of all objects, as for chmod; default 0600 */
	uint32_t group;             /* with SLUICE_GROUP: group of all objects, and objects of this group are trusted */
	uint32_t allowed_uid_count; /* up to SLUICE_MAX_UIDS */
	const uint32_t *allowed_uids; /* owners whose objects are trusted beside one's own; read during the call only */
	const char *directory;        /* a tmpfs or hugetlbfs; default $SLUICE_DIR, else /dev/shm */
	int64_t open_timeout_ns;      /* how long to wait for others who are opening or leaving; default 10 s */
	int64_t take_back_ns;         /* queue: a message held for longer is handed out again, see below; 0: never */
};

/*
 * `take_back_ns`: members look about four times a second, sleeping ones once a second, so it takes up to a second more. The
 * message goes to whoever asks next, with a raised delivery count, also to the one that held it; its first handle then says
 * -ESTALE at release. What was computed from it is not to be used in that case.
 */

/* What a channel or a lane really has. */
struct sluice_geometry {
	uint32_t mode;
	uint32_t flags; /* SLUICE_ORDERED, SLUICE_PERSISTENT */
	uint32_t depth; /* producer: of its lane; consumer: what a lane gets by default */
	uint32_t expected_consumers;
	uint64_t lane_bytes;        /* payload bytes, likewise */
	uint64_t max_message_bytes; /* largest message: half of lane_bytes, each tensor rounded up to the alignment */
	uint32_t alignment;         /* of payloads, bytes */
	uint32_t max_deliveries;    /* 0: unlimited */
};

/* A distribution in nanoseconds, from a log-linear histogram with buckets one eighth of an octave wide or narrower. */
struct sluice_distribution {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p95_ns;
	uint64_t p99_ns;
	uint64_t p999_ns;
	uint64_t max_ns; /* upper bound of the last bucket that is not empty */
};

enum sluice_role { SLUICE_ROLE_NONE = 0, SLUICE_ROLE_PRODUCER = 1, SLUICE_ROLE_CONSUMER = 2 };

/* A member of a channel, as its roster slot tells. */
struct sluice_member_stat {
	uint32_t slot;
	uint32_t incarnation;
	uint32_t role;  /* enum sluice_role */
	uint32_t alive; /* 1 while its process lives and holds its lock, stopped or not */
	uint32_t pid;   /* in its own PID namespace: for people to read */
	uint32_t uid;
	char program[SLUICE_PROGRAM_BYTES];
	uint64_t opened_ns; /* CLOCK_REALTIME */
	uint32_t asleep;    /* 1 while it sleeps in a call */
	uint32_t pad;
	/* The rest is of consumers. */
	uint64_t received_messages;
	uint64_t received_bytes;
	uint64_t sleeps;                       /* times it went to sleep waiting for a message */
	uint64_t wakeups_sent;                 /* times its release woke a producer */
	struct sluice_distribution queue_wait; /* publish to receive, of stamped messages */
	struct sluice_distribution hold_time;  /* receive to release, of stamped messages */
};

enum sluice_pages {
	SLUICE_PAGES_SMALL = 0,
	SLUICE_PAGES_TRANSPARENT = 1, /* of a tmpfs, on request: the kernel may split them again when memory is short */
	SLUICE_PAGES_HUGETLB = 2      /* of a hugetlbfs: all of the lane, asked for or not */
};

#define SLUICE_NODE_UNKNOWN  (-1)
#define SLUICE_NODES_SEVERAL (-2)

/*
 * What a producer asked for its lane's memory and what it got, by what the kernel said when the lane was made. The errors
 * are 0 or a negative errno:
 *   node      -EPERM (a container's filter), -EINVAL (no memory there, or not for this process), -EXDEV (it lies
 *             elsewhere, that node being full), -ENODATA (the device's node is not known), -ENOSYS (built without libnuma)
 *   huge      -ENOMEM, -EBUSY, -EAGAIN (none free), -EINVAL, -EOPNOTSUPP (the kernel makes none here), -ERANGE (the lane
 *             is smaller than one); `huge_bytes` are huge all the same
 *   prefault  -EINVAL (Linux before 5.14), -ENOMEM
 *   lock      -ENOMEM, -EPERM (RLIMIT_MEMLOCK is too low), -EAGAIN
 */
struct sluice_placement {
	uint32_t asked;     /* SLUICE_ON_NODE, SLUICE_HUGE_PAGES, SLUICE_PREFAULT, SLUICE_LOCK_MEMORY */
	uint32_t obtained;  /* those of them that it got, in full */
	int32_t asked_node; /* or SLUICE_NODE_UNKNOWN */
	int32_t node;       /* of up to 64 pages of each object; or SLUICE_NODE_UNKNOWN, SLUICE_NODES_SEVERAL */
	int32_t node_error;
	int32_t huge_error;
	int32_t prefault_error;
	int32_t lock_error;
	uint32_t pages; /* enum sluice_pages */
	uint32_t pad;
	uint64_t page_bytes; /* size of a huge page; 0 if pages are small */
	uint64_t huge_bytes; /* of the lane's data that lie on huge pages */
};

/* A lane of a channel. */
struct sluice_lane_stat {
	uint32_t slot;
	uint32_t incarnation;
	uint32_t depth;
	uint32_t alignment;
	uint64_t lane_bytes;   /* payload */
	uint64_t mapped_bytes; /* shared memory of both its objects */
	uint32_t alive;        /* 1 while its producer lives */
	uint32_t closed;       /* 1 once its producer closed it cleanly */
	uint32_t pid;          /* of its producer */
	uint32_t uid;
	char program[SLUICE_PROGRAM_BYTES];
	uint64_t published_messages;
	uint64_t published_bytes;
	uint64_t discarded_messages;
	uint64_t waiting_messages; /* published and not handed out; broadcast: not yet released by the slowest */
	uint64_t held_messages;    /* handed out and not released; broadcast: 0 */
	uint64_t stalls;           /* times its producer slept waiting for room */
	uint64_t wakeups_sent;     /* times its publish woke a consumer */
	struct sluice_distribution fill_time; /* reserve to publish, of stamped messages */
	struct sluice_placement placement;
};

/* A message that was given up because its consumers kept dying. */
struct sluice_aside_stat {
	uint64_t correlation_id;
	uint64_t sequence;
	uint64_t noticed_ns; /* CLOCK_REALTIME */
	uint32_t lane_slot;
	uint32_t lane_incarnation;
	uint32_t killer_slot; /* the last consumer that died with it */
	uint32_t killer_pid;  /* in its own PID namespace */
	uint32_t deliveries;
	uint32_t pad;
};

/* A look at a channel: one allocation, the arrays inside it. */
struct sluice_channel_stat {
	char name[SLUICE_MAX_NAME + 1];
	struct sluice_geometry geometry;
	uint32_t layout_version;
	uint32_t permissions;
	uint32_t owner_uid;
	uint32_t member_count;
	uint32_t lane_count;
	uint32_t unreadable_lanes; /* in the channel's table, but taken away or damaged by others than Sluice */
	uint64_t mapped_bytes;     /* shared memory of all its objects */
	uint64_t producers_opened; /* since the channel was created */
	uint64_t producers_closed; /* cleanly */
	struct sluice_member_stat *members;
	struct sluice_lane_stat *lanes;
	uint64_t set_aside_messages;     /* since the channel was created */
	struct sluice_aside_stat *aside; /* the last ones, up to 32 */
	uint32_t aside_count;
	uint32_t pad2;
};

/* One object that a listing found. */
struct sluice_channel_entry {
	char name[SLUICE_MAX_NAME + 1];
	uint32_t layout_version; /* of its control object */
	int32_t error; /* 0: sluice_channel_stat will do; -ENOENT: lanes that lost their channel; else why not */
};

/*
 * Lists the channels in `directory` (NULL: the default), sorted by name, also those that cannot be read.
 * The array in `*ret_entries` is the caller's: free with sluice_channel_list_free. Returns the number of entries, or
 * -ENOENT / -ENOTDIR / -EACCES (the directory), -ENOTSUP (it is on no tmpfs), -ENOMEM. Any thread; wakes and disturbs nobody.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_channel_list(const char *directory, struct sluice_channel_entry **ret_entries);
SLUICE_API void sluice_channel_list_free(struct sluice_channel_entry *entries);

/*
 * Looks at a channel without joining it: maps its objects read-only, wakes and disturbs nobody. The figures of one look
 * are not of one instant. `*ret_stat` is the caller's: free with sluice_channel_stat_free.
 * Returns 0, -EINVAL (name), -ENOENT (no such channel or directory), -ENOTDIR, -ENOTSUP (the directory is on no tmpfs),
 * -EACCES, -EPERM (owner not trusted; root trusts all), -EPROTO (not a channel of Sluice), -ELOOP (a symbolic link stands
 * in its place), -EPROTONOSUPPORT (another layout version), -EBADMSG (its contents contradict themselves), -EMFILE or
 * -ENFILE (no descriptor left to look with), -ENOMEM. Any thread.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_channel_stat(
	const char *name, const char *directory, struct sluice_channel_stat **ret_stat);
SLUICE_API void sluice_channel_stat_free(struct sluice_channel_stat *stat);

enum sluice_remove_flags { SLUICE_REMOVE_FORCE = 1 /* even while members live: they go on among themselves */ };

/*
 * Removes a channel and its backlog: control first, then its lanes, and lanes that lost their channel. Also one of
 * another layout version. Memory goes back to the system when the last process has unmapped it.
 * Returns 0, -ENOENT, -EBUSY (members live; see SLUICE_REMOVE_FORCE), -ETIMEDOUT (somebody is opening it), or as for
 * stat.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_channel_remove(const char *name, const char *directory, uint32_t flags);

enum sluice_collect_flags { SLUICE_COLLECT_DROP = 1 /* a backlog that no living member is there for goes too */ };

/* What sluice_channel_collect did. */
struct sluice_collected {
	uint32_t dead_members; /* declared dead, and what they held given back */
	uint32_t lanes;        /* taken away */
	uint32_t channel;      /* 1 if the channel itself was */
	uint32_t files;        /* taken away, all told */
	uint64_t dropped_messages;
};

/*
 * Cleans up after the dead: gives back what they held, and takes away what is drained and used by no living process:
 * lanes, lanes that lost their channel, the channel itself unless it is persistent, channels of other layout versions
 * that nobody has open. A backlog stays unless SLUICE_COLLECT_DROP is given and no member lives. Living members are not
 * disturbed.
 * Returns 0, -ENOENT (nothing of that name), -ETIMEDOUT (somebody is opening it), or as for stat. Any thread.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_channel_collect(
	const char *name, const char *directory, uint32_t flags, struct sluice_collected *ret_collected);

#ifdef __cplusplus
}
#endif
#endif
