/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes on memory nodes: where the kernel says they are, what cannot be, what is refused. */
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/harness.h"
#include "mapping.h"
#include "node.h"

static bool has_libnuma(void)
{
	return strstr(sluice_features(), "libnuma") != NULL;
}

static struct sluice_producer *open_on(uint32_t node, const char *device)
{
	return join_producer("tokens", PRODUCER(.channel = CHANNEL(), .node = node, .device = device));
}

/* The node was got and the kernel says so too; or it was not, for a reason that is one here. */
static void check_on_node(struct sluice_producer *producer, int32_t node)
{
	const struct sluice_placement placement = placement_of(producer);
	char policy[MAPPING_POLICY] = "", expected[MAPPING_POLICY];

	check_equal(SLUICE_ON_NODE, placement.asked);
	check_equal(node, placement.asked_node);
	if (!has_libnuma()) {
		check_equal(-ENOSYS, placement.node_error);
		check_equal(SLUICE_NODE_UNKNOWN, placement.node);
		check_equal(0, placement.obtained);
	} else if (placement.node_error == 0) {
		snprintf(expected, sizeof expected, "prefer:%d", node);
		check(mapping_policy(lane_address(producer), policy));
		check(!strcmp(expected, policy));
		check_equal(node, placement.node);
		check_equal(SLUICE_ON_NODE, placement.obtained);
	} else {
		/* A container's filter, or a kernel without nodes. */
		check(placement.node_error == -EPERM || placement.node_error == -ENOSYS);
		check_equal(0, placement.obtained);
	}
}

static void what_nobody_asked_for_is_not_looked_at(void **state)
{
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL()));
	const struct sluice_placement placement = placement_of(producer);
	char policy[MAPPING_POLICY];

	(void)state;
	check_equal(0, placement.asked);
	check_equal(0, placement.obtained);
	check_equal(SLUICE_NODE_UNKNOWN, placement.node);
	check_equal(SLUICE_NODE_UNKNOWN, placement.asked_node);
	check_equal(SLUICE_PAGES_SMALL, placement.pages);
	check_equal(0, placement.huge_bytes);
	check(!placement.node_error && !placement.huge_error && !placement.prefault_error && !placement.lock_error);
	if (mapping_policy(lane_address(producer), policy))
		check(!strcmp("default", policy));
	check_result(0, sluice_producer_close(producer));
}

static void a_lane_lies_on_the_node_asked_for(void **state)
{
	struct sluice_producer *producer = open_on(SLUICE_NODE(0), NULL);

	(void)state;
	check_on_node(producer, 0);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void a_lane_lies_near_the_cpu_that_opens_it(void **state)
{
	const int node = node_of_cpu(); /* it may have changed since, where there are several */
	struct sluice_producer *producer = open_on(SLUICE_NODE_OF_CPU, NULL);
	const struct sluice_placement placement = placement_of(producer);

	(void)state;
	if (node_exists(1))
		check(placement.asked_node >= 0);
	else
		check_on_node(producer, node);
	check_result(0, sluice_producer_close(producer));
}

/* Every device of the machine: near a node, or of a node that the kernel does not know. */
static void a_lane_lies_near_a_device(void **state)
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	const struct dirent *entry;
	unsigned count = 0;

	(void)state;
	while (devices && (entry = readdir(devices)) && count < 32) {
		struct sluice_producer *producer;
		int node;

		if (entry->d_name[0] == '.')
			continue;
		count++;
		node = node_of_device(entry->d_name);
		producer = open_on(0, entry->d_name);
		if (node >= 0) {
			check_on_node(producer, node);
		} else {
			const struct sluice_placement placement = placement_of(producer);

			check_result(-ENODATA, node);
			check_equal(SLUICE_ON_NODE, placement.asked);
			check_equal(0, placement.obtained);
			check_result(-ENODATA, placement.node_error);
			check_equal(SLUICE_NODE_UNKNOWN, placement.asked_node);
			check_works(producer, "tokens");
		}
		check_result(0, sluice_producer_close(producer));
	}
	if (devices)
		closedir(devices);
	if (!count)
		skip_because("no PCI devices here");
}

