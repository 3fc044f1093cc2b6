/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold while a subject is stopped inside a call, and after it died there. */
#ifndef CRASH_PROMISES_H
#define CRASH_PROMISES_H

#include "calls.h"

#define VARIANTS 4 /* courses of events that may follow: who recovers, and whether the witness stays */

/*
 * The subject is stopped and alive. Others come, recover, and run more than a lap of messages; nothing of the subject's is
 * taken, and only what it holds or a gate that it may be in blocks them.
 */
void promises_while_stopped(struct stage *stage, const struct call *call);

/* The subject went on and its call has returned. */
void promises_when_returned(struct stage *stage, const struct call *call);

/*
 * The subject is gone. Nothing is lost, nothing comes that was not published, its lane goes away, full capacity is back, and
 * when everybody has left the directory is empty.
 */
void promises_afterwards(struct stage *stage, const struct call *call);

#endif
