/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sluice/sluice.h>
#include <stdio.h>

static int failed(int error)
{
	fprintf(stderr, "consumer: %s\n", sluice_strerror(error));
	return 1;
}

int main(void)
{
	struct sluice_consumer_options options = {.size = sizeof(options), .flags = SLUICE_END_OF_STREAM};
	struct sluice_consumer *consumer;
	const struct sluice_message *message;
	int error = sluice_consumer_open("tokens", &options, &consumer);
	if (error)
		return failed(error);
	while (!(error = sluice_receive(consumer, SLUICE_FOREVER, &message))) {
		const int32_t *ids = sluice_tensor(message, 0)->data; /* the producer's memory: nothing was copied */
		printf("%d %d %d %d\n", ids[0], ids[1], ids[2], ids[3]);
		sluice_release(message);
	}
	sluice_consumer_close(consumer);
	return error != -ENODATA ? failed(error) : 0; /* the end of the stream: all producers have closed */
}
