/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volume: ten million messages and more in lanes of 64 KiB to 256 MiB. Most are small, for their number; some are as
 * large as a lane allows. In slow builds there are fewer: see scaled() in the harness.
 */
#include "../support/harness.h"
#include "../support/traffic.h"

static void six_million_small_messages_pass_a_lane_of_64_kib(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 1,
				      .consumers = 1,
				      .messages = scaled(6000000),
				      .lane_bytes = 64 << 10,
				      .depth = 1024});
}

static void two_million_pass_from_four_producers_to_one_consumer_in_batches(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 4,
				      .consumers = 1,
				      .messages = scaled(500000),
				      .lane_bytes = 1 << 20,
				      .depth = 1024,
				      .batch = 64});
}

static void a_million_pass_from_one_producer_to_four_consumers(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 1,
				      .consumers = 4,
				      .messages = scaled(1000000),
				      .lane_bytes = 1 << 20,
				      .depth = 1024});
}

static void a_million_pass_from_four_producers_to_four_consumers(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 4,
				      .consumers = 4,
				      .messages = scaled(250000),
				      .lane_bytes = 64 << 10,
				      .depth = 1024});
}

static void a_million_are_broadcast_to_three_consumers(void **state)
{
	(void)state;
	traffic_run("ranks", &(struct traffic_plan){.mode = SLUICE_BROADCAST,
				     .producers = 2,
				     .consumers = 3,
				     .messages = scaled(200000),
				     .lane_bytes = 64 << 10,
				     .depth = 1024});
}

static void half_a_million_of_mixed_sizes_pass_in_order(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.flags = SLUICE_ORDERED,
				      .producers = 4,
				      .consumers = 1,
				      .messages = scaled(125000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_MIXED});
}

static void messages_of_any_size_pass_lanes_of_1_mib(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(50000),
				      .lane_bytes = 1 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_ANY});
}

static void messages_of_any_size_pass_lanes_of_16_mib(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 2,
				      .consumers = 2,
				      .messages = scaled(10000),
				      .lane_bytes = 16 << 20,
				      .depth = 256,
				      .sizes = TRAFFIC_ANY});
}

static void messages_of_any_size_pass_a_lane_of_256_mib(void **state)
{
	(void)state;
	traffic_run("tokens", &(struct traffic_plan){.producers = 1,
				      .consumers = 2,
				      .messages = scaled(1000) + 200,
				      .lane_bytes = 256 << 20,
				      .depth = 64,
				      .sizes = TRAFFIC_ANY});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(six_million_small_messages_pass_a_lane_of_64_kib),
		promise(two_million_pass_from_four_producers_to_one_consumer_in_batches),
		promise(a_million_pass_from_one_producer_to_four_consumers),
		promise(a_million_pass_from_four_producers_to_four_consumers),
		promise(a_million_are_broadcast_to_three_consumers),
		promise(half_a_million_of_mixed_sizes_pass_in_order),
		promise(messages_of_any_size_pass_lanes_of_1_mib),
		promise(messages_of_any_size_pass_lanes_of_16_mib),
		promise(messages_of_any_size_pass_a_lane_of_256_mib),
	};

	return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
