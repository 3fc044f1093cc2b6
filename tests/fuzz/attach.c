/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzer: everything that opens a channel meets objects of arbitrary contents. Nothing may crash, hang, leak, read outside
 * a mapping or leave a file behind.
 *
 * The input starts from one of eight channels that the library itself made: a lane with a few messages, members that died
 * or left. It says which calls are made, and then what is changed in the objects beforehand: see `change`.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "exchange.h"
#include "files.h"
#include "image.h"
#include "regions.h"
#include "sandbox.h"

#include "sys.h"

#define NAME       "x"
#define CHANNEL_ID UINT64_C(0x1122334455667788)

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* ---- templates ---- */

/* Bits of a template's number. */
enum { TEMPLATE_BROADCAST = 1, TEMPLATE_LEFT = 2, TEMPLATE_ORDERED = 4, TEMPLATES = 8 };

static struct image templates[TEMPLATES][OBJECTS];

static struct sluice_channel_options channel_options(unsigned number)
{
	return (struct sluice_channel_options){
		.size = sizeof(struct sluice_channel_options),
		.directory = FILES_DIRECTORY,
		.mode = (number & TEMPLATE_BROADCAST) != 0 ? SLUICE_BROADCAST : SLUICE_QUEUE,
		.flags = (number & TEMPLATE_ORDERED) != 0 ? SLUICE_ORDERED : 0,
		.depth = FUZZ_DEPTH,
		.lane_bytes = FUZZ_LANE_BYTES,
		.max_deliveries = 2,
		.open_timeout_ns = 1000000,
	};
}

/* Always the same channel id, so that an input means the same in every process. */
static void capture(struct image *image, const char *file)
{
	char name[LAYOUT_NAME_BYTES];
	struct file *object = files_find(file);
	if (object == NULL)
		fail("a template lacks an object");
	const struct layout_header *header = (const struct layout_header *)(const void *)files_bytes(object);
	if (header->kind == LAYOUT_CONTROL)
		layout_control_name(NAME, name);
	else
		layout_lane_name(
			NAME, CHANNEL_ID, header->slot, header->incarnation, (enum layout_kind)header->kind, name);
	image_take(image, object, name);
	((struct layout_header *)(void *)image->bytes)->channel_id = CHANNEL_ID;
}

static void capture_all(struct image images[OBJECTS])
{
	struct sluice_channel_stat *stat;
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(NAME, file);
	if (sluice_channel_stat(NAME, FILES_DIRECTORY, &stat) != 0 || stat->lane_count != 1)
		fail("a template has no lane");
	const uint64_t id = ((const struct layout_header *)(const void *)files_bytes(files_find(file)))->channel_id;
	capture(&images[OBJECT_CONTROL], file);
	for (int kind = LAYOUT_DATA; kind <= LAYOUT_CLAIMS; kind++) {
		layout_lane_name(
			NAME, id, stat->lanes[0].slot, stat->lanes[0].incarnation, (enum layout_kind)kind, file);
		capture(&images[kind == LAYOUT_DATA ? OBJECT_DATA : OBJECT_CLAIMS], file);
	}
	sluice_channel_stat_free(stat);
}

static void make_template(unsigned number)
{
	const struct sluice_channel_options channel = channel_options(number);
	const struct sluice_producer_options producing = {
		.size = sizeof producing, .channel = &channel, .sample_rate_hz = SLUICE_STAMP_ALL};
	const struct sluice_consumer_options consuming = {.size = sizeof consuming, .channel = &channel};
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	const struct sluice_message *held[2];
	if (sluice_producer_open(NAME, &producing, &producer) != 0 ||
		sluice_consumer_open(NAME, &consuming, &consumer) != 0)
		fail("a template cannot be made");
	for (unsigned kind = 0; kind < 5; kind++)
		publish_kind(producer, kind, 0);
	/* One released, one held: by a dead consumer if the objects are taken as they are now. */
	if (sluice_receive(consumer, 0, &held[0]) != 0 || sluice_receive(consumer, 0, &held[1]) != 0)
		fail("a template cannot be made");
	sluice_release(held[0]);
	if ((number & TEMPLATE_LEFT) == 0)
		capture_all(templates[number]);
	sluice_consumer_close(consumer);
	sluice_producer_close(producer);
	if ((number & TEMPLATE_LEFT) != 0)
		capture_all(templates[number]);
	files_clear(false);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	(void)count;
	(void)arguments;
	sandbox_start();
	for (unsigned i = 0; i < TEMPLATES; i++)
		make_template(i);
	return 0;
}

