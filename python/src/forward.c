/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors as numbers, sequences and operands: what goes to the numpy view. */
#include "tensor.h"

/* An operand: the numpy view of a Tensor, anything else as it is. A new reference, or NULL with an exception. */
static PyObject *operand(PyObject *object)
{
	return Py_TYPE(object) == tensor_type ? tensor_numpy((struct tensor *)object) : new_reference(object);
}

static PyObject *with_both(PyObject *a, PyObject *b, PyObject *(*operation)(PyObject *, PyObject *))
{
	PyObject *left = operand(a);
	PyObject *right = left != NULL ? operand(b) : NULL;
	PyObject *result = right != NULL ? operation(left, right) : NULL;
	Py_XDECREF(left);
	Py_XDECREF(right);
	return result;
}

/* In place, on the view; the Tensor stays what the name stands for. */
static PyObject *in_place(PyObject *a, PyObject *b, PyObject *(*operation)(PyObject *, PyObject *))
{
	PyObject *result = with_both(a, b, operation);
	if (result == NULL)
		return NULL;
	Py_DECREF(result);
	return new_reference(a);
}

#define BINARY(name, operation)                                                                                        \
	static PyObject *name(PyObject *a, PyObject *b)                                                                \
	{                                                                                                              \
		return with_both(a, b, operation);                                                                     \
	}
#define IN_PLACE(name, operation)                                                                                      \
	static PyObject *name(PyObject *a, PyObject *b)                                                                \
	{                                                                                                              \
		return in_place(a, b, operation);                                                                      \
	}
#define UNARY(name, operation)                                                                                         \
	static PyObject *name(PyObject *a)                                                                             \
	{                                                                                                              \
		PyObject *view = operand(a);                                                                           \
		PyObject *result = view != NULL ? operation(view) : NULL;                                              \
		Py_XDECREF(view);                                                                                      \
		return result;                                                                                         \
	}

BINARY(add, PyNumber_Add)
BINARY(subtract, PyNumber_Subtract)
BINARY(multiply, PyNumber_Multiply)
BINARY(remainder_of, PyNumber_Remainder)
BINARY(divmod_of, PyNumber_Divmod)
BINARY(left_shift, PyNumber_Lshift)
BINARY(right_shift, PyNumber_Rshift)
BINARY(and, PyNumber_And)
BINARY(xor, PyNumber_Xor)
BINARY(or, PyNumber_Or)
BINARY(floor_divide, PyNumber_FloorDivide)
BINARY(true_divide, PyNumber_TrueDivide)
BINARY(matrix_multiply, PyNumber_MatrixMultiply)
IN_PLACE(in_place_add, PyNumber_InPlaceAdd)
IN_PLACE(in_place_subtract, PyNumber_InPlaceSubtract)
IN_PLACE(in_place_multiply, PyNumber_InPlaceMultiply)
IN_PLACE(in_place_remainder, PyNumber_InPlaceRemainder)
IN_PLACE(in_place_left_shift, PyNumber_InPlaceLshift)
IN_PLACE(in_place_right_shift, PyNumber_InPlaceRshift)
IN_PLACE(in_place_and, PyNumber_InPlaceAnd)
IN_PLACE(in_place_xor, PyNumber_InPlaceXor)
IN_PLACE(in_place_or, PyNumber_InPlaceOr)
IN_PLACE(in_place_floor_divide, PyNumber_InPlaceFloorDivide)
IN_PLACE(in_place_true_divide, PyNumber_InPlaceTrueDivide)
UNARY(negative, PyNumber_Negative)
UNARY(positive, PyNumber_Positive)
UNARY(absolute, PyNumber_Absolute)
UNARY(invert, PyNumber_Invert)
UNARY(to_int, PyNumber_Long)
UNARY(to_float, PyNumber_Float)
UNARY(iterate, PyObject_GetIter)

