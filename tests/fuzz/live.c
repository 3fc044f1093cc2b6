/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzer: a producer and consumers at work while somebody else writes to the memory that they share. Nothing may crash,
 * hang, leak or read outside a mapping.
 *
 * The input says what is written where and which calls are made, in order. The writes happen in one of three ways: between
 * calls, where the input says so; in the middle of calls, after so many comparisons of the library's code, which the compiler
 * reports (--wrap of its callbacks) and which makes every interleaving repeatable; or over and over in a second thread. Lane
 * data is written too, through a mapping that only the lane's producer would have. Truncating the files is left out: that is
 * a SIGBUS, against which a named object has no protection.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exchange.h"
#include "kept.h"
#include "regions.h"
#include "sandbox.h"

#include "atomic.h"
#include "sys.h"

#define NAME       "x"
#define WRITES     32
#define CALLS      48
#define CONSUMERS  2
#define HELD       16
#define SHORT_NS   20000
#define MANY_WORDS 256 /* at most, by one write */

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Bits of the input's first byte. */
enum {
	MODE_BROADCAST = 1,
	MODE_ORDERED = 2,
	MODES = 4,
	MODE_WITHIN_CALLS = 4,
	MODE_END_OF_STREAM = 8,
	MODE_REPORT_GONE = 16,
	MODE_TAKE_BACK = 32,
	MODE_NEWEST = 64,
	MODE_THREAD = 128 | MODE_WITHIN_CALLS
};

/* ---- what is written ---- */

/* The writer is not what is tested, and most of what is executed. */
#define UNWATCHED __attribute__((no_sanitize("coverage", "address", "undefined")))

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
	uint32_t delay; /* comparisons between the write before and this one */
	uint64_t value;
};

static struct write writes[WRITES];
static size_t write_count;
static uint8_t *objects[OBJECTS];
static uint64_t sizes[OBJECTS];

static void read_write(struct input *input, struct write *write)
{
	uint8_t code = (uint8_t)input_number(input, 1);
	write->kind = (enum kind)(code / REGIONS);
	write->region = &regions[code % REGIONS];
	write->place = (uint32_t)input_number(input, 2);
	write->delay = (uint32_t)input_number(input, 1);
	if (write->kind == WRITE_REPEAT || write->kind == WRITE_COPY)
		write->delay += MANY_WORDS; /* as often as others, counted in words */
	write->value = input_number(input, write->kind == WRITE_ADD || write->kind == WRITE_BYTE ? 1 : 8);
}

UNWATCHED static void write_repeat(uint8_t *start, const struct write *write)
{
	for (uint32_t i = 0; i + 8 <= write->region->bytes && i < 8 * MANY_WORDS; i += 8)
		atomic_store_relaxed((uint64_t *)(void *)(start + i), write->value);
}

UNWATCHED static void write_copy(uint8_t *start, const struct region *region)
{
	for (uint32_t i = region->record; i + 8 <= region->bytes && i < 8 * MANY_WORDS; i += 8) {
		uint64_t word = atomic_load_relaxed((uint64_t *)(void *)(start + i - region->record));
		atomic_store_relaxed((uint64_t *)(void *)(start + i), word);
	}
}

