/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark runs on, and which CPUs its two processes are pinned to. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

struct machine {
	char cpu[128];
	char kernel[128];
	char architecture[65];
	int online;    /* CPUs online */
	int allowed;   /* CPUs this process may use */
	int pinned[2]; /* equal if only one is allowed */
};

/*
 * Describes the machine and picks two allowed CPUs, not hardware threads of one core if that can be had.
 * Returns 0 or a negative errno.
 */
int machine_look(struct machine *machine);

/* Takes the two CPUs from text such as "2,5". Returns 0, -EINVAL (not that form) or -EPERM (not an allowed CPU). */
int machine_pin(struct machine *machine, const char *text);

#endif