/* ---- objects ---- */

/* Files that an execution starts with, held: a change is made to them even when they have lost their names. */
static void plant(const struct image images[OBJECTS], struct file *objects[OBJECTS])
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		objects[i] = image_plant(&images[i]);
		files_hold(objects[i]);
	}
}

/* What a change does. */
enum change {
	CHANGE_WORD,   /* 64 bits */
	CHANGE_HALF,   /* 32 bits */
	CHANGE_ADD,    /* a small number to 64 bits */
	CHANGE_BYTES,  /* up to 255 bytes, as they come */
	CHANGE_REPEAT, /* up to 15 bytes over and over */
	CHANGE_COPY,   /* the region's first record over all others */
	CHANGE_SIZE,   /* the object's size */
	CHANGE_KIND    /* something else in the object's place */
};

/* What may be in an object's place. */
enum { PLACE_NOTHING, PLACE_LINK, PLACE_FIFO, PLACE_DIRECTORY, PLACE_SECOND_NAME, PLACE_HOLE, PLACE_BYTES, PLACE_MODE };

static void write_at(struct file *file, const void *bytes, size_t count, uint64_t offset)
{
	files_write(file, bytes, count, offset);
	if (offset + count > offsetof(struct layout_control, consumers))
		files_roughen(file);
}

static void change_bytes(struct file *file, uint64_t offset, struct input *input)
{
	size_t count = input_number(input, 1);
	count = count < input->left ? count : input->left;
	write_at(file, input->bytes, count, offset);
	input->bytes += count;
	input->left -= count;
}

static void change_repeat(struct file *file, const struct region *region, uint64_t offset, struct input *input)
{
	uint8_t pattern[15];
	uint8_t bytes[4096];
	size_t length = input_number(input, 1) % sizeof pattern + 1;
	for (size_t i = 0; i < length; i++)
		pattern[i] = (uint8_t)input_number(input, 1);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = pattern[i % length];
	uint64_t left = region->offset + region->bytes - offset;
	write_at(file, bytes, left < sizeof bytes ? left : sizeof bytes, offset);
}

static void change_copy(struct file *file, const struct region *region)
{
	uint8_t record[8192];
	memcpy(record, files_bytes(file) + region->offset, region->record);
	for (uint64_t offset = region->record; offset + region->record <= region->bytes; offset += region->record)
		write_at(file, record, region->record, region->offset + offset);
}

static void change_add(struct file *file, uint64_t offset, struct input *input)
{
	uint64_t word;
	memcpy(&word, files_bytes(file) + offset, sizeof word);
	word += (uint64_t)(int64_t)(int8_t)input_number(input, 1);
	write_at(file, &word, sizeof word, offset);
}

static void change_place(struct file *file, const char *name, struct input *input)
{
	uint64_t kind = input_number(input, 1) % 8;
	if (kind <= PLACE_DIRECTORY)
		files_unlink(name);
	if (kind == PLACE_LINK)
		files_make(name, FILES_LINK);
	else if (kind == PLACE_FIFO)
		files_make(name, FILES_FIFO);
	else if (kind == PLACE_DIRECTORY)
		files_make(name, FILES_FOLDER);
	else if (kind == PLACE_SECOND_NAME)
		files_link(file, "second");
	else if (kind == PLACE_HOLE)
		files_punch_page(file, 4096);
	else if (kind == PLACE_BYTES)
		change_bytes(file, 0, input);
	else if (kind == PLACE_MODE)
		files_set_mode(file, (mode_t)input_number(input, 2) & 0777);
}

