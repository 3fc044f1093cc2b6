/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "layout.h"
#include "node.h"

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

/* What callers are told is what the layout can hold. */
_Static_assert(SLUICE_MIN_LANE_BYTES == LAYOUT_MIN_PAYLOAD, "lane_bytes");
_Static_assert(SLUICE_MAX_LANE_BYTES == LAYOUT_MAX_PAYLOAD, "lane_bytes");
_Static_assert(SLUICE_MAX_DEPTH == LAYOUT_MAX_DEPTH, "depth");
_Static_assert(SLUICE_MAX_DELIVERIES == LAYOUT_MAX_DELIVERIES, "max_deliveries");

/* ---- what several structs have ---- */

static const char *object_to_lane(uint64_t lane_bytes, uint32_t depth)
{
	if (lane_bytes != 0 && (lane_bytes < SLUICE_MIN_LANE_BYTES || lane_bytes > SLUICE_MAX_LANE_BYTES))
		return "lane_bytes has to be from 4 KiB to 128 GiB, or 0 for the default";
	if (depth != 0 && (depth < 2 || depth > SLUICE_MAX_DEPTH))
		return "depth has to be from 2 to " TEXT(SLUICE_MAX_DEPTH) " messages, or 0 for the default";
	return NULL;
}

static const char *object_to_spin(int64_t spin_ns)
{
	return spin_ns < SLUICE_NO_SPIN
		       ? "spin_ns has to be nanoseconds, 0 for the default, SLUICE_NO_SPIN or SLUICE_SPIN_ONLY"
		       : NULL;
}

/* ---- channels ---- */

const char *options_object_to_name(const char *name)
{
	return layout_check_name(name) == 0
		       ? NULL
		       : "a channel's name has to be 1 to " TEXT(
				 SLUICE_MAX_NAME) " letters, digits, '.', '_' and '-', "
						  "and must not start with '.' (the directory is an option of its own)";
}

const char *options_object_to_channel(const struct sluice_channel_options *options)
{
	const uint32_t known = SLUICE_ORDERED | SLUICE_PERSISTENT | SLUICE_ATTACH_ONLY | SLUICE_INSIST | SLUICE_GROUP;
	if (options == NULL)
		return NULL;
	if (options->size != sizeof *options)
		return "size has to be sizeof(struct sluice_channel_options), of the header that the library was built "
		       "with";
	if (options->mode > SLUICE_BROADCAST)
		return "mode has to be SLUICE_QUEUE or SLUICE_BROADCAST, or 0 for the default";
	if ((options->flags & ~known) != 0)
		return "flags has a bit that is not in enum sluice_channel_flags: flags of members go into their own "
		       "options";
	const char *objection = object_to_lane(options->lane_bytes, options->depth);
	if (objection != NULL)
		return objection;
	if ((options->permissions & ~UINT32_C(0777)) != 0)
		return "permissions have to be within 0777, or 0 for the default";
	if (options->expected_consumers > SLUICE_MAX_MEMBERS)
		return "expected_consumers has to be up to " TEXT(SLUICE_MAX_MEMBERS);
	if (options->max_deliveries > SLUICE_MAX_DELIVERIES && options->max_deliveries != SLUICE_UNLIMITED)
		return "max_deliveries has to be from 1 to " TEXT(SLUICE_MAX_DELIVERIES) ", SLUICE_UNLIMITED, or 0 for "
											 "the default";
	if (options->allowed_uid_count > SLUICE_MAX_UIDS)
		return "allowed_uid_count has to be up to " TEXT(SLUICE_MAX_UIDS);
	if (options->allowed_uid_count > 0 && options->allowed_uids == NULL)
		return "allowed_uids is NULL although allowed_uid_count is not 0";
	if (options->open_timeout_ns < 0)
		return "open_timeout_ns has to be more than 0, or 0 for the default";
	if (options->take_back_ns < 0)
		return "take_back_ns has to be more than 0, or 0 for never";
	/* What is asked of the other mode would do nothing. Without a mode it may be meant for what exists. */
	if (options->mode == SLUICE_BROADCAST && options->take_back_ns != 0)
		return "take_back_ns is for queues, and mode is SLUICE_BROADCAST: drop one of them";
	if (options->mode == SLUICE_QUEUE && options->expected_consumers != 0)
		return "expected_consumers is for broadcasts, and mode is SLUICE_QUEUE: drop one of them";
	return NULL;
}

