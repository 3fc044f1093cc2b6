/* SPDX-License-Identifier: Apache-2.0 */
#include "writer.h"

#include <pthread.h>
#include <signal.h>

#include "atomic.h"
#include "mappings.h"
#include "pace.h"

#define WRITES     32
#define MANY_WORDS 256 /* at most, by one write */
#define MANY_DELAY 64  /* loads before such a write, at least */
#define PATIENCE   500

enum kind {
	WRITE_WORD,   /* 64 bits */
	WRITE_HALF,   /* 32 bits */
	WRITE_ADD,    /* a small number to 64 bits */
	WRITE_FLIP,   /* 64 bits that change to and fro */
	WRITE_REPEAT, /* 8 bytes over the whole region */
	WRITE_COPY,   /* the region's first record over all others */
	WRITE_RANDOM, /* another 64 bits each time */
	WRITE_BYTE
};

struct write {
	enum kind kind;
	const struct region *region;
	uint32_t place;
	uint32_t delay; /* loads of shared memory between the write before and this one */
	bool near;      /* counts only loads from about where it writes, to come between two of the same word */
	uint64_t value;
};

static struct write writes[WRITES];
static size_t write_count;
static uint8_t *objects[OBJECTS];
static uint64_t sizes[OBJECTS];

/* ---- what is written ---- */

static void read_write(struct input *input, struct write *write)
{
	uint8_t code = (uint8_t)input_number(input, 1);
	write->kind = (enum kind)(code / REGIONS);
	write->region = &regions[code % REGIONS];
	write->place = (uint32_t)input_number(input, 2);
	uint32_t delay = (uint32_t)input_number(input, 1);
	bool many = write->kind == WRITE_REPEAT || write->kind == WRITE_COPY;
	write->near = !many && (delay & 128) != 0;
	write->delay = many ? delay + MANY_DELAY : write->near ? delay & 7 : delay;
	write->value = input_number(input, write->kind == WRITE_ADD || write->kind == WRITE_BYTE ? 1 : 8);
}

size_t writer_read(struct input *input)
{
	write_count = input_number(input, 1) % (WRITES + 1);
	for (size_t i = 0; i < write_count; i++)
		read_write(input, &writes[i]);
	return write_count;
}

bool writer_reaches_consumers(void)
{
	for (size_t i = 0; i < write_count; i++)
		if (writes[i].region->object == OBJECT_CONTROL &&
			writes[i].region->offset + writes[i].region->bytes > offsetof(struct layout_control, consumers))
			return true;
	return false;
}

void writer_aim(enum object object, struct file *file)
{
	atomic_store_release(&sizes[object], UINT64_C(0));
	atomic_store_release(&objects[object], file != NULL ? files_bytes(file) : NULL);
	atomic_store_release(&sizes[object], file != NULL ? files_size(file) : UINT64_C(0));
}

static void write_repeat(uint8_t *start, const struct write *write)
{
	for (uint32_t i = 0; i + 8 <= write->region->bytes && i < 8 * MANY_WORDS; i += 8)
		atomic_store_relaxed((uint64_t *)(void *)(start + i), write->value);
}

static void write_copy(uint8_t *start, const struct region *region)
{
	for (uint32_t i = region->record; i + 8 <= region->bytes && i < 8 * MANY_WORDS; i += 8) {
		uint64_t word = atomic_load_relaxed((uint64_t *)(void *)(start + i - region->record));
		atomic_store_relaxed((uint64_t *)(void *)(start + i), word);
	}
}

