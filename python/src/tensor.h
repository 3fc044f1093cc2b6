/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors: one array of a message, where it lies.
 *
 * A Tensor is not itself a view that keeps memory from being let go; what is made of it is. It behaves as a numpy array
 * would, through a numpy view that it makes at first need and keeps. That view hangs on a second Tensor, not on this one,
 * so that no cycle needs a collector.
 */
#ifndef SLUICE_PYTHON_TENSOR_H
#define SLUICE_PYTHON_TENSOR_H

#include "array.h"
#include "message.h"
#include "module.h"

struct tensor {
	PyObject_HEAD struct hold *hold;
	char *data;
	PyObject *view;      /* numpy's, or NULL */
	struct tensor *next; /* of the tensors of the message that have one */
	struct tensor **link;
	struct array array;
};

PyObject *tensor_new(struct hold *hold, const struct sluice_tensor *tensor);

/* Lets go of the numpy view. */
void tensor_drop_view(struct tensor *tensor);

/* The numpy view: a new reference, or NULL with an exception (ImportError, TypeError, Released). */
PyObject *tensor_numpy(struct tensor *tensor);

/* Copies `value` into all of the tensor, as numpy's view[...] = value does. Returns 0, or -1 with an exception. */
int tensor_assign(struct tensor *tensor, PyObject *value);

/* Slots of numbers, comparisons and the like, which go to the numpy view: forward.c. */
extern const PyType_Slot tensor_forwarding_slots[];
size_t tensor_forwarding_count(void);

/* __dlpack__ and __dlpack_device__: dlpack.c. */
PyObject *tensor_dlpack(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);
PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused);

#endif
