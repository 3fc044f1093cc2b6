/* SPDX-License-Identifier: Apache-2.0 */
/* What reserve() is asked for: names, shapes and element types, as the library wants them. */
#ifndef SLUICE_PYTHON_SPEC_H
#define SLUICE_PYTHON_SPEC_H

#include "module.h"

/* Self-contained, so that it stands while the interpreter's lock is away; it is not to be moved. */
struct spec_set {
	size_t count;
	struct sluice_tensor_spec specs[SLUICE_MAX_TENSORS];
	char names[SLUICE_MAX_TENSORS][SLUICE_MAX_TENSOR_NAME + 1];
};

/* Adds a tensor's name. Returns its spec, or NULL with an exception. */
struct sluice_tensor_spec *spec_add(struct spec_set *set, PyObject *name);

/* Adds `name`: (shape, dtype). Returns 0, or -1 with an exception. */
int spec_add_pair(struct spec_set *set, PyObject *name, PyObject *pair);

/* Copies a set to another place. */
void spec_copy(struct spec_set *to, const struct spec_set *from);

/* True if a pair is immutable all through, so that its identity stands for its value. */
bool spec_is_constant(PyObject *pair);

/* Raises what a refusal of the library means for this set. Returns NULL. */
PyObject *spec_raise(int code, const struct spec_set *set, struct sluice_producer *producer);

#endif