static PyObject *power(PyObject *a, PyObject *b, PyObject *modulus)
{
	PyObject *left = operand(a);
	PyObject *right = left != NULL ? operand(b) : NULL;
	PyObject *result = right != NULL ? PyNumber_Power(left, right, modulus) : NULL;
	Py_XDECREF(left);
	Py_XDECREF(right);
	return result;
}

/* bytes() asks for this first: numpy is not to be imported for that. */
static PyObject *to_index(PyObject *self)
{
	if (((struct tensor *)self)->array.ndim > 0)
		return PyErr_Format(PyExc_TypeError, "only a scalar of an integer type can be an index");
	PyObject *view = operand(self);
	PyObject *result = view != NULL ? PyNumber_Index(view) : NULL;
	Py_XDECREF(view);
	return result;
}

static int truth(PyObject *self)
{
	PyObject *view = operand(self);
	int result = view != NULL ? PyObject_IsTrue(view) : -1;
	Py_XDECREF(view);
	return result;
}

static int contains(PyObject *self, PyObject *value)
{
	PyObject *view = operand(self);
	int result = view != NULL ? PySequence_Contains(view, value) : -1;
	Py_XDECREF(view);
	return result;
}

static PyObject *compare(PyObject *a, PyObject *b, int operator)
{
	PyObject *left = operand(a);
	PyObject *right = left != NULL ? operand(b) : NULL;
	PyObject *result = right != NULL ? PyObject_RichCompare(left, right, operator) : NULL;
	Py_XDECREF(left);
	Py_XDECREF(right);
	return result;
}

const PyType_Slot tensor_forwarding_slots[] = {
	{Py_nb_add, SLOT(add)},
	{Py_nb_subtract, SLOT(subtract)},
	{Py_nb_multiply, SLOT(multiply)},
	{Py_nb_remainder, SLOT(remainder_of)},
	{Py_nb_divmod, SLOT(divmod_of)},
	{Py_nb_power, SLOT(power)},
	{Py_nb_lshift, SLOT(left_shift)},
	{Py_nb_rshift, SLOT(right_shift)},
	{Py_nb_and, SLOT(and)},
	{Py_nb_xor, SLOT(xor)},
	{Py_nb_or, SLOT(or)},
	{Py_nb_floor_divide, SLOT(floor_divide)},
	{Py_nb_true_divide, SLOT(true_divide)},
	{Py_nb_matrix_multiply, SLOT(matrix_multiply)},
	{Py_nb_inplace_add, SLOT(in_place_add)},
	{Py_nb_inplace_subtract, SLOT(in_place_subtract)},
	{Py_nb_inplace_multiply, SLOT(in_place_multiply)},
	{Py_nb_inplace_remainder, SLOT(in_place_remainder)},
	{Py_nb_inplace_lshift, SLOT(in_place_left_shift)},
	{Py_nb_inplace_rshift, SLOT(in_place_right_shift)},
	{Py_nb_inplace_and, SLOT(in_place_and)},
	{Py_nb_inplace_xor, SLOT(in_place_xor)},
	{Py_nb_inplace_or, SLOT(in_place_or)},
	{Py_nb_inplace_floor_divide, SLOT(in_place_floor_divide)},
	{Py_nb_inplace_true_divide, SLOT(in_place_true_divide)},
	{Py_nb_negative, SLOT(negative)},
	{Py_nb_positive, SLOT(positive)},
	{Py_nb_absolute, SLOT(absolute)},
	{Py_nb_invert, SLOT(invert)},
	{Py_nb_int, SLOT(to_int)},
	{Py_nb_float, SLOT(to_float)},
	{Py_nb_index, SLOT(to_index)},
	{Py_nb_bool, SLOT(truth)},
	{Py_sq_contains, SLOT(contains)},
	{Py_tp_iter, SLOT(iterate)},
	{Py_tp_richcompare, SLOT(compare)},
	{Py_tp_hash, SLOT(PyObject_HashNotImplemented)},
};

size_t tensor_forwarding_count(void)
{
	return sizeof tensor_forwarding_slots / sizeof tensor_forwarding_slots[0];
}
