/* SPDX-License-Identifier: Apache-2.0 */
#include "filter.h"

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "../support/harness.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* Goes on, or skips so many. */
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, skip)
#define RETURN(action)      BPF_STMT(BPF_RET | BPF_K, action)

static void install(struct sock_filter *steps, unsigned short count)
{
	const struct sock_fprog program = {.len = count, .filter = steps};

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

void refuse_call(long number, int error)
{
	struct sock_filter steps[] = {
		LOAD(nr),
		UNLESS(number, 1),
		RETURN(SECCOMP_RET_ERRNO | (uint32_t)error),
		RETURN(SECCOMP_RET_ALLOW),
	};

	install(steps, sizeof steps / sizeof *steps);
}

void die_of_waking(void)
{
	struct sock_filter steps[] = {
		LOAD(nr),
		UNLESS(SYS_futex, 3),
		LOAD(args[1]), /* the low half, which comes first */
		UNLESS(FUTEX_WAKE, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		RETURN(SECCOMP_RET_ALLOW),
	};

	install(steps, sizeof steps / sizeof *steps);
}
