/* SPDX-License-Identifier: Apache-2.0 */
/* The times taken of each way, and the table of them with their ratios. */
#ifndef EXAMPLES_RESULTS_H
#define EXAMPLES_RESULTS_H

#include <stdint.h>
#include <stdio.h>

#include "../common/samples.h"
#include "ways.h"

enum span {
	SPAN_TRANSPORT, /* handed over to usable */
	SPAN_WHOLE,     /* fill to every byte read */
	SPANS
};

struct results {
	struct samples samples[WAYS][SPANS];
};

/* Sorts the samples and prints the table; ways without samples are left out. To be called once. */
void results_print(struct results *results, FILE *output);

void results_free(struct results *results);

#endif
