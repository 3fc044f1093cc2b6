/* SPDX-License-Identifier: Apache-2.0 */
/* A channel's address, its name and its directory: as arguments, and in what is raised where no channel can be had there. */
#ifndef SLUICE_PYTHON_ADDRESS_H
#define SLUICE_PYTHON_ADDRESS_H

#include "module.h"

/* `*ret_text` is good for as long as `name`. Returns 0, or -1 with TypeError or BadArgument. */
int address_parse_name(PyObject *name, const char **ret_text);

/* `*ret_bytes`: a new reference; NULL for None and NULL. Returns 0, or -1 with TypeError or BadArgument. */
int address_parse_directory(PyObject *directory, PyObject **ret_bytes);

/* The directory that the library takes, `given` being NULL where none was. */
const char *address_directory(const char *given);

/* A call to be told of, as "sluice.stat('tokens', '/mnt/shm')"; without a `name` (NULL) "sluice.list()". Or NULL. */
PyObject *address_call(const char *function, PyObject *name, const char *given);

/* Raises what opening or looking at a channel (NULL: at the directory) returned: a negative errno. Returns NULL. */
PyObject *address_raise(int code, PyObject *name, const char *given);

#endif
