/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: every call returns 0 or a count on success and a negative errno value on failure. A call that fails leaves its
 * result parameters untouched and changes nothing, unless its comment says otherwise. What a code means for a call stands
 * with that call; not repeated there is -EINVAL for a NULL where the comment allows none.
 */
#ifndef SLUICE_ERROR_H
#define SLUICE_ERROR_H

#include <sluice/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What a code of Sluice means and what to do next, in one English sentence without a final full stop. It serves all calls, so
 * where a code has several meanings it names each: the comment of the call says which it can be. For -EINVAL of opening see
 * sluice_producer_check and sluice_consumer_check, which say more.
 * `code`: a negative result of any call here (a positive errno is taken too). Returns a string that is never NULL,
 * lives for ever and must not be freed. Safe from any thread, after fork and in a signal handler.
 */
SLUICE_API const char *sluice_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
