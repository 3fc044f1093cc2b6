/* SPDX-License-Identifier: Apache-2.0 */
/* What became of each message, and whether that is what was promised. */
#include "journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <sluice/sluice.h>

#include "../support/exchange.h"

static size_t journal_size(uint64_t capacity)
{
	return sizeof(struct journal) + capacity * sizeof(struct journal_entry);
}

struct journal *journal_new(uint64_t seed, uint32_t mode, uint64_t capacity)
{
	/* Pages that nobody touches cost nothing. */
	struct journal *journal = mmap(NULL, journal_size(capacity), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (journal == MAP_FAILED)
		return NULL;
	journal->seed = seed;
	journal->mode = mode;
	journal->capacity = capacity;
	return journal;
}

void journal_free(struct journal *journal)
{
	munmap(journal, journal_size(journal->capacity));
}

uint64_t journal_content(const struct journal *journal, uint64_t number)
{
	uint64_t state = journal->seed ^ number * UINT64_C(0x9e3779b97f4a7c15);

	return random_next(&state);
}

/* So many messages one after another are now and then all of one size, as those are that batches take in pairs. */
#define ALIKE 128

/* Mostly a few words, now and then some KiB, seldom more. */
uint64_t journal_bytes(const struct journal *journal, uint64_t number)
{
	const uint64_t group = journal_content(journal, number / ALIKE);
	uint64_t state = journal_content(journal, number) + 1;

	if (group % 2)
		return group / 2 % 200;
	const uint64_t kind = random_next(&state) % 1000, size = random_next(&state);

	if (kind < 850)
		return size % 100;
	if (kind < 980)
		return size % 4096;
	return kind < 999 ? size % 32768 : size % (512 << 10);
}

static const char *check_content(const struct journal *journal, const struct sluice_message *message, uint64_t number)
{
	const struct sluice_tensor *data = sluice_tensor(message, 1), *head = sluice_tensor(message, 0);
	const uint64_t content = journal_content(journal, number);
	uint64_t sum;

	if (sluice_tensor_count(message) != 2 || head->bytes != 2 * sizeof(uint64_t))
		return "tensors that were never sent";
	if (data->bytes != journal_bytes(journal, number))
		return "another size";
	memcpy(&sum, (const char *)head->data + sizeof sum, sizeof sum);
	if (pattern_sum(data->data, data->bytes, content) != sum)
		return "another content";
	return sluice_correlation_id(message) == content ? NULL : "another correlation id";
}

static const char *enter(struct journal *journal, uint64_t number, uint32_t deliveries)
{
	struct journal_entry *entry = &journal->entries[number];
	const uint64_t bit = UINT64_C(1) << deliveries;

	if (entry->sent == SENT_NOT || entry->sent == SENT_DISCARDED)
		return "a message that nobody published";
	journal->received++;
	if (journal->mode == SLUICE_BROADCAST) {
		entry->counts |= bit;
		return deliveries == 1 ? NULL : "a delivery count in a broadcast";
	}
	if (entry->released == RELEASED_SURELY)
		return "a message that was released before";
	if (deliveries < 62 && (atomic_fetch_or(&entry->counts, bit) & bit))
		return "a message that came before with the same delivery count";
	journal->again += deliveries > 1;
	return NULL;
}

const char *journal_receive(struct journal *journal, const struct sluice_message *message, uint64_t *ret_number)
{
	const struct sluice_tensor *head = sluice_tensor(message, 0);
	const char *wrong;
	uint64_t number;

	if (!head || head->bytes < sizeof number)
		return "a message without a number";
	memcpy(&number, head->data, sizeof number);
	if (number >= journal->next || number >= journal->capacity)
		return "a number that nobody used";
	*ret_number = number;
	wrong = enter(journal, number, sluice_delivery_count(message));
	return wrong ? wrong : check_content(journal, message, number);
}

void journal_return(struct journal *journal, uint64_t number, uint32_t deliveries)
{
	if (deliveries < 62)
		atomic_fetch_and(&journal->entries[number].counts, ~(UINT64_C(1) << deliveries));
	journal->returned++;
}

uint64_t journal_verdict(const struct journal *journal)
{
	uint64_t wrong = 0;

	for (uint64_t number = 0; number < journal->next && number < journal->capacity; number++) {
		const struct journal_entry *entry = &journal->entries[number];

		if (entry->sent != SENT_SURELY || entry->released != RELEASED_NOT)
			continue;
		if (wrong++ < 10)
			fprintf(stderr, "message %" PRIu64 " was published and %s\n", number,
				entry->counts ? "not released by anybody" : "never delivered");
	}
	return wrong;
}
