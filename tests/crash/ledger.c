/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const author_names[AUTHORS] = {"peer", "bystander", "subject", "dead producer", "later producer"};
static const char *const reader_names[READERS] = {"witness", "fresh consumer", "subject", "dead consumer"};

void broken(const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	fprintf(stderr, "violation: %s\n", text);
	_exit(2);
}

struct ledger *ledger_new(void)
{
	void *memory = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return memory != MAP_FAILED ? memory : NULL;
}

void ledger_clear(struct ledger *ledger, uint32_t payload_words)
{
	*ledger = (struct ledger){
		.counts = {ledger->counts[0], ledger->counts[1]},
		.covered = ledger->covered,
		.unreached = ledger->unreached,
		.payload_words = payload_words,
	};
}

/* ---- content ---- */

static uint64_t id_of(enum author author, uint32_t number)
{
	return ((uint64_t)author + 1) << 32 | (number + 1);
}

static uint64_t word_of(uint64_t id, uint32_t index)
{
	return (id * UINT64_C(0x9e3779b97f4a7c15)) ^ index;
}

void ledger_fill(const struct ledger *ledger, struct sluice_message *message, enum author author, uint32_t number)
{
	uint64_t id = id_of(author, number);
	uint64_t *words = sluice_data(message, 0);
	for (uint32_t i = 0; i < ledger->payload_words; i++)
		words[i] = word_of(id, i);
	sluice_set_correlation_id(message, id);
}

static enum author author_of(const struct sluice_message *message)
{
	uint64_t author = (sluice_correlation_id(message) >> 32) - 1;
	if (author >= AUTHORS)
		broken("a message of nobody, id %#llx", (unsigned long long)sluice_correlation_id(message));
	return (enum author)author;
}

static uint32_t number_of(const struct sluice_message *message)
{
	uint32_t number = (uint32_t)sluice_correlation_id(message) - 1;
	if (number >= LEDGER_MESSAGES)
		broken("a message that nobody wrote, id %#llx", (unsigned long long)sluice_correlation_id(message));
	return number;
}

void ledger_check_content(const struct ledger *ledger, const struct sluice_message *message)
{
	uint64_t id = sluice_correlation_id(message);
	const struct sluice_tensor *tensor = sluice_tensor(message, 0);
	if (tensor == NULL || tensor->bytes != ledger->payload_words * sizeof(uint64_t))
		broken("message %#llx has another shape", (unsigned long long)id);
	const uint64_t *words = tensor->data;
	for (uint32_t i = 0; i < ledger->payload_words; i++)
		if (words[i] != word_of(id, i))
			broken("message %#llx: word %u is overwritten", (unsigned long long)id, i);
}

struct ledger_entry *ledger_entry_of(struct ledger *ledger, const struct sluice_message *message)
{
	return &ledger->entries[author_of(message)][number_of(message)];
}

/* ---- receiving ---- */

static void check_queue(const struct ledger *ledger, enum reader reader, const struct ledger_entry *entry,
	const char *author, uint32_t number, uint32_t deliveries)
{
	for (unsigned other = 0; other < READERS; other++) {
		if (entry->held[other] == YES && !(ledger->may_take_back && other == SUBJECT_READER))
			broken("%s got %s's message %u, which %s holds", reader_names[reader], author, number,
				reader_names[other]);
		if (entry->released[other] == YES)
			broken("%s got %s's message %u, which %s had released", reader_names[reader], author, number,
				reader_names[other]);
	}
	uint32_t taken_back = ledger->may_take_back && reader != SUBJECT_READER && entry->held[SUBJECT_READER] != NO;
	uint32_t least = entry->delivered_least + taken_back + 1, most = entry->delivered_most + taken_back + 1;
	if (deliveries < least || deliveries > most)
		broken("%s got %s's message %u as delivery %u, not %u to %u", reader_names[reader], author, number,
			deliveries, least, most);
}

