/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that stands in for CUDA's in tests. It is a libcuda.so.1 with those entry points that the library and its
 * tests use: copies are memcpy, each stream is a thread that does what it is given in order, device memory is the
 * process's own. It can be told to fail any call, and watches its caller: what a real driver would refuse, or worse, is
 * counted as a violation.
 *
 * Tests find these functions by dlsym in the library that they found the driver in; where they are missing, the driver
 * is a real one.
 */
#ifndef TEST_CUDA_STANDIN_H
#define TEST_CUDA_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was done so far in this process. */
struct standin_counts {
	uint64_t registrations; /* standing */
	uint64_t registered_bytes;
	uint64_t registered_ever;
	uint64_t largest; /* registration ever, bytes */
	uint64_t read_only;
	uint64_t copies;      /* submitted, from registered memory */
	uint64_t pageable;    /* submitted, from other memory */
	uint64_t writes;      /* submitted stream writes */
	uint64_t events;      /* that exist */
	uint64_t allocations; /* of device memory, that stand */
	uint64_t retained;    /* primary contexts, of all devices */
	uint64_t violations;
	char violation[128]; /* the last one */
};

/* When streams do what they are given. */
enum standin_pace {
	STANDIN_BY_THREADS, /* in order, each in a thread of its own */
	STANDIN_AT_ONCE,    /* where they are given it: nothing is left to chance, and there is no other thread */
	STANDIN_HELD        /* not yet: once they are told to do it at once again, or are waited for */
};

/* The functions, as a table, so that one symbol is looked up. */
struct standin {
	size_t size; /* of this: the package's tests have it once more, and compare */
	/*
	 * The call of entry point `name` (as cuMemHostRegister) that comes after `skip` more returns `result`; 0: none
	 * does.
	 */
	void (*fail)(const char *name, unsigned skip, int result);
	/* How often it was called since it was last asked. */
	unsigned (*calls)(const char *name);
	void (*set_attribute)(int attribute, int value);
	/* What cuDriverGetVersion says; entry points that came later are not found. */
	void (*set_version)(int version);
	/* An entry point that is not found, or NULL for none. */
	void (*hide)(const char *name);
	void (*set_devices)(int count);
	/* Memory that this process cannot write is refused without the read-only flag. True unless set. */
	void (*set_strict)(bool strict);
	/* Before the first stream is made, by which it is either threads for good, or the other two by turns. */
	void (*set_pace)(enum standin_pace pace);
	void (*count)(struct standin_counts *ret_counts);
	/*
	 * A context dies, as by a kernel's fault: everything after it fails, and what streams were given never happens.
	 */
	void (*break_devices)(void);
};

#define STANDIN_SYMBOL "standin_functions"

#endif
