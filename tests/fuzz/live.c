/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzer: a producer and consumers at work while somebody else writes to the memory that they share. Nothing may crash,
 * hang, leak or read outside a mapping.
 *
 * The input says what is written where and which calls are made, in order. The writes happen in one of three ways: between
 * calls, where the input says so; in the middle of calls, before so many loads of shared memory by the library's code, which
 * the compiler reports and which makes every interleaving repeatable; or over and over in a second thread. Lane data is
 * written too, through a mapping that only the lane's producer would have. Truncating the files is left out: that is
 * a SIGBUS, against which a named object has no protection.
 */
#include <errno.h>

#include "exchange.h"
#include "files.h"
#include "image.h"
#include "sandbox.h"
#include "writer.h"

#define NAME      "x"
#define CALLS     48
#define CONSUMERS 2
#define HELD      16
#define SHORT_NS  20000

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
	MODE_UNSTAMPED = 128, /* messages that take the common course, and batches of them two claims at a time */
	MODE_THREAD = 256     /* not in the input: see choose_mode */
};

/* ---- the channel ---- */

static struct image images[MODES];

static struct sluice_channel_options channel_options(unsigned mode)
{
	return (struct sluice_channel_options){
		.size = sizeof(struct sluice_channel_options),
		.directory = FILES_DIRECTORY,
		.mode = (mode & MODE_BROADCAST) != 0 ? SLUICE_BROADCAST : SLUICE_QUEUE,
		.flags = SLUICE_PERSISTENT | ((mode & MODE_ORDERED) != 0 ? SLUICE_ORDERED : 0),
		.depth = FUZZ_DEPTH,
		.lane_bytes = FUZZ_LANE_BYTES,
		.max_deliveries = 2,
		.take_back_ns = (mode & (MODE_TAKE_BACK | MODE_BROADCAST)) == MODE_TAKE_BACK ? 1 : 0,
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
	image_take(&images[mode], files_find(file), file);
	files_clear(false);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	(void)count;
	(void)arguments;
	sandbox_start();
	for (unsigned mode = 0; mode < MODES; mode++)
		make_image(mode);
	writer_start();
	return 0;
}

/* ---- calls ---- */

struct scene {
	unsigned mode;
	size_t write_count;
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

static struct file *lane[OBJECTS]; /* held; none for the control object */

static void find_lane(void)
{
	lane[OBJECT_DATA] = files_find_ending(".data");
	lane[OBJECT_CLAIMS] = files_find_ending(".claims");
	for (unsigned i = OBJECT_DATA; i < OBJECTS; i++) {
		if (lane[i] != NULL)
			files_hold(lane[i]);
		writer_aim(i, lane[i]);
	}
}

static void forget_lane(void)
{
	for (unsigned i = OBJECT_DATA; i < OBJECTS; i++) {
		writer_aim(i, NULL);
		if (lane[i] != NULL)
			files_let_go(lane[i]);
		lane[i] = NULL;
	}
}

static void start_writing(unsigned mode)
{
	if ((mode & MODE_WITHIN_CALLS) != 0)
		writer_work((mode & MODE_THREAD) != 0 ? WRITER_THREAD : WRITER_WITHIN_CALLS);
}

static void open_producer(struct scene *scene)
{
	const struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = &scene->channel,
		.spin_ns = SLUICE_NO_SPIN,
		.sample_rate_hz = (scene->mode & MODE_UNSTAMPED) != 0 ? SLUICE_STAMP_NONE : SLUICE_STAMP_ALL,
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
	forget_lane();
	find_lane();
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
	(void)!sluice_channel_collect(NAME, FILES_DIRECTORY, 0, &collected);
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
		if (scene->write_count > 0 && (scene->mode & MODE_WITHIN_CALLS) == 0)
			writer_write(argument | (code & 8) << 1);
		break;
	case 9:
		sluice_flush(scene->producer);
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
	find_lane();
	open_consumer(scene, 0);
	start_writing(scene->mode);
	for (unsigned i = 0; i < CALLS && input->left > 0; i++)
		make_call(scene, (uint8_t)input_number(input, 1));
	/* The last to leave does so in peace every second time: then the rest of the account must add up just the same. */
	if (scene->held_count[0] % 2 == 0)
		writer_rest();
	for (unsigned i = 0; i < CONSUMERS; i++)
		close_consumer(scene, i);
	sluice_producer_close(scene->producer);
	writer_rest();
	forget_lane();
}

/* What a thread does cannot be repeated, looks new each time, and takes long: few inputs have one, whichever they are, or the
 * corpus would soon have no others. */
static unsigned choose_mode(struct input *input)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < input->left; i++)
		sum = (sum ^ input->bytes[i]) * UINT32_C(16777619);
	unsigned mode = (unsigned)input_number(input, 1);
	return (mode & MODE_WITHIN_CALLS) != 0 && sum >> 25 == 0 ? mode | MODE_THREAD : mode;
}

static void plant(unsigned mode)
{
	struct image *image = &images[mode % MODES];
	((struct layout_control *)(void *)image->bytes)->config.take_back_ns = (mode & MODE_TAKE_BACK) != 0;
	struct file *file = image_plant(image);
	writer_aim(OBJECT_CONTROL, file);
	if (writer_reaches_consumers())
		files_roughen(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	struct scene scene = {.mode = choose_mode(&input)};
	scene.write_count = writer_read(&input);
	scene.channel = channel_options(scene.mode);
	plant(scene.mode);
	sandbox_begin();
	play(&scene, &input);
	sandbox_end(false);
	return 0;
}
