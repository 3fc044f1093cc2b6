/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching: which device and context, what is said when there is none, and every call of the driver that can fail. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "device.h"

#define BYTES 4096

static struct sluice_cuda_status status_of(struct sluice_consumer *consumer)
{
	struct sluice_cuda_status status;

	check_result(0, sluice_cuda_status(consumer, &status));
	return status;
}

#define OPTIONS(...) (&(struct sluice_cuda_options){.size = sizeof(struct sluice_cuda_options), __VA_ARGS__})

/* Receives one message with the CPU: whatever CUDA says, that works. */
static void check_receives(struct sluice_consumer *consumer)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	const struct sluice_message *message;

	check_result(0, send_pattern(producer, 7, BYTES, 0));
	message = hold(consumer);
	check(is_pattern(sluice_tensor(message, 0)->data, 7, BYTES));
	check_result(0, sluice_release(message));
	check_result(0, sluice_producer_close(producer));
}

/* ---- which context ---- */

static void without_options_it_is_the_current_context(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	context_handle context = device_new_context(0);
	struct sluice_cuda_status status;

	check_result(0, sluice_cuda_attach(consumer, NULL));
	status = status_of(consumer);
	check_equal(1, status.attached);
	check_equal(0, status.device);
	check(status.driver_version >= 11030);
	check(status.device_name[0] != '\0');
	check_equal(0, status.error);
	check(device_current() == context);
	check_result(-EEXIST, sluice_cuda_attach(consumer, NULL));
	check_result(0, sluice_cuda_detach(consumer));
	check_equal(0, status_of(consumer).attached);
	check(device_current() == context);
	check_receives(consumer);
	check_result(0, sluice_consumer_close(consumer));
	device_end_context(context);
}

static void without_a_current_context_it_is_device_0(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_equal(0, status_of(consumer).device);
	if (standin())
		check_equal(1, standin_count().retained);
	check(device_current() == NULL);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_device_may_be_named(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	context_handle context = device_use(0);
	const int last = device_count() - 1;

	check_result(0, sluice_cuda_attach(consumer, OPTIONS(.flags = SLUICE_CUDA_DEVICE, .device = last)));
	check_equal(last, status_of(consumer).device);
	check(device_current() == context);
	check_result(0, sluice_cuda_detach(consumer));
	check_result(-ENODEV, sluice_cuda_attach(consumer, OPTIONS(.flags = SLUICE_CUDA_DEVICE, .device = last + 1)));
	check(strstr(status_of(consumer).reason, "no CUDA device") != NULL);
	check_result(-ENODEV, sluice_cuda_attach(consumer, OPTIONS(.flags = SLUICE_CUDA_DEVICE, .device = -1)));
	check_equal(0, status_of(consumer).attached);
	check_receives(consumer);
	check_result(0, sluice_consumer_close(consumer));
	device_let_go(0);
}

static void a_context_may_be_given(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	context_handle context = device_new_context(0);

	device_set_current(NULL);
	check_result(0, sluice_cuda_attach(consumer, OPTIONS(.context = context)));
	if (standin())
		check_equal(0, standin_count().retained);
	check_result(0, sluice_cuda_detach(consumer));
	check_result(0, sluice_cuda_attach(consumer, OPTIONS(.context = context, .flags = SLUICE_CUDA_DEVICE)));
	check_result(0, sluice_cuda_detach(consumer));
	if (device_count() > 1) {
		check_result(-ENODEV, sluice_cuda_attach(consumer,
					      OPTIONS(.context = context, .flags = SLUICE_CUDA_DEVICE, .device = 1)));
		check(strstr(status_of(consumer).reason, "context given") != NULL);
	}
	check_result(0, sluice_consumer_close(consumer));
	device_end_context(context);
}

static void nonsense_is_refused(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	struct sluice_cuda_status status;
	struct sluice_cuda_buffer *buffer;

	check_result(-EINVAL, sluice_cuda_attach(NULL, NULL));
	check_result(-EINVAL, sluice_cuda_attach(consumer, OPTIONS(.flags = 8)));
	check_result(-EINVAL, sluice_cuda_attach(consumer, OPTIONS(.device = 1)));
	check_result(-EINVAL, sluice_cuda_attach(consumer, &(struct sluice_cuda_options){.size = 8}));
	check_result(-EINVAL, sluice_cuda_status(consumer, NULL));
	check_result(-EINVAL, sluice_cuda_status(NULL, &status));
	check_result(-EINVAL, sluice_cuda_detach(NULL));
	check_result(-ENOTCONN, sluice_cuda_detach(consumer));
	check_result(-ENOTCONN, sluice_cuda_collect(consumer));
	check_result(-ENOTCONN, sluice_cuda_buffer_create(consumer, 64, NULL, &buffer));
	check_equal(0, status_of(consumer).attached);
	check_result(0, sluice_consumer_close(consumer));
	check_result(-EBADF, sluice_cuda_attach(consumer, NULL));
	check_result(-EBADF, sluice_cuda_status(consumer, &status));
	check_result(-EBADF, sluice_cuda_detach(consumer));
}

static void what_is_not_attached_says_so(void)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *message;
	uintptr_t address;
	uint64_t offset;

	check_result(0, send_pattern(producer, 1, BYTES, 0));
	message = hold(consumer);
	check_result(-ENOTCONN, sluice_cuda_upload(message, 0, 64, BYTES, NULL));
	check_result(-ENOTCONN, sluice_cuda_upload_batch(&message, 1, 64, BYTES, NULL, &offset));
	check_result(-ENOTCONN, sluice_cuda_pointer(message, 0, &address));
	check_result(-ENOTCONN, sluice_cuda_release(message, NULL));
	check_equal(BYTES, sluice_cuda_batch_bytes(&message, 1));
	check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
}