UNWATCHED static void do_write(struct write *write)
{
	const struct region *region = write->region;
	if (objects[region->object] == NULL || region->offset + region->bytes > sizes[region->object])
		return;
	uint8_t *start = objects[region->object] + region->offset;
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

/* ---- within calls ---- */

static bool within_calls;
static size_t next_write;
static uint32_t countdown;

UNWATCHED static void on_comparison(void)
{
	if (!within_calls || countdown-- > 0)
		return;
	within_calls = false; /* what follows compares, too */
	do_write(&writes[next_write]);
	next_write = (next_write + 1) % write_count;
	countdown = writes[next_write].delay;
	within_calls = true;
}

#define ON_COMPARISON(name, type)                                                                                      \
	void __real_##name(type a, type b);                                                                            \
	void __wrap_##name(type a, type b);                                                                            \
	void __wrap_##name(type a, type b)                                                                             \
	{                                                                                                              \
		__real_##name(a, b);                                                                                   \
		on_comparison();                                                                                       \
	}
ON_COMPARISON(__sanitizer_cov_trace_cmp4, uint32_t)
ON_COMPARISON(__sanitizer_cov_trace_cmp8, uint64_t)
ON_COMPARISON(__sanitizer_cov_trace_const_cmp4, uint32_t)
ON_COMPARISON(__sanitizer_cov_trace_const_cmp8, uint64_t)

/* ---- the second thread ---- */

enum { REST = 0, WORK = 1, STOP = 2 };
static uint32_t order;
static uint32_t rounds;

UNWATCHED static void *write_over_and_over(void *nothing)
{
	for (;;) {
		while (atomic_load_acquire(&order) == REST)
			(void)!sys_futex_wait(&order, REST, UINT64_C(1000000000));
		while (atomic_load_acquire(&order) == WORK) {
			for (size_t i = 0; i < write_count; i++)
				do_write(&writes[i]);
			atomic_add_full(&rounds, 1);
		}
		atomic_store_release(&order, REST);
	}
	return nothing;
}

static void start_thread(void)
{
	uint32_t before = atomic_load_acquire(&rounds);
	atomic_store_release(&order, WORK);
	sys_futex_wake(&order, 1);
	while (atomic_load_acquire(&rounds) == before)
		sched_yield();
}

static void stop_thread(void)
{
	if (atomic_load_acquire(&order) == REST)
		return;
	atomic_store_release(&order, STOP);
	while (atomic_load_acquire(&order) != REST)
		sched_yield();
}

static void start_writing(unsigned mode)
{
	if (write_count == 0)
		return;
	if ((mode & MODE_THREAD) == MODE_THREAD)
		start_thread();
	else
		within_calls = (mode & MODE_WITHIN_CALLS) != 0;
}

static void stop_writing(void)
{
	within_calls = false;
	stop_thread();
}

/* ---- the channel ---- */

static uint8_t *images[MODES];

static struct sluice_channel_options channel_options(unsigned mode)
{
	return (struct sluice_channel_options){
		.size = sizeof(struct sluice_channel_options),
		.directory = sandbox_directory(),
		.mode = (mode & MODE_BROADCAST) != 0 ? SLUICE_BROADCAST : SLUICE_QUEUE,
		.flags = SLUICE_PERSISTENT | ((mode & MODE_ORDERED) != 0 ? SLUICE_ORDERED : 0),
		.depth = FUZZ_DEPTH,
		.lane_bytes = FUZZ_LANE_BYTES,
		.max_deliveries = 2,
		.take_back_ns = (mode & MODE_TAKE_BACK) != 0 ? 1 : 0,
		.open_timeout_ns = 1000000,
	};
}

static void make_image(unsigned mode)
{
	const struct sluice_channel_options channel = channel_options(mode);
	const struct sluice_consumer_options options = {.size = sizeof options, .channel = &channel};
	struct sluice_consumer *consumer;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(NAME, file);
	if (sluice_consumer_open(NAME, &options, &consumer) != 0 || sluice_consumer_close(consumer) != 0)
		fail("a channel cannot be made");
	int fd = openat(sandbox_directory_fd(), file, O_RDONLY | O_CLOEXEC);
	const size_t bytes = sizeof(struct layout_control);
	images[mode] = calloc(1, bytes);
	if (fd < 0 || images[mode] == NULL ||
		pread(fd, images[mode], sizeof(struct layout_control), 0) != sizeof(struct layout_control))
		fail("a channel cannot be read");
	close(fd);
	sandbox_clear(false);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	pthread_t thread;
	(void)count;
	(void)arguments;
	sandbox_start();
	sandbox_warm_up();
	for (unsigned mode = 0; mode < MODES; mode++)
		make_image(mode);
	if (pthread_create(&thread, NULL, write_over_and_over, NULL) != 0)
		fail("no thread");
	return 0;
}

/* ---- calls ---- */

struct scene {
	unsigned mode;
	struct sluice_channel_options channel;
	struct sluice_producer *producer;
	struct sluice_consumer *consumers[CONSUMERS];
	const struct sluice_message *held[CONSUMERS][HELD];
	size_t held_count[CONSUMERS];
};

static void open_consumer(struct scene *scene, unsigned which)
{
	const struct sluice_consumer_options options = {
		.size = sizeof options,
		.channel = &scene->channel,
		.spin_ns = SLUICE_NO_SPIN,
		.flags = ((scene->mode & MODE_END_OF_STREAM) != 0 ? SLUICE_END_OF_STREAM : 0) |
			 ((scene->mode & MODE_NEWEST) != 0 ? SLUICE_START_NEWEST : 0) |
			 ((scene->mode & MODE_REPORT_GONE) != 0 ? SLUICE_REPORT_GONE : 0),
	};
	if (sluice_consumer_open(NAME, &options, &scene->consumers[which]) != 0)
		scene->consumers[which] = NULL;
}

static void close_consumer(struct scene *scene, unsigned which)
{
	sluice_consumer_close(scene->consumers[which]);
	scene->consumers[which] = NULL;
	scene->held_count[which] = 0;
}

static void map_object(int directory, const char *file, enum object object)
{
	struct stat status;
	int fd = openat(directory, file, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &status) == 0) {
		sizes[object] = (uint64_t)status.st_size;
		objects[object] = sandbox_map(fd, sizes[object]);
	}
	close(fd);
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text);
	return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static void map_lane(void)
{
	DIR *stream = opendir(sandbox_directory());
	if (stream == NULL)
		return;
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
		if (objects[OBJECT_DATA] == NULL && ends_with(entry->d_name, ".data"))
			map_object(dirfd(stream), entry->d_name, OBJECT_DATA);
		else if (objects[OBJECT_CLAIMS] == NULL && ends_with(entry->d_name, ".claims"))
			map_object(dirfd(stream), entry->d_name, OBJECT_CLAIMS);
	closedir(stream);
}

