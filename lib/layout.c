/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensor.h"

#define PAGE UINT64_C(4096)

uint64_t layout_data_bytes(uint32_t depth, uint64_t payload_bytes, uint64_t *ret_payload_offset)
{
	uint64_t descriptors_end =
		offsetof(struct layout_data, descriptors) + (uint64_t)depth * sizeof(struct layout_descriptor);
	uint64_t payload_offset = (descriptors_end + PAGE - 1) / PAGE * PAGE;
	if (ret_payload_offset != NULL)
		*ret_payload_offset = payload_offset;
	return (payload_offset + payload_bytes + PAGE - 1) / PAGE * PAGE;
}

uint64_t layout_claims_bytes(uint32_t mode, uint32_t depth)
{
	uint64_t words =
		mode == SLUICE_BROADCAST ? LAYOUT_SLOTS * sizeof(struct layout_word) : depth * sizeof(uint64_t);
	return (offsetof(struct layout_claims, u) + words + PAGE - 1) / PAGE * PAGE;
}

static bool is_name_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
	       byte == '.' || byte == '_' || byte == '-';
}

static int check_name_bytes(const char *name, size_t length)
{
	if (length == 0 || length > SLUICE_MAX_NAME || name[0] == '.')
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		if (!is_name_byte(name[i]))
			return -EINVAL;
	return 0;
}

int layout_check_name(const char *name)
{
	return name == NULL ? -EINVAL : check_name_bytes(name, strnlen(name, SLUICE_MAX_NAME + 1));
}

/* '+' cannot occur in a channel's name, so no channel's control can be mistaken for another's lane. */
#define PREFIX    "sluice."
#define SEPARATOR '+'

void layout_control_name(const char *name, char ret_name[LAYOUT_NAME_BYTES])
{
	snprintf(ret_name, LAYOUT_NAME_BYTES, PREFIX "%s", name);
}

void layout_lane_name(const char *name, uint64_t channel_id, uint32_t slot, uint32_t incarnation, enum layout_kind kind,
	char ret_name[LAYOUT_NAME_BYTES])
{
	snprintf(ret_name, LAYOUT_NAME_BYTES, PREFIX "%s%c%016llx.%u.%u.%s", name, SEPARATOR,
		(unsigned long long)channel_id, slot, incarnation, kind == LAYOUT_DATA ? "data" : "claims");
}

bool layout_lane_owner(const char *entry, uint64_t *ret_channel_id, uint32_t *ret_slot, uint32_t *ret_incarnation)
{
	const char *separator = strchr(entry, SEPARATOR);
	unsigned long long id;
	if (separator == NULL || sscanf(separator + 1, "%16llx.%u.%u.", &id, ret_slot, ret_incarnation) != 3)
		return false;
	*ret_channel_id = id;
	return true;
}

int layout_parse_name(const char *entry, char ret_name[SLUICE_MAX_NAME + 1])
{
	if (strncmp(entry, PREFIX, strlen(PREFIX)) != 0)
		return 0;
	const char *name = entry + strlen(PREFIX);
	const char *separator = strchr(name, SEPARATOR);
	size_t length = separator != NULL ? (size_t)(separator - name) : strlen(name);
	if (check_name_bytes(name, length) != 0)
		return 0;
	memcpy(ret_name, name, length);
	ret_name[length] = '\0';
	return separator != NULL ? LAYOUT_DATA : LAYOUT_CONTROL;
}

int layout_check_header(const struct layout_header *header, enum layout_kind kind, uint64_t file_bytes)
{
	if (header->magic != LAYOUT_MAGIC)
		return -EPROTO; /* some other program's file */
	if (header->version != LAYOUT_VERSION || header->features != 0)
		return -EPROTONOSUPPORT; /* its later bytes may mean anything */
	if (header->kind != (uint32_t)kind)
		return -EPROTO; /* a lane in the place of a control object, or the reverse */
	if (header->bytes != file_bytes)
		return -EBADMSG; /* truncated or grown: the end of the mapping would not be where it says */
	if (header->slot >= LAYOUT_SLOTS)
		return -EBADMSG; /* indexes the roster */
	return 0;
}

