# SPDX-License-Identifier: Apache-2.0
"""Waiting for handles in asyncio's event loops.

Each loop has one poller, whose descriptor it watches while a task waits. A handle is in the poller only while a task
waits with it: the descriptor is readable as long as any handle in it is ready. No threads, no polling.
"""

import asyncio
import errno
import time
import weakref

from sluice import _sluice

_watchers = weakref.WeakKeyDictionary()  # of the event loops
_turns = weakref.WeakKeyDictionary()  # likewise
# Where there is always another message, or room, a task would never wait. Other tasks run after so many seconds at most.
_LONGEST_TURN = 0.001


class _Turn:
    """Since when the tasks of a loop have had this turn of it; None while that is not known."""

    __slots__ = ("_since",)

    def __init__(self):
        self._since = None

    def is_over(self, loop):
        now = time.monotonic()
        if self._since is None:
            self._since = now
            loop.call_soon(self._end)
        return now - self._since > _LONGEST_TURN

    def _end(self):
        self._since = None


class _Watcher:
    """A loop's poller, and who waits for which handle. Knows its loop weakly: the loop's end is its own."""

    def __init__(self):
        self._poller = _sluice.Poller()
        self._waiters = {}

    def add(self, loop, handle, future):
        self._poller.add(handle)
        if not self._waiters:
            loop.add_reader(self._poller.fileno(), self._look)
        self._waiters[id(handle)] = future

    def discard(self, loop, handle):
        self._waiters.pop(id(handle), None)
        if not self._waiters and not loop.is_closed():
            loop.remove_reader(self._poller.fileno())
        self._poller.discard(handle)

    def _look(self):
        try:
            ready = self._poller.ready()
        except OSError as error:
            for future in self._waiters.values():
                if not future.done():
                    future.set_exception(error)
            return
        for handle in ready:
            future = self._waiters.get(id(handle))
            if future is not None and not future.done():
                future.set_result(True)


def _expire(future):
    if not future.done():
        future.set_result(False)


async def _ready(loop, handle, at):
    """Waits until the handle is ready: True, or False when `at` has passed."""
    watcher = _watchers.get(loop)
    if watcher is None:
        watcher = _watchers[loop] = _Watcher()
    future = loop.create_future()
    watcher.add(loop, handle, future)
    timer = None if at is None else loop.call_at(at, _expire, future)
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()
        watcher.discard(loop, handle)


async def call(handle, attempt, not_yet, timeout):
    """Calls `attempt` until it raises anything but `not_yet`; what it takes is taken when the task runs, so that a
    cancelled task has taken nothing."""
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = _Turn()
    if turn.is_over(loop):
        await asyncio.sleep(0)
    try:
        return attempt()
    except not_yet:
        if timeout == 0:
            raise
    at = None if timeout is None else loop.time() + timeout
    while await _ready(loop, handle, at):
        try:
            return attempt()
        except not_yet:
            continue
    raise _sluice.Timeout(
        errno.ETIMEDOUT,
        "the time-out passed and nothing was changed: call again, or see "
        f"{handle._stat_call} for who is there and who is slow",
    )
