/* SPDX-License-Identifier: Apache-2.0 */
/* From a command line to a request. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "request.h"

static const struct option long_options[] = {
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{"dir", required_argument, NULL, 'd'},
	{"force", no_argument, NULL, 'f'},
	{"drop", no_argument, NULL, 'D'},
	{0},
};

/* What the library takes when no directory is given. */
static const char *default_directory(void)
{
	const char *directory = getenv("SLUICE_DIR");
	return directory && *directory ? directory : "/dev/shm";
}

static enum request_result wrong_option(const struct verb *verb, char **argv, int option)
{
	const char *word = argv[optind - 1];

	if (option == ':')
		complain("sluice %s: '%s' needs a value, as in '--dir /dev/shm'", verb->name, word);
	else if (!optopt)
		complain("sluice %s: there is no option '%s'; see 'sluice help %s'", verb->name, word, verb->name);
	else if (strchr("jhfD", optopt))
		complain("sluice %s: '%s' has a value, and that option takes none", verb->name, word);
	else
		complain("sluice %s: there is no option '-%c'; see 'sluice help %s'", verb->name, optopt, verb->name);
	return REQUEST_WRONG;
}

static enum request_result check_names(const struct verb *verb, const struct request *request)
{
	if (request->name_count < verb->least_names) {
		complain("sluice %s: which channel? 'sluice ls' lists them, as in 'sluice %s tokens'", verb->name,
			verb->name);
		return REQUEST_WRONG;
	}
	if (request->name_count > verb->most_names) {
		if (verb->most_names)
			complain(
				"sluice %s: takes one channel at a time, not also '%s'", verb->name, request->names[1]);
		else
			complain("sluice %s: takes no name such as '%s'; see 'sluice help %s'", verb->name,
				request->names[0], verb->name);
		return REQUEST_WRONG;
	}
	return REQUEST_RUN;
}

static enum request_result refuse(const struct verb *verb, const char *option)
{
	complain("sluice %s: takes no %s; see 'sluice help %s'", verb->name, option, verb->name);
	return REQUEST_WRONG;
}

static enum request_result take_option(const struct verb *verb, char **argv, int option, struct request *request)
{
	switch (option) {
	case 'j':
		request->json = true;
		return REQUEST_RUN;
	case 'h':
		return REQUEST_HELP;
	case 'D':
		request->drop = true;
		return verb->options & TAKES_DROP ? REQUEST_RUN : refuse(verb, "--drop");
	case 'f':
		request->force = true;
		return verb->options & TAKES_FORCE ? REQUEST_RUN : refuse(verb, "--force");
	case 'd':
		if (!(verb->options & TAKES_DIRECTORY))
			return refuse(verb, "--dir");
		if (!*optarg) {
			complain("sluice %s: --dir needs a directory, as in '--dir /dev/shm'", verb->name);
			return REQUEST_WRONG;
		}
		request->directory = optarg;
		return REQUEST_RUN;
	default:
		return wrong_option(verb, argv, option);
	}
}

enum request_result request_parse(const struct verb *verb, int argc, char **argv, struct request *ret_request)
{
	struct request request = {.verb = verb};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":jhd:f", long_options, NULL)) != -1) {
		enum request_result result = take_option(verb, argv, option, &request);
		if (result != REQUEST_RUN)
			return result;
	}
	request.shown_directory = request.directory ? request.directory : default_directory();
	request.names = argv + optind;
	request.name_count = argc - optind;
	*ret_request = request;
	return check_names(verb, &request);
}