static void see_the_policy(void *shared, unsigned index)
{
	struct sluice_consumer *consumer = join_consumer("tokens", NULL);
	const struct sluice_message *message = hold(consumer);
	char policy[MAPPING_POLICY];

	(void)shared;
	(void)index;
	check(mapping_policy(sluice_tensor(message, 0)->data, policy));
	check(!strcmp("prefer:0", policy));
	check_result(0, sluice_release(message));
	check_result(0, sluice_consumer_close(consumer));
}

static void the_policy_belongs_to_the_memory_and_others_see_it(void **state)
{
	struct sluice_producer *producer = open_on(SLUICE_NODE(0), NULL);

	(void)state;
	if (placement_of(producer).obtained) {
		send_bytes(producer, 1, 1000);
		process_start(see_the_policy, NULL, 0);
		processes_finish();
	}
	check_result(0, sluice_producer_close(producer));
}

static void check_refused(int expected, uint32_t node, const char *device)
{
	struct sluice_producer *producer = NULL;
	const struct sluice_producer_options *options = PRODUCER(.channel = CHANNEL(), .node = node, .device = device);

	check_result(expected, sluice_producer_open("tokens", options, &producer));
	check(!producer);
	check_equal(0, sandbox_objects(NULL));
}

static void a_node_that_does_not_exist_is_refused(void **state)
{
	static const uint32_t nodes[] = {1000, 1023, 1024, 1025, 65536, UINT32_MAX - 2};

	(void)state;
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
		check_refused(-ENODEV, SLUICE_NODE(nodes[i]), NULL);
}

static void what_is_no_pci_address_is_refused(void **state)
{
	static const char *const addresses[] = {"", " ", "gpu0", "0000:17:00", "0000:17:00.", "0000:17:00.8",
		"0000:17:20.0", "0000:17:00.0 ", " 0000:17:00.0", "0000:17:00.0.0", "0000:17:00.01", "-1:17:00.0",
		"0x0:17:00.0", "0000:100:00.0", "123456789:17:00.0", "../../../etc", "0000:17:00.0/..", ":::."};

	(void)state;
	for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++)
		check_refused(-EINVAL, 0, addresses[i]);
	check_refused(-EINVAL, SLUICE_NODE(0), "0000:17:00.0");
	check_refused(-EINVAL, SLUICE_NODE_OF_CPU, "0000:17:00.0");
}

static void a_device_that_is_not_there_is_refused(void **state)
{
	static const char *const addresses[] = {
		"fffe:fe:1f.7", "0000fffe:FE:1F.7", "FFFE:fe:1f.7", "deadbeef:fe:1f.7", "fe:1f.7"};

	(void)state;
	for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++)
		check_refused(-ENODEV, 0, addresses[i]);
}

/* As a container's filter does. */
static void deny(unsigned number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof code / sizeof *code, code};

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void open_where_a_call_is_denied(void *shared, unsigned number)
{
	struct sluice_producer *producer;
	struct sluice_placement placement;

	(void)shared;
	deny(number);
	producer = open_on(SLUICE_NODE(0), NULL);
	placement = placement_of(producer);
	check_equal(SLUICE_ON_NODE, placement.asked);
	check_equal(0, placement.obtained);
	check_result(has_libnuma() ? -EPERM : -ENOSYS, placement.node_error);
	check_equal(0, placement.asked_node);
	check_works(producer, "tokens");
	check_result(0, sluice_producer_close(producer));
}

static void where_memory_may_not_be_placed_the_lane_opens_and_says_so(void **state)
{
	(void)state;
	process_start(open_where_a_call_is_denied, NULL, SYS_mbind);
	processes_finish();
}

static void where_nobody_may_look_the_node_counts_as_not_got(void **state)
{
	(void)state;
	process_start(open_where_a_call_is_denied, NULL, SYS_get_mempolicy);
	processes_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(what_nobody_asked_for_is_not_looked_at),
		promise(a_lane_lies_on_the_node_asked_for),
		promise(a_lane_lies_near_the_cpu_that_opens_it),
		promise(a_lane_lies_near_a_device),
		promise(the_policy_belongs_to_the_memory_and_others_see_it),
		promise(a_node_that_does_not_exist_is_refused),
		promise(what_is_no_pci_address_is_refused),
		promise(a_device_that_is_not_there_is_refused),
		promise(where_memory_may_not_be_placed_the_lane_opens_and_says_so),
		promise(where_nobody_may_look_the_node_counts_as_not_got),
	};

	return cmocka_run_group_tests_name("placement on nodes", tests, NULL, NULL);
}
