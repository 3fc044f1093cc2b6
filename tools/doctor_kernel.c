/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of what the kernel lets this process do: system calls are tried, not guessed from the version. */
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "doctor.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
/* Opcode of io_uring that older headers do not name. */
#define OPCODE_FUTEX_WAIT 51
#define PROBED_OPCODES    64

void check_kernel(struct patient *patient, struct finding *finding)
{
	struct utsname system;
	unsigned int version = machine_kernel();

	(void)patient;
	if (uname(&system) || !version) {
		found_note(finding, "unknown version");
	} else if (version < 4014) {
		found_problem(finding, "%s %s", system.sysname, system.release);
		advise(finding, "Sluice needs Linux 4.14 or later (MADV_WIPEONFORK); 5.16 or later is better.");
	} else if (version < 5016) {
		found_note(finding, "%s %s on %s", system.sysname, system.release, system.machine);
		advise(finding, "Linux 5.16 or later lets one thread wait for many channels (futex_waitv).");
	} else {
		found_ok(finding, "%s %s on %s", system.sysname, system.release, system.machine);
	}
}

/* Waits for a value that the word does not have: a kernel that knows the call says so at once. */
static int try_futex_waitv(void)
{
	uint32_t word = 1;
	struct futex_waitv wait = {.val = 2, .uaddr = (uintptr_t)&word, .flags = FUTEX_32};
	struct timespec deadline = {0};

	if (syscall(SYS_futex_waitv, &wait, 1, 0, &deadline, CLOCK_MONOTONIC) >= 0)
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

void check_futex_waitv(struct patient *patient, struct finding *finding)
{
	int code = try_futex_waitv();

	(void)patient;
	if (!code) {
		found_ok(finding, "usable");
	} else {
		found_note(finding, "not usable: %s", strerror(-code));
		advise(finding,
			code == -ENOSYS
				? "One thread can wait for many channels from Linux 5.16 on; nothing else needs it."
				: "Allow it in the container's seccomp profile; Docker 20.10.10 and later do.");
	}
}

/* Whether the ring knows futex operations (Linux 6.7). */
static bool has_futex_operations(int ring)
{
	size_t size = sizeof(struct io_uring_probe) + PROBED_OPCODES * sizeof(struct io_uring_probe_op);
	struct io_uring_probe *probe = calloc(1, size);
	bool has = false;

	if (probe && syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, probe, PROBED_OPCODES) == 0)
		has = probe->last_op >= OPCODE_FUTEX_WAIT &&
		      probe->ops[OPCODE_FUTEX_WAIT].flags & IO_URING_OP_SUPPORTED;
	free(probe);
	return has;
}

static void found_no_io_uring(struct finding *finding, int error)
{
	uint64_t disabled = 0;

	machine_read_number("/proc/sys/kernel/io_uring_disabled", &disabled);
	found_note(finding, "not usable: %s", strerror(error));
	if (disabled)
		advise(finding,
			"kernel.io_uring_disabled is %" PRIu64
			"; as root: sysctl kernel.io_uring_disabled=0. Pollers use futex_waitv "
			"instead.",
			disabled);
	else if (error == EPERM)
		advise(finding,
			"A container's seccomp profile forbids it (Docker's default does). Pollers use futex_waitv "
			"instead.");
	else
		advise(finding, "Pollers use futex_waitv instead.");
}

void check_io_uring(struct patient *patient, struct finding *finding)
{
	struct io_uring_params parameters = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);

	(void)patient;
	if (ring < 0) {
		found_no_io_uring(finding, errno);
		return;
	}
	if (has_futex_operations(ring)) {
		found_ok(finding, "usable, with futex operations");
	} else {
		found_note(finding, "usable, without futex operations");
		advise(finding, "They come with Linux 6.7. Pollers use futex_waitv instead.");
	}
	close(ring);
}

void check_membarrier(struct patient *patient, struct finding *finding)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0);

	(void)patient;
	if (commands >= 0 && commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) {
		found_ok(finding, "usable across processes");
	} else {
		found_note(finding, "not usable%s%s", commands < 0 ? ": " : " across processes",
			commands < 0 ? strerror(errno) : "");
		advise(finding, "Nothing to do: Sluice uses ordinary fences.");
	}
}

void check_fork(struct patient *patient, struct finding *finding)
{
	long page = sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)patient;
	if (memory == MAP_FAILED) {
		found_problem(finding, "a page cannot be mapped: %s", strerror(errno));
		return;
	}
	if (madvise(memory, (size_t)page, MADV_WIPEONFORK)) {
		found_problem(finding, "MADV_WIPEONFORK does not work: %s", strerror(errno));
		advise(finding, "A forked child could not tell that its handles are dead: use Linux 4.14 or later.");
	} else {
		found_ok(finding, "a forked child can tell that the handles it inherited are dead");
	}
	munmap(memory, (size_t)page);
}
