/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZeroMQ over ipc. PAIR sockets: exactly two peers, no envelope, no turns to take, so the least that ZeroMQ does for a
 * message, and good for both round trip and stream. Messages are filled in place (zmq_msg_init_size), which saves a
 * copy.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#include "case.h"
#include "payload.h"
#include "rival.h"

#define TEXT(x)          #x
#define VERSION(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)

struct zeromq_line {
	void *context;
	void *socket;
	size_t bytes;
	int flags;
};

static void zeromq_close(void *context)
{
	struct zeromq_line *line = context;

	if (!line)
		return;
	if (line->socket)
		zmq_close(line->socket);
	if (line->context)
		zmq_ctx_term(line->context);
	free(line);
}

static int zeromq_connect(struct side *side, struct zeromq_line *line)
{
	char address[PAIR_CHANNEL_BYTES + 32];
	int room = (int)side->of->depth;
	int linger = 0;

	snprintf(address, sizeof address, "ipc://@%s-zeromq", side->channel);
	line->context = zmq_ctx_new();
	line->socket = line->context ? zmq_socket(line->context, ZMQ_PAIR) : NULL;
	if (!line->socket || zmq_setsockopt(line->socket, ZMQ_SNDHWM, &room, sizeof room) != 0 ||
		zmq_setsockopt(line->socket, ZMQ_RCVHWM, &room, sizeof room) != 0 ||
		zmq_setsockopt(line->socket, ZMQ_LINGER, &linger, sizeof linger) != 0)
		return -errno;
	if (side->index == 0 && zmq_bind(line->socket, address) != 0)
		return -errno;
	side_meet(side);
	if (side->index != 0 && zmq_connect(line->socket, address) != 0)
		return -errno;
	return 0;
}

static int zeromq_open(struct side *side, void **ret_line)
{
	struct zeromq_line *line = calloc(1, sizeof *line);
	int error = line ? zeromq_connect(side, line) : -ENOMEM;

	if (error) {
		zeromq_close(line);
		return side_fail(side, error, "zmq_socket");
	}
	line->bytes = side->of->bytes;
	line->flags = side->of->waiting == CASE_SPINS ? ZMQ_DONTWAIT : 0;
	*ret_line = line;
	return 0;
}

static int zeromq_send(void *context, uint32_t number)
{
	struct zeromq_line *line = context;
	zmq_msg_t message;

	if (zmq_msg_init_size(&message, line->bytes) != 0)
		return -errno;
	payload_fill(zmq_msg_data(&message), line->bytes / sizeof(int32_t), number);
	while (zmq_msg_send(&message, line->socket, line->flags) < 0)
		if (errno != EAGAIN && errno != EINTR) {
			int error = -errno;
			zmq_msg_close(&message);
			return error;
		}
	return 0;
}

static int zeromq_receive(void *context, uint32_t number)
{
	struct zeromq_line *line = context;
	size_t count = line->bytes / sizeof(int32_t);
	zmq_msg_t message;

	zmq_msg_init(&message);
	while (zmq_msg_recv(&message, line->socket, line->flags) < 0)
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	bool good = zmq_msg_size(&message) == line->bytes &&
		    payload_sum(zmq_msg_data(&message), count) == payload_expected(count, number);
	zmq_msg_close(&message);
	return good ? 0 : -EBADMSG;
}

const struct rival rival_zeromq = {
	.name = "zeromq",
	.package = "libzmq3-dev",
	.version = VERSION(ZMQ_VERSION_MAJOR, ZMQ_VERSION_MINOR, ZMQ_VERSION_PATCH),
	.settings = "ipc, PAIR, one I/O thread, high-water marks as deep as Sluice's lane",
	.has_threads = true,
	.open = zeromq_open,
	.send = zeromq_send,
	.receive = zeromq_receive,
	.close = zeromq_close,
};
