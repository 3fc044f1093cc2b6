/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc, /sys and the affinity mask. */
#include "machine.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Not every architecture has the line; then the machine's name must do. */
static void read_cpu_model(struct machine *machine)
{
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "re");

	snprintf(machine->cpu, sizeof machine->cpu, "%s", machine->architecture);
	if (!file)
		return;
	while (fgets(line, sizeof line, file)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(machine->cpu, sizeof machine->cpu, "%s", colon + 1 + strspn(colon + 1, " "));
		break;
	}
	fclose(file);
}

/* A number of the kernel's topology; one that no other CPU has where it does not say. */
static int read_topology(int cpu, const char *name)
{
	char path[96];
	int value = -1 - cpu;

	snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return value;
	if (fscanf(file, "%d", &value) != 1)
		value = -1 - cpu;
	fclose(file);
	return value;
}

/* Whether two CPUs are hardware threads of one core. */
static bool are_siblings(int one, int other)
{
	return read_topology(one, "core_id") == read_topology(other, "core_id") &&
	       read_topology(one, "physical_package_id") == read_topology(other, "physical_package_id");
}

/* The pair first, then every other allowed CPU in order; one CPU alone if both processes shall share it. */
static void list_cpus(struct machine *machine, const cpu_set_t *allowed, int first, int second)
{
	machine->cpus[0] = first;
	machine->cpu_count = 1;
	if (second == first)
		return;
	machine->cpus[machine->cpu_count++] = second;
	for (int cpu = 0; cpu < CPU_SETSIZE && machine->cpu_count < MACHINE_MOST_CPUS; cpu++)
		if (CPU_ISSET(cpu, allowed) && cpu != first && cpu != second)
			machine->cpus[machine->cpu_count++] = cpu;
}

static void choose_pair(struct machine *machine, const cpu_set_t *allowed)
{
	int first = -1;
	int second = -1;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, allowed))
			continue;
		if (first < 0)
			first = cpu;
		else if (second < 0)
			second = cpu;
		else if (!are_siblings(first, second))
			break;
		else
			second = cpu;
	}
	list_cpus(machine, allowed, first, second < 0 ? first : second);
}

int machine_look(struct machine *machine)
{
	struct utsname name;
	cpu_set_t allowed;

	if (uname(&name) < 0 || sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		return -errno;
	snprintf(machine->architecture, sizeof machine->architecture, "%s", name.machine);
	snprintf(machine->kernel, sizeof machine->kernel, "%.32s %.64s", name.sysname, name.release);
	read_cpu_model(machine);
	machine->online = (int)sysconf(_SC_NPROCESSORS_ONLN);
	machine->allowed = CPU_COUNT(&allowed);
	choose_pair(machine, &allowed);
	return 0;
}

int machine_pin(struct machine *machine, const char *text)
{
	cpu_set_t allowed;
	int first, second, end = 0;

	if (sscanf(text, "%d,%d%n", &first, &second, &end) != 2 || text[end] != 0)
		return -EINVAL;
	if (first < 0 || second < 0 || first >= CPU_SETSIZE || second >= CPU_SETSIZE)
		return -EINVAL;
	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		return -errno;
	if (!CPU_ISSET(first, &allowed) || !CPU_ISSET(second, &allowed))
		return -EPERM;
	list_cpus(machine, &allowed, first, second);
	return 0;
}
