/* SPDX-License-Identifier: Apache-2.0 */
#include "lane_table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "atomic.h"
#include "claims.h"
#include "clock.h"
#include "lane.h"
#include "roster.h"
#include "sys.h"

/* ---- making ---- */

static void fill_header(
	const struct lane_table *table, struct lane_key key, enum layout_kind kind, struct segment *segment)
{
	*(struct layout_header *)segment->base = (struct layout_header){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.kind = kind,
		.bytes = segment->bytes,
		.channel_id = table->channel_id,
		.slot = key.slot,
		.incarnation = key.incarnation,
		.created_ns = clock_realtime_ns(),
	};
}

static void fill_owner(struct layout_data *data)
{
	data->geometry.pid = (uint32_t)getpid();
	data->geometry.uid = geteuid();
	sys_program_name(data->geometry.program, sizeof data->geometry.program);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void lane_objects_release(struct lane_objects *objects)
{
	segment_unmap(&objects->data);
	segment_unmap(&objects->claims);
	close_fd(&objects->data_fd);
	close_fd(&objects->claims_fd);
}

/* Claims lie where the data does, but are too few for huge pages. */
static int make_objects(const struct lane_table *table, uint32_t depth, uint64_t payload_bytes,
	const struct place *place, struct lane_objects *objects)
{
	struct layout_placement placement = {0};
	const struct place claims_place = {.asked = place->asked & ~(uint32_t)SLUICE_HUGE_PAGES, .node = place->node};
	int error = segment_create_at(table->directory_fd, layout_data_bytes(depth, payload_bytes, NULL), table->trust,
		place, &placement, &objects->data_fd, &objects->data);
	if (error == 0)
		error = segment_create_at(table->directory_fd, layout_claims_bytes(table->mode, depth), table->trust,
			&claims_place, &placement, &objects->claims_fd, &objects->claims);
	if (error == 0)
		((struct layout_data *)objects->data.base)->placement = placement;
	return error;
}

int lane_table_make(const struct lane_table *table, struct lane_key key, uint32_t depth, uint64_t payload_bytes,
	const struct place *place, struct lane_objects *ret_objects)
{
	struct lane_objects objects = {.data_fd = -1, .claims_fd = -1};
	int error = make_objects(table, depth, payload_bytes, place, &objects);
	if (error != 0) {
		lane_objects_release(&objects);
		return error;
	}
	fill_header(table, key, LAYOUT_DATA, &objects.data);
	fill_header(table, key, LAYOUT_CLAIMS, &objects.claims);
	fill_owner(objects.data.base);
	*ret_objects = objects;
	return 0;
}

static void lane_names(const struct lane_table *table, struct lane_key key, char ret_data[LAYOUT_NAME_BYTES],
	char ret_claims[LAYOUT_NAME_BYTES])
{
	layout_lane_name(table->name, table->channel_id, key.slot, key.incarnation, LAYOUT_DATA, ret_data);
	layout_lane_name(table->name, table->channel_id, key.slot, key.incarnation, LAYOUT_CLAIMS, ret_claims);
}

static int find_empty(const struct layout_control *control)
{
	struct lane_key key;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++)
		if (!lane_table_entry(control, i, &key))
			return (int)i;
	return -EUSERS;
}

int lane_table_link(const struct lane_table *table, struct lane_key key, struct lane_objects *objects)
{
	int index = find_empty(table->control);
	if (index < 0) {
		lane_table_retire_all(table); /* what is drained has perhaps not been noticed yet */
		index = find_empty(table->control);
	}
	if (index < 0)
		return index;
	char data_name[LAYOUT_NAME_BYTES];
	char claims_name[LAYOUT_NAME_BYTES];
	lane_names(table, key, data_name, claims_name);
	int error = segment_link(table->directory_fd, objects->claims_fd, claims_name);
	if (error != 0)
		return error;
	error = segment_link(table->directory_fd, objects->data_fd, data_name);
	if (error != 0) {
		segment_unlink(table->directory_fd, claims_name);
		return error;
	}
	close_fd(&objects->data_fd);
	close_fd(&objects->claims_fd);

	struct layout_lane_entry *entry = &table->control->lanes[index];
	atomic_store_relaxed(&entry->slot, key.slot); /* relaxed: published by L1 */
	atomic_store_relaxed(&entry->incarnation, key.incarnation);
	atomic_store_release(&entry->state, LAYOUT_LANE_LINKED); /* L1: linked, pairs with L2 in lane_table_entry */
	atomic_add_full(
		&table->control->epochs.lanes, UINT64_C(1)); /* E1: after L1, pairs with E2 in consumer_sync_lanes */
	return 0;
}

