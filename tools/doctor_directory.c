/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the directory where channels live: what Sluice does there is tried there, under no channel's name. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <sluice/channel.h>
#include <sluice/error.h>

#include "doctor.h"
#include "explain.h"
#include "summary.h"
#include "units.h"

#define MIB            UINT64_C(0x100000)
#define TRIAL_BYTES    MIB
#define LEAST_FREE     MIB        /* below this not even a small lane fits */
#define LEAST_FILES    3          /* a control object and a lane of two */
#define DEFAULT_LANE   (10 * MIB) /* a lane of 8 MiB with its descriptors, claims and the channel's control object */
#define DOCKER_DEFAULT (64 * MIB)

/* How to get a tmpfs at `point`, where nothing is yet. */
static void advise_tmpfs(const struct patient *patient, struct finding *finding, const char *point)
{
	if (patient->container)
		advise(finding,
			"Leave SLUICE_DIR unset to use /dev/shm, or give the container a tmpfs: 'docker run --tmpfs "
			"%s:size=2g'.",
			point);
	else
		advise(finding,
			"Leave SLUICE_DIR unset to use /dev/shm, or make a tmpfs. As root: mkdir -p %s && mount -t "
			"tmpfs -o "
			"size=2g,mode=1777 sluice %s",
			point, point);
}

/* Whether the directory can be used at all; anything else about it is not asked before. */
static bool is_usable(struct patient *patient, struct finding *finding)
{
	const char *directory = patient->directory;
	struct stat status;
	struct statfs system;

	if (stat(directory, &status)) {
		bool missing = errno == ENOENT;
		found_problem(finding, "%s: %s", directory, strerror(errno));
		if (missing)
			advise_tmpfs(patient, finding, directory);
		else
			advise(finding, "Name another with --dir or SLUICE_DIR, or run this as its owner or as root.");
	} else if (!S_ISDIR(status.st_mode)) {
		found_problem(finding, "%s is not a directory", directory);
		advise(finding, "Name a directory on a tmpfs with --dir or SLUICE_DIR.");
	} else if (statfs(directory, &system)) {
		found_problem(finding, "%s: %s", directory, strerror(errno));
	} else if (system.f_type != TMPFS_MAGIC && system.f_type != HUGETLBFS_MAGIC) {
		found_problem(finding, "%s is not on a tmpfs", directory);
		advise_tmpfs(patient, finding, "/run/sluice");
	} else if (access(directory, R_OK | W_OK | X_OK)) {
		bool read_only = errno == EROFS;
		found_problem(finding, "%s may not be written to: %s", directory, strerror(errno));
		if (read_only)
			advise(finding, "As root: mount -o remount,rw %s", directory);
		else
			advise(finding, "As its owner: chmod 1777 %s", directory);
	} else {
		patient->hugetlbfs = system.f_type == HUGETLBFS_MAGIC;
		return true;
	}
	return false;
}

void check_directory(struct patient *patient, struct finding *finding)
{
	struct stat status;

	patient->directory_usable = is_usable(patient, finding);
	if (!patient->directory_usable || stat(patient->directory, &status))
		return;
	const char *kind = patient->hugetlbfs ? "hugetlbfs" : "tmpfs";
	bool open_to_all = status.st_mode & S_IWOTH, sticky = status.st_mode & S_ISVTX;
	if (open_to_all && !sticky) {
		found_note(finding, "%s is a %s, but any user may delete the channels of any other", patient->directory,
			kind);
		advise(finding, "As its owner: chmod +t %s", patient->directory);
	} else {
		found_ok(finding, "%s is a %s and may be written to", patient->directory, kind);
	}
}

static void advise_size(const struct patient *patient, struct finding *finding)
{
	struct mount mount;
	const char *point = machine_mount(patient->directory, &mount) ? patient->directory : mount.point;

	if (patient->container)
		advise(finding,
			"Docker: 'docker run --shm-size=2g'; Compose: 'shm_size: 2gb'; Kubernetes: an emptyDir with "
			"'medium: Memory' "
			"mounted on %s. 'sluice ls' shows what channels take.",
			point);
	else
		advise(finding,
			"As root: mount -o remount,size=2g %s (and in /etc/fstab to keep it). 'sluice ls' shows what "
			"channels "
			"take.",
			point);
}

