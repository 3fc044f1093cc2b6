/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nng over ipc. The pair0 protocol, for the same reasons as ZeroMQ's PAIR; messages are filled in place. The abstract
 * transport is ipc under a name that leaves no file.
 */
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <stdio.h>
#include <stdlib.h>

#include "case.h"
#include "payload.h"
#include "rival.h"

#define TEXT(x)          #x
#define VERSION(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)

#define ROOM_MOST 8192 /* of nng's queues, in messages */

struct nng_line {
	nng_socket socket;
	size_t bytes;
	int flags;
};

/* The library's own numbers below NNG_ESYSERR mean little to others. */
static int to_errno(int error)
{
	switch (error) {
	case 0:
		return 0;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_ETIMEDOUT:
		return -ETIMEDOUT;
	case NNG_ECONNREFUSED:
		return -ECONNREFUSED;
	case NNG_ENOTSUP:
		return -ENOTSUP;
	default:
		return -EIO;
	}
}

static int nng_connect(struct side *side, nng_socket socket)
{
	char address[PAIR_CHANNEL_BYTES + 32];
	int room = side->of->depth < ROOM_MOST ? (int)side->of->depth : ROOM_MOST;
	int error = nng_socket_set_int(socket, NNG_OPT_SENDBUF, room);

	snprintf(address, sizeof address, "abstract://%s-nng", side->channel);
	if (error == 0)
		error = nng_socket_set_int(socket, NNG_OPT_RECVBUF, room);
	if (error == 0)
		error = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0);
	if (error == 0 && side->index == 0)
		error = nng_listen(socket, address, NULL, 0);
	if (error == 0)
		side_meet(side);
	if (error == 0 && side->index != 0)
		error = nng_dial(socket, address, NULL, 0);
	return error;
}

static void line_close(void *context)
{
	struct nng_line *line = context;

	nng_close(line->socket);
	free(line);
}

static int line_open(struct side *side, void **ret_line)
{
	struct nng_line *line = calloc(1, sizeof *line);
	int error = line ? nng_pair0_open(&line->socket) : NNG_ENOMEM;

	if (error) {
		free(line);
		return side_fail(side, to_errno(error), "nng_pair0_open");
	}
	error = nng_connect(side, line->socket);
	if (error) {
		line_close(line);
		return side_fail(side, to_errno(error), "nng_dial");
	}
	line->bytes = side->of->bytes;
	line->flags = side->of->waiting == CASE_SPINS ? NNG_FLAG_NONBLOCK : 0;
	*ret_line = line;
	return 0;
}

static int line_send(void *context, uint32_t number)
{
	struct nng_line *line = context;
	nng_msg *message;
	int error = nng_msg_alloc(&message, line->bytes);

	if (error)
		return to_errno(error);
	payload_fill(nng_msg_body(message), line->bytes / sizeof(int32_t), number);
	do {
		error = nng_sendmsg(line->socket, message, line->flags);
	} while (error == NNG_EAGAIN);
	if (error)
		nng_msg_free(message);
	return to_errno(error);
}

static int line_receive(void *context, uint32_t number)
{
	struct nng_line *line = context;
	size_t count = line->bytes / sizeof(int32_t);
	nng_msg *message;
	int error;

	do {
		error = nng_recvmsg(line->socket, &message, line->flags);
	} while (error == NNG_EAGAIN);
	if (error)
		return to_errno(error);
	bool good = nng_msg_len(message) == line->bytes &&
		    payload_sum(nng_msg_body(message), count) == payload_expected(count, number);
	nng_msg_free(message);
	return good ? 0 : -EBADMSG;
}

const struct rival rival_nng = {
	.name = "nng",
	.package = "libnng-dev",
	.version = VERSION(NNG_MAJOR_VERSION, NNG_MINOR_VERSION, NNG_PATCH_VERSION),
	.settings = "ipc under an abstract name, pair0, default threads, buffers as deep as Sluice's lane",
	.has_threads = true,
	.open = line_open,
	.send = line_send,
	.receive = line_receive,
	.close = line_close,
};
