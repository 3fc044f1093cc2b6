/* SPDX-License-Identifier: Apache-2.0 */
/* Forking senders. To be done before channels are opened: a channel's handles do not go through a fork. */
#include "peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/process.h"

static void close_ends(const struct peer *peer)
{
	close(peer->control);
	close(peer->data);
}

static int open_ends(struct peer *ours, struct peer *theirs)
{
	const struct timeval silence = {.tv_sec = PEER_SILENCE_S};
	int control[2];
	int data[2];

	/* Requests are packets: they come whole or not at all. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) < 0) {
		int result = -errno;

		close(control[0]);
		close(control[1]);
		return result;
	}
	setsockopt(data[0], SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
	*ours = (struct peer){.control = control[0], .data = data[0]};
	*theirs = (struct peer){.control = control[1], .data = data[1]};
	return 0;
}

/* In the child: keeps its own ends only, or the others' end of file would never come. */
static int be_sender(const struct peers *peers, const struct peer *own, const struct part *part,
	const char *const channels[CHANNELS])
{
	struct sender sender = {.part = part, .control = own->control, .data = own->data};

	for (size_t i = 0; i <= peers->count; i++)
		close_ends(&peers->peers[i]);
	for (int i = 0; i < CHANNELS; i++)
		sender.channels[i] = channels[i];
	process_pin(0); /* if there is another for the receiver */
	return sender_run(&sender) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int start(struct peers *peers, const struct part *part, const char *const channels[CHANNELS])
{
	struct peer *ours = &peers->peers[peers->count];
	struct peer theirs = {.control = -1, .data = -1};
	int result = open_ends(ours, &theirs);

	if (result < 0)
		return result;
	ours->pid = fork();
	if (ours->pid == 0)
		_exit(be_sender(peers, &theirs, part, channels));
	result = ours->pid < 0 ? -errno : 0;
	close_ends(&theirs);
	if (result < 0)
		close_ends(ours);
	return result;
}

int peers_start(
	const struct part *parts, size_t part_count, const char *const channels[CHANNELS], struct peers *ret_peers)
{
	int result = 0;

	ret_peers->peers = calloc(part_count, sizeof *ret_peers->peers);
	ret_peers->count = 0;
	if (ret_peers->peers == NULL)
		result = -ENOMEM;
	while (result == 0 && ret_peers->count < part_count) {
		result = start(ret_peers, &parts[ret_peers->count], channels);
		ret_peers->count += result == 0;
	}
	if (result < 0) {
		process_complain("cannot start a sender: %s", strerror(-result));
		peers_stop(ret_peers);
	}
	return result;
}

int peers_stop(struct peers *peers)
{
	int result = 0;

	for (size_t i = 0; i < peers->count; i++)
		close_ends(&peers->peers[i]);
	for (size_t i = 0; i < peers->count; i++) {
		int status = 0;

		while (waitpid(peers->peers[i].pid, &status, 0) < 0 && errno == EINTR)
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
			result = -ECHILD;
	}
	free(peers->peers);
	*peers = (struct peers){0};
	return result;
}
