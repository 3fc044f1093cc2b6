/* SPDX-License-Identifier: Apache-2.0 */
/* sluice: looks at channels and at the machine they live on. This file: the table of verbs, help, and the way to a verb. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "request.h"
#include "suggest.h"
#include "tool.h"

const struct verb verbs[] = {
	{.name = "ls",
		.summary = "list the channels: members, backlog, memory",
		.details = "One line a channel. PRODUCERS and CONSUMERS count members that live; WAITING messages are "
			   "published and not handed out, HELD ones are handed out and not released. Channels that "
			   "cannot be "
			   "read are listed below with the reason.",
		.example = "sluice ls\nsluice ls --dir /run/sluice\nsluice ls --json | jq '.channels[].name'",
		.synonyms = "list dir channels show",
		.options = TAKES_DIRECTORY,
		.run = run_ls},
	{.name = "stat",
		.summary = "show one channel: members, lanes, counters, times",
		.details = "Looks without joining: nobody is woken or held up. An ID is roster slot and incarnation; a "
			   "lane has "
			   "the ID of its producer. Times are those of stamped messages, a sample by rate.",
		.example = "sluice stat tokens\nsluice stat tokens --json | jq '.lanes[].waiting_messages'",
		.synonyms = "status info inspect get",
		.options = TAKES_DIRECTORY,
		.least_names = 1,
		.most_names = 1,
		.run = run_stat},
	{.name = "gc",
		.summary = "clean up after processes that died: give back what they held, remove what nobody needs",
		.details =
			"Removes lanes that are drained, lanes that lost their channel, channels that nobody has "
			"open and that hold no messages, and those of other layout versions. Living members are not "
			"disturbed. With --drop messages go too, where no member lives. Without a name: all channels.",
		.example = "sluice gc\nsluice gc tokens --drop",
		.synonyms = "collect clean prune purge sweep",
		.options = TAKES_DIRECTORY | TAKES_DROP,
		.most_names = INT_MAX,
		.run = run_gc},
	{.name = "rm",
		.summary = "remove channels that nobody uses any more, and their backlog",
		.details = "Refuses while members live, and says who they are. With --force the name goes all the "
			   "same: the "
			   "members go on among themselves, and the memory comes back when the last of them has left.",
		.example = "sluice rm tokens\nsluice rm --force tokens logits",
		.synonyms = "remove delete del unlink",
		.options = TAKES_DIRECTORY | TAKES_FORCE,
		.least_names = 1,
		.most_names = INT_MAX,
		.run = run_rm},
	{.name = "doctor",
		.summary = "check the machine and say what to change and how",
		.details = "Tries what Sluice needs and reports each as ok, note (works, could be better) or problem "
			   "(Sluice "
			   "does not work here before it is mended). Removes what it made for the trial. Exits 1 if "
			   "there is a "
			   "problem.",
		.example = "sluice doctor\nsluice doctor --dir /run/sluice\n"
			   "sluice doctor --json | jq '.[] | select(.status != \"ok\")'",
		.synonyms = "check diagnose test health",
		.options = TAKES_DIRECTORY,
		.run = run_doctor},
	{.name = "version",
		.summary = "show the library's version, the layout's version and the features compiled in",
		.details = "Processes can share a channel when their layout versions are the same.",
		.example = "sluice version\nsluice version --json",
		.synonyms = "about",
		.run = run_version},
	{0},
};

static void print_overview(FILE *file)
{
	fputs("sluice - look at the channels that move tensors between processes\n\n"
	      "usage: sluice <verb> [options]\n\n",
		file);
	for (const struct verb *verb = verbs; verb->name; verb++)
		fprintf(file, "  %-8s  %s\n", verb->name, verb->summary);
	fputs("\n'sluice help VERB' explains a verb. Each takes --json.\n\n"
	      "example:\n"
	      "  sluice ls\n",
		file);
}

static void print_usage_line(FILE *file, const struct verb *verb)
{
	fprintf(file, "usage: sluice %s", verb->name);
	if (verb->least_names)
		fputs(verb->most_names > 1 ? " NAME..." : " NAME", file);
	else if (verb->most_names)
		fputs(" [NAME...]", file);
	fputs(verb->options & TAKES_FORCE ? " [--force]" : "", file);
	fputs(verb->options & TAKES_DROP ? " [--drop]" : "", file);
	fputs(verb->options & TAKES_DIRECTORY ? " [--dir DIR]" : "", file);
	fputs(" [--json]\n\n", file);
}

static void print_verb_help(FILE *file, const struct verb *verb)
{
	print_usage_line(file, verb);
	print_wrapped(file, 0, verb->summary);
	fputc('\n', file);
	print_wrapped(file, 0, verb->details);
	fputs("\noptions:\n", file);
	if (verb->options & TAKES_FORCE)
		fputs("  -f, --force    even while members live\n", file);
	if (verb->options & TAKES_DROP)
		fputs("  --drop         messages that nobody is there for go too\n", file);
	if (verb->options & TAKES_DIRECTORY)
		fputs("  -d, --dir DIR  directory of the channels; else $SLUICE_DIR, else /dev/shm\n", file);
	fputs("  -j, --json     one JSON document instead of text\n"
	      "  -h, --help     this text\n"
	      "\nexample:\n",
		file);
	for (const char *line = verb->example; *line;) {
		int length = (int)strcspn(line, "\n");
		fprintf(file, "  %.*s\n", length, line);
		line += length + (line[length] == '\n');
	}
}

static const struct verb *find_verb(const char *name)
{
	for (const struct verb *verb = verbs; verb->name; verb++)
		if (!strcmp(verb->name, name))
			return verb;
	return NULL;
}

static int unknown_verb(const char *word)
{
	const struct verb *near = suggest_verb(word);

	if (word[0] == '-')
		complain("sluice: the verb comes first, options after it, as in 'sluice ls --json'; 'sluice help' "
			 "lists the "
			 "verbs");
	else if (near)
		complain("sluice: there is no verb '%s'; did you mean 'sluice %s'? 'sluice help' lists them all", word,
			near->name);
	else
		complain("sluice: there is no verb '%s'; 'sluice help' lists the verbs", word);
	return EXIT_USAGE;
}

static int help(int argc, char **argv)
{
	if (argc < 3) {
		print_overview(stdout);
		return EXIT_OK;
	}
	const struct verb *verb = find_verb(argv[2]);
	if (!verb)
		return unknown_verb(argv[2]);
	print_verb_help(stdout, verb);
	return EXIT_OK;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
	struct request request;

	switch (request_parse(verb, argc, argv, &request)) {
	case REQUEST_RUN:
		return verb->run(&request);
	case REQUEST_HELP:
		print_verb_help(stdout, verb);
		return EXIT_OK;
	default:
		return EXIT_USAGE;
	}
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		print_overview(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(argc, argv);

	bool asks_version = !strcmp(argv[1], "--version") || !strcmp(argv[1], "-V");
	const struct verb *verb = find_verb(asks_version ? "version" : argv[1]);
	return verb ? run_verb(verb, argc - 1, argv + 1) : unknown_verb(argv[1]);
}

int main(int argc, char **argv)
{
	int code = dispatch(argc, argv);

	if (fflush(stdout) || ferror(stdout)) {
		complain("sluice: the output could not be written: is the disk full?");
		return EXIT_FAILED;
	}
	return code;
}
