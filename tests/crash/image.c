/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger.h"

#define OBJECTS 32

struct object {
	ino_t inode;
	size_t bytes;
	unsigned char *shared;
	unsigned char *copy;
};

struct image {
	struct object objects[OBJECTS];
	unsigned count;
};

static void add(struct image *image, int fd)
{
	struct stat status;
	struct object object;
	if (fd < 0 || fstat(fd, &status) != 0)
		broken("an object cannot be looked at");
	for (unsigned i = 0; i < image->count; i++)
		if (image->objects[i].inode == status.st_ino)
			return;
	object.inode = status.st_ino;
	object.bytes = (size_t)status.st_size;
	object.shared = mmap(NULL, object.bytes, PROT_READ, MAP_SHARED, fd, 0);
	object.copy = malloc(object.bytes);
	if (object.shared == MAP_FAILED || object.copy == NULL || image->count == OBJECTS)
		broken("an object cannot be watched");
	image->objects[image->count++] = object;
}

static void find(struct image *image)
{
	const char *directory = getenv("SLUICE_DIR");
	DIR *stream = directory != NULL ? opendir(directory) : NULL;
	if (stream == NULL)
		broken("the directory is gone");
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
		if (entry->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC);
		add(image, fd);
		close(fd);
	}
	closedir(stream);
}

struct image *image_new(void)
{
	struct image *image = calloc(1, sizeof *image);
	if (image == NULL)
		broken("no memory");
	image_renew(image);
	return image;
}

void image_free(struct image *image)
{
	for (unsigned i = 0; i < image->count; i++) {
		munmap(image->objects[i].shared, image->objects[i].bytes);
		free(image->objects[i].copy);
	}
	free(image);
}

bool image_changed(struct image *image)
{
	for (unsigned i = 0; i < image->count; i++) {
		const struct object *object = &image->objects[i];
		if (memcmp(object->copy, object->shared, object->bytes) == 0)
			continue;
		memcpy(object->copy, object->shared, object->bytes);
		return true;
	}
	return false;
}

void image_renew(struct image *image)
{
	find(image);
	for (unsigned i = 0; i < image->count; i++)
		memcpy(image->objects[i].copy, image->objects[i].shared, image->objects[i].bytes);
}
