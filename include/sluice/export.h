/* SPDX-License-Identifier: Apache-2.0 */
/* Marks what the shared library exports; everything else in it is hidden. */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#if defined(__GNUC__)
#define SLUICE_API        __attribute__((visibility("default")))
#define SLUICE_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SLUICE_API
#define SLUICE_MUST_CHECK
#endif

#endif
