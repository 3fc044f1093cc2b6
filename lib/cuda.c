/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching a consumer to CUDA, detaching it, and what is to be told of it. */
#include "cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"

int cuda_note(struct cuda *cuda, const struct cuda_reason *reason)
{
	pthread_mutex_lock(&cuda->mutex);
	cuda->reason = *reason;
	pthread_mutex_unlock(&cuda->mutex);
	return reason->error;
}

int cuda_check_consumer(struct sluice_consumer *consumer, struct cuda **ret_cuda)
{
	if (consumer == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	struct cuda *cuda = cuda_of(consumer);
	if (cuda == NULL || cuda->driver == NULL)
		return -ENOTCONN;
	*ret_cuda = cuda;
	return 0;
}

int cuda_check_message(const struct sluice_message *message, struct cuda **ret_cuda)
{
	if (message == NULL)
		return -EINVAL;
	int error = handle_check(message->handle);
	if (error != 0)
		return error;
	if (message_state(message) != MESSAGE_HELD) /* one of a producer never is */
		return -EALREADY;
	return cuda_check_consumer((struct sluice_consumer *)message->handle, ret_cuda);
}

/* ---- what a consumer calls ---- */

static void mapped(struct consumer_attachment *attachment, struct consumer_lane *lane)
{
	struct cuda *cuda = (struct cuda *)attachment;
	if (cuda->driver != NULL)
		cuda_pin_lane(cuda, lane);
}

static void unmapping(struct consumer_attachment *attachment, struct consumer_lane *lane)
{
	struct cuda *cuda = (struct cuda *)attachment;
	if (cuda->driver != NULL)
		cuda_unpin_lane(cuda, lane);
}

/* Lets go of everything. Returns 0, -EIO, or, unless `closing`, -EBUSY, and then it has not. */
static int detach(struct cuda *cuda, bool closing)
{
	struct cuda_reason reason = {0};
	int error = cuda_settle(cuda, closing, &reason);
	if (error == -EBUSY)
		return cuda_note(cuda, &reason);
	for (uint32_t i = 0; i < cuda->consumer->lane_count; i++)
		cuda_unpin_lane(cuda, cuda->consumer->lanes[i]);
	cuda_unpin_words(cuda);
	cuda_driver_drop(cuda->driver);
	cuda->driver = NULL;
	while (cuda->spare != NULL) {
		struct cuda_group *group = cuda->spare;
		cuda->spare = group->next;
		free(group);
	}
	if (error == 0)
		return 0;
	(void)cuda_note(cuda, &reason);
	return -EIO;
}

static void closing(struct consumer_attachment *attachment)
{
	struct cuda *cuda = (struct cuda *)attachment;
	if (cuda->driver != NULL)
		(void)detach(cuda, true);
	cuda->consumer->attachment = NULL;
	pthread_mutex_destroy(&cuda->mutex);
	free(cuda);
}

/* ---- attach ---- */

static int check_options(const struct sluice_cuda_options *options)
{
	const uint32_t known = SLUICE_CUDA_DEVICE | SLUICE_CUDA_PAGEABLE | SLUICE_CUDA_NO_STREAM_WRITES;
	if (options->size != sizeof *options || (options->flags & ~known) != 0)
		return -EINVAL;
	return (options->flags & SLUICE_CUDA_DEVICE) == 0 && options->device != 0 ? -EINVAL : 0;
}

/* The attachment of a consumer, made if it has none. It stays until the consumer closes, to tell why it failed. */
static struct cuda *make(struct sluice_consumer *consumer)
{
	if (consumer->attachment != NULL)
		return cuda_of(consumer);
	struct cuda *cuda = calloc(1, sizeof *cuda);
	if (cuda == NULL)
		return NULL;
	cuda->base = (struct consumer_attachment){
		.mapped = mapped,
		.unmapping = unmapping,
		.collect = cuda_collect,
		.nap_ns = cuda_nap_ns,
		.closing = closing,
	};
	cuda->consumer = consumer;
	pthread_mutex_init(&cuda->mutex, NULL);
	consumer->attachment = &cuda->base;
	return cuda;
}

int sluice_cuda_attach(struct sluice_consumer *consumer, const struct sluice_cuda_options *options)
{
	static const struct sluice_cuda_options defaults = {.size = sizeof defaults};
	if (options == NULL)
		options = &defaults;
	if (consumer == NULL || check_options(options) != 0)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	struct cuda *cuda = make(consumer);
	if (cuda == NULL)
		return -ENOMEM;
	if (cuda->driver != NULL)
		return -EEXIST;
	struct cuda_reason reason = {0};
	struct cuda_driver *driver;
	error = cuda_driver_open(options, &driver, &reason);
	if (error != 0)
		return cuda_note(cuda, &reason);
	cuda->flags = options->flags;
	cuda->failed = false;
	cuda->figures = (struct sluice_cuda_status){0};
	cuda->pin_reason = (struct cuda_reason){0};
	cuda->write_reason = (struct cuda_reason){0};
	cuda->reason = (struct cuda_reason){0};
	cuda->driver = driver;
	cuda_pin_words(cuda);
	for (uint32_t i = 0; i < consumer->lane_count; i++)
		cuda_pin_lane(cuda, consumer->lanes[i]);
	return 0;
}

int sluice_cuda_detach(struct sluice_consumer *consumer)
{
	struct cuda *cuda;
	int error = cuda_check_consumer(consumer, &cuda);
	if (error != 0)
		return error;
	return detach(cuda, false);
}

/* ---- status ---- */

static void tell(const struct cuda_reason *reason, int32_t *ret_error, char ret_text[SLUICE_CUDA_TEXT_BYTES])
{
	*ret_error = reason->error;
	memcpy(ret_text, reason->text, SLUICE_CUDA_TEXT_BYTES);
}

static void describe(const struct cuda *cuda, struct sluice_cuda_status *status)
{
	const struct cuda_driver *driver = cuda->driver;
	*status = cuda->figures;
	status->attached = 1;
	status->features =
		(cuda->writes ? SLUICE_CUDA_STREAM_WRITES : 0) | (driver->read_only ? SLUICE_CUDA_READ_ONLY : 0) |
		(driver->same_address ? SLUICE_CUDA_SAME_ADDRESS : 0) | (driver->pools ? SLUICE_CUDA_POOLS : 0);
	status->device = driver->device;
	status->driver_version = driver->version;
	status->pending = cuda->pending;
	memcpy(status->device_name, driver->device_name, sizeof status->device_name);
	status->device_name[sizeof status->device_name - 1] = '\0';
	if (status->pinned_lanes < status->lanes)
		tell(&cuda->pin_reason, &status->pin_error, status->pin_reason);
	tell(&cuda->write_reason, &status->write_error, status->write_reason);
}

int sluice_cuda_status(struct sluice_consumer *consumer, struct sluice_cuda_status *ret_status)
{
	if (consumer == NULL || ret_status == NULL)
		return -EINVAL;
	int error = handle_check(&consumer->handle);
	if (error != 0)
		return error;
	struct cuda *cuda = cuda_of(consumer);
	struct sluice_cuda_status status = {0};
	if (cuda != NULL) {
		pthread_mutex_lock(&cuda->mutex);
		if (cuda->driver != NULL)
			describe(cuda, &status);
		tell(&cuda->reason, &status.error, status.reason);
		pthread_mutex_unlock(&cuda->mutex);
	}
	*ret_status = status;
	return 0;
}
