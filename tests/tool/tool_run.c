/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the built tool as a process of its own and keeps what it said. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool_run.h"

char *tool_path;

static void split(char *line, char **words)
{
	int count = 1;

	words[0] = tool_path;
	for (char *word = strtok(line, " "); word && count <= MOST_WORDS; word = strtok(NULL, " "))
		words[count++] = word;
	words[count] = NULL;
}

static int spawn(const char *command_line, int text_fd, int errors_fd, int *ret_status)
{
	posix_spawn_file_actions_t actions;
	char line[1024], *words[MOST_WORDS + 2];
	pid_t child;

	snprintf(line, sizeof line, "%s", command_line);
	split(line, words);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, text_fd, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, errors_fd, STDERR_FILENO);
	int code = posix_spawn(&child, tool_path, &actions, NULL, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (code)
		return -code;
	return waitpid(child, ret_status, 0) == child ? 0 : -errno;
}

static void read_back(int fd, char *buffer)
{
	ssize_t length = pread(fd, buffer, OUTPUT_SIZE - 1, 0);
	buffer[length > 0 ? length : 0] = '\0';
}

int tool_run(struct output *output, const char *command_line)
{
	int text_fd = memfd_create("text", MFD_CLOEXEC), errors_fd = memfd_create("errors", MFD_CLOEXEC);
	int status = 0;
	int code = text_fd < 0 || errors_fd < 0 ? -errno : spawn(command_line, text_fd, errors_fd, &status);

	if (!code) {
		output->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		read_back(text_fd, output->text);
		read_back(errors_fd, output->errors);
	}
	close(text_fd);
	close(errors_fd);
	return code;
}
