/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUDA: from the lane straight into a GPU, by DMA out of the memory that the producer wrote, or read there by kernels.
 *
 *     sluice_cuda_attach(consumer, NULL);                                    the context that is current, torch's say
 *     sluice_receive(consumer, SLUICE_FOREVER, &message);
 *     sluice_cuda_upload(message, 0, device_address, bytes, stream);         one asynchronous copy
 *     sluice_cuda_release(message, stream);                                  released when the stream gets there
 *
 * The driver, libcuda.so.1, is opened by sluice_cuda_attach and not before: the same library serves machines with and
 * without a GPU, and no toolkit is needed to build or to use it. A stream is a CUstream or a cudaStream_t, which are
 * the same pointer; NULL and 1 (CU_STREAM_LEGACY of cuda.h) are the legacy default stream, 2 (CU_STREAM_PER_THREAD) is the
 * thread's, which programs compiled for one default stream a thread have to name. A device address is a CUdeviceptr, or a
 * pointer of the runtime API cast to uintptr_t. No call
 * here leaves another context current than there was, none leaves an error behind in the runtime API, and none waits
 * for the device unless it says so.
 *
 * Pinned is each lane of an attached consumer (`cuMemHostRegister`, read-only where the device can): those that are
 * there in sluice_cuda_attach, those of later producers when a receive finds them, which takes about 50 ms for a GiB
 * and is not on the way of a message. Where pinning is refused the lane is received from as ever, uploads from it fail
 * with the reason unless SLUICE_CUDA_PAGEABLE was given, and sluice_cuda_status says why.
 *
 * Threads: attach, detach and collect are calls of the consumer's thread, as sluice_receive is. The others may come
 * from any thread while the consumer is open and attached, also while another receives; calls that name one message or
 * one buffer must not come at the same time. After fork every call in the child returns -ECHILD, and a child of a
 * process that has used CUDA cannot start it anew: attach says -ECHILD there too. Nothing here is safe in a signal
 * handler. A stream that is being captured into a graph is refused (-EBUSY): a message is gone when the graph runs. A
 * capture of other streams, by whatever thread, is not disturbed by any call here but sluice_cuda_detach.
 *
 * Errors that several calls share:
 *   -EINVAL    an argument; a stream or a device address of another context: sluice_cuda_status has the text
 *   -ENOTCONN  sluice_cuda_attach has not been called for this consumer, or failed
 *   -EALREADY  the message was released before
 *   -EBUSY     the stream is being captured
 *   -EIO       the driver failed; sluice_cuda_status has the name of its error. Most such errors are for good: the context
 *              does nothing any more
 *   -EBADF, -ECHILD  as for all calls of a consumer
 */
#ifndef SLUICE_CUDA_H
#define SLUICE_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/consumer.h>
#include <sluice/export.h>
#include <sluice/message.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUctx_st;    /* what CUcontext of cuda.h points to */
struct CUstream_st; /* what CUstream and cudaStream_t point to */

/* ---- attaching ---- */

/* Bits of sluice_cuda_options.flags. */
enum sluice_cuda_flags {
	SLUICE_CUDA_DEVICE = 1,   /* `device` is set */
	SLUICE_CUDA_PAGEABLE = 2, /* upload also from lanes that could not be pinned, at a fraction of the speed */
	SLUICE_CUDA_NO_STREAM_WRITES = 4 /* release by events, as where the device has no stream memory operations */
};

/* Options of sluice_cuda_attach. Zero means the default everywhere. `size` is sizeof(struct sluice_cuda_options). */
struct sluice_cuda_options {
	size_t size;
	struct CUctx_st
		*context; /* to be used; NULL: see below. It stays the caller's and must outlive the attachment */
	uint32_t flags;   /* enum sluice_cuda_flags */
	int32_t device;   /* with SLUICE_CUDA_DEVICE: ordinal, as of cudaSetDevice */
};

/*
 * Enables CUDA for a consumer: opens the driver, pins the lanes and the consumer's acknowledgement words.
 * Which context: `context` if that is given; else the calling thread's current one, unless SLUICE_CUDA_DEVICE names
 * another device; else the primary context of that device (0 if none is named), which is the one of the runtime API and
 * of torch, and is kept until detach. `options` may be NULL.
 * A lane that cannot be pinned is no error here: look at sluice_cuda_status. Closing the consumer detaches it.
 * Returns 0, -EEXIST (attached already), -ENOSYS (there is no libcuda.so.1), -ENOTSUP (its driver is too old, or works
 * with no device here), -ENODEV (no device; none of that ordinal; `context` is of another device), -ENOMEM, -EIO,
 * -EINVAL,
 * -ECHILD (the consumer's parent's; or CUDA was started before fork). Whatever it returns, sluice_cuda_status says
 * more.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_cuda_attach(
	struct sluice_consumer *consumer, const struct sluice_cuda_options *options);

/*
 * Waits until the context has done all that it was given, turns what was released into releases, unpins everything.
 * Messages that are held stay held and can be read. If the device failed, messages whose release it never came to go
 * back instead and are delivered again, the count one higher, since it may have failed over one of them (of a broadcast: they
 * are released). Afterwards the consumer may be attached anew.
 * A stream of the context must not be captured into a graph meanwhile, because the driver then refuses to wait, and
 * spoils the capture. Closing the consumer then waits for what was released, and no more: other uploads must be done.
 * Returns 0, -ENOTCONN, -EIO (all is detached nevertheless), -EBUSY (a capture; nothing is).
 */