/* ---- members ---- */

const char *options_object_to_consumer(const struct sluice_consumer_options *options)
{
	const uint32_t known = SLUICE_START_NEWEST | SLUICE_END_OF_STREAM | SLUICE_REPORT_GONE | SLUICE_PREFAULT;
	if (options == NULL)
		return NULL;
	if (options->size != sizeof *options)
		return "size has to be sizeof(struct sluice_consumer_options), of the header that the library was "
		       "built "
		       "with";
	if ((options->flags & ~known) != 0)
		return "flags has a bit that is no flag of consumers: those of channels go into the channel's options";
	if (options->expected_producers != 0 && (options->flags & SLUICE_END_OF_STREAM) == 0)
		return "expected_producers says when a stream ends: add SLUICE_END_OF_STREAM to flags";
	if ((options->flags & SLUICE_START_NEWEST) != 0 && options->channel != NULL &&
		options->channel->mode == SLUICE_QUEUE)
		return "SLUICE_START_NEWEST is for broadcasts, and mode is SLUICE_QUEUE: drop one of them";
	return object_to_spin(options->spin_ns);
}

static const char *object_to_producer(const struct sluice_producer_options *options)
{
	const uint32_t known = SLUICE_REPORT_GONE | SLUICE_HUGE_PAGES | SLUICE_PREFAULT | SLUICE_LOCK_MEMORY;
	uint32_t alignment = options->alignment;
	if ((options->flags & ~known) != 0)
		return "flags has a bit that is no flag of producers: those of channels go into the channel's options";
	const char *objection = object_to_lane(options->lane_bytes, options->depth);
	if (objection != NULL)
		return objection;
	if (alignment != 0 && (alignment < 64 || alignment > 4096 || (alignment & (alignment - 1)) != 0))
		return "alignment has to be a power of two from 64 to 4096 bytes, or 0 for the default";
	if (options->device != NULL && options->node != 0)
		return "node and device exclude each other: ask for one of them";
	if (options->device != NULL && node_of_device(options->device) == -EINVAL)
		return "device has to be a PCI address such as \"0000:17:00.0\", as lspci -D and nvidia-smi show it";
	return object_to_spin(options->spin_ns);
}

const char *options_load_producer(
	const struct sluice_producer_options *given, struct sluice_producer_options *ret_options)
{
	const size_t before_placement = offsetof(struct sluice_producer_options, node);
	*ret_options = (struct sluice_producer_options){.size = sizeof *ret_options};
	if (given == NULL)
		return NULL;
	if (given->size != sizeof *given && given->size != before_placement)
		return "size has to be sizeof(struct sluice_producer_options), of the header that the library was "
		       "built "
		       "with";
	memcpy(ret_options, given, given->size);
	return object_to_producer(ret_options);
}

/* ---- for callers ---- */

const char *sluice_producer_check(const char *name, const struct sluice_producer_options *options)
{
	struct sluice_producer_options loaded;
	const char *objection = options_load_producer(options, &loaded);
	if (objection == NULL)
		objection = options_object_to_channel(loaded.channel);
	return objection != NULL ? objection : options_object_to_name(name);
}

const char *sluice_consumer_check(const char *name, const struct sluice_consumer_options *options)
{
	const char *objection = options_object_to_consumer(options);
	if (objection == NULL && options != NULL)
		objection = options_object_to_channel(options->channel);
	return objection != NULL ? objection : options_object_to_name(name);
}
