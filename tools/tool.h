/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb gets and gives: the request, the table of verbs, exit codes. */
#ifndef SLUICE_TOOL_H
#define SLUICE_TOOL_H

#include <stdbool.h>

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Options that a verb takes beside --json and --help. */
enum verb_options { TAKES_DIRECTORY = 1, TAKES_FORCE = 2, TAKES_DROP = 4 };

struct request;

struct verb {
	const char *name;
	const char *summary;  /* one line */
	const char *details;  /* a paragraph for the verb's own help */
	const char *example;  /* lines that can be typed as they stand */
	const char *synonyms; /* what people type when they mean this verb, space-separated */
	unsigned int options; /* enum verb_options */
	int least_names;
	int most_names;
	int (*run)(const struct request *request); /* returns an exit code */
};

/* A command line that has been understood. All pointers are borrowed from argv, the environment or the verb table. */
struct request {
	const struct verb *verb;
	bool json;
	bool force;
	bool drop;
	const char *directory;       /* as given by --dir, or NULL: the library finds it */
	const char *shown_directory; /* what the library takes then; never NULL */
	char *const *names;
	int name_count;
};

/* Ends with an entry without a name. */
extern const struct verb verbs[];

int run_ls(const struct request *request);
int run_stat(const struct request *request);
int run_gc(const struct request *request);
int run_rm(const struct request *request);
int run_doctor(const struct request *request);
int run_version(const struct request *request);

#endif