SLUICE_API int sluice_cuda_detach(struct sluice_consumer *consumer);

/* What an attachment can do: bits of sluice_cuda_status.features. */
enum sluice_cuda_features {
	SLUICE_CUDA_STREAM_WRITES =
		1, /* streams acknowledge by themselves; else events are looked at in the consumer's calls */
	SLUICE_CUDA_READ_ONLY = 2,    /* lanes are pinned for reading only */
	SLUICE_CUDA_SAME_ADDRESS = 4, /* kernels see a lane at the address where the CPU does */
	SLUICE_CUDA_POOLS =
		8 /* buffers come and go in stream order; else sluice_cuda_buffer_destroy waits for its stream */
};

#define SLUICE_CUDA_TEXT_BYTES 160

/* What is pinned, and why not if not. Reasons are sentences for people; empty if there is none. */
struct sluice_cuda_status {
	uint32_t attached;        /* 1 between attach and detach; all but the last failure is 0 otherwise */
	uint32_t features;        /* enum sluice_cuda_features */
	int32_t device;           /* ordinal */
	uint32_t driver_version;  /* 12040 is 12.4 */
	uint32_t lanes;           /* that the consumer reads */
	uint32_t pinned_lanes;    /* of those */
	uint64_t pinned_bytes;    /* in lanes and for acknowledgements */
	uint64_t copies;          /* since attach */
	uint64_t copied_bytes;    /* since attach */
	uint64_t pageable_copies; /* of those, from lanes that are not pinned */
	uint64_t released;        /* messages given to streams to release, since attach */
	uint64_t by_event;        /* of those, by an event: there are no stream writes, or too many were under way */
	uint64_t pending;         /* of those, not free yet as far as the consumer knows */
	int32_t pin_error;   /* why the last lane that is not pinned is not: what uploads from it return; 0: all are */
	int32_t write_error; /* why there are no stream writes: -ENOTSUP (device, or not wanted) or as pin_error; 0 */
	int32_t error;       /* of the last failure of the driver, or of a stream that was refused; 0: none */
	uint32_t pad;
	char device_name[64];
	char pin_reason[SLUICE_CUDA_TEXT_BYTES];   /* of pin_error */
	char write_reason[SLUICE_CUDA_TEXT_BYTES]; /* of write_error */
	char reason[SLUICE_CUDA_TEXT_BYTES];       /* of error */
};

/*
 * Fills `*ret_status`; also of a consumer that was never attached, to say why attach failed. Any thread. Returns 0,
 * -EINVAL,
 * -EBADF, -ECHILD.
 */
SLUICE_API int sluice_cuda_status(struct sluice_consumer *consumer, struct sluice_cuda_status *ret_status);

/* ---- reading on the device ---- */

#define SLUICE_CUDA_ALL UINT32_MAX /* in place of a tensor's index: all of the message */

/*
 * Copies tensor `tensor` of a held message to the device, in stream order, as one copy; SLUICE_CUDA_ALL: all tensors of
 * the message as they lie, tensor i at as many bytes behind the first as its `data` is. `bytes` is what the buffer at
 * `address` can take. Returns before the copy is done: the message must stay held until then, which sluice_cuda_release
 * sees to; sluice_release would not.
 * Returns 0, -EMSGSIZE (more than `bytes`; nothing was copied), -EALREADY, -ENOTCONN, -EINVAL, -EBUSY, -EIO; of a lane
 * that is not pinned: -EPERM, -EACCES, -ENOMEM, -ENOTSUP or -EIO, see `pin_error` of the status.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_cuda_upload(const struct sluice_message *message, uint32_t tensor,
	uintptr_t address, uint64_t bytes, struct CUstream_st *stream);

/*
 * Copies `count` held messages of one consumer into one buffer, in as few copies as can be: messages that lie one
 * behind another in their lane, as those of a batch do, are one (two at the lane's end). `ret_offsets` gets, message by
 * message and tensor by tensor, at how many bytes from `address` each lies: as many numbers as the messages have
 * tensors, for which there must be room. Offsets are multiples of 64 if `address` is to be aligned to 64 itself, which
 * is up to the caller. Otherwise as sluice_cuda_upload. Returns the number of copies, or as that does; -EINVAL also for
 * messages of several consumers. -EIO: some copies may be under way; hold the messages until the stream is done.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_cuda_upload_batch(const struct sluice_message *const *messages, size_t count,
	uintptr_t address, uint64_t bytes, struct CUstream_st *stream, uint64_t *ret_offsets);

/*
 * How many bytes of a buffer that takes: more than the tensors themselves, because what lies between the messages of
 * one copy, up to 4 KiB, and between the tensors of a message counts. Needs no attachment. Returns the number, -EINVAL,
 * -EALREADY,
 * -EBADF, -ECHILD.
 */
