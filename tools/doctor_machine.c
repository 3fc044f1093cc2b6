/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of what stands under it all: pages, memory nodes, container, GPU driver. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"
#include "units.h"

/* The word in brackets of "always [madvise] never". */
static void chosen_word(char *buffer, size_t size, const char *path)
{
	char line[256], word[64] = "";

	if (!machine_read_line(path, line, sizeof line) && strchr(line, '['))
		sscanf(strchr(line, '['), "[%63[^]]", word);
	snprintf(buffer, size, "%s", word[0] ? word : "unknown");
}

static bool has_hugetlbfs(char *point, size_t size)
{
	char line[1024], type[64], path[512];
	bool found = false;
	FILE *file = fopen("/proc/self/mounts", "re");

	while (file && !found && fgets(line, sizeof line, file)) {
		found = sscanf(line, "%*s %511s %63s", path, type) == 2 && !strcmp(type, "hugetlbfs");
		if (found)
			snprintf(point, size, "%s", path);
	}
	if (file)
		fclose(file);
	return found;
}

void check_huge_pages(struct patient *patient, struct finding *finding)
{
	char shmem[64], mounted[64] = "never", pool[512] = "not mounted";
	struct mount mount = {0};
	uint64_t reserved = 0;

	if (patient->hugetlbfs) {
		found_ok(finding, "all of every channel lies on them: %s is a hugetlbfs", patient->directory);
		return;
	}
	chosen_word(shmem, sizeof shmem, "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	machine_read_number("/proc/sys/vm/nr_hugepages", &reserved);
	has_hugetlbfs(pool, sizeof pool);
	int code = machine_mount(patient->directory, &mount);
	if (!code)
		machine_mount_option(&mount, "huge", mounted, sizeof mounted);
	/* huge=advise wants an madvise that nobody gives; shmem_enabled overrules the mount when it forces or denies. */
	bool wanted = !strcmp(mounted, "within_size") || !strcmp(mounted, "always");
	bool huge = !strcmp(shmem, "force") || (wanted && strcmp(shmem, "deny") != 0);
	(huge ? found_ok : found_note)(finding,
		"%s is mounted with huge=%s, shmem_enabled is %s, %" PRIu64 " huge pages reserved, hugetlbfs %s",
		patient->directory, mounted, shmem, reserved, pool);
	if (!huge)
		advise(finding,
			"Nothing has to be done: lanes lie on pages of 4 KiB. If messages are of many MiB, huge pages "
			"save page faults and TLB misses. For them open producers with SLUICE_HUGE_PAGES, or as "
			"root: mount -o remount,huge=within_size %s%s",
			code ? patient->directory : mount.point,
			strcmp(shmem, "deny") ? ""
					      : ", and echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

/* Counts a list such as "0-1,4". Returns 0 if it cannot be read. */
static unsigned int count_nodes(char *list, size_t size)
{
	unsigned int count = 0, first, last;

	if (machine_read_line("/sys/devices/system/node/online", list, size))
		return 0;
	for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
		int fields = sscanf(at, "%u-%u", &first, &last);
		count += fields == 2 && last >= first ? last - first + 1 : fields >= 1;
	}
	return count;
}

/* Whether memory of this process may be placed on a node. Returns 0 or a negative errno. */
static int try_mbind(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long no_nodes = 0;

	if (memory == MAP_FAILED)
		return -errno;
	int code = syscall(SYS_mbind, memory, page, MPOL_DEFAULT, &no_nodes, 0, 0) ? -errno : 0;
	munmap(memory, page);
	return code;
}

void check_numa(struct patient *patient, struct finding *finding)
{
	char list[256];
	unsigned int nodes = count_nodes(list, sizeof list);
	int code = nodes > 1 ? try_mbind() : 0;

	(void)patient;
	if (nodes <= 1) {
		found_ok(finding, nodes ? "one memory node" : "no memory nodes shown");
	} else if (code) {
		found_note(finding, "%u memory nodes (%s), but memory may not be placed: %s", nodes, list,
			strerror(-code));
		advise(finding, "Allow mbind: 'docker run --cap-add SYS_NICE' does. Until then keep producers and "
				"consumers of a "
				"channel on one node: 'numactl --cpunodebind=0'.");
	} else {
		found_note(finding, "%u memory nodes (%s)", nodes, list);
		advise(finding, "Run producers and consumers of a channel on one node, for instance with 'numactl "
				"--cpunodebind=0 --membind=0', or give producers the option 'node': memory of "
				"another node is slower.");
	}
}

void check_container(struct patient *patient, struct finding *finding)
{
	if (!patient->container) {
		found_ok(finding, "none noticed");
		return;
	}
	found_note(finding, "this looks like a container (%s)", patient->container);
	advise(finding,
		"Members in different containers need the same tmpfs: a shared volume on %s, or 'docker run "
		"--ipc=container:NAME' "
		"for /dev/shm. Their uids must be the same or allowed by the channel's options. Process ids shown are "
		"those of each "
		"member's own container.",
		patient->directory);
}

/* The version that libcuda reports, 0 if it has none: 13000 is 13.0. */
static int cuda_version(void *driver)
{
	int version = 0;
	int (*get_version)(int *) = (int (*)(int *))dlsym(driver, "cuDriverGetVersion");

	return get_version && get_version(&version) == 0 ? version : 0;
}

/* The module on servers, the bridge on WSL, the devices of Jetson. */
static bool has_kernel_driver(void)
{
	return !access("/proc/driver/nvidia/version", R_OK) || !access("/dev/dxg", F_OK) ||
	       !access("/dev/nvhost-gpu", F_OK);
}

void check_nvidia(struct patient *patient, struct finding *finding)
{
	bool module = has_kernel_driver();
	void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);

	if (driver) {
		int version = cuda_version(driver);
		if (module)
			found_ok(finding, "libcuda.so.1 for CUDA %d.%d", version / 1000, version % 1000 / 10);
		else
			found_note(finding, "libcuda.so.1 is here, but the kernel module is not loaded");
		if (!module)
			advise(finding, "modprobe nvidia, or 'docker run --gpus all'; without it Sluice works on the "
					"CPU only.");
		dlclose(driver);
	} else if (module) {
		found_note(finding, "the kernel module is loaded, but libcuda.so.1 is not found");
		advise(finding, "%s",
			patient->container
				? "Start the container with 'docker run --gpus all' (NVIDIA Container Toolkit)."
				: "Install the driver's libcuda package (Debian: libcuda1) and run ldconfig.");
	} else {
		found_ok(finding, "none: Sluice works on the CPU only");
	}
}
