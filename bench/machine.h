/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark runs on, and which CPUs its processes are pinned to. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#define MACHINE_MOST_CPUS 64

struct machine {
	char cpu[128];
	char kernel[128];
	char architecture[65];
	int online;                  /* CPUs online */
	int allowed;                 /* CPUs this process may use */
	int cpus[MACHINE_MOST_CPUS]; /* to pin to: the pair first, then the others */
	int cpu_count;               /* of them; 1 if no more is allowed */
};

/*
 * Describes the machine and picks a pair of allowed CPUs, not hardware threads of one core if that can be had.
 * Returns 0 or a negative errno.
 */
int machine_look(struct machine *machine);

/* Takes the pair from text such as "2,5". Returns 0, -EINVAL (not that form) or -EPERM (not an allowed CPU). */
int machine_pin(struct machine *machine, const char *text);

#endif
