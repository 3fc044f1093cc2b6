/* SPDX-License-Identifier: Apache-2.0 */
/* What each error code means in Sluice, and the library's version. */
#include <errno.h>
#include <stddef.h>

#include <sluice/error.h>
#include <sluice/version.h>

#include "layout.h"

static const struct {
	int code;
	const char *text;
} sentences[] = {
	{0, "success"},
	{EAGAIN, "nothing there yet, or no room yet: call again, or give a time-out"},
	{ETIMEDOUT, "the time-out passed and nothing was changed: call again, or see `sluice stat` for who is slow"},
	{EINTR, "a signal handler ran during the wait and nothing was changed: call again"},
	{EBUSY, "a reservation is open, publish or discard it first; or members still live, see `sluice ls`; or "
		"another "
		"thread waits in the poller, or another poller has the handle; or the CUDA stream is being captured"},
	{EMSGSIZE,
		"the message is larger than half its lane: ask for more lane_bytes, or send less at once; or than the "
		"buffer on the device: see sluice_cuda_batch_bytes"},
	{E2BIG, "a message takes up to 16 tensors of up to 8 dimensions"},
	{EOVERFLOW, "the shape's product does not fit 63 bits"},
	{EINVAL,
		"an argument is not valid: a name or an option, see sluice_producer_check and sluice_consumer_check; a "
		"dtype or a dimension; or a CUDA stream or address of "
		"another context"},
	{EALREADY, "that message was published, discarded or released before"},
	{EBADF, "that handle was closed before"},
	{ECHILD, "that handle belongs to the parent process: open one in the child after fork; CUDA cannot be started "
		 "in "
		 "the child of a process that has used it"},
	{ESTALE, "this member was declared dead and others took over what it held: close it and open again"},
	{EPIPE, "the last counterpart is gone: wait for another without SLUICE_REPORT_GONE, or stop"},
	{ENODATA, "end of stream: all producers closed and nothing is left"},
	{EBADMSG, "shared memory holds values that contradict themselves: sluice_consumer_fault names the lane's "
		  "producer; "
		  "`sluice rm` removes the channel"},
	{EPROTO, "a file stands in the channel's place that is not Sluice's: remove it, or choose another name"},
	{EPROTONOSUPPORT, "the channel was made by a Sluice with another layout version: `sluice rm` removes it"},
	{ENODEV, "there is no such memory node, PCI or CUDA device: see /sys/devices/system/node, `lspci -D`, "
		 "`nvidia-smi`"},
	{ENOSYS, "there is no CUDA driver, libcuda.so.1, on this machine or in this container: see sluice_cuda_status"},
	{ENOTCONN, "the consumer has no CUDA: call sluice_cuda_attach, and look at what it returns"},
	{EXDEV, "the tensor crosses a multiple of 1 GiB in its lane, and this device sees the two parts apart: upload "
		"it"},
	{EIO, "the CUDA driver failed: sluice_cuda_status has the name of its error"},
	{ENOENT,
		"there is no such channel, directory, record or entry: see `sluice ls`, and which directory SLUICE_DIR "
		"and the options name"},
	{ENOTDIR, "what the options or SLUICE_DIR name is no directory: name one on a tmpfs, such as /dev/shm"},
	{EEXIST, "the channel exists with other options than those insisted on: see `sluice stat`, or drop "
		 "SLUICE_INSIST; or the handle is in the poller already"},
	{ENOSPC,
		"the shared-memory file system is full: raise it (docker: --shm-size), or ask for less lane_bytes; see "
		"`sluice doctor`"},
	{EFBIG, "the process may not make files as large as the lane: raise `ulimit -f`, or ask for less lane_bytes"},
	{EUSERS, "the channel has its 128 members, or 128 lanes: see `sluice ls`"},
	{ENOBUFS, "the lane has its 64 schemas: use fewer different sets of tensor names, dtypes and ranks"},
	{EPERM, "the channel belongs to a user who is not trusted: name the uid in allowed_uids, or share a group"},
	{EACCES, "the system refused access: compare the channel's permissions with this user"},
	{ELOOP, "a symbolic link stands in the channel's place, and links are never followed: remove it"},
	{ENOTSUP, "the directory is not on a tmpfs: use /dev/shm, or point SLUICE_DIR at one; or /proc is not mounted; "
		  "or "
		  "neither io_uring nor futex_waitv is there for a poller, see `sluice doctor`; or the CUDA driver or "
		  "device "
		  "cannot do that, see sluice_cuda_status"},
	{ENOLCK, "this system only pretends to lock files, so deaths could not be noticed: use another directory or "
		 "sandbox"},
	{ENOMEM, "out of memory, or out of address space for mappings"},
	{EMFILE, "too many open files in this process: raise `ulimit -n`"},
	{ENFILE, "too many open files in the system: raise fs.file-max"},
};

const char *sluice_strerror(int code)
{
	/* Negated in the unsigned type, where INT_MIN cannot overflow. */
	unsigned int magnitude = code < 0 ? 0U - (unsigned int)code : (unsigned int)code;
	for (size_t i = 0; i < sizeof sentences / sizeof sentences[0]; i++)
		if ((unsigned int)sentences[i].code == magnitude)
			return sentences[i].text;
	return "an error of the system that Sluice has no sentence for: look the errno up with strerror";
}

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *sluice_version(void)
{
	return TEXT(SLUICE_VERSION_MAJOR) "." TEXT(SLUICE_VERSION_MINOR) "." TEXT(SLUICE_VERSION_PATCH);
}

uint32_t sluice_layout_version(void)
{
	return LAYOUT_VERSION;
}

const char *sluice_features(void)
{
	static const char names[] = ""
#if SLUICE_HAVE_LIBURING
				    " liburing"
#endif
#if SLUICE_HAVE_LIBNUMA
				    " libnuma"
#endif
#if SLUICE_HAVE_CUDA
				    " cuda"
#endif
		;
	return names[0] == ' ' ? names + 1 : names;
}