static void unmap_lane(void)
{
	for (unsigned i = OBJECT_DATA; i < OBJECTS; i++) {
		if (objects[i] != NULL)
			sandbox_unmap(objects[i], sizes[i]);
		objects[i] = NULL;
	}
}

static void open_producer(struct scene *scene)
{
	const struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = &scene->channel,
		.spin_ns = SLUICE_NO_SPIN,
		.sample_rate_hz = SLUICE_STAMP_ALL,
		.flags = (scene->mode & MODE_REPORT_GONE) != 0 ? SLUICE_REPORT_GONE : 0,
	};
	if (sluice_producer_open(NAME, &options, &scene->producer) != 0)
		scene->producer = NULL;
}

/* Another producer: its lane is written to from now on, if it can be told apart from the first. */
static void replace_producer(struct scene *scene)
{
	sluice_producer_close(scene->producer);
	open_producer(scene);
	stop_writing();
	unmap_lane();
	map_lane();
	start_writing(scene->mode);
}

static void keep_message(struct scene *scene, unsigned which, const struct sluice_message *message)
{
	read_message(message);
	if (scene->held_count[which] == HELD)
		sluice_release(message);
	else
		scene->held[which][scene->held_count[which]++] = message;
}

static void receive(struct scene *scene, unsigned which, int64_t timeout_ns)
{
	const struct sluice_message *message;
	if (scene->consumers[which] == NULL)
		return;
	int result = sluice_receive(scene->consumers[which], timeout_ns, &message);
	if (result == 0)
		keep_message(scene, which, message);
	else if (result == -EBADMSG)
		check_fault(scene->consumers[which]);
}

static void receive_batch(struct scene *scene, unsigned which, unsigned argument)
{
	const struct sluice_message *messages[4];
	if (scene->consumers[which] == NULL)
		return;
	int64_t linger_ns = (argument & 8) != 0 ? SHORT_NS : 0;
	int result = sluice_receive_batch(
		scene->consumers[which], (argument & 3) + 1, (argument & 4) != 0 ? 2048 : 0, linger_ns, 0, messages);
	for (int i = 0; i < result; i++)
		keep_message(scene, which, messages[i]);
}

