/* SPDX-License-Identifier: Apache-2.0 */
/* The extension module sluice._sluice: what it is made of. */
#include "module.h"

PyObject *module_no_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	(void)args;
	(void)keywords;
	return PyErr_Format(PyExc_TypeError, "cannot create '%.100s' instances", type->tp_name);
}

PyTypeObject *module_add_type(PyObject *module, PyType_Spec *spec)
{
	PyObject *type = PyType_FromSpec(spec);
	if (type == NULL)
		return NULL;
	const char *dot = strrchr(spec->name, '.');
	if (PyModule_AddObject(module, dot + 1, new_reference(type)) != 0)
		return NULL;
	return (PyTypeObject *)type;
}

static int fill(PyObject *module)
{
	static bool filled;
	/* Types are the process's, not a module object's: a second interpreter would share them without a common lock. */
	if (filled) {
		PyErr_SetString(PyExc_ImportError, "sluice can be loaded once per process, by one interpreter");
		return -1;
	}
	filled = true;
	if (errors_init(module) != 0 || channel_init(module) != 0 || handle_init(module) != 0 ||
		producer_init(module) != 0 || consumer_init(module) != 0 || message_init(module) != 0 ||
		tensor_init(module) != 0 || poller_init(module) != 0 || cuda_init(module) != 0 ||
		cuda_tensor_init(module) != 0)
		return -1;
	return PyModule_AddStringConstant(module, "__version__", sluice_version());
}

static PyModuleDef_Slot slots[] = {
	{Py_mod_exec, SLOT(fill)},
	{0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "sluice._sluice",
	.m_doc = "The part of sluice that is written in C; import sluice instead.",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__sluice(void);

PyMODINIT_FUNC PyInit__sluice(void)
{
	return PyModuleDef_Init(&definition);
}
