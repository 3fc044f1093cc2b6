/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as something held: how they begin and end, with how many views. */
#include "message.h"

#include <errno.h>

#include "cuda.h"
#include "errors.h"
#include "tensor.h"

PyObject *hold_new(PyTypeObject *type, struct handle *handle, struct sluice_message *message)
{
	struct hold *hold = PyObject_New(struct hold, type);
	if (hold == NULL) {
		if (type == reservation_type)
			sluice_discard(message);
		else
			sluice_release(message);
		return NULL;
	}
	Py_INCREF(handle);
	hold->handle = handle;
	hold->weakrefs = NULL;
	hold->message = message;
	hold->next = handle->holds;
	hold->link = &handle->holds;
	if (hold->next != NULL)
		hold->next->link = &hold->next;
	handle->holds = hold;
	hold->viewed = NULL;
	hold->streams = NULL;
	hold->exports = 0;
	hold->fate = NULL;
	hold->seen = false;
	hold->reserved = type == reservation_type;
	hold->given_up = false;
	hold->lost = false;
	return (PyObject *)hold;
}

static int refuse(const struct hold *hold)
{
	errors_raise(-EALREADY, "this message of channel %R was %s before", hold->handle->name, hold->fate);
	return -1;
}

int hold_check(struct hold *hold)
{
	return hold->message != NULL ? 0 : refuse(hold);
}

void hold_forget(struct hold *hold, const char *fate)
{
	*hold->link = hold->next;
	if (hold->next != NULL)
		hold->next->link = hold->link;
	hold->message = NULL;
	hold->fate = fate;
	cuda_forget_streams(hold);
}

int hold_let_go(struct hold *hold)
{
	if (hold->handle->cuda != NULL && !hold->reserved)
		return cuda_let_go(hold);
	struct sluice_message *message = hold->message;
	hold_forget(hold, hold->reserved ? "discarded" : "released");
	return hold->reserved ? sluice_discard(message) : sluice_release(message);
}

bool hold_drop_view(struct hold *hold)
{
	for (struct tensor *tensor = hold->viewed; tensor != NULL; tensor = tensor->next) {
		if (Py_REFCNT(tensor->view) == 1) {
			tensor_drop_view(tensor);
			return true;
		}
	}
	return false;
}

Py_ssize_t hold_live_views(struct hold *hold)
{
	while (hold->exports > 0 && hold_drop_view(hold))
		;
	return hold->exports;
}

/* A message that nobody looks into any more: let go, unless its handle, which is leaving, is to give it back. */
static void end_unseen(struct hold *hold)
{
	struct handle *handle = hold->handle;
	if (hold->message != NULL && (hold->reserved || !(handle->leaving && handle->give_back)))
		(void)hold_let_go(
			hold); /* an error has nobody to hear of it: the message is another's, or the parent's */
	Py_INCREF(handle);
	handle_view_gone(handle);
	Py_DECREF(handle);
}

int hold_export(struct hold *hold)
{
	if (hold->handle->cuda != NULL && cuda_note_view(hold) != 0)
		return -1;
	hold->exports++;
	return 0;
}

void hold_export_ended(struct hold *hold)
{
	hold->seen = true;
	if (--hold->exports == 0 && (hold->given_up || hold->handle->leaving))
		end_unseen(hold);
}

void hold_dealloc(PyObject *self)
{
	struct hold *hold = (struct hold *)self;
	if (hold->weakrefs != NULL)
		PyObject_ClearWeakRefs(self);
	if (hold->message != NULL) {
		struct handle *handle = hold->handle;
		if (hold->reserved || !(handle->leaving && handle->give_back))
			(void)hold_let_go(hold); /* as in end_unseen */
		else
			hold_forget(hold, "given back");
		handle_view_gone(handle);
	}
	Py_DECREF(hold->handle);
	module_free(self);
}

PyObject *hold_refuse_views(const struct hold *hold, const char *verb)
{
	return PyErr_Format(PyExc_BufferError,
		"%zd view%s (numpy array, memoryview, torch tensor) of this message %s alive and it cannot be %s: del "
		"%s "
		"first (a loop's variable counts too)",
		hold->exports, errors_plural(hold->exports), hold->exports == 1 ? "is" : "are", verb,
		hold->exports == 1 ? "it" : "them");
}
