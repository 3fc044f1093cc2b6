/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANE_BYTES   8192
#define WORDS_INSIDE 6
#define WORDS_BESIDE (LANE_BYTES / STAGE_DEPTH / sizeof(uint64_t)) /* so that a full lane is full in both ways */

void stage_must(int result, const char *call)
{
	if (result != 0)
		broken("%s returns %s", call, result < 0 ? strerrorname_np(-result) : "a count");
}

void stage_reset(struct stage *stage, struct ledger *ledger, const struct stage *like)
{
	ledger_clear(ledger, like->inside ? WORDS_INSIDE : WORDS_BESIDE);
	ledger->broadcast = like->broadcast;
	ledger->ordered = like->ordered;
	ledger->assembled = like->expected == 0 ? YES : NO;
	*stage = (struct stage){
		.ledger = ledger,
		.broadcast = like->broadcast,
		.inside = like->inside,
		.ordered = like->ordered,
		.expected = like->expected,
	};
}

static struct sluice_channel_options channel_options(const struct stage *stage, int64_t timeout_ns)
{
	return (struct sluice_channel_options){
		.size = sizeof(struct sluice_channel_options),
		.mode = stage->broadcast ? SLUICE_BROADCAST : SLUICE_QUEUE,
		.flags = stage->ordered ? SLUICE_ORDERED : 0,
		.expected_consumers = stage->expected,
		.lane_bytes = LANE_BYTES,
		.depth = STAGE_DEPTH,
		.max_deliveries = SLUICE_UNLIMITED,
		.open_timeout_ns = timeout_ns,
		.take_back_ns = stage->take_back_ns,
	};
}

/* ---- members ---- */

int stage_open_producer(struct stage *stage, enum author author, int64_t timeout_ns)
{
	struct sluice_channel_options channel = channel_options(stage, timeout_ns);
	struct sluice_producer_options options = {
		.size = sizeof options,
		.channel = &channel,
		.sample_rate_hz = SLUICE_STAMP_NONE,
		.spin_ns = SLUICE_NO_SPIN,
	};
	return sluice_producer_open(STAGE_CHANNEL, &options, &stage->producers[author]);
}

int stage_open_reader(struct stage *stage, enum reader reader, int64_t timeout_ns)
{
	struct sluice_channel_options channel = channel_options(stage, timeout_ns);
	struct sluice_consumer_options options = {
		.size = sizeof options,
		.channel = &channel,
		.spin_ns = SLUICE_NO_SPIN,
	};
	unsigned others = stage_open_readers(stage) | (unsigned)stage->subject_reads << SUBJECT_READER;
	ledger_join(stage->ledger, reader, others);
	bool completes = stage->ledger->assembled == NO && (unsigned)__builtin_popcount(others) + 1 >= stage->expected;
	if (completes)
		stage->ledger->assembled = MAYBE;
	int error = sluice_consumer_open(STAGE_CHANNEL, &options, &stage->readers[reader].handle);
	if (completes)
		stage->ledger->assembled = error == 0 ? YES : NO;
	return error;
}

void stage_close_producer(struct stage *stage, enum author author)
{
	must(sluice_producer_close(stage->producers[author]));
	stage->producers[author] = NULL;
}

void stage_close_reader(struct stage *stage, enum reader reader)
{
	ledger_held(stage->ledger, reader, MAYBE);
	must(sluice_consumer_close(stage->readers[reader].handle));
	ledger_held(stage->ledger, reader, NO);
	stage->readers[reader] = (struct stage_reader){0};
}

/* ---- messages ---- */

int stage_reserve(struct stage *stage, enum author author, int64_t timeout_ns, struct sluice_message **ret_message)
{
	struct sluice_tensor_spec spec = {
		.name = "words",
		.dtype = SLUICE_UINT64,
		.ndim = 1,
		.shape = {stage->ledger->payload_words},
	};
	return sluice_reserve(stage->producers[author], &spec, 1, timeout_ns, ret_message);
}

void stage_publish_by(struct stage *stage, enum author author, struct sluice_message *message,
	int (*publish)(struct sluice_message *))
{
	uint32_t number = stage->ledger->written[author]++;
	struct ledger_entry *entry = &stage->ledger->entries[author][number];
	if (number >= LEDGER_MESSAGES)
		broken("the ledger is full");
	ledger_fill(stage->ledger, message, author, number);
	ledger_begin(stage->ledger, entry);
	must(publish(message));
	ledger_end(stage->ledger, entry);
}

void stage_publish(struct stage *stage, enum author author, struct sluice_message *message)
{
	stage_publish_by(stage, author, message, sluice_publish);
}

int stage_send(struct stage *stage, enum author author)
{
	struct sluice_message *message;
	int error = stage_reserve(stage, author, 0, &message);
	if (error == -EAGAIN)
		return error;
	must(error);
	stage_publish(stage, author, message);
	return 0;
}

