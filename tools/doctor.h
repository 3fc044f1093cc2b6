/* SPDX-License-Identifier: Apache-2.0 */
/* sluice doctor: what a check is, gets and gives. */
#ifndef SLUICE_TOOL_DOCTOR_H
#define SLUICE_TOOL_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"
#include "tool.h"

enum status {
	STATUS_OK,
	STATUS_NOTE,   /* works, but could be better or has a surprise in store */
	STATUS_PROBLEM /* Sluice does not work before this is mended */
};

/* What a check says. An empty text means that there is nothing to say. */
struct finding {
	enum status status;
	char found[512];
	char advice[1024];
};

/* What the checks look at. */
struct patient {
	const struct request *request;
	const char *directory;
	bool directory_usable; /* it is there and may be written to: set by the first check */
	bool hugetlbfs;        /* it is on one: set likewise */
	const char *container; /* NULL: not in one */
};

struct check {
	const char *name;
	void (*run)(struct patient *patient, struct finding *finding);
	bool needs_directory;
};

/* Each sets the status and one text; later calls replace earlier ones. */
void found_ok(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));
void found_note(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));
void found_problem(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));
void advise(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* doctor_directory.c: where channels live. */
void check_directory(struct patient *patient, struct finding *finding);
void check_space(struct patient *patient, struct finding *finding);
void check_unnamed_files(struct patient *patient, struct finding *finding);
void check_allocation(struct patient *patient, struct finding *finding);
void check_locks(struct patient *patient, struct finding *finding);
void check_leftovers(struct patient *patient, struct finding *finding);

/* doctor_kernel.c: what the kernel lets this process do. */
void check_kernel(struct patient *patient, struct finding *finding);
void check_futex_waitv(struct patient *patient, struct finding *finding);
void check_io_uring(struct patient *patient, struct finding *finding);
void check_membarrier(struct patient *patient, struct finding *finding);
void check_fork(struct patient *patient, struct finding *finding);

/* doctor_limits.c: what this process may use. */
void check_open_files(struct patient *patient, struct finding *finding);
void check_locked_memory(struct patient *patient, struct finding *finding);
void check_file_size(struct patient *patient, struct finding *finding);
void check_memory(struct patient *patient, struct finding *finding);
void check_cpus(struct patient *patient, struct finding *finding);

/* doctor_machine.c: what stands under it all. */
void check_huge_pages(struct patient *patient, struct finding *finding);
void check_numa(struct patient *patient, struct finding *finding);
void check_container(struct patient *patient, struct finding *finding);
void check_nvidia(struct patient *patient, struct finding *finding);

#endif
