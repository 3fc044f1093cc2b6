/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel has: a pipe and a Unix stream socket. Both carry bytes through file descriptors and differ only in
 * how they are opened. A pipe each way, as FIFOs in the directory of temporary files, unlinked once both sides have
 * them open; the socket has an abstract name, so that no file is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "case.h"
#include "payload.h"
#include "rival.h"

#define PIPE_BYTES_LEAST 65536u   /* the kernel's default */
#define PIPE_BYTES_MOST  1048576u /* what it allows without privileges */
#define PIPE_MESSAGES    16u

struct byte_line {
	int out;
	int in;
	size_t bytes;
	int32_t *written;
	int32_t *read;
};

static void line_close(void *context)
{
	struct byte_line *line = context;

	if (!line)
		return;
	if (line->out >= 0)
		close(line->out);
	if (line->in >= 0 && line->in != line->out)
		close(line->in);
	free(line->written);
	free(line->read);
	free(line);
}

static struct byte_line *line_new(const struct side *side)
{
	struct byte_line *line = calloc(1, sizeof *line);

	if (!line)
		return NULL;
	line->out = line->in = -1;
	line->bytes = side->of->bytes;
	line->written = aligned_alloc(PAIR_LINE, (line->bytes + PAIR_LINE - 1) / PAIR_LINE * PAIR_LINE);
	line->read = aligned_alloc(PAIR_LINE, (line->bytes + PAIR_LINE - 1) / PAIR_LINE * PAIR_LINE);
	if (line->written && line->read)
		return line;
	line_close(line);
	return NULL;
}

/* Spinning is to ask again and again without sleeping. */
static int set_waiting(const struct side *side, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (side->of->waiting != CASE_SPINS)
		flags &= ~O_NONBLOCK;
	else
		flags |= O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

static int line_send(void *context, uint32_t number)
{
	const struct byte_line *line = context;
	const char *next = (const char *)line->written;
	size_t left = line->bytes;

	payload_fill(line->written, line->bytes / sizeof(int32_t), number);
	while (left > 0) {
		ssize_t done = write(line->out, next, left);

		if (done < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (done > 0) {
			next += done;
			left -= (size_t)done;
		}
	}
	return 0;
}

static int line_receive(void *context, uint32_t number)
{
	const struct byte_line *line = context;
	size_t count = line->bytes / sizeof(int32_t);
	char *next = (char *)line->read;
	size_t left = line->bytes;

	while (left > 0) {
		ssize_t done = read(line->in, next, left);

		if (done == 0)
			return -EPIPE;
		if (done < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (done > 0) {
			next += done;
			left -= (size_t)done;
		}
	}
	return payload_sum(line->read, count) == payload_expected(count, number) ? 0 : -EBADMSG;
}

static void fifo_path(char *path, size_t bytes, const char *channel, int from)
{
	const char *directory = getenv("TMPDIR");

	snprintf(path, bytes, "%s/%s-pipe%d", directory && *directory ? directory : "/tmp", channel, from);
}

static void fifo_clean_up(const char *channel)
{
	char path[256];

	for (int from = 0; from < 2; from++) {
		fifo_path(path, sizeof path, channel, from);
		unlink(path);
	}
}

/* Opened for both ways, of which one is used: that never waits for the other side. */
static int fifo_open(const struct side *side, int from, int *ret_fd)
{
	char path[256];
	size_t room = side->of->bytes * PIPE_MESSAGES;

	fifo_path(path, sizeof path, side->channel, from);
	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		return -errno;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	room = room < PIPE_BYTES_LEAST ? PIPE_BYTES_LEAST : room > PIPE_BYTES_MOST ? PIPE_BYTES_MOST : room;
	(void)fcntl(fd, F_SETPIPE_SZ, (int)room); /* refused to a user with many pipes: then the default */
	*ret_fd = fd;
	return set_waiting(side, fd);
}

static int pipe_open(struct side *side, void **ret_line)
{
	struct byte_line *line = line_new(side);
	int error = line ? fifo_open(side, side->index, &line->out) : -ENOMEM;

	if (error == 0)
		error = fifo_open(side, 1 - side->index, &line->in);
	if (error) {
		line_close(line);
		return side_fail(side, error, "mkfifo");
	}
	side_meet(side);
	if (side->index == 0)
		fifo_clean_up(side->channel);
	*ret_line = line;
	return 0;
}

static socklen_t socket_address(const struct side *side, struct sockaddr_un *address)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s-socket", side->channel);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* The first side listens and accepts, the second connects in between. */
static int socket_connect(struct side *side, int *ret_fd)
{
	struct sockaddr_un address;
	socklen_t length = socket_address(side, &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (side->index == 0 && (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 1) < 0))
		error = -errno;
	if (error == 0)
		side_meet(side);
	if (error == 0 && side->index != 0 && connect(fd, (struct sockaddr *)&address, length) < 0)
		error = -errno;
	if (error == 0 && side->index == 0) {
		*ret_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		error = *ret_fd < 0 ? -errno : 0;
	}
	if (error || side->index == 0)
		close(fd);
	else
		*ret_fd = fd;
	return error;
}

static int socket_open(struct side *side, void **ret_line)
{
	struct byte_line *line = line_new(side);
	int error = line ? socket_connect(side, &line->out) : -ENOMEM;

	if (error == 0) {
		line->in = line->out;
		error = set_waiting(side, line->out);
	}
	if (error) {
		line_close(line);
		return side_fail(side, error, "socket");
	}
	*ret_line = line;
	return 0;
}

const struct rival rival_pipe = {
	.name = "pipe",
	.version = "of the kernel",
	.settings = "16 messages of room, 64 KiB to 1 MiB",
	.open = pipe_open,
	.send = line_send,
	.receive = line_receive,
	.close = line_close,
	.clean_up = fifo_clean_up,
};

const struct rival rival_socket = {
	.name = "socket",
	.version = "of the kernel",
	.settings = "AF_UNIX, SOCK_STREAM, default buffers",
	.open = socket_open,
	.send = line_send,
	.receive = line_receive,
	.close = line_close,
};