void stage_send_many(struct stage *stage, enum author author, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		must(stage_send(stage, author));
}

void stage_take_over(struct stage *stage, enum reader reader, unsigned count)
{
	struct stage_reader *self = &stage->readers[reader];
	for (unsigned i = 0; i < count; i++)
		ledger_receive(stage->ledger, reader, self->held[self->count++]);
}

int stage_receive(struct stage *stage, enum reader reader, int64_t timeout_ns)
{
	struct stage_reader *self = &stage->readers[reader];
	if (self->count == STAGE_HELD)
		broken("messages without end");
	int error = sluice_receive(self->handle, timeout_ns, &self->held[self->count]);
	if (error == -EAGAIN || error == -ETIMEDOUT)
		return error;
	must(error);
	stage_take_over(stage, reader, 1);
	return 0;
}

void stage_receive_many(struct stage *stage, enum reader reader, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		must(stage_receive(stage, reader, 0));
}

void stage_release(struct stage *stage, enum reader reader, unsigned index)
{
	struct stage_reader *self = &stage->readers[reader];
	const struct sluice_message *message = self->held[index];
	ledger_check_content(stage->ledger, message);
	ledger_release(stage->ledger, reader, message, MAYBE);
	/* The handle is dead after it, so note the certain before and let a failure end everything. */
	ledger_release(stage->ledger, reader, message, YES);
	must(sluice_release(message));
	memmove(&self->held[index], &self->held[index + 1], (self->count - index - 1) * sizeof self->held[0]);
	self->count--;
}

static void drain_reader(struct stage *stage, enum reader reader)
{
	struct stage_reader *self = &stage->readers[reader];
	do
		while (self->count > self->kept)
			stage_release(stage, reader, self->kept);
	while (stage_receive(stage, reader, 0) == 0);
}

void stage_drain(struct stage *stage)
{
	for (unsigned reader = WITNESS; reader <= FRESH; reader++)
		if (stage->readers[reader].handle != NULL)
			drain_reader(stage, reader);
}

void stage_let_go(struct stage *stage)
{
	stage->readers[WITNESS].kept = 0;
	stage->readers[FRESH].kept = 0;
}

unsigned stage_open_readers(const struct stage *stage)
{
	unsigned open = 0;
	for (unsigned reader = WITNESS; reader <= FRESH; reader++)
		open |= (unsigned)(stage->readers[reader].handle != NULL) << reader;
	return open;
}

/* ---- the dead ---- */

static pid_t start(void)
{
	pid_t pid = fork();
	int status;
	if (pid < 0)
		broken("fork: %s", strerrorname_np(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return 0;
	}
	while (waitpid(pid, &status, WUNTRACED) != pid)
		if (errno != EINTR)
			broken("waitpid: %s", strerrorname_np(errno));
	if (!WIFSTOPPED(status))
		broken("a process that was to die ends by itself: %s %d", WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return pid;
}

static void await_death(void) __attribute__((noreturn));

static void await_death(void)
{
	raise(SIGSTOP);
	_exit(1);
}

void stage_start_dead_producer(struct stage *stage, unsigned send)
{
	stage->dead_producer = start();
	if (stage->dead_producer != 0)
		return;
	must(stage_open_producer(stage, DEAD_AUTHOR, STAGE_PATIENT));
	stage_send_many(stage, DEAD_AUTHOR, send);
	await_death();
}

void stage_start_dead_reader(struct stage *stage, unsigned receive, unsigned release)
{
	stage->dead_reader = start();
	if (stage->dead_reader != 0)
		return;
	must(stage_open_reader(stage, DEAD_READER, STAGE_PATIENT));
	stage_receive_many(stage, DEAD_READER, receive);
	while (release-- > 0)
		stage_release(stage, DEAD_READER, 0);
	await_death();
}

void stage_start_dead_reader_that(struct stage *stage, unsigned receive, void (*then)(struct stage *stage))
{
	stage->dead_reader = start();
	if (stage->dead_reader != 0)
		return;
	must(stage_open_reader(stage, DEAD_READER, STAGE_PATIENT));
	stage_receive_many(stage, DEAD_READER, receive);
	then(stage);
	await_death();
}

static void end(pid_t *pid)
{
	if (*pid == 0)
		return;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

void stage_kill_dead(struct stage *stage)
{
	end(&stage->dead_producer);
	end(&stage->dead_reader);
	ledger_death(stage->ledger, DEAD_READER);
}

unsigned stage_files(void)
{
	const char *directory = getenv("SLUICE_DIR");
	DIR *stream = directory != NULL ? opendir(directory) : NULL;
	unsigned count = 0;
	if (stream == NULL)
		broken("the directory is gone");
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
		count += entry->d_name[0] != '.';
	closedir(stream);
	return count;
}