/* ---- finding ---- */

bool lane_table_entry(const struct layout_control *control, uint32_t index, struct lane_key *ret_key)
{
	const struct layout_lane_entry *entry = &control->lanes[index];
	if (atomic_load_acquire(&entry->state) != LAYOUT_LANE_LINKED) /* L2: pairs with L1 in lane_table_link */
		return false;
	/* relaxed: a reused entry mixes two lanes at worst, and the object's own header then disagrees */
	*ret_key = (struct lane_key){atomic_load_relaxed(&entry->slot), atomic_load_relaxed(&entry->incarnation)};
	return true;
}

bool lane_table_has(const struct layout_control *control, struct lane_key key)
{
	struct lane_key entry;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++)
		if (lane_table_entry(control, i, &entry) && entry.slot == key.slot &&
			entry.incarnation == key.incarnation)
			return true;
	return false;
}

uint32_t lane_table_count(const struct layout_control *control)
{
	uint32_t count = 0;
	struct lane_key key;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++)
		count += lane_table_entry(control, i, &key);
	return count;
}

static bool header_fits(const struct lane_table *table, struct lane_key key, const struct layout_header *header)
{
	return header->channel_id == table->channel_id && header->slot == key.slot &&
	       header->incarnation == key.incarnation;
}

static int map_object(const struct lane_table *table, struct lane_key key, enum layout_kind kind, bool writable,
	struct segment *ret_segment, const char **ret_reason)
{
	char name[LAYOUT_NAME_BYTES];
	layout_lane_name(table->name, table->channel_id, key.slot, key.incarnation, kind, name);
	int fd;
	struct layout_header header;
	int error = segment_open(table->directory_fd, name, kind, writable, table->trust, &fd, &header);
	if (error == -EBADMSG || error == -EPROTO || error == -EPROTONOSUPPORT)
		*ret_reason = "an object that is not a lane of this layout";
	if (error != 0)
		return error;
	if (!header_fits(table, key, &header)) {
		*ret_reason = "a lane of another channel or member";
		error = -EBADMSG;
	}
	if (error == 0)
		error = segment_map(fd, header.bytes, writable, ret_segment);
	close(fd);
	return error;
}

/* Both objects are as large as the geometry says, so that no index can leave them. */
static const char *check_objects(const struct lane_table *table, struct lane_objects *objects)
{
	if (objects->data.bytes < sizeof(struct layout_data))
		return "a data object too short";
	const struct layout_data *data = objects->data.base;
	objects->geometry = *(const volatile struct layout_lane_geometry *)&data->geometry;
	const char *reason = layout_check_geometry(&objects->geometry, objects->data.bytes);
	if (reason == NULL && objects->claims.bytes != layout_claims_bytes(table->mode, objects->geometry.depth))
		reason = "a claims object of another size";
	return reason;
}

int lane_table_map(const struct lane_table *table, struct lane_key key, bool claims_writable,
	struct lane_objects *ret_objects, const char **ret_reason)
{
	struct lane_objects objects = {.data_fd = -1, .claims_fd = -1};
	const char *reason = "unreadable objects";
	int error = map_object(table, key, LAYOUT_DATA, false, &objects.data, &reason);
	if (error == 0)
		error = map_object(table, key, LAYOUT_CLAIMS, claims_writable, &objects.claims, &reason);
	if (error == 0) {
		reason = check_objects(table, &objects);
		error = reason != NULL ? -EBADMSG : 0;
	}
	if (error != 0) {
		lane_objects_release(&objects);
		*ret_reason = reason;
		return error;
	}
	*ret_objects = objects;
	return 0;
}