static void two_consumers_of_one_process_do_not_meet(void)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *first = join_consumer(CONSUMER(.channel = CHANNEL()));
	struct sluice_consumer *second = join_consumer(CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *messages[2];

	device_use(0);
	check_result(0, sluice_cuda_attach(first, NULL));
	check_result(0, sluice_cuda_attach(second, NULL));
	check_equal(1, status_of(first).pinned_lanes);
	check_equal(1, status_of(second).pinned_lanes);
	check_result(0, send_pattern(producer, 1, BYTES, 0));
	check_result(0, send_pattern(producer, 2, BYTES, 0));
	messages[0] = hold(first);
	messages[1] = hold(second);
	check_result(-EINVAL, sluice_cuda_release_batch(messages, 2, NULL));
	check_equal(-EINVAL, sluice_cuda_batch_bytes(messages, 2));
	check_result(0, sluice_cuda_release(messages[0], NULL));
	check_result(0, sluice_cuda_release(messages[1], NULL));
	check_result(0, sluice_consumer_close(first));
	check_result(0, sluice_consumer_close(second));
	check_result(0, sluice_producer_close(producer));
	device_let_go(0);
}

/* ---- what there may not be ---- */

static void a_driver_that_is_too_old(void)
{
	static const char *const needed[] = {"cuInit", "cuMemHostRegister", "cuStreamGetCtx", "cuEventRecord"};
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	for (unsigned i = 0; i < sizeof needed / sizeof needed[0]; i++) {
		standin()->hide(needed[i]);
		check_result(-ENOTSUP, sluice_cuda_attach(consumer, NULL));
		check(strstr(status_of(consumer).reason, needed[i]) != NULL);
	}
	standin()->hide(NULL);
	standin()->set_version(10000);
	check_result(-ENOTSUP, sluice_cuda_attach(consumer, NULL));
	check(strstr(status_of(consumer).reason, "too old") != NULL);
	/* Without these it works all the same. */
	standin()->set_version(11010);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_result(-ENOTSUP, status_of(consumer).write_error);
	check_receives(consumer);
	check_result(0, sluice_consumer_close(consumer));
}

static void no_device(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	standin()->set_devices(0);
	check_result(-ENODEV, sluice_cuda_attach(consumer, NULL));
	check(status_of(consumer).reason[0] != '\0');
	check_receives(consumer);
	standin()->set_devices(1);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_result(0, sluice_consumer_close(consumer));
}

