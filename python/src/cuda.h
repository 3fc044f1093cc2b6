/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUDA: consumers that upload (cuda.c), tensors on the device (cuda_tensor.c, cuda_upload.c), and messages that are let go
 * behind the streams that may still read them (cuda_release.c, cuda_stream.c).
 *
 * Which streams those are is known of uploads. Of views (numpy arrays, torch tensors) it is not: a copy that does not block
 * may be under way from one that is already gone. So the stream that is torch's current one when a view is made, and the one
 * that is when the message goes, count as well. Asking torch runs Python code, in which other threads may have their turn:
 * whatever was looked at before is to be looked at again.
 */
#ifndef SLUICE_PYTHON_CUDA_H
#define SLUICE_PYTHON_CUDA_H

#include <sluice/cuda.h>

#include "dtype.h"
#include "handle.h"
#include "message.h"
#include "module.h"

typedef struct CUstream_st *cuda_stream;

/* ---- cuda_stream.c ---- */

/* Streams, each once. The default streams of threads count as the legacy one, which waits for all of them: NULL. */
struct cuda_streams {
	uint32_t count;
	uint32_t room;
	cuda_stream streams[];
};

/* Adds one; makes the set if it is NULL. Returns 0, or -1 with MemoryError and nothing changed. */
int cuda_streams_add(struct cuda_streams **streams, cuda_stream stream);

/* As the set has it. */
cuda_stream cuda_stream_canonical(cuda_stream stream);

/*
 * What a program calls a stream: None, a number, or an object of torch, CuPy or cuda.core. None is torch's current stream of
 * the device, if torch is loaded and has started CUDA, else the default stream. Returns 0, or -1 with an exception.
 */
int cuda_stream_parse(PyObject *object, int device, cuda_stream *ret_stream);

/* Torch's current stream, without exceptions: what goes wrong is reported as unraisable. False if torch has none. */
bool cuda_stream_of_torch(int device, cuda_stream *ret_stream);

/* From now on no Python code is called: the interpreter ends. */
void cuda_end(void);

/* Parses the arguments of a METH_FASTCALL | METH_KEYWORDS function that takes `stream` only; NULL for None or nothing. */
int cuda_parse_stream_argument(
	const char *function, PyObject *const *arguments, Py_ssize_t count, PyObject *names, PyObject **ret_stream);

/* ---- cuda.c ---- */

enum cuda_state {
	CUDA_OFF,
	CUDA_ON,
	CUDA_CHANGING /* a thread detaches, without the interpreter's lock: messages wait until it has */
};

/* What a consumer that has used CUDA has beside others. */
struct cuda_side {
	enum cuda_state state;
	int device;
	bool pageable;  /* uploads may take their time */
	bool pools;     /* freeing device memory takes none */
	bool failed;    /* the device did: what it never came to is not done with */
	uint32_t calls; /* uploads under way, without the interpreter's lock */
	struct cuda_parked *parked;
};

/* Raises what a call of the library said. Returns NULL. */
PyObject *cuda_raise(struct handle *handle, int error);

/* 0 if messages that are held can be uploaded, or -1 with an exception. */
int cuda_check(struct handle *handle);

