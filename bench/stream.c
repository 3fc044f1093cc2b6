/* SPDX-License-Identifier: Apache-2.0 */
/* One-way throughput through Sluice: a producer that never pauses, a consumer that takes one by one or in batches. */
#include "stream.h"

#include <errno.h>

#include "link.h"
#include "payload.h"

#define STREAM_BATCH_MOST 256

static int produce(struct link *link)
{
	struct side *side = link->side;
	uint64_t step = side_step(side->of->bytes);
	uint64_t batch = side->of->batch;
	uint64_t left = batch; /* messages until the batch is full */

	for (uint64_t i = 0; i < side_total(side); i++) {
		struct sluice_message *message;

		if (i == side_warm_up(side))
			side_start(side);
		if (i % step == 0)
			side_check_time(side, i, step);
		int error = sluice_reserve(link->producer, &link->spec, 1, SLUICE_FOREVER, &message);

		if (error)
			return side_fail(side, error, "sluice_reserve");
		payload_fill(sluice_data(message, 0), link->count, (uint32_t)i);
		bool last = batch <= 1 || --left == 0 || i + 1 == side_total(side);

		if (last)
			left = batch;
		error = last ? sluice_publish(message) : sluice_publish_more(message);
		if (error)
			return side_fail(side, error, "sluice_publish");
	}
	return 0;
}

static int check(const struct link *link, const struct sluice_message *message, uint64_t number)
{
	const struct sluice_tensor *tensor = sluice_tensor(message, 0);
	uint32_t sum = payload_sum(tensor->data, (size_t)tensor->shape[0]);

	if (sum == payload_expected(link->count, (uint32_t)number))
		return 0;
	return side_fail(link->side, -EBADMSG, "the payload is not what was written");
}

static int consume_singly(struct link *link)
{
	struct stream_meter meter = {.side = link->side};

	for (uint64_t i = 0; i < side_total(link->side); i++) {
		const struct sluice_message *message;

		stream_tick(&meter);
		int error = sluice_receive(link->consumer, SLUICE_FOREVER, &message);

		if (error)
			return side_fail(link->side, error, "sluice_receive");
		error = check(link, message, i);
		if (error)
			return error;
		error = sluice_release(message);
		if (error)
			return side_fail(link->side, error, "sluice_release");
		stream_count(&meter, 1);
	}
	return 0;
}

static int consume_batches(struct link *link)
{
	const struct sluice_message *messages[STREAM_BATCH_MOST];
	struct stream_meter meter = {.side = link->side};

	for (uint64_t i = 0; i < side_total(link->side);) {
		stream_tick(&meter);
		int count = sluice_receive_batch(link->consumer, link->side->of->batch, 0, 0, SLUICE_FOREVER, messages);

		if (count < 0)
			return side_fail(link->side, count, "sluice_receive_batch");
		for (int k = 0; k < count; k++) {
			int error = check(link, messages[k], i++);
			if (error)
				return error;
		}
		int error = sluice_release_batch(messages, (size_t)count);
		if (error)
			return side_fail(link->side, error, "sluice_release_batch");
		stream_count(&meter, (uint64_t)count);
	}
	return 0;
}

int stream_first(struct side *side)
{
	struct link link;
	int error = link_open(side, "there", NULL, &link);

	if (error == 0) {
		side_meet(side);
		error = produce(&link);
	}
	if (error == 0)
		side_finish(side);
	link_close(&link);
	return error;
}

int stream_second(struct side *side)
{
	struct link link;
	int error = link_open(side, NULL, "there", &link);

	if (error == 0) {
		side_meet(side);
		error = side->of->batch > 1 ? consume_batches(&link) : consume_singly(&link);
	}
	if (error == 0)
		side_finish(side);
	link_close(&link);
	return error;
}