SLUICE_API SLUICE_MUST_CHECK int64_t sluice_cuda_batch_bytes(
	const struct sluice_message *const *messages, size_t count);

/*
 * Where kernels find a tensor of a held message: in the lane itself, read over the bus. For what is small or read once.
 * The memory is read-only where SLUICE_CUDA_READ_ONLY says so, and must be treated so in any case. Valid until the
 * message is released: by sluice_cuda_release behind the kernel.
 * Returns 0, -EXDEV (the tensor crosses a multiple of 1 GiB in its lane, and this device sees the two parts apart),
 * -EALREADY,
 * -ENOTCONN, -EINVAL; of a lane that is not pinned as sluice_cuda_upload, whatever the options.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_cuda_pointer(
	const struct sluice_message *message, uint32_t tensor, uintptr_t *ret_address);

/* ---- releasing ---- */

/*
 * Releases a message once the stream has done all that it was given so far. The handle and its data are dead for the
 * caller when this returns; the memory goes back to its producer when the device has written an acknowledgement behind
 * that work, which nobody has to wait for. The consumer's next calls turn acknowledgements into releases, and so do
 * producers that want room, and members that look after the dead. In a broadcast, and where the status counts it as
 * `by_event`, only the consumer's own calls do: receive (not each one that finds a message at once), a wait in receive
 * or in a poller, sluice_cuda_collect, detach, close.
 * If the consumer dies before, the message is delivered to another.
 * From any thread. A lane need not be pinned. Never blocks, but for the driver's own submission.
 * Returns 0, or, the message being held as before: -EALREADY, -ENOTCONN, -EINVAL, -EBUSY, -EIO, -ENOMEM.
 */
SLUICE_API int sluice_cuda_release(const struct sluice_message *message, struct CUstream_st *stream);

/*
 * The same for `count` messages of one consumer with a single write behind the stream's work. Returns 0; -EALREADY
 * after releasing all others; or as above, and all are held as before.
 */
SLUICE_API int sluice_cuda_release_batch(
	const struct sluice_message *const *messages, size_t count, struct CUstream_st *stream);

/*
 * Turns what streams have acknowledged so far into releases. For a consumer that does not receive for a while.
 * Returns how many messages still wait for their stream, -ENOTCONN, -EIO (the device failed: detach), -EBADF, -ECHILD.
 */
SLUICE_API int sluice_cuda_collect(struct sluice_consumer *consumer);

/*
 * Makes `stream` wait for what `first` was given so far: for a message that several streams read, and one of them releases.
 * Both of the attachment's context. Any thread. Does not block. Returns 0 (also if they are the same), -ENOTCONN, -EINVAL,
 * -EBUSY, -EIO.
 */
SLUICE_API int sluice_cuda_follow(
	struct sluice_consumer *consumer, struct CUstream_st *first, struct CUstream_st *stream);

/* ---- memory on the device ---- */

/*
 * Device memory for uploads, for programs that have no allocator of their own. From the context of an attachment, which
 * it keeps alive: it may be used and destroyed after detach and close. Any thread, one at a time.
 */
struct sluice_cuda_buffer;

/*
 * Allocates `bytes` bytes, in the order of `stream` where the driver has memory pools. `*ret_buffer` is the caller's.
 * Returns 0, -ENOMEM, -ENOTCONN, -EINVAL (also 0 bytes), -EBUSY, -EIO.
 */
SLUICE_API SLUICE_MUST_CHECK int sluice_cuda_buffer_create(struct sluice_consumer *consumer, uint64_t bytes,
	struct CUstream_st *stream, struct sluice_cuda_buffer **ret_buffer);

/*
 * Frees it behind what `stream` was given so far. NULL is fine. Returns 0, -EINVAL, -EIO, -ECHILD, and it is gone; or
 * -EBUSY: the stream is being captured, and the buffer is still there.
 */
SLUICE_API int sluice_cuda_buffer_destroy(struct sluice_cuda_buffer *buffer, struct CUstream_st *stream);

/* Its address, its size and its device's ordinal. 0 for NULL. */
SLUICE_API uintptr_t sluice_cuda_buffer_address(const struct sluice_cuda_buffer *buffer);
SLUICE_API uint64_t sluice_cuda_buffer_bytes(const struct sluice_cuda_buffer *buffer);
SLUICE_API int sluice_cuda_buffer_device(const struct sluice_cuda_buffer *buffer);

/*
 * As sluice_cuda_follow, for a stream that is to use what another has uploaded; also after detach and close. Returns 0 (also
 * if they are the same), -EINVAL, -EBUSY, -EIO, -ECHILD.
 */
SLUICE_API int sluice_cuda_buffer_follow(
	const struct sluice_cuda_buffer *buffer, struct CUstream_st *first, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif
#endif
