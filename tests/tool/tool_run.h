/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the built tool as a process of its own and keeps what it said. */
#ifndef SLUICE_TESTS_TOOL_RUN_H
#define SLUICE_TESTS_TOOL_RUN_H

#include <stddef.h>

#define MOST_WORDS  8
#define OUTPUT_SIZE 65536

struct output {
	int code;               /* exit code; -1 if a signal ended it */
	char text[OUTPUT_SIZE]; /* standard output */
	char errors[OUTPUT_SIZE];
};

/* Path of the tool, set once by main. */
extern char *tool_path;

/* Runs the tool with a command line split at blanks into at most MOST_WORDS words. Returns 0 or a negative errno. */
int tool_run(struct output *output, const char *command_line);

#endif
