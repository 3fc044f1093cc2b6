/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Producer and a Consumer have in common: being used by one thread at a time, waiting without the interpreter's
 * lock, and not closing under the views that programs have into their memory.
 */
#ifndef SLUICE_PYTHON_HANDLE_H
#define SLUICE_PYTHON_HANDLE_H

#include "module.h"

struct cuda_side;
struct hold;
struct options;

struct handle_kind {
	const char *noun;
	const char *counterparts;
	int (*open)(const struct options *options, void **ret_open);
	int (*close)(void *open);
	int (*check)(void *open); /* -ECHILD in a forked child */
	int (*wait)(void *open, uint32_t counterparts, int64_t timeout_ns);
};

struct handle {
	PyObject_HEAD const struct handle_kind *kind;
	PyObject *weakrefs;
	PyObject *name;           /* of the channel */
	PyObject *directory;      /* as it was given: bytes or NULL */
	void *open;               /* struct sluice_producer or sluice_consumer; NULL once closed */
	struct handle *next_open; /* of all that were opened and not freed */
	struct handle **open_link;
	struct hold *holds;     /* its reservation, or the messages that it holds; not owned */
	struct cuda_side *cuda; /* of a consumer that has used CUDA */
	int64_t slice_ns;       /* how long one call waits at most before signals are looked at */
	bool busy;              /* a thread is in a call, without the interpreter's lock */
	bool polled;            /* it is in a poller */
	bool leaving;           /* its `with` block ended while views were alive: it closes with the last of them */
	bool give_back;         /* closing returns what is held to the channel */
};

/* Raises why the handle cannot be used now. Returns -1. */
int handle_refuse(struct handle *handle);

/* 0 if this thread may call the library with it, or -1 with an exception. */
static inline int handle_enter(struct handle *handle)
{
	return __builtin_expect(handle->open != NULL && !handle->busy && !handle->leaving, 1) ? 0
											      : handle_refuse(handle);
}

#define HANDLE_RAISED INT32_MIN /* an exception is set */

/* Monotonic. */
int64_t handle_now_ns(void);

/* Calls `call` once, without the interpreter's lock and with the handle marked busy. */
int handle_call(
	struct handle *handle, int64_t timeout_ns, int (*call)(void *context, int64_t timeout_ns), void *context);

/*
 * Calls `call` with slices of `timeout_ns` until it returns anything but -EINTR and -ETIMEDOUT, or the time has passed,
 * without the interpreter's lock; signal handlers of Python run in between. Returns what it returned, or HANDLE_RAISED.
 */
int handle_wait(
	struct handle *handle, int64_t timeout_ns, int (*call)(void *context, int64_t timeout_ns), void *context);

/*
 * Closes it for good, unless it is closed. Messages that it holds are released, or with `give_back` returned to the
 * channel. No views may be alive. Returns 0 or a negative errno.
 */
int handle_close_now(struct handle *handle);

/* Closes it if it is leaving and no view is alive any more. */
void handle_view_gone(struct handle *handle);

/*
 * A new handle of `type`, open, or NULL with an exception. It is listed among those that the interpreter's exit closes.
 */
PyObject *handle_new(
	PyTypeObject *type, const struct handle_kind *kind, const struct options *options, int64_t spin_ns);

/* Methods: close(), __enter__, __exit__, and what dealloc begins and ends with. */
PyObject *handle_close(struct handle *handle, bool give_back);
PyObject *handle_on_enter(PyObject *self, PyObject *unused);
PyObject *handle_on_exit(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
void handle_dealloc(struct handle *handle);

/* Raises Timeout. `what` did not happen, as "no message came". Returns NULL. */
PyObject *handle_raise_timeout(struct handle *handle, const char *what);

/* wait_consumers() and wait_producers(). */
PyObject *handle_wait_counterparts(PyObject *self, PyObject *arguments, PyObject *keywords);

extern PyMemberDef handle_members[];
PyObject *handle_get_closed(PyObject *self, void *unused);
PyObject *handle_get_name(PyObject *self, void *unused);
PyObject *handle_get_stat_call(PyObject *self, void *unused); /* text: which call tells who is there */
PyObject *handle_repr(PyObject *self);

/* A Geometry of what the library says, or NULL with an exception. */
PyObject *handle_geometry(int result, const struct sluice_geometry *geometry);

#endif
