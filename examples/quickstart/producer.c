/* SPDX-License-Identifier: Apache-2.0 */
#include <sluice/sluice.h>
#include <stdio.h>

static int failed(int error)
{
	fprintf(stderr, "producer: %s\n", sluice_strerror(error)); /* what is wrong, and what to do next */
	return 1;
}

int main(void)
{
	struct sluice_tensor_spec spec = {"input_ids", SLUICE_INT32, 2, {1, 4}};
	struct sluice_producer *producer;
	struct sluice_message *message;
	int error = sluice_producer_open("tokens", NULL, &producer);
	if (error)
		return failed(error);
	for (int32_t batch = 0; batch < 3; batch++) {
		error = sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message);
		if (error)
			break;
		int32_t *ids = sluice_data(message, 0); /* shared memory: fill it in place */
		for (int i = 0; i < 4; i++)
			ids[i] = 100 * batch + i;
		sluice_publish(message);
	}
	sluice_producer_close(producer); /* what was published stays until it is released */
	return error ? failed(error) : 0;
}