static void every_call_of_attach_may_fail(void)
{
	static const struct {
		const char *call;
		int result;
		int error;
		bool with_context; /* one is current */
	} failures[] = {
		{"cuInit", 999, -EIO, false},
		{"cuInit", 34, -ENOSYS, false},
		{"cuInit", 803, -ENOTSUP, false},
		{"cuInit", 100, -ENODEV, false},
		{"cuDriverGetVersion", 999, -EIO, false},
		{"cuDeviceGetCount", 999, -EIO, false},
		{"cuCtxGetCurrent", 999, -EIO, false},
		{"cuDeviceGet", 101, -ENODEV, false},
		{"cuDevicePrimaryCtxRetain", 2, -ENOMEM, false},
		{"cuDevicePrimaryCtxRetain", 46, -ENODEV, false}, /* another process has it to itself */
		{"cuCtxGetDevice", 201, -EINVAL, true},
		{"cuDeviceGetName", 999, -EIO, false},
		{"cuDeviceGetAttribute", 999, -EIO, false},
	};
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	for (unsigned i = 0; i < sizeof failures / sizeof failures[0]; i++) {
		if (failures[i].with_context)
			device_use(0);
		standin()->fail(failures[i].call, 0, failures[i].result);
		check_result(failures[i].error, sluice_cuda_attach(consumer, NULL));
		check(strstr(status_of(consumer).reason, failures[i].call) != NULL);
		check_result(failures[i].error, status_of(consumer).error);
		check_receives(consumer);
		check_result(0, sluice_cuda_attach(consumer, NULL));
		check_equal(0, status_of(consumer).error);
		check_result(0, sluice_cuda_detach(consumer));
		if (failures[i].with_context)
			device_let_go(0);
	}
	check_result(0, sluice_consumer_close(consumer));
}

/* ---- fork ---- */

/* Drivers may tell by whatever call comes first. */
static void a_driver_of_the_parents_is_told_from_one_too_old(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	standin()->fail("cuGetProcAddress", 0, 3);
	check_result(-ECHILD, sluice_cuda_attach(consumer, NULL));
	check(strstr(status_of(consumer).reason, "fork") != NULL);
	check_receives(consumer);
	check_result(0, sluice_consumer_close(consumer));
}

static void a_child_of_a_fork_is_told(void)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	const struct sluice_message *message;
	struct sluice_cuda_buffer *buffer;
	struct sluice_cuda_status status;
	int ended;
	pid_t child;

	device_use(0);
	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_result(0, sluice_cuda_buffer_create(consumer, 64, NULL, &buffer));
	check_result(0, send_pattern(producer, 1, BYTES, 0));
	message = hold(consumer);
	child = fork();
	if (!child) {
		struct sluice_consumer *own;
		uintptr_t address;

		check_result(-ECHILD, sluice_cuda_upload(message, 0, 64, BYTES, NULL));
		check_result(-ECHILD, sluice_cuda_pointer(message, 0, &address));
		check_result(-ECHILD, sluice_cuda_release(message, NULL));
		check_result(-ECHILD, sluice_cuda_collect(consumer));
		check_result(-ECHILD, sluice_cuda_status(consumer, &status));
		check_result(-ECHILD, sluice_cuda_detach(consumer));
		check_result(-ECHILD, sluice_cuda_buffer_destroy(buffer, NULL));
		check_result(-ECHILD, sluice_cuda_buffer_follow(buffer, NULL, (stream_handle)2));
		check(is_pattern(sluice_tensor(message, 0)->data, 1, BYTES));
		own = join_consumer(CONSUMER(.channel = CHANNEL()));
		check_result(-ECHILD, sluice_cuda_attach(own, NULL));
		check(strstr(status_of(own).reason, "fork") != NULL);
		check_result(0, sluice_consumer_close(own));
		_exit(0);
	}
	check(waitpid(child, &ended, 0) == child);
	check_equal(0, ended);
	check_result(0, sluice_cuda_release(message, NULL));
	check_result(0, sluice_cuda_buffer_destroy(buffer, NULL));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
	device_let_go(0);
}

/* ---- memory on the device ---- */

#define MANY 24 /* handles: more than rest after they were closed */

