/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "sandbox.h"

#define PAGE 4096

static const uint64_t zeros[PAGE / 8];

/* Unlike memcmp, which libFuzzer listens to, for what an input had better contain. */
static bool is_equal(const void *a, const void *b)
{
	const uint64_t *one = a;
	const uint64_t *other = b;
	uint64_t difference = 0;
	for (unsigned i = 0; i < PAGE / 8; i++)
		difference |= one[i] ^ other[i];
	return difference == 0;
}

void image_take(struct image *image, struct file *file, const char *name)
{
	uint64_t pages = files_size(file) / PAGE;
	image->size = files_size(file);
	image->bytes = malloc(image->size);
	image->filled = calloc(pages / 64 + 1, sizeof *image->filled);
	if (image->bytes == NULL || image->filled == NULL || image->size % PAGE != 0)
		fail("an object cannot be copied");
	snprintf(image->name, sizeof image->name, "%s", name);
	memcpy(image->bytes, files_bytes(file), image->size);
	for (uint64_t i = 0; i < pages; i++)
		if (!is_equal(image->bytes + i * PAGE, zeros))
			image->filled[i / 64] |= UINT64_C(1) << i % 64;
}

static void restore(const struct image *image, uint8_t *bytes, uint64_t page)
{
	bool filled = (image->filled[page / 64] >> page % 64 & 1) != 0;
	const void *source = filled ? image->bytes + page * PAGE : (const void *)zeros;
	if (!is_equal(bytes + page * PAGE, source))
		memcpy(bytes + page * PAGE, source, PAGE);
}

/* The library writes to no consumer's page without counting in it. */
static bool is_untouched(const struct layout_consumer_page *page)
{
	return (page->received_messages | page->received_bytes | page->sleeps | page->faults | page->wakeups_sent) == 0;
}

/* Consumers' pages are most of a control object, and looking at all of them would be most of an execution. */
static void restore_consumers(const struct image *image, uint8_t *bytes)
{
	struct layout_control *control = (struct layout_control *)(void *)bytes;
	for (unsigned i = 0; i < LAYOUT_SLOTS; i++) {
		uint64_t page = ((uint8_t *)&control->consumers[i] - bytes) / PAGE;
		if (is_untouched(&control->consumers[i]) && (image->filled[page / 64] >> page % 64 & 3) == 0)
			continue;
		restore(image, bytes, page);
		restore(image, bytes, page + 1);
	}
}

struct file *image_plant(const struct image *image)
{
	bool tame;
	struct file *file = files_make_used(image->name, &tame);
	uint8_t *bytes = files_bytes(file);
	bool control = image->size == sizeof(struct layout_control);
	bool quick = control && tame;
	uint64_t end = quick ? offsetof(struct layout_control, consumers) : image->size;
	for (uint64_t page = 0; page < end / PAGE; page++)
		restore(image, bytes, page);
	if (quick)
		restore_consumers(image, bytes);
	files_adopt(file, image->size, control);
	return file;
}
