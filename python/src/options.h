/* SPDX-License-Identifier: Apache-2.0 */
/* Options of channels, producers and consumers: keyword arguments into the library's structs. */
#ifndef SLUICE_PYTHON_OPTIONS_H
#define SLUICE_PYTHON_OPTIONS_H

#include "module.h"

/* What a struct of options points to while the call lasts. */
struct options {
	PyObject *name;
	const char *name_text;
	struct sluice_channel_options channel;
	struct sluice_producer_options producer;
	struct sluice_consumer_options consumer;
	uint32_t uids[SLUICE_MAX_UIDS];
	PyObject *directory; /* bytes */
	bool is_consumer;
};

/* Each parses the arguments of a constructor. Returns 0, or -1 with an exception; clear afterwards in either case. */
int options_of_producer(PyObject *arguments, PyObject *keywords, struct options *ret_options);
int options_of_consumer(PyObject *arguments, PyObject *keywords, struct options *ret_options);

/* Raises what an open call with these options returned. Returns NULL. */
PyObject *options_raise(int code, const struct options *options);

void options_clear(struct options *options);

#endif
