/* SPDX-License-Identifier: Apache-2.0 */
/* The table of element types. numpy and torch are recognized by how their types name themselves, not imported. */
#include "dtype.h"

/* numpy has two types of 64 bits where long has as many, and prefers long. */
#define LONG64  (sizeof(long) == 8 ? "l" : "q")
#define ULONG64 (sizeof(long) == 8 ? "L" : "Q")

static const struct dtype dtypes[] = {
	{SLUICE_INT32, 4, "int32", "i", "i4"},
	{SLUICE_INT64, 8, "int64", LONG64, "i8"},
	{SLUICE_FLOAT32, 4, "float32", "f", "f4"},
	{SLUICE_UINT8, 1, "uint8", "B", "u1"},
	{SLUICE_INT8, 1, "int8", "b", "i1"},
	{SLUICE_INT16, 2, "int16", "h", "i2"},
	{SLUICE_UINT16, 2, "uint16", "H", "u2"},
	{SLUICE_UINT32, 4, "uint32", "I", "u4"},
	{SLUICE_UINT64, 8, "uint64", ULONG64, "u8"},
	{SLUICE_FLOAT16, 2, "float16", "e", "f2"},
	{SLUICE_FLOAT64, 8, "float64", "d", "f8"},
	{SLUICE_BOOL, 1, "bool", "?", "b1"},
	{SLUICE_BFLOAT16, 2, "bfloat16", NULL, NULL},
	{SLUICE_FLOAT8_E3M4, 1, "float8_e3m4", NULL, NULL},
	{SLUICE_FLOAT8_E4M3, 1, "float8_e4m3", NULL, NULL},
	{SLUICE_FLOAT8_E4M3B11FNUZ, 1, "float8_e4m3b11fnuz", NULL, NULL},
	{SLUICE_FLOAT8_E4M3FN, 1, "float8_e4m3fn", NULL, NULL},
	{SLUICE_FLOAT8_E4M3FNUZ, 1, "float8_e4m3fnuz", NULL, NULL},
	{SLUICE_FLOAT8_E5M2, 1, "float8_e5m2", NULL, NULL},
	{SLUICE_FLOAT8_E5M2FNUZ, 1, "float8_e5m2fnuz", NULL, NULL},
	{SLUICE_FLOAT8_E8M0FNU, 1, "float8_e8m0fnu", NULL, NULL},
};

#define DTYPE_COUNT (sizeof dtypes / sizeof dtypes[0])

static const struct {
	const char *name;
	const char *means;
} other_names[] = {
	{"bool_", "bool"},
	{"int", "int64"},
	{"float", "float64"},
	{"half", "float16"},
	{"double", "float64"},
	{"long", "int64"},
	{"short", "int16"},
};

const struct dtype *dtype_of_code(uint32_t code)
{
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].code == code)
			return &dtypes[i];
	return NULL;
}

static const struct dtype *of_name(const char *name)
{
	for (size_t i = 0; i < sizeof other_names / sizeof other_names[0]; i++)
		if (strcmp(other_names[i].name, name) == 0)
			name = other_names[i].means;
	const char *short_name = name[0] == '<' || name[0] == '=' || name[0] == '|' ? name + 1 : name;
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (strcmp(dtypes[i].name, name) == 0 ||
			(dtypes[i].short_name != NULL && strcmp(dtypes[i].short_name, short_name) == 0))
			return &dtypes[i];
	return NULL;
}

static const struct dtype *of_text(PyObject *text)
{
	const char *name = PyUnicode_AsUTF8(text);
	if (name == NULL) {
		PyErr_Clear();
		return NULL;
	}
	return of_name(strncmp(name, "torch.", 6) == 0 ? name + 6 : name);
}

/* What a dtype or type calls itself: a numpy dtype's name unless its bytes are swapped, a type's name, or str(). */
static PyObject *own_name(PyObject *object)
{
	if (PyType_Check(object))
		return PyObject_GetAttrString(object, "__name__");
	PyObject *name = PyObject_GetAttrString(object, "name");
	if (name == NULL) {
		PyErr_Clear();
		return PyObject_Str(object);
	}
	PyObject *order = PyObject_GetAttrString(object, "byteorder");
	PyErr_Clear();
	bool swapped = order != NULL && PyUnicode_Check(order) && PyUnicode_CompareWithASCIIString(order, ">") == 0;
	Py_XDECREF(order);
	if (!swapped && PyUnicode_Check(name))
		return name;
	Py_DECREF(name);
	return PyObject_Repr(object);
}

const struct dtype *dtype_of_object(PyObject *object)
{
	const struct dtype *dtype = NULL;
	if (PyUnicode_Check(object)) {
		dtype = of_text(object);
	} else {
		PyObject *name = own_name(object);
		if (name == NULL)
			return NULL;
		dtype = PyUnicode_Check(name) ? of_text(name) : NULL;
		Py_DECREF(name);
	}
	if (dtype == NULL)
		PyErr_Format(PyExc_TypeError,
			"%R is no element type of Sluice: int8 to int64, uint8 to uint64, float16 to float64, "
			"bfloat16, float8_..., "
			"bool, in this machine's byte order; as a string, a numpy dtype or a torch dtype",
			object);
	return dtype;
}

const struct dtype *dtype_of_format(const char *format, Py_ssize_t item_bytes)
{
	if (format == NULL)
		format = "B";
	bool standard = *format == '<' || *format == '=';
	if (standard || *format == '@')
		format++;
	if (format[0] == '\0' || format[1] != '\0')
		return NULL;
	char kind = format[0];
	if (standard && (kind == 'l' || kind == 'L'))
		kind = kind == 'l' ? 'i' : 'I';
	else if (kind == 'q' || kind == 'n')
		kind = LONG64[0];
	else if (kind == 'Q' || kind == 'N')
		kind = ULONG64[0];
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].format != NULL && dtypes[i].format[0] == kind)
			return (Py_ssize_t)dtypes[i].bytes == item_bytes ? &dtypes[i] : NULL;
	return NULL;
}