void check_space(struct patient *patient, struct finding *finding)
{
	struct statvfs system;

	if (statvfs(patient->directory, &system)) {
		found_note(finding, "unknown: %s", strerror(errno));
		return;
	}
	uint64_t size = (uint64_t)system.f_blocks * system.f_frsize,
		 space = (uint64_t)system.f_bavail * system.f_frsize;
	struct text free_text = units_bytes(space), size_text = units_bytes(size);

	if (!size) {
		found_ok(finding, "%s has no limit of its own%s", patient->directory,
			patient->hugetlbfs ? ", only the pool's" : "");
	} else if (space < LEAST_FREE) {
		found_problem(finding, "%s of %s free: no channel can be made", free_text.text, size_text.text);
		advise_size(patient, finding);
	} else if (system.f_files && system.f_favail < LEAST_FILES) {
		found_problem(
			finding, "room for %" PRIu64 " more files: no channel can be made", (uint64_t)system.f_favail);
		advise(finding, "Delete files there, or as root: mount -o remount,nr_inodes=100k %s",
			patient->directory);
	} else if (space < DEFAULT_LANE) {
		found_note(finding, "%s of %s free: a lane of default size (8 MiB) does not fit", free_text.text,
			size_text.text);
		advise_size(patient, finding);
	} else if (size <= DOCKER_DEFAULT) {
		found_note(finding, "%s of %s free: each producer's lane takes 8 MiB by default", free_text.text,
			size_text.text);
		advise_size(patient, finding);
	} else {
		found_ok(finding, "%s of %s free", free_text.text, size_text.text);
	}
}

