/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every room of the extension knows: Python's and Sluice's headers, and the types it makes.
 *
 * All state is guarded by the interpreter's lock. Calls that wait first try without waiting, then give that lock away and
 * mark their handle busy: a second thread gets an exception instead of a race.
 */
#ifndef SLUICE_PYTHON_MODULE_H
#define SLUICE_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <structmember.h>

#include <sluice/sluice.h>

/* Set once when the module is loaded and kept for the life of the process, so that what dies late still finds them. */
extern PyTypeObject *producer_type;
extern PyTypeObject *consumer_type;
extern PyTypeObject *reservation_type;
extern PyTypeObject *message_type;
extern PyTypeObject *tensor_type;
extern PyTypeObject *cuda_tensor_type;
extern PyTypeObject *poller_type;
extern PyTypeObject *stamps_type;
extern PyTypeObject *geometry_type;

/* Each makes its room's types and adds what is public to the module. Returns 0, or -1 with an exception. */
int errors_init(PyObject *module);
int handle_init(PyObject *module);
int producer_init(PyObject *module);
int consumer_init(PyObject *module);
int message_init(PyObject *module);
int tensor_init(PyObject *module);
int poller_init(PyObject *module);
int cuda_init(PyObject *module);
int cuda_tensor_init(PyObject *module);
int channel_init(PyObject *module);

/* Makes a type and adds it to the module. Returns it, or NULL with an exception. */
PyTypeObject *module_add_type(PyObject *module, PyType_Spec *spec);

/* A tp_new for types that only Sluice makes. */
PyObject *module_no_new(PyTypeObject *type, PyObject *args, PyObject *keywords);

/* Frees an object of a type that has no cyclic garbage collection. */
static inline void module_free(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	type->tp_free(object);
	Py_DECREF(type);
}

static inline PyObject *new_reference(PyObject *object)
{
	Py_INCREF(object);
	return object;
}

/* A METH_FASTCALL or keyword function in a method table. */
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))
/* A slot's function in a type's table. */
#define SLOT(function) ((void *)(function))

#endif