/* Closed handles are used again: what a child opens must not make it the owner of a buffer that is its parent's. */
static void a_child_never_frees_the_buffer_of_a_consumer_long_closed(void)
{
	struct sluice_consumer *consumers[MANY];
	struct sluice_cuda_buffer *buffer;
	int ended;
	pid_t child;

	device_use(0);
	for (unsigned i = 0; i < MANY; i++)
		consumers[i] = join_consumer(CONSUMER(.channel = CHANNEL()));
	check_result(0, sluice_cuda_attach(consumers[0], NULL));
	check_result(0, sluice_cuda_buffer_create(consumers[0], 64, NULL, &buffer));
	for (unsigned i = 0; i < MANY; i++)
		check_result(0, sluice_consumer_close(consumers[i]));
	child = fork();
	if (!child) {
		for (unsigned i = 0; i < MANY; i++) {
			consumers[i] = join_consumer(CONSUMER(.channel = CHANNEL()));
			check_result(-ECHILD, sluice_cuda_buffer_destroy(buffer, NULL));
		}
		for (unsigned i = 0; i < MANY; i++)
			check_result(0, sluice_consumer_close(consumers[i]));
		_exit(0);
	}
	check(waitpid(child, &ended, 0) == child);
	check_equal(0, ended);
	check_result(0, sluice_cuda_buffer_destroy(buffer, NULL));
	device_let_go(0);
}

static void a_buffer_outlives_its_consumer(void)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	struct sluice_cuda_buffer *buffer;
	const struct sluice_message *message;
	uint8_t copy[BYTES];

	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_result(-EINVAL, sluice_cuda_buffer_create(consumer, 0, NULL, &buffer));
	check_result(0, sluice_cuda_buffer_create(consumer, BYTES, NULL, &buffer));
	check_equal(BYTES, sluice_cuda_buffer_bytes(buffer));
	check_equal(0, sluice_cuda_buffer_device(buffer));
	check_result(0, send_pattern(producer, 3, BYTES, 0));
	message = hold(consumer);
	check_result(0, sluice_cuda_upload(message, 0, sluice_cuda_buffer_address(buffer), BYTES, NULL));
	check_result(0, sluice_cuda_release(message, NULL));
	check_result(0, sluice_consumer_close(consumer));
	device_use(0);
	device_read(copy, sluice_cuda_buffer_address(buffer), BYTES);
	check(is_pattern(copy, 3, BYTES));
	check_result(0, sluice_cuda_buffer_destroy(buffer, NULL));
	check_result(0, sluice_cuda_buffer_destroy(NULL, NULL));
	check_equal(0, sluice_cuda_buffer_address(NULL));
	check_result(0, sluice_producer_close(producer));
	device_let_go(0);
}

static void a_stream_follows_another(void)
{
	struct sluice_producer *producer = join_producer(PRODUCER(.channel = CHANNEL()));
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	struct sluice_cuda_buffer *buffer;
	const struct sluice_message *message;
	struct device_gate gate;
	stream_handle first, second;

	device_use(0);
	first = device_stream();
	second = device_stream();
	check_result(0, sluice_cuda_attach(consumer, NULL));
	check_result(0, sluice_cuda_buffer_create(consumer, BYTES, first, &buffer));
	check_result(0, send_pattern(producer, 3, BYTES, 0));
	message = hold(consumer);
	device_hold(first, &gate);
	check_result(0, sluice_cuda_buffer_follow(buffer, first, first));
	check_result(0, sluice_cuda_buffer_follow(buffer, first, second));
	check_result(-EINVAL, sluice_cuda_buffer_follow(NULL, first, second));
	check_result(0, sluice_cuda_release(message, second));
	check_equal(1, sluice_cuda_collect(consumer));
	device_let_on(&gate);
	eventually(sluice_cuda_collect(consumer) == 0);
	check_result(0, sluice_cuda_buffer_destroy(buffer, second));

	/* The same without a buffer. */
	check_result(0, send_pattern(producer, 4, BYTES, 0));
	message = hold(consumer);
	device_hold(first, &gate);
	check_result(0, sluice_cuda_follow(consumer, first, first));
	check_result(0, sluice_cuda_follow(consumer, first, second));
	check_result(-EINVAL, sluice_cuda_follow(NULL, first, second));
	check_result(0, sluice_cuda_release(message, second));
	check_equal(1, sluice_cuda_collect(consumer));
	device_let_on(&gate);
	eventually(sluice_cuda_collect(consumer) == 0);
	check_result(0, sluice_cuda_detach(consumer));
	check_result(-ENOTCONN, sluice_cuda_follow(consumer, first, second));
	check_result(0, sluice_consumer_close(consumer));
	check_result(0, sluice_producer_close(producer));
	device_end_stream(first);
	device_end_stream(second);
	device_let_go(0);
}

