/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving the batches that tokenizers publish and keeping them in private memory, one part for each tokenizer. */
#ifndef EXAMPLES_COLLECT_H
#define EXAMPLES_COLLECT_H

#include <stddef.h>
#include <stdint.h>

#include "ways.h"

struct collection {
	struct part *parts; /* one for each of the tokenizers that published something */
	size_t part_count;
	size_t batches;
	uint64_t content_bytes; /* of the largest batch */
	uint64_t checksum;      /* sum of batch_content_checksum */
};

/*
 * Receives from `channel` until `producers` tokenizers have ended. Returns 0, or a negative errno after saying what is
 * wrong (-EINTR without a word if a signal told the program to stop). `*ret_collection` is the caller's in either case.
 */
int collect(const char *channel, uint32_t producers, struct collection *ret_collection);

void collection_free(struct collection *collection);

#endif
