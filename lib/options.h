/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What callers may ask for when they open a channel: the checks of names and options, each with the sentence that says what
 * is allowed. They look at the arguments alone.
 */
#ifndef SLUICE_LIB_OPTIONS_H
#define SLUICE_LIB_OPTIONS_H

#include <sluice/channel.h>
#include <sluice/consumer.h>
#include <sluice/producer.h>

/* Each returns NULL, or what is wrong, for ever valid. `options` may be NULL in the first two. */
const char *options_object_to_name(const char *name);
const char *options_object_to_channel(const struct sluice_channel_options *options);
const char *options_object_to_consumer(const struct sluice_consumer_options *options);

/* Also fills `*ret_options`, where callers that were built before an option came have its default. */
const char *options_load_producer(
	const struct sluice_producer_options *given, struct sluice_producer_options *ret_options);

#endif
