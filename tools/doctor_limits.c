/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of what this process may use: files, memory, processors. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "doctor.h"
#include "units.h"

#define MIB             UINT64_C(0x100000)
#define FEW_FILES       64
#define MANY_FILES      1024
#define LITTLE_LOCKED   MIB
#define DEFAULT_LANE    (8 * MIB)
#define MOST_CPUS       65536
#define WHOLE_CPU_QUOTA 1000 /* thousandths */

void check_open_files(struct patient *patient, struct finding *finding)
{
	struct rlimit limit;

	(void)patient;
	if (getrlimit(RLIMIT_NOFILE, &limit)) {
		found_note(finding, "unknown: %s", strerror(errno));
		return;
	}
	if (limit.rlim_cur >= MANY_FILES) {
		found_ok(finding, "%" PRIu64 " files at one time", (uint64_t)limit.rlim_cur);
		return;
	}
	(limit.rlim_cur < FEW_FILES ? found_problem : found_note)(
		finding, "only %" PRIu64 " files at one time", (uint64_t)limit.rlim_cur);
	advise(finding, "'ulimit -n 4096' in the shell, LimitNOFILE=4096 in a systemd unit, 'docker run --ulimit "
			"nofile=4096'.");
}

void check_locked_memory(struct patient *patient, struct finding *finding)
{
	struct rlimit limit;

	(void)patient;
	if (getrlimit(RLIMIT_MEMLOCK, &limit)) {
		found_note(finding, "unknown: %s", strerror(errno));
	} else if (limit.rlim_cur == RLIM_INFINITY) {
		found_ok(finding, "no limit");
	} else if (limit.rlim_cur >= LITTLE_LOCKED) {
		found_ok(finding, "up to %s; Sluice locks none but on request (SLUICE_LOCK_MEMORY)",
			units_bytes(limit.rlim_cur).text);
	} else {
		found_note(finding, "only %s", units_bytes(limit.rlim_cur).text);
		advise(finding, "SLUICE_LOCK_MEMORY needs more, as do io_uring before Linux 5.12 and RDMA: 'ulimit -l "
				"unlimited', "
				"LimitMEMLOCK=infinity in a systemd unit, 'docker run --ulimit memlock=-1'.");
	}
}

void check_file_size(struct patient *patient, struct finding *finding)
{
	struct rlimit limit;

	(void)patient;
	if (getrlimit(RLIMIT_FSIZE, &limit)) {
		found_note(finding, "unknown: %s", strerror(errno));
	} else if (limit.rlim_cur == RLIM_INFINITY) {
		found_ok(finding, "no limit");
	} else if (limit.rlim_cur > DEFAULT_LANE) {
		found_ok(finding, "up to %s a file; a lane may be no larger", units_bytes(limit.rlim_cur).text);
	} else {
		found_problem(finding, "at most %s a file: a lane of default size (8 MiB) cannot be made",
			units_bytes(limit.rlim_cur).text);
		advise(finding, "'ulimit -f unlimited' in the shell, LimitFSIZE=infinity in a systemd unit.");
	}
}

/* Memory that a new object can take before the machine is out of it; UINT64_MAX if unknown. */
static uint64_t available_memory(void)
{
	char line[128];
	uint64_t kib;
	uint64_t bytes = UINT64_MAX;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
			bytes = kib * 1024;
	if (file)
		fclose(file);
	return bytes;
}

void check_memory(struct patient *patient, struct finding *finding)
{
	struct statvfs system;
	uint64_t limit = machine_memory_limit(), available = available_memory(), space = 0;

	if (!statvfs(patient->directory, &system))
		space = (uint64_t)system.f_bavail * system.f_frsize;
	if (limit != UINT64_MAX && limit < space) {
		found_note(finding, "this process's control group may use %s, less than the %s free in %s",
			units_bytes(limit).text, units_bytes(space).text, patient->directory);
		advise(finding, "Lanes count against it, and who goes over it is killed: keep lanes well below, or "
				"raise the limit "
				"('docker run --memory', Kubernetes: resources.limits.memory).");
	} else if (limit != UINT64_MAX) {
		found_ok(finding, "%s for this process's control group; lanes count against it",
			units_bytes(limit).text);
	} else if (available != UINT64_MAX) {
		found_ok(finding, "none set; the machine has %s to give", units_bytes(available).text);
	} else {
		found_ok(finding, "none set");
	}
}

/* CPUs that this process may run on, 0 if unknown. */
static int allowed_cpus(void)
{
	size_t size = CPU_ALLOC_SIZE(MOST_CPUS);
	cpu_set_t *set = CPU_ALLOC(MOST_CPUS);
	int count = 0;

	if (set && !sched_getaffinity(0, size, set))
		count = CPU_COUNT_S(size, set);
	CPU_FREE(set);
	return count;
}

void check_cpus(struct patient *patient, struct finding *finding)
{
	int cpus = allowed_cpus();
	uint64_t quota = machine_cpu_quota();

	(void)patient;
	if (!cpus) {
		found_note(finding, "unknown: %s", strerror(errno));
	} else if (cpus == 1) {
		found_note(finding,
			"one CPU: nobody can spin while somebody else works, so every hand-over is a sleep and a "
			"wake-up");
		advise(finding,
			"Allow two or more ('taskset -c 0-1', 'docker run --cpuset-cpus=0-1') if latency counts.");
	} else if (quota <= WHOLE_CPU_QUOTA) {
		found_note(finding, "%d CPUs, but a quota of %.2f: spinning uses it up", cpus, (double)quota / 1000);
		advise(finding,
			"Raise it ('docker run --cpus=2', Kubernetes: resources.limits.cpu), or open with spin_ns = "
			"SLUICE_NO_SPIN.");
	} else if (quota != UINT64_MAX) {
		found_ok(finding, "%d CPUs, a quota of %.2f", cpus, (double)quota / 1000);
	} else {
		found_ok(finding, "%d CPUs", cpus);
	}
}