/* ---- how far a lane has got ---- */

/* The number of messages published so far, by looking where the descriptors stop. */
static uint64_t find_head(const struct lane_reader *reader, uint64_t tail)
{
	uint64_t head = tail;
	while (head - tail < reader->depth && lane_reader_look(reader, head) >= 0)
		head++;
	return head;
}

bool lane_table_is_abandoned(const struct layout_control *control, struct lane_key key)
{
	if (key.slot >= LAYOUT_SLOTS)
		return true;
	struct roster_view producer = roster_look(&control->members[key.slot]);
	return producer.state != LAYOUT_MEMBER_ALIVE || producer.incarnation != key.incarnation;
}

bool lane_table_final(const struct layout_control *control, struct lane_key key, const struct lane_reader *reader,
	uint64_t *ret_final)
{
	if (lane_reader_final(reader, ret_final))
		return true;
	if (!lane_table_is_abandoned(control, key))
		return false;
	*ret_final = find_head(reader, lane_reader_tail(reader));
	return true;
}

static void count_queue(const struct lane_reader *reader, const struct layout_claims *claims, uint64_t tail,
	struct lane_progress *progress)
{
	for (uint64_t sequence = tail; sequence != progress->published; sequence++) {
		/* K3: as in claims_is_done: who takes the lane away comes after all who read it */
		uint64_t word = atomic_load_acquire(&claims->u.claims[sequence & (reader->depth - 1)]);
		struct layout_claim claim = layout_claim_decode(word);
		uint32_t lap = claims_lap(sequence, reader->depth_shift);
		enum claims_view view = claims_look(word, lap);
		bool done = view == CLAIMS_TAKEN && claim.state != LAYOUT_CLAIMED;
		if (view == CLAIMS_OPEN)
			progress->waiting++;
		else if (!done && view != CLAIMS_AHEAD)
			progress->held++; /* a broken word too: such a lane is never taken for drained */
	}
}

uint64_t lane_table_oldest(const struct layout_control *control, const struct layout_claims *claims, uint64_t tail)
{
	uint64_t oldest = LANE_TABLE_NOBODY;
	for (uint32_t i = 0; i < LAYOUT_MAP_WORDS; i++) {
		/* J3: pairs with J0 in set_active; a consumer missed here sees the announced tail when it joins the lane */
		for (uint64_t bits = atomic_load_acquire(&control->active_consumers.words[i]); bits != 0;
			bits &= bits - 1) {
			uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(bits);
			struct roster_view consumer = roster_look(&control->members[slot]);
			if (consumer.state != LAYOUT_MEMBER_ALIVE || consumer.role != SLUICE_ROLE_CONSUMER)
				continue; /* declared dead */
			/* B3: pairs with B1 in move_cursor: its holder's reads come before the reuse of the memory */
			uint64_t cursor = atomic_load_acquire(&claims->u.cursors[slot].value);
			/* What a slot's last holder left says nothing of this one, which may just be joining the lane. */
			bool own = cursor != 0 && layout_cursor_incarnation(cursor) ==
							  (consumer.incarnation & LAYOUT_INCARNATION_MASK);
			uint64_t sequence = own ? layout_cursor_sequence(cursor) : tail;
			oldest = sequence < oldest ? sequence : oldest;
		}
	}
	return oldest;
}

/* Messages that some consumer has yet to release; all that no departed one released while nobody is there. */
static void count_broadcast(const struct layout_control *control, const struct layout_claims *claims, uint64_t tail,
	struct lane_progress *progress)
{
	/* A cursor may lie before an announced tail: one that was announced and not confirmed, see reclaim_broadcast. */
	uint64_t oldest = lane_table_oldest(control, claims, tail);
	if (oldest == LANE_TABLE_NOBODY) {
		oldest = atomic_load_acquire(&claims->departed.value); /* B4: as in broadcast_oldest */
		oldest = oldest > tail ? oldest : tail;
	}
	/* A2: as in is_assembled: those who are expected have yet to see all of it */
	if (control->config.expected_consumers != 0 && atomic_load_acquire(&control->epochs.assembled) == 0)
		oldest = tail;
	progress->waiting = oldest < progress->published ? progress->published - oldest : 0;
}

