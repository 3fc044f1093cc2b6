/* SPDX-License-Identifier: Apache-2.0 */
#include "tracer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of the linker: this program's instructions. The library under test is linked into it. */
extern const char __executable_start[];
extern const char etext[];
/* The section of clock.c, which is no part of what is tested. */
extern const char __start_crash_clock[];
extern const char __stop_crash_clock[];

static void fail(const char *what)
{
	fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
	_exit(3);
}

uint64_t tracer_base(void)
{
	return (uint64_t)(uintptr_t)__executable_start;
}

static bool is_inside(uint64_t address)
{
	const char *at = (const char *)(uintptr_t)address;
	return at >= __executable_start && at < etext && (at < __start_crash_clock || at >= __stop_crash_clock);
}

struct points *points_new(void)
{
	void *memory = mmap(NULL, sizeof(struct points), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

#if defined(__x86_64__)

#define TRAP 0xcc

static struct user_regs_struct registers_of(pid_t pid)
{
	struct user_regs_struct registers;
	if (ptrace(PTRACE_GETREGS, pid, NULL, &registers) != 0)
		fail("PTRACE_GETREGS");
	return registers;
}

static void go_to(pid_t pid, uint64_t address)
{
	if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rip), address) != 0)
		fail("PTRACE_POKEUSER");
}

static uint64_t read_word(pid_t pid, uint64_t address)
{
	errno = 0;
	long word = ptrace(PTRACE_PEEKDATA, pid, address, NULL);
	if (errno != 0)
		fail("PTRACE_PEEKDATA");
	return (uint64_t)word;
}

/* Replaces one byte of an instruction; returns what was there. */
static uint8_t swap_byte(pid_t pid, uint64_t address, uint8_t byte)
{
	uint64_t word = read_word(pid, address);
	if (ptrace(PTRACE_POKEDATA, pid, address, (word & ~UINT64_C(0xff)) | byte) != 0)
		fail("PTRACE_POKEDATA");
	return (uint8_t)word;
}

static int wait_for(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			fail("waitpid");
	return status;
}