static void do_write(struct write *write)
{
	const struct region *region = write->region;
	uint64_t size = atomic_load_acquire(&sizes[region->object]);
	uint8_t *object = atomic_load_acquire(&objects[region->object]);
	if (object == NULL || region->offset + region->bytes > size)
		return;
	uint8_t *start = object + region->offset;
	uint64_t *word = (uint64_t *)(void *)(start + (uint64_t)write->place * 8 % region->bytes);
	switch (write->kind) {
	case WRITE_WORD:
		atomic_store_relaxed(word, write->value);
		break;
	case WRITE_HALF:
		atomic_store_relaxed((uint32_t *)(void *)(start + (uint64_t)write->place * 4 % region->bytes),
			(uint32_t)write->value);
		break;
	case WRITE_ADD:
		atomic_add_relaxed(word, (uint64_t)(int64_t)(int8_t)write->value);
		break;
	case WRITE_FLIP:
		write->value = atomic_exchange_full(word, write->value);
		break;
	case WRITE_REPEAT:
		write_repeat(start, write);
		break;
	case WRITE_COPY:
		write_copy(start, region);
		break;
	case WRITE_RANDOM:
		write->value = write->value * UINT64_C(6364136223846793005) + 1442695040888963407;
		atomic_store_relaxed(word, write->value >> (write->value & 63));
		break;
	case WRITE_BYTE:
		atomic_store_relaxed(start + write->place % region->bytes, (uint8_t)write->value);
		break;
	}
}

void writer_write(size_t index)
{
	do_write(&writes[index % write_count]);
}

/* ---- within calls ---- */

static bool within_calls;
static size_t next_write;
static uint32_t countdown;

static uint32_t patience; /* loads until a write that waits for loads nearby does so no longer */

static void aim_next(size_t index)
{
	next_write = index;
	countdown = writes[index].delay;
	patience = PATIENCE;
}

static bool is_near(const void *address, const struct write *write)
{
	const uint8_t *target = objects[write->region->object] + write->region->offset +
				(uint64_t)write->place * 8 % write->region->bytes;
	return (uintptr_t)mappings_origin(address) / 64 == (uintptr_t)target / 64;
}

static void on_load(const void *address)
{
	struct write *write = &writes[next_write];
	if (write->near && patience > 0 && !is_near(address, write)) {
		patience--;
		return;
	}
	if (countdown-- > 0)
		return;
	do_write(write);
	aim_next((next_write + 1) % write_count);
}

#define ON_LOAD(bytes)                                                                                                 \
	void __sanitizer_cov_load##bytes(const void *address);                                                         \
	void __sanitizer_cov_load##bytes(const void *address)                                                          \
	{                                                                                                              \
		if (within_calls && mappings_might_hold(address))                                                      \
			on_load(address);                                                                              \
	}
ON_LOAD(1)
ON_LOAD(2)
ON_LOAD(4)
ON_LOAD(8)
ON_LOAD(16)

/* ---- the thread ---- */

enum { REST = 0, WORK = 1, STOP = 2 };
static uint32_t order;
static uint32_t rounds;

static void *write_over_and_over(void *nothing)
{
	for (;;) {
		pace_wait(&order, REST);
		while (atomic_load_acquire(&order) == WORK) {
			for (size_t i = 0; i < write_count; i++)
				do_write(&writes[i]);
			if (atomic_add_full(&rounds, 1) == 0)
				pace_wake(&rounds);
		}
		atomic_store_release(&order, REST);
		pace_wake(&order);
	}
	return nothing;
}

static void start_thread(void)
{
	atomic_store_release(&rounds, 0);
	atomic_store_release(&order, WORK);
	pace_wake(&order);
	while (atomic_load_acquire(&rounds) == 0)
		pace_wait(&rounds, 0);
}

static void stop_thread(void)
{
	if (atomic_load_acquire(&order) == REST)
		return;
	atomic_store_release(&order, STOP);
	while (atomic_load_acquire(&order) != REST)
		pace_wait(&order, STOP);
	files_distrust();
}

/* ---- both ---- */

void writer_start(void)
{
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	sigfillset(&all); /* signals are for the thread that is in the library's code */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, write_over_and_over, NULL) != 0)
		fail("no thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void writer_work(enum writer_way way)
{
	if (write_count == 0)
		return;
	aim_next(0);
	if (way == WRITER_THREAD)
		start_thread();
	else
		within_calls = true;
}

void writer_rest(void)
{
	within_calls = false;
	stop_thread();
}