/* Methods of Consumer. */
PyObject *cuda_enable(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *cuda_detach(PyObject *self, PyObject *unused);
PyObject *cuda_get_status(PyObject *self, void *unused);

/* At exit: detaches, so that messages that wait for a stream are released and not left to be delivered again. */
void cuda_settle(struct handle *handle);

/* The handle goes. */
void cuda_end_side(struct handle *handle);

#define CUDA_ENABLE_DOC                                                                                                \
	"cuda($self, device=0, *, pageable=False, stream_writes=True)\n--\n\n"                                         \
	"Enables CUDA: pins the lanes of all producers, those that come later too, so that tensors can be uploaded "   \
	"(to_cuda) and read in place (cuda_view) by the device. From now on the messages of this consumer are "        \
	"released behind the streams that may still read them. Returns cuda_status.\n\n"                               \
	"device: ordinal, as torch.cuda's; None for the context that is current in this thread. pageable: upload "     \
	"also from lanes that could not be pinned, at a fraction of the speed; the GIL is given away meanwhile. "      \
	"stream_writes=False: acknowledge by events, for comparison.\n\n"                                              \
	"A lane that cannot be pinned is a RuntimeWarning, with the reason. CudaError: no driver, no such device, "    \
	"used before fork, enabled already (EEXIST). Busy, Closed, Forked. To be called by the consumer's thread."
#define CUDA_DETACH_DOC                                                                                                \
	"cuda_detach($self)\n--\n\n"                                                                                   \
	"Waits, without the GIL, until the device has done all that it was given, releases what waited for that and "  \
	"unpins the lanes. Messages that are held stay held. Closing does so by itself.\n\n"                           \
	"CudaError: not enabled, or the device failed (EIO): then messages whose release it never came to go to "      \
	"another consumer; or a stream of the context is being captured into a graph (EBUSY), which this spoils: "     \
	"then "                                                                                                        \
	"nothing is detached. Busy while an upload is under way in another thread."
#define CUDA_STATUS_DOC "CudaStatus: what is pinned, what was copied and released, and why not if not. Any thread."

/* ---- cuda_release.c ---- */

/* hold_let_go of a consumer that has used CUDA. Nothing is raised: what cannot be given to a stream now is tried again. */
int cuda_let_go(struct hold *hold);

/* Message.release of such a consumer, or with a stream. The exception leaves the message held. */
PyObject *cuda_release(struct hold *hold, PyObject *stream);

/* Releases messages that were uploaded on a stream, with one write. Returns 0 or a negative errno; then they are held. */
int cuda_release_batch(struct handle *handle, struct hold *const *holds, Py_ssize_t count, cuda_stream stream);

/* Tries again what could not be given to a stream. */
void cuda_retry(struct handle *handle);

/* The same for the last time: the consumer closes and gives back what is left. */
void cuda_closing(struct handle *handle);

/* A view of the message is made: the caller's current stream may come to read it. Returns 0, or -1 with an exception. */
int cuda_note_view(struct hold *hold);

static inline void cuda_forget_streams(struct hold *hold)
{
	PyMem_Free(hold->streams);
	hold->streams = NULL;
}

/* How many messages wait in vain. */
Py_ssize_t cuda_parked_count(const struct handle *handle);

/* ---- cuda_tensor.c ---- */

/*
 * What CudaTensors and their capsules have in common: memory on the device, or a message that the device reads in place.
 * Counted under the interpreter's lock.
 */
struct cuda_memory {
	struct cuda_memory *next; /* of what cannot be freed now */
	Py_ssize_t references;
	struct sluice_cuda_buffer *buffer; /* NULL if there are no bytes */
	struct hold *hold;                 /* in place; or NULL */
	struct cuda_streams *streams;      /* that may use the buffer */
	cuda_stream upload;                /* that fills it */
	int device;
	int owner; /* the process */
	bool pools;
};

/* Memory of `bytes` bytes, in the order of the stream, with one reference. NULL with an exception. */
struct cuda_memory *cuda_memory_new(struct handle *handle, uint64_t bytes, cuda_stream stream);
/* Memory that is the message's own: a view of it. NULL with an exception. */
struct cuda_memory *cuda_memory_in_place(struct hold *hold);
/* Lets go of a reference. May run Python code; an exception that is set stays. */
void cuda_memory_drop(struct cuda_memory *memory);
/* Frees what could not be freed while a stream was captured. No Python code runs. */
void cuda_memory_retry(void);

/* What is to be a CudaTensor: a tensor of a message, which is at `address` on the device. NULL with an exception. */
PyObject *cuda_tensor_new(
	struct cuda_memory *memory, const struct sluice_tensor *description, uintptr_t address, bool readonly);

/* ---- cuda_upload.c ---- */

/* Methods of Tensor and of Message, and to_cuda(). */
PyObject *cuda_upload_tensor(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names);
PyObject *cuda_upload_message(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *cuda_upload_batch(PyObject *module, PyObject *arguments, PyObject *keywords);
PyObject *cuda_view(PyObject *self, PyObject *unused);
PyObject *cuda_device_pointer(PyObject *self, PyObject *unused);

#define CUDA_UPLOAD_TENSOR_DOC                                                                                         \
	"to_cuda($self, stream=None)\n--\n\n"                                                                          \
	"Copies the tensor to the device, by one DMA straight out of the lane: a CudaTensor, which "                   \
	"torch.from_dlpack takes without a copy. Returns before the copy is done; the message is released behind "     \
	"it, whenever you let it go.\n\n"                                                                              \
	"stream: None for torch's current stream, if torch has started CUDA, else the default stream; a number (a "    \
	"cudaStream_t; 1 the legacy, 2 the thread's default stream), or a stream of torch, CuPy or cuda.core. It has " \
	"to live as long as the message and the result.\n\n"                                                           \
	"CudaError (not enabled, lane not pinned, stream of another context or being captured, out of device "         \
	"memory), Released. From any thread while the consumer is open."
#define CUDA_UPLOAD_MESSAGE_DOC                                                                                        \
	"to_cuda($self, stream=None, *, release=False)\n--\n\n"                                                        \
	"Uploads all tensors as one copy: a dict of CudaTensors by name, which share one piece of device memory. "     \
	"release: let the message go behind the copy, at once; BufferError if it has views. Otherwise as "             \
	"Tensor.to_cuda."
#define CUDA_VIEW_DOC                                                                                                  \
	"cuda_view($self)\n--\n\n"                                                                                     \
	"The tensor in place, for kernels that read the lane over the bus: a read-only CudaTensor without a copy, "    \
	"for what is small or read once. It keeps the message, which is released behind the streams that got it by "   \
	"__dlpack__ and the caller's current one.\n\n"                                                                 \
	"torch has no read-only tensors: a kernel that writes to one ends the context. CudaError (not enabled, lane "  \
	"not pinned, EXDEV: the tensor crosses a multiple of 1 GiB in its lane), Released."
#define CUDA_DEVICE_POINTER_DOC                                                                                        \
	"device_pointer($self)\n--\n\n"                                                                                \
	"Where kernels find the tensor in the lane: a number, valid until the message is released, which goes behind " \
	"the caller's current stream, or the one given to release(). To be read only. Errors as of cuda_view."

#endif
