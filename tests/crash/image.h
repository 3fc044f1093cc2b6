/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of all objects in the directory of the channel, watched from outside. Between two looks without a change, and
 * without a system call of the subject, nobody could tell at which of the two it died.
 */
#ifndef CRASH_IMAGE_H
#define CRASH_IMAGE_H

#include <stdbool.h>

struct image;

struct image *image_new(void);
void image_free(struct image *image);

/* True if a byte differs from when it was last looked at. Objects that lost their name are watched further. */
bool image_changed(struct image *image);
/* Files may have come since: finds them, and takes everything as it is now. */
void image_renew(struct image *image);

#endif
