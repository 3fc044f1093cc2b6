# SPDX-License-Identifier: Apache-2.0
"""sluice.Queue: multiprocessing.Queue, with arrays and tensors in shared memory."""

import contextlib
import errno
import os
import threading
import time
import weakref
from multiprocessing import context, util
from typing import Any, Optional

from . import _sluice
from ._channel import Channel
from ._limit import Holders, Limit
from ._pickling import pack, parts_of, restore
from ._sending import Ended, Sender

__all__ = ["Queue"]

# When the interpreter ends: after multiprocessing has joined the children (below 0) and the feeders (-5).
_LEAVE_PRIORITY = -10
# How long put_nowait waits for those who are putting at this moment.
_BRIEFLY = 1.0
_MOST_DELIVERIES = 63


def _whole(name, value):
    """A whole number, or one that int makes of what is nearly one, as multiprocessing does."""
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__index__") or hasattr(value, "__int__")):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}")
    return int(value)


def _after(start, timeout):
    if timeout is None:
        return None
    try:
        return start + timeout
    except TypeError:
        raise TypeError(f"timeout is a number of seconds, or None, not {type(timeout).__name__}") from None


class Queue:
    """A queue between processes that takes the place of multiprocessing.Queue in a program, with a change of one line::

        queue = sluice.Queue()          # was: multiprocessing.Queue()
        Process(target=work, args=(queue,)).start()

    numpy arrays and torch tensors (CPU), also inside dicts, lists, tuples and dataclasses, go by shared memory; everything
    else is pickled, with protocol 5. **Peers are trusted**: unpickling runs what the one who put says, so whoever can
    write to this user's files in the directory can run code in each process that gets. Nothing else in this package
    pickles.

    maxsize
        At most so many items, counted over all processes, never more; 0 or less: no limit. Without one `put` never
        blocks: what does not fit into shared memory waits in the process for a thread that is started at first need.
    copy
        True: `get` gives arrays that belong to the caller and can be written to, as multiprocessing.Queue does. False: it
        gives read-only views of shared memory, and copies nothing. Then an item takes room, and one of maxsize's places,
        until its last array is let go, and goes to another process if this one dies before. A program that collects such
        items in a list can fill the queue with them and wait for ever. torch cannot mark a tensor read-only: a store to
        one ends the process (SIGSEGV).
    lane_bytes
        Shared memory of each process that puts, in bytes; half of it is for one item. It grows for a larger item.
    max_deliveries
        An item whose receiver dies is given to the next. So many deaths and it is set aside (`sluice.stat()`); None, the
        default: no limit, nothing is ever set aside.
    directory
        Of shared memory; default $SLUICE_DIR, else /dev/shm.
    ctx
        Ignored: there for programs that give multiprocessing.queues.Queue its context. fork, spawn and forkserver all do.

    *Processes.* Pass it to a Process as an argument; a child by fork may also just use it. It can be pickled only while a
    process is being spawned (RuntimeError otherwise). Each process joins the channel when it first puts or gets: at most
    128 members. When the last process that holds the queue lets it go, the channel and what is in it are removed; if that
    process was killed, `sluice.gc(drop=True)` does so.

    *Threads.* Any number of threads of a process may use it. One that waits in `get` holds up no `put`.

    *Order.* As they were put, over all processes. What waits in a process has not been put in this sense.

    *Deaths.* A process killed at any moment blocks and damages nothing. An item is safe from the death of the one that
    put it when `put` has returned, except while it waits in that process (`put` without a maxsize, and no room). One
    whose receiver dies before `get` returned is given to another: at least once.

    Unlike multiprocessing.Queue, `put` takes the item as it is at that moment (arrays may be changed afterwards), and
    raises what pickle raises. Errors are `sluice.Error`, an OSError: NoSpace, where an item cannot fit into the directory
    at all; others as of `sluice.Producer` and `sluice.Consumer`.
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        copy: bool = True,
        lane_bytes: int = 4 << 20,
        max_deliveries: Optional[int] = None,
        directory: Optional[str] = None,
        ctx: Any = None,
    ) -> None:
        lane_bytes = _whole("lane_bytes", lane_bytes)
        if not 1 <= lane_bytes <= 1 << 36:
            raise ValueError(f"lane_bytes is {lane_bytes!r}; it is a number of bytes from 1 to 64 GiB")
        if max_deliveries is not None and not 1 <= _whole("max_deliveries", max_deliveries) <= _MOST_DELIVERIES:
            raise ValueError(f"max_deliveries is {max_deliveries!r}; it is 1 to {_MOST_DELIVERIES}, or None for no limit")
        self._maxsize = max(_whole("maxsize", maxsize), 0)
        self._copy = bool(copy)
        self._lane_bytes = lane_bytes
        self._channel = Channel(directory, max_deliveries)
        self._holders = Holders()
        try:
            self._limit = Limit(self._maxsize, self._holders, self._channel.held) if self._maxsize else None
        except BaseException:
            self._holders.leave()
            raise
        self._begin()

    def __getstate__(self):
        context.assert_spawning(self)
        limit = None if self._limit is None else self._limit.handed_over()
        return self._maxsize, self._copy, self._lane_bytes, self._channel, self._holders.handed_over(), limit

    def __setstate__(self, state):
        self._maxsize, self._copy, self._lane_bytes, self._channel, pipe, limit = state
        self._holders = Holders([fd.detach() for fd in pipe])
        self._limit = None
        if limit is not None:
            self._limit = Limit(self._maxsize, self._holders, self._channel.held, limit.detach())
        self._begin()

    # ---- this process ----

    def _begin(self):
        self._reset()
        _queues.add(self)
        self._finish_at_exit()
        # multiprocessing forgets finalizers in its children; this runs after it did.
        util.register_after_fork(self, Queue._finish_at_exit)

    def _reset(self):
        self._closed = False
        self._sender = Sender(self._channel, self._lane_bytes)
        self._receiver = _Receiver(self._channel)

    def _after_fork(self):
        """In the child: what was the parent's is left alone, its locks too."""
        self._reset()
        if self._limit is not None:
            self._limit.forked()
        self._finish_at_exit()  # those of the parent do nothing here

    def _finish_at_exit(self):
        util.Finalize(self, Sender.end, args=(self._sender,), exitpriority=10)
        util.Finalize(
            self,
            _let_go,
            args=(self._sender, self._receiver, self._holders, self._limit, self._channel),
            exitpriority=_LEAVE_PRIORITY,
        )

    def _check_open(self):
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    # ---- put and get ----

    def put(self, obj: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        """Put an item. With a maxsize, wait up to `timeout` seconds (None: for ever) for a place, else `sluice.Full`.

        Raises queue.Full (`sluice.Full`), ValueError (closed), what pickle raises, `sluice.NoSpace`.
        """
        self._check_open()
        packed = pack(obj)
        try:
            if self._limit is None:
                self._sender.put(packed)
            else:
                self._put_within(packed, block, timeout)
        except Ended as ended:
            _end(ended)

    def _put_within(self, packed, block, timeout):
        start = time.monotonic()
        deadline = _after(start, timeout) if block else start
        if self._sender.put_within(packed, self._limit, None if deadline is None else max(deadline, start + _BRIEFLY)):
            return
        while deadline is None or time.monotonic() < deadline:
            self._limit.wait(deadline)
            self._check_open()
            if self._sender.put_within(packed, self._limit, deadline):
                self._limit.pass_on()
                return
        items = "1 item" if self._maxsize == 1 else f"{self._maxsize} items"
        raise _sluice.Full(errno.EAGAIN, f"the queue holds its maxsize, {items}: put again when some were got")

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        """Take the oldest item; wait up to `timeout` seconds (None: for ever) for one, else `sluice.Empty`.

        Raises queue.Empty (`sluice.Empty`), ValueError (closed), what unpickling raises (the item is gone then).
        """
        self._check_open()
        deadline = _after(time.monotonic(), timeout) if block else None
        try:
            stream, buffers = self._receiver.receive(block, deadline, self._copy)
        except Ended as ended:
            _end(ended)
        if self._limit is not None:
            self._limit.freed()
        return restore(stream, buffers)

    def put_nowait(self, obj: Any) -> None:
        """put(obj, block=False)"""
        return self.put(obj, False)

    def get_nowait(self) -> Any:
        """get(block=False)"""
        return self.get(False)

    # ---- how full ----

    def qsize(self) -> int:
        """Items in the queue and items that wait in this process; not those that wait in others. Out of date at once."""
        return self._channel.look()[0] + self._sender.waiting()

    def empty(self) -> bool:
        """Whether qsize() is 0; out of date at once."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there are maxsize items; out of date at once. Never without a maxsize."""
        return self._limit is not None and self._channel.held() >= self._maxsize

    # ---- the end ----

    def close(self) -> None:
        """This process puts and gets no more. Items that wait in it are still put, by the thread."""
        self._closed = True
        self._sender.end()
        self._receiver.close()

    def join_thread(self) -> None:
        """Wait until all items of this process are in the queue; only after `close`. The end of the process does it too."""
        assert self._closed, f"Queue {self!r} not closed"
        self._sender.join()

    def cancel_join_thread(self) -> None:
        """Let the process end without waiting for that: items that still wait in it are lost then."""
        self._sender.cancel_join()


def _end(ended):
    """A call came after the end. A daemon thread that goes on while the interpreter ends goes with it, and says nothing."""
    if util.is_exiting() and threading.current_thread().daemon:
        threading.Event().wait()
    raise ended


class _Receiver:
    """The side of a Queue that gets, in one process."""

    def __init__(self, channel):
        self._channel = channel
        self._consumer = None
        self._lock = threading.Lock()  # held while waiting: one thread at a time waits in the channel, others for it
        self._closed = False
        self._opening = threading.RLock()  # nothing is opened after close

    def receive(self, block, deadline, copy):
        """The next item's parts, which are taken out before the lock is released: then `close` may come."""
        if not self._lock.acquire(block, -1 if deadline is None else max(deadline - time.monotonic(), 0)):
            raise _sluice.Empty(
                errno.EAGAIN, "another thread of this process is in get(), and no item came for this one: call again"
            )
        try:
            self._open()
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            message = self._consumer.receive(timeout=left if block else 0)
            parts = parts_of(message["item"], copy)
            if copy:
                message.release()
            return parts
        except _sluice.Stale:
            self._consumer = None  # declared dead by others: the next call begins again as another member
            raise
        except _sluice.Timeout:
            raise _sluice.Empty(errno.EAGAIN, "no item came within the time: call again") from None
        finally:
            self._lock.release()
            if self._closed:
                self.close()

    def _open(self):
        with self._opening:
            if self._closed:
                raise Ended
            if self._consumer is None:
                self._consumer = self._channel.consumer()

    def close(self):
        """At once, or when the thread that gets has finished."""
        with self._opening:
            self._closed = True
        if self._lock.acquire(False):
            try:
                consumer, self._consumer = self._consumer, None
                if consumer is not None:
                    with contextlib.suppress(OSError):
                        consumer.__exit__(None, None, None)  # while views of its messages live, it stays for them
            finally:
                self._lock.release()


def _let_go(sender, receiver, holders, limit, channel):
    """The queue is collected, or the interpreter ends."""

    def leave():
        receiver.close()
        if limit is not None and not util.is_exiting():  # then threads may still be using it
            limit.close()
        if holders.leave():
            channel.remove()

    sender.end_then(leave)


# A weakly held object is in the set for as long as it is anywhere, so a child finds all that its parent had.
_queues = weakref.WeakSet()


def _after_fork_in_child():
    for queue in list(_queues):
        queue._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