static void release(struct scene *scene, unsigned which, unsigned argument)
{
	size_t count = scene->held_count[which];
	if (count == 0)
		return;
	size_t index = argument % count;
	const struct sluice_message *message = scene->held[which][index];
	read_message(message);
	sluice_release(message);
	scene->held[which][index] = scene->held[which][--scene->held_count[which]];
}

static void release_all(struct scene *scene, unsigned which)
{
	sluice_release_batch(scene->held[which], scene->held_count[which]);
	scene->held_count[which] = 0;
}

static void discard(struct sluice_producer *producer)
{
	const struct sluice_tensor_spec spec = {"x", SLUICE_UINT8, 1, {300}};
	struct sluice_message *message;
	if (sluice_reserve(producer, &spec, 1, 0, &message) == 0)
		sluice_discard(message);
}

static void wait_for_others(struct scene *scene)
{
	(void)!sluice_producer_wait(scene->producer, 1, SHORT_NS);
	for (unsigned i = 0; i < CONSUMERS; i++)
		(void)!sluice_consumer_wait(scene->consumers[i], 1, 0);
}

static void collect(void)
{
	struct sluice_collected collected;
	(void)!sluice_channel_collect(NAME, sandbox_directory(), 0, &collected);
}

static void make_call(struct scene *scene, uint8_t code)
{
	unsigned argument = code >> 4;
	unsigned which = argument % CONSUMERS;
	switch (code & 15) {
	case 0:
	case 1:
		publish_kind(scene->producer, argument, 0);
		break;
	case 2:
	case 3:
		receive(scene, which, 0);
		break;
	case 4:
		receive_batch(scene, code >> 5 & 1, argument);
		break;
	case 5:
		release(scene, which, argument / CONSUMERS);
		break;
	case 6:
		release_all(scene, which);
		break;
	case 7:
	case 8:
		if (write_count > 0 && (scene->mode & MODE_WITHIN_CALLS) == 0)
			do_write(&writes[(argument | (code & 8) << 1) % write_count]);
		break;
	case 9:
		discard(scene->producer);
		break;
	case 10:
		close_consumer(scene, which);
		open_consumer(scene, which);
		break;
	case 11:
		replace_producer(scene);
		break;
	case 12:
		look_at_channels(NAME);
		break;
	case 13:
		collect();
		break;
	case 14:
		receive(scene, which, SHORT_NS);
		break;
	case 15:
		if (argument < 8)
			publish_kind(scene->producer, argument, SHORT_NS);
		else
			wait_for_others(scene);
		break;
	}
}

static void play(struct scene *scene, struct input *input)
{
	open_producer(scene);
	map_lane();
	open_consumer(scene, 0);
	start_writing(scene->mode);
	for (unsigned i = 0; i < CALLS && input->left > 0; i++)
		make_call(scene, (uint8_t)input_number(input, 1));
	/* The last to leave does so in peace every second time: then the rest of the account must add up just the same. */
	if (scene->held_count[0] % 2 == 0)
		stop_writing();
	for (unsigned i = 0; i < CONSUMERS; i++)
		close_consumer(scene, i);
	sluice_producer_close(scene->producer);
	stop_writing();
	unmap_lane();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	struct scene scene = {.mode = (unsigned)input_number(&input, 1)};
	char file[LAYOUT_NAME_BYTES];
	write_count = input_number(&input, 1) % (WRITES + 1);
	for (size_t i = 0; i < write_count; i++)
		read_write(&input, &writes[i]);
	next_write = 0;
	countdown = writes[0].delay;
	scene.channel = channel_options(scene.mode);
	layout_control_name(NAME, file);
	((struct layout_control *)(void *)images[scene.mode % MODES])->config.take_back_ns =
		(scene.mode & MODE_TAKE_BACK) != 0;
	kept_plant(file, images[scene.mode % MODES], sizeof(struct layout_control));
	objects[OBJECT_CONTROL] = kept_bytes();
	sizes[OBJECT_CONTROL] = sizeof(struct layout_control);
	sandbox_mark();
	play(&scene, &input);
	sandbox_check();
	sandbox_clear(false);
	return 0;
}
