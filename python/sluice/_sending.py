# SPDX-License-Identifier: Apache-2.0
"""The side of a Queue that puts, in one process: its lane, and the items that wait for room in it."""

import collections
import contextlib
import errno
import sys
import threading
import time
import traceback
import weakref
from multiprocessing import util

from . import _sluice

# What a lane holds beside its largest message: where that message is described, and its alignment.
_SLACK = 512
# A lane this large or smaller stays for the next item; a larger one goes once its item is published.
_KEEP_BYTES = 64 << 20
_LEAST_LANE = 64 << 10
_MOST_DEPTH = 1 << 20
# How often a feeder that waits for room looks whether it is still wanted.
_LOOK_AGAIN = 0.1


class Ended(ValueError):
    """The process puts and gets no more."""

    def __init__(self):
        super().__init__("the queue is closed")


class Sender:
    """Publishes items in the order in which they were put.

    What fits into the lane is published by put itself. What does not waits in `_waiting` for the feeder, and while anything
    is there the lane belongs to the feeder and everything put goes behind it.
    """

    def __init__(self, channel, lane_bytes):
        self._channel = channel
        self._lane_bytes = lane_bytes
        self._depth = 1024
        self._producer = None
        self._largest = 0
        self._changed = threading.Condition()  # reentrant: a collection of garbage may end a queue at any time
        self._waiting = collections.deque()
        self._thread = None
        self._join = None
        self._ended = False
        self._finished = False
        self._cancelled = False
        self._last_act = None
        self._at_exit = None

    # ---- put ----

    def put(self, packed):
        """Never waits for a consumer."""
        with self._changed:
            if not self._waiting:
                if self._publish_now(packed):
                    return
            elif packed.nbytes > _KEEP_BYTES // 4:
                self._check_possible(packed.nbytes)
            if self._thread is None:
                self._start()
            self._waiting.append(packed.detached())
            self._changed.notify()

    def put_within(self, packed, limit, deadline):
        """With a limit: whether there was a place. Nothing waits in the process then, where others could not count it."""
        with self._changed:
            try:
                if not limit.lock(deadline) or not limit.take():
                    return False
                return self._publish_now(packed) or self._publish_in_larger(packed)
            finally:
                limit.unlock()

    def waiting(self):
        return len(self._waiting)

    # ---- lanes ----

    def _publish_now(self, packed):
        """False: no room at the moment; where all lanes or members that a channel can have are taken, others may go."""
        try:
            return self._publish(packed, 0)
        except _sluice.Error as error:
            if error.errno != errno.EUSERS:
                raise
            return False

    def _publish(self, packed, timeout):
        """Copy an item into the lane, in one of its size if need be. False: no room within the time."""
        try:
            self._open_for(packed.nbytes)
            with self._producer.reserve(timeout=timeout, item=((packed.nbytes,), "uint8")) as message:
                with memoryview(message["item"]) as target:
                    packed.write(target)
        except _sluice.Stale:
            self._close()  # declared dead by others: begin again as another member
            return False
        except (_sluice.Full, _sluice.Timeout):
            return False
        except _sluice.NoSpace:
            self._check_possible(packed.nbytes)
            return False
        if self._largest > _KEEP_BYTES // 2:
            self._close()
        return True

    def _publish_in_larger(self, packed):
        """The lane is full, but there is a place: what is in it is read from there while a larger one takes over."""
        if self._producer is None:
            return False
        self._lane_bytes = min(2 * self._lane_bytes, _KEEP_BYTES)
        self._depth = min(2 * self._depth, _MOST_DEPTH)
        self._close()
        return self._publish_now(packed)

    def _open_for(self, nbytes):
        if self._finished:
            raise Ended
        if self._producer is not None and nbytes <= self._largest:
            return
        self._close()
        least = max(2 * (nbytes + _SLACK), _LEAST_LANE)
        lane_bytes = max(self._lane_bytes, min(2 * least, _KEEP_BYTES), least)
        while True:
            try:
                self._producer = self._channel.producer(lane_bytes, self._depth)
                break
            except _sluice.NoSpace:
                if lane_bytes == least:
                    raise
                lane_bytes = max(lane_bytes // 2, least)
        self._largest = self._producer.geometry.max_message_bytes - _SLACK

    def _close(self):
        producer, self._producer, self._largest = self._producer, None, 0
        if producer is not None:
            with contextlib.suppress(OSError):  # others were opening or leaving for long: it has left all the same
                producer.close()

    def _check_possible(self, nbytes):
        """Waiting helps where others take the room. Where there is not so much in all it is an error, and said at once."""
        holds = self._channel.file_system_bytes()
        needed = 2 * (nbytes + _SLACK)
        if needed > holds:
            raise _sluice.NoSpace(
                errno.ENOSPC,
                f"{self._channel.directory} holds {holds >> 20} MiB; an item of {nbytes >> 20} MiB needs a lane of "
                f"{(needed >> 20) + 1} MiB: raise it (mount -o remount,size=..., docker: --shm-size)",
            )

    # ---- the feeder ----

    def _start(self):
        thread = threading.Thread(target=self._feed, name="sluice.Queue feeder", daemon=True)
        thread.start()
        self._thread = thread
        if not self._cancelled:
            self._join = util.Finalize(thread, Sender._join_thread, args=(weakref.ref(thread),), exitpriority=-5)

    @staticmethod
    def _join_thread(reference):
        thread = reference()
        if thread is not None:
            thread.join()

    def _is_given_up(self):
        """The process ends and is not to wait for the feeder."""
        return self._cancelled and util.is_exiting()

    def _feed(self):
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if not self._waiting or self._is_given_up():
                    self._finish()
                    return
                packed = self._waiting[0]
            if self._feed_one(packed):
                with self._changed:
                    self._waiting.popleft()

    def _feed_one(self, packed):
        """True when the item is done with."""
        try:
            if self._publish(packed, _LOOK_AGAIN):
                return True
            if self._producer is not None:
                return False
        except OSError as error:  # too many members, lanes or descriptors: others may go
            self._complain(error)
        except Exception:
            traceback.print_exc()  # as multiprocessing.Queue's feeder does
            return True
        time.sleep(_LOOK_AGAIN / 2)  # no lane: nothing rings when one can be had
        return False

    def _complain(self, error):
        if not util.is_exiting():
            print(f"sluice.Queue: an item waits, and is tried again and again: {error}", file=sys.stderr)
        self._complain = lambda error: None  # once

    # ---- the end ----

    def end(self):
        """No more items come: the lane is closed when those that wait have gone."""
        with self._changed:
            self._ended = True
            if self._thread is None:
                self._finish()
            else:
                self._changed.notify()

    def end_then(self, act):
        """The same, and call `act` afterwards: at once, or in the feeder when it has finished."""
        self.end()
        with self._changed:
            self._last_act = act
            if self._thread is None or self._finished or self._is_given_up():
                self._act()
            elif self._cancelled:  # nobody waits for the feeder when the process ends
                self._at_exit = util.Finalize(None, self._act, exitpriority=-10)

    def _finish(self):
        self._finished = True
        self._close()
        self._act()

    def _act(self):
        with self._changed:
            act, self._last_act = self._last_act, None
        if act is not None:
            act()
        if self._at_exit is not None:
            self._at_exit.cancel()

    def join(self):
        if self._join is not None:
            self._join()

    def cancel_join(self):
        self._cancelled = True
        if self._join is not None:
            self._join.cancel()