static void every_call_for_a_buffer_may_fail(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));
	struct sluice_cuda_buffer *buffer;
	stream_handle stream;

	device_use(0);
	stream = device_stream();
	for (int pools = 0; pools < 2; pools++) {
		standin()->set_attribute(115, pools);
		check_result(0, sluice_cuda_attach(consumer, NULL));
		standin()->fail(pools ? "cuMemAllocAsync" : "cuMemAlloc", 0, 2);
		check_result(-ENOMEM, sluice_cuda_buffer_create(consumer, BYTES, stream, &buffer));
		check_result(-ENOMEM, status_of(consumer).error);
		check_result(0, sluice_cuda_buffer_create(consumer, BYTES, stream, &buffer));
		standin()->fail("cuEventCreate", 0, 999);
		check_result(-EIO, sluice_cuda_buffer_follow(buffer, NULL, stream));
		standin()->fail("cuEventRecord", 0, 999);
		check_result(-EIO, sluice_cuda_buffer_follow(buffer, NULL, stream));
		standin()->fail("cuStreamWaitEvent", 0, 999);
		check_result(-EIO, sluice_cuda_buffer_follow(buffer, NULL, stream));
		device_begin_capture(stream);
		check_result(-EBUSY, sluice_cuda_buffer_follow(buffer, NULL, stream));
		check_result(-EBUSY, sluice_cuda_buffer_destroy(buffer, stream));
		device_end_capture(stream);
		check_equal(1, standin_count().allocations);
		/* A stream that is of no use any more is no reason to keep the memory. */
		standin()->fail("cuStreamIsCapturing", 0, 400);
		check_result(-EINVAL, sluice_cuda_buffer_destroy(buffer, stream));
		check_equal(0, standin_count().allocations);
		check_result(0, sluice_cuda_detach(consumer));
	}
	standin()->set_attribute(115, 1);
	check_result(0, sluice_consumer_close(consumer));
	device_end_stream(stream);
	device_let_go(0);
}

/* ---- no driver at all: for a run in which none is found ---- */

static void no_driver(void)
{
	struct sluice_consumer *consumer = join_consumer(CONSUMER(.channel = CHANNEL()));

	check_result(-ENOSYS, sluice_cuda_attach(consumer, NULL));
	check_result(-ENOSYS, status_of(consumer).error);
	check(strstr(status_of(consumer).reason, "libcuda.so.1") != NULL);
	check_receives(consumer);
	check_result(0, sluice_consumer_close(consumer));
}

static const struct check_case cases[] = {
	CASE(without_options_it_is_the_current_context),
	CASE(without_a_current_context_it_is_device_0),
	CASE(a_device_may_be_named),
	CASE(a_context_may_be_given),
	CASE(nonsense_is_refused),
	CASE(what_is_not_attached_says_so),
	CASE(two_consumers_of_one_process_do_not_meet),
	STANDIN(a_driver_that_is_too_old),
	STANDIN(no_device),
	STANDIN(every_call_of_attach_may_fail),
	STANDIN(a_driver_of_the_parents_is_told_from_one_too_old),
	CASE(a_child_of_a_fork_is_told),
	CASE(a_child_never_frees_the_buffer_of_a_consumer_long_closed),
	CASE(a_buffer_outlives_its_consumer),
	CASE(a_stream_follows_another),
	STANDIN(every_call_for_a_buffer_may_fail),
};

static const struct check_case without_driver[] = {CASE(no_driver)};

int main(int count, char **arguments)
{
	if (count > 1 && !strcmp(arguments[1], "no_driver"))
		return check_main(count, arguments, without_driver, 1);
	return check_main(count, arguments, cases, sizeof cases / sizeof cases[0]);
}
