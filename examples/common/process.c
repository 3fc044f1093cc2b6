/* SPDX-License-Identifier: Apache-2.0 */
/* The clock, sentences on stderr and the signals of an example program. */
#include "process.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stop_signal;

uint64_t process_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void process_complain(const char *format, ...)
{
	char sentence[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(sentence, sizeof sentence, format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s: %s.\n", program_invocation_short_name, sentence);
}

static void on_signal(int number)
{
	stop_signal = number;
}

void process_catch_signals(void)
{
	struct sigaction action;

	/* No SA_RESTART: a call that waits is to return and let the program leave. */
	memset(&action, 0, sizeof action);
	action.sa_handler = on_signal;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

int process_stopped(void)
{
	return stop_signal;
}

bool process_parse_count(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value)
{
	char *end;
	unsigned long long value;

	/* strtoull takes a minus sign and wraps round. */
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < least || value > most)
		return false;
	*ret_value = value;
	return true;
}

bool process_pin(int number)
{
	cpu_set_t allowed;
	cpu_set_t one;
	int processor = 0;

	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0 || CPU_COUNT(&allowed) < 2 ||
		CPU_COUNT(&allowed) <= number)
		return false;
	while (!CPU_ISSET(processor, &allowed) || number-- > 0)
		processor++;
	CPU_ZERO(&one);
	CPU_SET(processor, &one);
	return sched_setaffinity(0, sizeof one, &one) == 0;
}