static void change_size(struct file *file, struct input *input)
{
	uint64_t before = files_size(file);
	uint64_t size = input_number(input, 3) % FILES_LARGEST;
	files_resize(file, size);
	if (size > before)
		files_fill_holes(file);
}

/* One change: a byte says where (five bits) and what (three), two bytes where in there, and then what it takes. */
static void change(const struct image images[OBJECTS], struct file *const objects[OBJECTS], struct input *input)
{
	uint8_t code = (uint8_t)input_number(input, 1);
	const struct region *region = &regions[code % REGIONS];
	uint64_t place = input_number(input, 2);
	struct file *file = objects[region->object];
	uint64_t word_offset = region->offset + place * 8 % region->bytes;
	uint64_t number;
	switch ((enum change)(code / REGIONS)) {
	case CHANGE_WORD:
		number = input_number(input, 8);
		write_at(file, &number, 8, word_offset);
		break;
	case CHANGE_HALF:
		number = input_number(input, 4);
		write_at(file, &number, 4, region->offset + place * 4 % region->bytes);
		break;
	case CHANGE_ADD:
		change_add(file, word_offset, input);
		break;
	case CHANGE_BYTES:
		change_bytes(file, region->offset + place % region->bytes, input);
		break;
	case CHANGE_REPEAT:
		change_repeat(file, region, word_offset, input);
		break;
	case CHANGE_COPY:
		change_copy(file, region);
		break;
	case CHANGE_SIZE:
		change_size(file, input);
		break;
	case CHANGE_KIND:
		change_place(file, images[region->object].name, input);
		break;
	}
}

/* ---- calls ---- */

/* Bits of the input's second and third byte. */
enum call {
	CALL_CONSUMER = 1,
	CALL_PRODUCER = 2,
	CALL_LOOK = 4,
	CALL_COLLECT = 8,
	CALL_DROP = 16,
	CALL_REMOVE = 32,
	CALL_FORCE = 64,
	CALL_NEIGHBOURS = 128, /* somebody has the locks of the first two slots: those members live */
	CALL_BATCH = 256,
	CALL_KEEP = 512, /* close with messages held */
	CALL_END_OF_STREAM = 1024,
	CALL_NEWEST = 2048,
	CALL_REPORT_GONE = 4096,
	CALL_TWO_CONSUMERS = 8192,
	CALL_INSIST = 16384
};

#define HELD 24

static size_t receive_some(struct sluice_consumer *consumer, unsigned calls, const struct sluice_message **held)
{
	size_t count = 0;
	for (unsigned i = 0; i < 32 && count + 4 <= HELD; i++) {
		int result = (calls & CALL_BATCH) != 0 ? sluice_receive_batch(consumer, 4, 4096, 0, 0, &held[count])
						       : sluice_receive(consumer, 0, &held[count]);
		if (result == -EBADMSG)
			check_fault(consumer);
		if (result < 0 && result != -EBADMSG)
			break;
		if (result >= 0)
			count += (calls & CALL_BATCH) != 0 ? (size_t)result : 1;
	}
	for (size_t i = 0; i < count; i++)
		read_message(held[i]);
	return count;
}

static void consume(struct sluice_consumer *consumer, unsigned calls)
{
	const struct sluice_message *held[HELD];
	struct sluice_geometry geometry;
	(void)!sluice_consumer_geometry(consumer, &geometry);
	(void)!sluice_consumer_wait(consumer, 1, 0);
	size_t count = receive_some(consumer, calls, held);
	if ((calls & CALL_KEEP) == 0)
		sluice_release_batch(held, count);
	else if (count > 1)
		sluice_release(held[count - 1]);
}

