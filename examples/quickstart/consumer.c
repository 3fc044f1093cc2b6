/* SPDX-License-Identifier: Apache-2.0 */
#include <sluice/sluice.h>
#include <stdio.h>

int main(void)
{
	struct sluice_consumer_options options = {.size = sizeof(options), .flags = SLUICE_END_OF_STREAM};
	struct sluice_consumer *consumer;
	const struct sluice_message *message;
	if (sluice_consumer_open("tokens", &options, &consumer))
		return 1;
	while (!sluice_receive(consumer, SLUICE_FOREVER, &message)) {
		const int32_t *ids = sluice_tensor(message, 0)->data; /* the producer's memory: nothing was copied */
		printf("%d %d %d %d\n", ids[0], ids[1], ids[2], ids[3]);
		sluice_release(message);
	}
	return sluice_consumer_close(consumer) != 0;
}