static bool is_stopped_by(int status, int signal)
{
	return WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

/* Lets it run to `address`. False: something else happened first, `*ret_status` says what. */
static bool run_to_address(pid_t pid, uint64_t address, int *ret_status)
{
	uint8_t byte = swap_byte(pid, address, TRAP);
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
		fail("PTRACE_CONT");
	*ret_status = wait_for(pid);
	if (WIFSTOPPED(*ret_status))
		swap_byte(pid, address, byte);
	if (!is_stopped_by(*ret_status, SIGTRAP))
		return false;
	go_to(pid, address);
	return true;
}

/* Instructions by which others see at once what was done: a lock prefix, or an exchange with memory. */
static bool is_locked(uint64_t address)
{
	const uint8_t *bytes = (const uint8_t *)(uintptr_t)address;
	bool wide = (bytes[0] & 0xf0) == 0x40; /* REX */
	uint8_t code = bytes[wide];
	return bytes[0] == 0xf0 || ((code == 0x86 || code == 0x87) && (bytes[wide + 1] & 0xc0) != 0xc0);
}

/* Of an instruction with a ModRM byte: its operand is a register, or the stack by way of its pointer. */
static bool is_private(const uint8_t *modrm, uint8_t rex)
{
	uint8_t mode = modrm[0] >> 6, place = modrm[0] & 7;
	return mode == 3 || (place == 4 && modrm[1] == 0x24 && (rex & 3) == 0);
}

/* False if the instruction certainly writes no memory but the stack: of the usual ones; of all others nothing is known. */
static bool may_write(uint64_t address)
{
	const uint8_t *at = (const uint8_t *)(uintptr_t)address;
	uint8_t rex = 0;
	if (*at == 0x66)
		at++;
	if ((*at & 0xf0) == 0x40)
		rex = *at++;
	uint8_t code = at[0], kind = at[1] >> 3 & 7;
	if (code == 0x0f) {
		uint8_t second = at[1];
		bool reads = (second & 0xf0) == 0x40 || (second & 0xf0) == 0x80 || second == 0xaf || second == 0xb6 ||
			     second == 0xb7 || second == 0xbe || second == 0xbf || second == 0x1f;
		return !reads && !((second & 0xf0) == 0x90 && is_private(at + 2, rex));
	}
	/* Arithmetic: to a register (x2, x3), with an immediate to one (x4, x5), or compared (38, 39). */
	if (code < 0x40)
		return (code & 7) >= 6 || ((code & 6) == 0 && (code & 0x38) != 0x38 && !is_private(at + 1, rex));
	if ((code & 0xf0) == 0x50 || (code & 0xf0) == 0x70 || (code & 0xf0) == 0xb0)
		return false; /* push, pop; jumps; immediates to registers */
	switch (code) {
	case 0x63: /* widening */
	case 0x84: /* test */
	case 0x85:
	case 0x8a: /* loads */
	case 0x8b:
	case 0x8d: /* lea */
	case 0x90: /* nop */
	case 0xa8: /* test */
	case 0xa9:
	case 0xc3: /* ret */
	case 0xc9: /* leave */
	case 0xe8: /* call */
	case 0xe9: /* jumps */
	case 0xeb:
		return false;
	case 0x80: /* arithmetic with an immediate; 7 compares */
	case 0x81:
	case 0x83:
		return kind != 7 && !is_private(at + 1, rex);
	case 0xf6: /* 0 and 1 test */
	case 0xf7:
		return kind > 1 && !is_private(at + 1, rex);
	case 0x88: /* stores */
	case 0x89:
	case 0xc0: /* shifts */
	case 0xc1:
	case 0xc6: /* immediates */
	case 0xc7:
	case 0xd0: /* shifts */
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return !is_private(at + 1, rex);
	default:
		return true;
	}
}

/* One instruction, and all of a function outside this program that it leads to. */
static struct user_regs_struct step(pid_t pid, bool *ret_led_out)
{
	int status;
	*ret_led_out = false;
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
		fail("PTRACE_SINGLESTEP");
	status = wait_for(pid);
	if (!is_stopped_by(status, SIGTRAP))
		fail("the subject ended while it was stepped");
	struct user_regs_struct registers = registers_of(pid);
	if (is_inside(registers.rip))
		return registers;
	*ret_led_out = true;
	/* The program is linked without lazy binding: what was called has its return address on top of the stack. */
	if (!run_to_address(pid, read_word(pid, registers.rsp), &status))
		fail("the subject did not come back from outside");
	return registers_of(pid);
}

bool subject_enter(struct subject *subject, const void *function)
{
	int status;
	if (!run_to_address(subject->pid, (uint64_t)(uintptr_t)function, &status))
		return false;
	subject->stack = registers_of(subject->pid).rsp;
	subject->return_address = read_word(subject->pid, subject->stack);
	return true;
}

static void add_point(struct points *points, uint64_t address, uint32_t passage)
{
	if (points->count == POINTS) {
		errno = E2BIG;
		fail("a call of so many instructions");
	}
	points->list[points->count++] = (struct point){.address = address, .passage = passage, .chosen = true};
}

/* Whether a death after the instruction at `address` leaves something else than one before it. */
static bool made_a_difference(struct image *image, uint64_t address, bool led_out, bool thorough)
{
	static const uint8_t system_call[2] = {0x0f, 0x05};
	if (led_out || memcmp((const void *)(uintptr_t)address, system_call, sizeof system_call) == 0) {
		image_renew(image);
		return true;
	}
	bool expected = may_write(address);
	if (!expected && !thorough)
		return false;
	bool changed = image_changed(image);
	if (changed && !expected) {
		errno = EPROTO;
		fail("an instruction that was thought to write nothing did");
	}
	return changed;
}

void subject_trace(struct subject *subject, struct image *image, bool thorough, struct points *ret_points)
{
	size_t state = 0;
	uint32_t *passages = calloc((size_t)(etext - __executable_start), sizeof *passages);
	if (passages == NULL)
		fail("calloc");
	struct user_regs_struct registers = registers_of(subject->pid);
	while (registers.rip != subject->return_address || registers.rsp <= subject->stack) {
		uint64_t address = registers.rip;
		add_point(ret_points, address, ++passages[address - tracer_base()]);
		bool locked = is_locked(address), led_out;
		registers = step(subject->pid, &led_out);
		ret_points->list[ret_points->count - 1].weighty = locked || led_out;
		ret_points->list[ret_points->count - 1].state = state;
		if (made_a_difference(image, address, led_out, thorough))
			state = ret_points->count;
	}
	for (size_t i = 0; i < ret_points->count; i++) {
		struct point *point = &ret_points->list[i];
		point->last = passages[point->address - tracer_base()] == point->passage;
	}
	free(passages);
}

/* Executes the instruction that it stands on, breakpoint or not. */
static void step_off(pid_t pid)
{
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
		fail("PTRACE_SINGLESTEP");
	if (!is_stopped_by(wait_for(pid), SIGTRAP))
		fail("the subject ended at a point");
}

/* Goes on to the next breakpoint; returns where that is. */
static uint64_t run_to_trap(pid_t pid)
{
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
		fail("PTRACE_CONT");
	if (!is_stopped_by(wait_for(pid), SIGTRAP))
		fail("the subject ended on its way to a point");
	uint64_t address = registers_of(pid).rip - 1;
	go_to(pid, address);
	return address;
}

/* The next time that it comes to `address`; false if the call is over before. */
static bool next_passage(struct subject *subject, uint64_t address)
{
	pid_t pid = subject->pid;
	if (registers_of(pid).rip == address) {
		step_off(pid);
		if (registers_of(pid).rip == address)
			return true; /* a loop of one instruction */
	}
	uint8_t byte = swap_byte(pid, address, TRAP);
	uint64_t found = run_to_trap(pid);
	swap_byte(pid, address, byte);
	return found == address;
}

enum subject_state subject_run_to(struct subject *subject, struct point point)
{
	uint8_t end = swap_byte(subject->pid, subject->return_address, TRAP);
	uint32_t passage = registers_of(subject->pid).rip == point.address;
	bool returned = false;
	while (!returned && passage < point.passage) {
		returned = !next_passage(subject, point.address);
		passage++;
	}
	swap_byte(subject->pid, subject->return_address, end);
	return returned ? SUBJECT_RETURNED : SUBJECT_AT_POINT;
}

bool subject_start(struct subject *subject, void (*body)(void *), void *context)
{
	fflush(NULL);
	subject->pid = fork();
	if (subject->pid < 0)
		fail("fork");
	if (subject->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			fail("PTRACE_TRACEME");
		body(context);
		_exit(0);
	}
	return is_stopped_by(wait_for(subject->pid), SIGSTOP);
}

enum subject_state subject_resume(struct subject *subject, int *ret_status)
{
	if (ptrace(PTRACE_CONT, subject->pid, NULL, NULL) != 0)
		fail("PTRACE_CONT");
	*ret_status = wait_for(subject->pid);
	return WIFSTOPPED(*ret_status) ? SUBJECT_PAUSED : SUBJECT_ENDED;
}

void subject_kill(struct subject *subject)
{
	kill(subject->pid, SIGKILL);
	while (!WIFSIGNALED(wait_for(subject->pid)))
		continue;
}

static void pause_once(void *context)
{
	(void)context;
	raise(SIGSTOP);
}

const char *tracer_unusable(void)
{
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1);
	int status = wait_for(pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return "this system does not permit ptrace";
	struct subject subject;
	if (!subject_start(&subject, pause_once, NULL))
		return "ptrace does not see a child stop here";
	subject_kill(&subject);
	return NULL;
}

#else

/* Elsewhere pairs of load-exclusive and store-exclusive cannot be stepped through: the trap in between undoes them. */
const char *tracer_unusable(void)
{
	return "single steps are only known to work on x86-64";
}

bool subject_start(struct subject *subject, void (*body)(void *), void *context)
{
	(void)subject, (void)body, (void)context;
	return false;
}

bool subject_enter(struct subject *subject, const void *function)
{
	(void)subject, (void)function;
	return false;
}

void subject_trace(struct subject *subject, struct image *image, bool thorough, struct points *ret_points)
{
	(void)subject, (void)image, (void)thorough, (void)ret_points, (void)is_inside;
}

enum subject_state subject_run_to(struct subject *subject, struct point point)
{
	(void)subject, (void)point;
	return SUBJECT_ENDED;
}

enum subject_state subject_resume(struct subject *subject, int *ret_status)
{
	(void)subject, (void)ret_status;
	fail("not on this machine");
	return SUBJECT_ENDED;
}

void subject_kill(struct subject *subject)
{
	(void)subject;
}

#endif