static struct sluice_consumer *open_consumer(const struct sluice_channel_options *channel, unsigned calls)
{
	const struct sluice_consumer_options options = {
		.size = sizeof options,
		.channel = channel,
		.flags = ((calls & CALL_END_OF_STREAM) != 0 ? SLUICE_END_OF_STREAM : 0) |
			 ((calls & CALL_NEWEST) != 0 ? SLUICE_START_NEWEST : 0) |
			 ((calls & CALL_REPORT_GONE) != 0 ? SLUICE_REPORT_GONE : 0),
	};
	struct sluice_consumer *consumer;
	return sluice_consumer_open(NAME, &options, &consumer) == 0 ? consumer : NULL;
}

static struct sluice_producer *open_producer(const struct sluice_channel_options *channel, unsigned calls)
{
	const struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = channel,
		.flags = (calls & CALL_REPORT_GONE) != 0 ? SLUICE_REPORT_GONE : 0,
	};
	struct sluice_producer *producer;
	return sluice_producer_open(NAME, &options, &producer) == 0 ? producer : NULL;
}

static void join(unsigned template, unsigned calls)
{
	struct sluice_channel_options channel = channel_options(template);
	channel.flags |= (calls & CALL_INSIST) != 0 ? SLUICE_INSIST : 0;
	struct sluice_producer *producer = (calls & CALL_PRODUCER) != 0 ? open_producer(&channel, calls) : NULL;
	struct sluice_consumer *consumer = (calls & CALL_CONSUMER) != 0 ? open_consumer(&channel, calls) : NULL;
	struct sluice_consumer *other =
		(calls & CALL_TWO_CONSUMERS) != 0 ? open_consumer(&channel, calls & ~(unsigned)CALL_NEWEST) : NULL;
	for (unsigned kind = 0; producer != NULL && kind < 10; kind++)
		publish_kind(producer, kind, 0);
	if (consumer != NULL)
		consume(consumer, calls);
	if (other != NULL)
		consume(other, calls ^ CALL_BATCH);
	for (unsigned kind = 0; producer != NULL && kind < 3; kind++)
		publish_kind(producer, kind, 0);
	sluice_producer_close(producer);
	sluice_consumer_close(consumer);
	sluice_consumer_close(other);
}

static int lock_neighbours(void)
{
	char file[LAYOUT_NAME_BYTES];
	layout_control_name(NAME, file);
	int directory_fd = open(FILES_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(directory_fd, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	close(directory_fd);
	for (unsigned slot = 0; fd >= 0 && slot < 2; slot++)
		(void)!sys_lock_byte(fd, LAYOUT_SLOT_BYTE(slot));
	return fd;
}

/* Whether the channel was removed. */
static bool call(unsigned template, unsigned calls)
{
	struct sluice_collected collected;
	int neighbours = (calls & CALL_NEIGHBOURS) != 0 ? lock_neighbours() : -1;
	if ((calls & CALL_LOOK) != 0)
		look_at_channels(NAME);
	join(template, calls);
	if ((calls & CALL_COLLECT) != 0)
		(void)!sluice_channel_collect(
			NAME, FILES_DIRECTORY, (calls & CALL_DROP) != 0 ? SLUICE_COLLECT_DROP : 0, &collected);
	bool removed = (calls & CALL_REMOVE) != 0 && sluice_channel_remove(NAME, FILES_DIRECTORY,
							     (calls & CALL_FORCE) != 0 ? SLUICE_REMOVE_FORCE : 0) == 0;
	if (neighbours >= 0)
		close(neighbours);
	return removed;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	unsigned template = (unsigned)input_number(&input, 1) % TEMPLATES;
	unsigned calls = (unsigned)input_number(&input, 2);
	struct file *objects[OBJECTS];
	plant(templates[template], objects);
	while (input.left > 0)
		change(templates[template], objects, &input);
	for (unsigned i = 0; i < OBJECTS; i++)
		files_let_go(objects[i]);
	sandbox_begin();
	bool removed = call(template, calls);
	sandbox_end(removed);
	return 0;
}