/* An unnamed file in the directory, open twice through descriptions of their own. Returns 0 or a negative errno. */
static int open_unnamed(const struct patient *patient, int *ret_fd, int *ret_second)
{
	char path[64];
	int fd = open(patient->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int second = open(path, O_RDWR | O_CLOEXEC);
	if (second < 0) {
		int code = -errno;
		close(fd);
		return code;
	}
	*ret_fd = fd;
	*ret_second = second;
	return 0;
}

static void found_no_unnamed(struct finding *finding, int code)
{
	found_problem(finding, "an unnamed file cannot be made: %s", strerror(-code));
	advise(finding, code == -ENOENT ? "Mount /proc: Sluice goes through /proc/self/fd."
					: "Use a tmpfs of Linux 3.11 or later, and a sandbox that allows O_TMPFILE.");
}

void check_unnamed_files(struct patient *patient, struct finding *finding)
{
	char source[64], target[4096];
	int fd = -1, second = -1, code = open_unnamed(patient, &fd, &second);

	if (code) {
		found_no_unnamed(finding, code);
		return;
	}
	snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
	snprintf(target, sizeof target, "%s/.sluice-doctor-%d", patient->directory, (int)getpid());
	if (linkat(AT_FDCWD, source, AT_FDCWD, target, AT_SYMLINK_FOLLOW)) {
		found_problem(finding, "an unnamed file cannot be given a name: %s", strerror(errno));
		advise(finding, "Mount /proc, and use a sandbox that allows linkat.");
	} else {
		unlink(target);
		found_ok(finding, "objects can be built unseen and linked into place whole");
	}
	close(second);
	close(fd);
}

void check_allocation(struct patient *patient, struct finding *finding)
{
	struct stat status;
	int fd = -1, second = -1, code = open_unnamed(patient, &fd, &second);

	if (code) {
		found_no_unnamed(finding, code);
		return;
	}
	code = posix_fallocate(fd, 0, TRIAL_BYTES);
	if (code) {
		found_problem(finding, "%s cannot be allocated: %s", units_bytes(TRIAL_BYTES).text, strerror(code));
		advise(finding, code == EFBIG ? "See 'file size' below."
				: patient->hugetlbfs
					? "The pool of huge pages is empty. As root: sysctl vm.nr_hugepages=64"
					: "See 'space' above and 'memory limit' below.");
	} else if (fstat(fd, &status) || (uint64_t)status.st_blocks * 512 < TRIAL_BYTES) {
		found_note(finding, "posix_fallocate succeeds but allocates nothing here");
		advise(finding, "When memory runs out, members can die of SIGBUS: leave room in the directory.");
	} else {
		found_ok(
			finding, "memory is really set aside: a full directory is an error at open, not a crash later");
	}
	close(second);
	close(fd);
}

static int lock_byte(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
	return fcntl(fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

void check_locks(struct patient *patient, struct finding *finding)
{
	int fd = -1, second = -1, code = open_unnamed(patient, &fd, &second);

	if (code) {
		found_no_unnamed(finding, code);
		return;
	}
	int first = lock_byte(fd), other = lock_byte(second);
	if (first) {
		found_problem(finding, "open-file-description locks do not work: %s", strerror(-first));
		advise(finding,
			"Sluice tells the living from the dead by them: use Linux 3.15 or later, or a sandbox that has "
			"them.");
	} else if (!other) {
		found_problem(finding, "this system only pretends to lock: two hold the same lock at once");
		advise(finding, "Sluice tells the living from the dead by locks: use another sandbox or kernel.");
	} else {
		found_ok(finding, "open-file-description locks exclude each other");
	}
	close(second);
	close(fd);
}

/* Adds ", name" to a list, as long as there is room. */
static void append_name(char *list, size_t size, const char *separator, const char *name)
{
	size_t used = strlen(list);

	if (used + strlen(name) + 8 < size)
		snprintf(list + used, size - used, "%s%s", used ? separator : "", name);
	else if (used + 4 < size && strcmp(list + used - 3, "...") != 0)
		snprintf(list + used, size - used, " ...");
}

/* What a look at all channels brought up. */
struct leftovers {
	uint64_t lifeless; /* without live members, and not meant to stay */
	uint64_t unreadable;
	uint64_t bytes;
	char names[256];   /* of the lifeless, for a sentence */
	char command[512]; /* and for a command line */
};

static void look_at(const struct request *request, const struct sluice_channel_entry *entry, struct leftovers *left)
{
	struct sluice_channel_stat *stat = NULL;
	int code = entry->error ? entry->error : sluice_channel_stat(entry->name, request->directory, &stat);
	bool lanes_alone = entry->error == -ENOENT;
	bool lifeless = !code && !summary_has_life(stat) && !(stat->geometry.flags & SLUICE_PERSISTENT);

	if (lifeless || lanes_alone) {
		left->lifeless++;
		left->bytes += stat ? stat->mapped_bytes : 0;
		append_name(left->names, sizeof left->names, ", ", entry->name);
		append_name(left->command, sizeof left->command, " ", entry->name);
	} else if (code && code != -ENOENT && code != -EACCES && code != -EPERM) {
		/* Other people's channels are theirs to look after. */
		left->unreadable++;
	}
	sluice_channel_stat_free(stat);
}

void check_leftovers(struct patient *patient, struct finding *finding)
{
	const struct request *request = patient->request;
	struct sluice_channel_entry *entries;
	struct leftovers left = {0};
	int count = sluice_channel_list(request->directory, &entries);

	if (count < 0) {
		found_note(finding, "the channels cannot be listed: %s", sluice_strerror(count));
		return;
	}
	for (int i = 0; i < count; i++)
		look_at(request, &entries[i], &left);
	sluice_channel_list_free(entries);
	if (left.lifeless) {
		found_note(finding, "%s without live members, %s: %s", units_count(left.lifeless, "channel").text,
			units_bytes(left.bytes).text, left.names);
		advise(finding, "If nobody comes back for what is in them: sluice rm %s%s%s", left.command,
			request->directory ? " --dir " : "", request->directory ? request->directory : "");
	} else if (left.unreadable) {
		found_note(finding, "%s cannot be read", units_count(left.unreadable, "channel").text);
		advise(finding, "'sluice ls' says which, why, and what to do.");
	} else {
		found_ok(finding, "no channel has been left behind");
	}
}
