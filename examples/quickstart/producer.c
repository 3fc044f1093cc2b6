/* SPDX-License-Identifier: Apache-2.0 */
#include <sluice/sluice.h>

int main(void)
{
	struct sluice_tensor_spec spec = {"input_ids", SLUICE_INT32, 2, {1, 4}};
	struct sluice_producer *producer;
	struct sluice_message *message;
	if (sluice_producer_open("tokens", NULL, &producer))
		return 1;
	for (int32_t batch = 0; batch < 3 && !sluice_reserve(producer, &spec, 1, SLUICE_FOREVER, &message); batch++) {
		int32_t *ids = sluice_data(message, 0); /* shared memory: fill it in place */
		for (int i = 0; i < 4; i++)
			ids[i] = 100 * batch + i;
		sluice_publish(message);
	}
	return sluice_producer_close(producer) != 0;
}
