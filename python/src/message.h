/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: a Reservation that is being filled, a Message that was received.
 *
 * Either keeps its handle alive. Tensors and what looks into their memory keep the message alive, and those that do the
 * latter (buffers, numpy arrays, DLPack capsules) are counted: while there are any, the memory is not let go.
 */
#ifndef SLUICE_PYTHON_MESSAGE_H
#define SLUICE_PYTHON_MESSAGE_H

#include "handle.h"
#include "module.h"

struct cuda_streams;
struct tensor;

struct hold {
	PyObject_HEAD PyObject *weakrefs;
	struct handle *handle;
	struct sluice_message *message; /* NULL once it was let go; not to be written to unless it is a reservation */
	struct hold *next;              /* of the handle's */
	struct hold **link;
	struct tensor *viewed;        /* tensors that keep a numpy view, not owned */
	struct cuda_streams *streams; /* that may read it; or NULL */
	Py_ssize_t exports;           /* buffers, arrays and capsules into its memory */
	const char *fate;             /* what became of it, for exceptions */
	bool seen;                    /* there were exports, from which a stream may still copy */
	bool lost;                    /* a reservation that its producer's closing discarded */
	bool reserved;                /* it is a reservation */
	bool given_up;                /* it goes with the last of its exports */
};

/* A new object of `type` for a message that is the caller's; let go if there is no memory. */
PyObject *hold_new(PyTypeObject *type, struct handle *handle, struct sluice_message *message);

/* 0 if the message is still the program's, or -1 with Released. */
int hold_check(struct hold *hold);

/* Drops a numpy view that only its tensor keeps. Returns false if there is none. It may have been the last export. */
bool hold_drop_view(struct hold *hold);

/* How many views there are beside numpy views that only tensors themselves keep, which are dropped. */
Py_ssize_t hold_live_views(struct hold *hold);

/* The begin of an export of a message that the program has. Returns 0, or -1 with an exception. */
int hold_export(struct hold *hold);

/* The end of an export. The caller keeps `hold` alive. */
void hold_export_ended(struct hold *hold);

/* Notes that the library has taken the message away. */
void hold_forget(struct hold *hold, const char *fate);

/* Releases or discards it. No views may be alive. Returns 0 or a negative errno. */
int hold_let_go(struct hold *hold);

/* Raises BufferError for its views. Returns NULL. */
PyObject *hold_refuse_views(const struct hold *hold, const char *verb);

/* The tp_dealloc of both types. */
void hold_dealloc(PyObject *self);

/* Metadata as keyword arguments of send: NULL where not given. Returns 0, or -1 with an exception. */
struct hold_metadata {
	PyObject *correlation_id;
	PyObject *deadline;
	PyObject *traceparent;
};
struct hold_values {
	uint64_t correlation_id;
	uint64_t deadline_ns;
	struct sluice_trace trace;
};
int hold_parse_metadata(const struct hold_metadata *metadata, struct hold_values *ret_values);

#endif
