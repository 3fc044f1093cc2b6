/* SPDX-License-Identifier: Apache-2.0 */
/* Version of the library, of the layout in shared memory, and what was compiled in. */
#ifndef SLUICE_VERSION_H
#define SLUICE_VERSION_H

#include <stdint.h>

#include <sluice/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_VERSION_MAJOR 0
#define SLUICE_VERSION_MINOR 1
#define SLUICE_VERSION_PATCH 0

/* The library's version as "major.minor.patch"; static, never NULL. */
SLUICE_API const char *sluice_version(void);

/* The layout version of the shared objects that this library reads and writes. */
SLUICE_API uint32_t sluice_layout_version(void);

/*
 * The optional libraries that this build was configured with, as space-separated names such as "liburing libnuma";
 * empty if none. Static. "cuda" is the toolkit, for the example's kernel: the library asks for CUDA's driver when it runs.
 */
SLUICE_API const char *sluice_features(void);

#ifdef __cplusplus
}
#endif
#endif
