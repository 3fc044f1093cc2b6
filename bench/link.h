/* SPDX-License-Identifier: Apache-2.0 */
/* One side's ends of Sluice channels: a producer one way, a consumer the other, as a case asks for them. */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <sluice/sluice.h>

#include "pair.h"

struct link {
	struct side *side;
	struct sluice_producer *producer;
	struct sluice_consumer *consumer;
	struct sluice_tensor_spec spec; /* one int32 tensor of the case's bytes */
	size_t count;                   /* its elements */
	const struct sluice_message *held;
};

/*
 * Opens a producer of channel "<run>-<out>" and a consumer of "<run>-<in>"; NULL for an end that is not wanted.
 * Returns 0 or what Sluice returned, noted with side_fail. Close with link_close in either case.
 */
int link_open(struct side *side, const char *out, const char *in, struct link *ret_link);
void link_close(struct link *link);

#endif
