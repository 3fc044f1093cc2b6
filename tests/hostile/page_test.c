/* SPDX-License-Identifier: Apache-2.0 */
/* Others write into what a consumer keeps in shared memory for itself: it must not read back what matters to it. */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout.h"

#include "../support/exchange.h"
#include "../support/harness.h"

#define MESSAGES 20

struct attack {
	struct tally ready;
	_Atomic bool over;
	uint64_t value;
};

static struct layout_control *map_control(void)
{
	int file = open(sandbox_path("sluice.tokens"), O_RDWR | O_CLOEXEC);
	struct layout_control *control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	check(file >= 0 && control != MAP_FAILED);
	close(file);
	return control;
}

/* Says without end that slot `index` has received so many messages. */
static void overstate(void *shared, unsigned index)
{
	struct attack *attack = shared;
	struct layout_control *control = map_control();
	struct layout_consumer_page *page = &control->consumers[index];

	tally_add(&attack->ready);
	while (!atomic_load(&attack->over)) {
		__atomic_store_n(&page->received_messages, attack->value, __ATOMIC_RELAXED);
		__atomic_store_n(&page->received_bytes, attack->value, __ATOMIC_RELAXED);
	}
	check_result(0, munmap(control, sizeof *control));
}

static void counts_that_others_write_hang_no_batch(void **state)
{
	struct attack *attack = shared_memory(sizeof *attack);
	const struct sluice_message *messages[MESSAGES];
	struct sluice_producer *producer = join_producer("tokens", PRODUCER(.channel = CHANNEL(.depth = 32)));

	(void)state;
	/* As many messages short of the end of 64 bits as a batch may pass it with. */
	attack->value = UINT64_MAX - 40;
	process_start(overstate, attack, 1);
	tally_wait(&attack->ready, 1);
	for (unsigned i = 0; i < 200; i++) {
		struct sluice_consumer *consumer = join_consumer("tokens", NULL);

		send_number(producer, i);
		check_equal(1, sluice_receive_batch(consumer, MESSAGES, 0, 0, PATIENCE, messages));
		check_equal(i, number_of(messages[0]));
		check_result(0, sluice_release_batch(messages, 1));
		check_result(0, sluice_consumer_close(consumer));
	}
	atomic_store(&attack->over, true);
	processes_finish();
	check_result(0, sluice_producer_close(producer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(counts_that_others_write_hang_no_batch),
	};

	return cmocka_run_group_tests_name("hostile: page", tests, NULL, NULL);
}