static void check_broadcast(struct ledger *ledger, enum reader reader, enum author author, uint32_t number)
{
	bool *started = &ledger->started[reader][author];
	uint32_t *next = &ledger->next[reader][author];
	if (!*started && number > ledger->floor[reader][author])
		broken("%s begins at %s's message %u, though %u was retained", reader_names[reader],
			author_names[author], number, ledger->floor[reader][author]);
	if (*started && number != *next)
		broken("%s got %s's message %u, not %u", reader_names[reader], author_names[author], number, *next);
	*started = true;
	*next = number + 1;
}

void ledger_begin(struct ledger *ledger, struct ledger_entry *entry)
{
	entry->began = ++ledger->clock;
	entry->published = MAYBE;
}

void ledger_end(struct ledger *ledger, struct ledger_entry *entry)
{
	entry->ended = ++ledger->clock;
	entry->published = YES;
}

/* Nobody but `reader` can have it, and nothing keeps that one from it. */
static bool is_waiting_for(const struct ledger *ledger, enum reader reader, enum author author, uint32_t number)
{
	const struct ledger_entry *entry = &ledger->entries[author][number];
	if (ledger->broadcast)
		return ledger->started[reader][author] ? number >= ledger->next[reader][author]
						       : number >= ledger->floor[reader][author];
	for (unsigned other = 0; other < READERS; other++)
		if (entry->held[other] != NO || entry->released[other] != NO)
			return false;
	return !entry->astray;
}

/* Whatever was published before this one began to be published comes before it. */
static void check_order(const struct ledger *ledger, enum reader reader, const struct ledger_entry *got)
{
	for (unsigned author = 0; author < AUTHORS; author++)
		for (uint32_t number = 0; number < ledger->written[author]; number++) {
			const struct ledger_entry *entry = &ledger->entries[author][number];
			if (entry->ended != 0 && entry->ended < got->began &&
				is_waiting_for(ledger, reader, (enum author)author, number))
				broken("%s got a message before %s's message %u, which is older", reader_names[reader],
					author_names[author], number);
		}
}

void ledger_receive(struct ledger *ledger, enum reader reader, const struct sluice_message *message)
{
	enum author author = author_of(message);
	uint32_t number = number_of(message);
	struct ledger_entry *entry = ledger_entry_of(ledger, message);
	ledger_check_content(ledger, message);
	if (entry->published == NO)
		broken("%s got %s's message %u, which was never published", reader_names[reader], author_names[author],
			number);
	if (sluice_sequence(message) != number)
		broken("%s got %s's message %u as number %llu", reader_names[reader], author_names[author], number,
			(unsigned long long)sluice_sequence(message));
	if (ledger->broadcast)
		check_broadcast(ledger, reader, author, number);
	else
		check_queue(ledger, reader, entry, author_names[author], number, sluice_delivery_count(message));
	if (ledger->ordered)
		check_order(ledger, reader, entry);
	if (!ledger->broadcast && ledger->may_take_back && entry->held[SUBJECT_READER] != NO &&
		reader != SUBJECT_READER)
		entry->held[SUBJECT_READER] = NO;
	entry->delivered_least = entry->delivered_most = (uint8_t)(sluice_delivery_count(message) - 1);
	entry->held[reader] = YES;
	entry->astray = false;
}

void ledger_release(struct ledger *ledger, enum reader reader, const struct sluice_message *message, enum certainty how)
{
	struct ledger_entry *entry = ledger_entry_of(ledger, message);
	entry->released[reader] = (uint8_t)how;
	if (how == YES)
		entry->held[reader] = NO;
}

/* ---- changes of many ---- */

/* `entry` is each entry of `ledger` in turn. */
#define each_entry()                                                                                                   \
	for (struct ledger_entry *entry = ledger->entries[0],                                                          \
				 *end = entry + sizeof ledger->entries / sizeof ledger->entries[0][0];                 \
		entry < end; entry++)

static bool is_released(const struct ledger_entry *entry)
{
	for (unsigned reader = 0; reader < READERS; reader++)
		if (entry->released[reader] == YES)
			return true;
	return false;
}

void ledger_held(struct ledger *ledger, enum reader reader, enum certainty how)
{
	each_entry()
	{
		if (entry->held[reader] != NO)
			entry->held[reader] = (uint8_t)how;
	}
}