static bool is_power_of_two(uint64_t number)
{
	return number != 0 && (number & (number - 1)) == 0;
}

const char *layout_check_config(const struct layout_config *config, const char *name)
{
	if (config->mode != SLUICE_QUEUE && config->mode != SLUICE_BROADCAST)
		return "unknown mode"; /* decides what a claims object holds */
	if ((config->flags & ~(uint32_t)(SLUICE_ORDERED | SLUICE_PERSISTENT)) != 0)
		return "unknown flags";
	if (!is_power_of_two(config->depth) || config->depth < 2 || config->depth > LAYOUT_MAX_DEPTH)
		return "depth"; /* would become the size of a lane of ours */
	if (config->lane_bytes < LAYOUT_MIN_PAYLOAD || config->lane_bytes > LAYOUT_MAX_PAYLOAD)
		return "lane bytes"; /* likewise */
	if ((config->permissions & ~UINT32_C(0777)) != 0)
		return "permissions"; /* never make a set-uid file for somebody else */
	if (strncmp(config->name, name, sizeof config->name) != 0)
		return "name of another channel"; /* becomes part of paths */
	return NULL;
}

const char *layout_check_geometry(const struct layout_lane_geometry *geometry, uint64_t file_bytes)
{
	if (!is_power_of_two(geometry->depth) || geometry->depth < 2 || geometry->depth > LAYOUT_MAX_DEPTH)
		return "depth"; /* masks and divides every sequence number */
	if (!is_power_of_two(geometry->alignment) || geometry->alignment < 64 || geometry->alignment > PAGE)
		return "alignment";
	if (geometry->payload_bytes < LAYOUT_MIN_PAYLOAD || geometry->payload_bytes > LAYOUT_MAX_PAYLOAD)
		return "payload bytes"; /* bounds the additions below */
	uint64_t payload_offset;
	if (layout_data_bytes(geometry->depth, geometry->payload_bytes, &payload_offset) != file_bytes)
		return "sizes that do not add up"; /* descriptors and payload lie inside the mapping */
	if (geometry->payload_offset != payload_offset)
		return "payload offset";
	if (memchr(geometry->program, '\0', sizeof geometry->program) == NULL)
		return "program without end"; /* will be printed */
	return NULL;
}

static bool is_node(uint32_t node)
{
	return node <= LAYOUT_MAX_NODES || node == LAYOUT_NODES_SEVERAL;
}

const char *layout_check_placement(const struct layout_placement *placement, uint64_t mapped_bytes)
{
	const uint32_t known = SLUICE_HUGE_PAGES | SLUICE_PREFAULT | SLUICE_LOCK_MEMORY | SLUICE_ON_NODE;
	const uint32_t last_errno = 4095; /* as the kernel has it */
	if ((placement->asked & ~known) != 0)
		return "unknown wishes"; /* callers are told that they were met where no error stands */
	if (placement->pages > LAYOUT_PAGES_HUGETLB)
		return "unknown kind of pages"; /* callers may index by it */
	if (!is_node(placement->asked_node) || !is_node(placement->node))
		return "node"; /* callers get it as a signed number and may index by it */
	if (placement->node_error > last_errno || placement->huge_error > last_errno ||
		placement->prefault_error > last_errno || placement->lock_error > last_errno)
		return "error number"; /* callers get it as a negative errno */
	if (placement->huge_bytes > mapped_bytes)
		return "more huge pages than memory"; /* callers subtract */
	return NULL;
}

const char *layout_check_schema(const struct layout_schema *schema)
{
	if (schema->tensor_count == 0 || schema->tensor_count > SLUICE_MAX_TENSORS)
		return "tensor count"; /* indexes the schema and the message's tensors */
	for (uint32_t i = 0; i < schema->tensor_count; i++) {
		const struct layout_schema_tensor *tensor = &schema->tensors[i];
		if (memchr(tensor->name, '\0', sizeof tensor->name) == NULL)
			return "tensor name without end"; /* callers get it as a string */
		if (tensor_element_bytes(tensor->dtype) == 0)
			return "dtype"; /* multiplies into sizes */
		if (tensor->ndim > SLUICE_MAX_DIMENSIONS)
			return "rank"; /* indexes the shape */
	}
	return NULL;
}
