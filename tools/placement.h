/* SPDX-License-Identifier: Apache-2.0 */
/* Where the memory of lanes lies, and what their producers asked for and did not get. */
#ifndef SLUICE_TOOL_PLACEMENT_H
#define SLUICE_TOOL_PLACEMENT_H

#include <sluice/channel.h>

struct json_object;

/* A table of the lanes about whose memory something is known, and below it what was not got, and why. */
void print_placements(const struct sluice_channel_stat *stat);

struct json_object *placement_json(const struct sluice_placement *placement);

#endif