void ledger_may_hold(struct ledger *ledger, enum reader reader)
{
	each_entry()
	{
		if (entry->published != NO && !is_released(entry) && entry->held[reader] == NO)
			entry->held[reader] = MAYBE;
	}
}

void ledger_death(struct ledger *ledger, enum reader reader)
{
	each_entry()
	{
		entry->delivered_least = (uint8_t)(entry->delivered_least + (entry->held[reader] == YES));
		entry->delivered_most = (uint8_t)(entry->delivered_most + (entry->held[reader] != NO));
		entry->astray |= entry->held[reader] != NO;
		entry->held[reader] = NO;
	}
}

void ledger_recovered(struct ledger *ledger)
{
	each_entry()
	{
		entry->astray = false;
	}
}

void ledger_drop(struct ledger *ledger)
{
	each_entry()
	{
		if (entry->published != NO && !is_released(entry))
			entry->released[DEAD_READER] = MAYBE;
	}
}

uint32_t ledger_released_to(
	const struct ledger *ledger, enum reader reader, enum author author, enum certainty certainty)
{
	uint32_t number = 0;
	while (number < ledger->written[author] && ledger->entries[author][number].released[reader] >= certainty)
		number++;
	return number;
}

void ledger_join(struct ledger *ledger, enum reader reader, unsigned others)
{
	for (unsigned author = 0; author < AUTHORS; author++) {
		uint32_t slowest = UINT32_MAX, fastest = 0;
		for (unsigned other = 0; other < READERS; other++) {
			uint32_t to = ledger_released_to(ledger, other, author, MAYBE);
			if ((others >> other & 1) != 0 && to < slowest)
				slowest = to;
			fastest = to > fastest ? to : fastest;
		}
		ledger->floor[reader][author] = slowest != UINT32_MAX ? slowest : fastest;
		if (ledger->assembled == NO)
			ledger->floor[reader][author] = 0;
		ledger->next[reader][author] = 0;
		ledger->started[reader][author] = false;
	}
}

void ledger_join_anywhere(struct ledger *ledger, enum reader reader)
{
	for (unsigned author = 0; author < AUTHORS; author++)
		ledger->floor[reader][author] = UINT32_MAX;
}

uint32_t ledger_first_held(const struct ledger *ledger, enum author author)
{
	for (uint32_t number = 0; number < ledger->written[author]; number++) {
		const struct ledger_entry *entry = &ledger->entries[author][number];
		for (unsigned reader = 0; reader < READERS; reader++)
			if (entry->held[reader] != NO && !is_released(entry))
				return number;
	}
	return ledger->written[author];
}

/* ---- the end ---- */

static void settle_queue(const struct ledger *ledger, enum author author, uint32_t number)
{
	const struct ledger_entry *entry = &ledger->entries[author][number];
	for (unsigned reader = 0; reader < READERS; reader++)
		if (entry->released[reader] != NO || entry->held[reader] == YES)
			return;
	broken("%s's message %u is lost", author_names[author], number);
}

static void settle_broadcast(const struct ledger *ledger, enum author author, uint32_t number, unsigned readers)
{
	for (unsigned reader = 0; reader < READERS; reader++) {
		if ((readers >> reader & 1) == 0 || ledger->entries[author][number].released[DEAD_READER] == MAYBE)
			continue;
		bool needed = number >= ledger->floor[reader][author] || ledger->started[reader][author];
		if (needed && number >= ledger->next[reader][author])
			broken("%s never got %s's message %u", reader_names[reader], author_names[author], number);
	}
}

void ledger_settle(const struct ledger *ledger, unsigned readers)
{
	for (unsigned author = 0; author < AUTHORS; author++)
		for (uint32_t number = 0; number < ledger->written[author]; number++) {
			if (ledger->entries[author][number].published != YES)
				continue;
			if (ledger->broadcast)
				settle_broadcast(ledger, author, number, readers);
			else
				settle_queue(ledger, author, number);
		}
}