struct lane_progress lane_table_progress(
	const struct layout_control *control, uint32_t mode, struct lane_key key, const struct lane_objects *objects)
{
	struct lane_reader reader;
	struct lane_progress progress = {0};
	lane_reader_start(&reader, objects->data.base, &objects->geometry);
	uint64_t tail = lane_reader_tail(&reader);
	progress.ended = lane_table_final(control, key, &reader, &progress.published);
	if (!progress.ended)
		progress.published = find_head(&reader, tail);
	if (progress.published - tail > reader.depth)
		return progress; /* a tail that cannot be: never drained, which `sluice rm` can mend */
	if (mode == SLUICE_BROADCAST)
		count_broadcast(control, objects->claims.base, tail, &progress);
	else
		count_queue(&reader, objects->claims.base, tail, &progress);
	progress.drained = progress.ended && progress.waiting == 0 && progress.held == 0;
	return progress;
}

/* ---- taking away ---- */

bool lane_table_retire(const struct lane_table *table, uint32_t index)
{
	struct lane_key key;
	struct lane_objects objects;
	const char *reason;
	if (!lane_table_entry(table->control, index, &key) || key.slot >= LAYOUT_SLOTS)
		return false;
	if (!lane_table_is_abandoned(table->control, key))
		return false; /* its producer is there: do not map it only to see that */
	if (lane_table_map(table, key, false, &objects, &reason) != 0)
		return false;
	bool drained = lane_table_progress(table->control, table->mode, key, &objects).drained;
	lane_objects_release(&objects);
	if (!drained)
		return false;

	char data_name[LAYOUT_NAME_BYTES];
	char claims_name[LAYOUT_NAME_BYTES];
	lane_names(table, key, data_name, claims_name);
	atomic_store_release(&table->control->lanes[index].state, LAYOUT_LANE_NONE); /* L1: gone, before its names go */
	atomic_add_full(&table->control->epochs.lanes, UINT64_C(1));                 /* E1: as in lane_table_link */
	segment_unlink(table->directory_fd, data_name);
	segment_unlink(table->directory_fd, claims_name);
	return true;
}

bool lane_table_retire_all(const struct lane_table *table)
{
	bool none_left = true;
	struct lane_key key;
	for (uint32_t i = 0; i < LAYOUT_LANES; i++)
		if (lane_table_entry(table->control, i, &key) && !lane_table_retire(table, i))
			none_left = false;
	return none_left;
}

/* ---- files ---- */

int lane_table_each_file(int directory_fd, const char *name,
	int (*visit)(int directory_fd, const char *file, void *context), void *context)
{
	int stream_fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = stream_fd >= 0 ? fdopendir(stream_fd) : NULL;
	if (stream == NULL) {
		int error = -errno;
		if (stream_fd >= 0)
			close(stream_fd);
		return error;
	}
	int result = 0;
	for (struct dirent *entry = readdir(stream); entry != NULL && result == 0; entry = readdir(stream)) {
		char found[SLUICE_MAX_NAME + 1];
		if (layout_parse_name(entry->d_name, found) == LAYOUT_DATA && strcmp(found, name) == 0)
			result = visit(directory_fd, entry->d_name, context);
	}
	closedir(stream);
	return result;
}

struct sweep {
	const struct lane_table *table;
	int count;
};

static int sweep_file(int directory_fd, const char *file, void *context)
{
	struct sweep *sweep = context;
	struct lane_key key;
	uint64_t id;
	if (!layout_lane_owner(file, &id, &key.slot, &key.incarnation) || id != sweep->table->channel_id ||
		lane_table_has(sweep->table->control, key))
		return 0;
	segment_unlink(directory_fd, file);
	sweep->count++;
	return 0;
}

int lane_table_sweep(const struct lane_table *table)
{
	struct sweep sweep = {.table = table};
	int error = lane_table_each_file(table->directory_fd, table->name, sweep_file, &sweep);
	return error != 0 ? error : sweep.count;
}
