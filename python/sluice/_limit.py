# SPDX-License-Identifier: Apache-2.0
"""What the processes of one Queue share beside its channel: who still holds it, and how many items it may hold.

Both live in descriptors that children inherit or are handed, so that nothing has a name that could be left behind, and
both let go by themselves when a process dies, however it dies.
"""

import fcntl
import mmap
import os
import select
import time
from multiprocessing import reduction, util

# A ring that comes at once is a shorter wait; one that was lost with its ringer is a wait of this long.
_LOOK_AGAIN = 0.1


class Holders:
    """A pipe of which every process that holds the queue has both ends.

    The last holder is the one that closes its writing end and then sees the pipe hung up: the kernel counts, and counts
    the killed as well. Bytes in the pipe are the bell of those who wait for a place in a bounded queue.
    """

    def __init__(self, fds=None):
        self._reading, self._writing = os.pipe() if fds is None else fds
        for fd in (self._reading, self._writing):
            os.set_inheritable(fd, False)
            os.set_blocking(fd, False)

    def handed_over(self):
        """For the pickle of a process that is being spawned."""
        return reduction.DupFd(self._reading), reduction.DupFd(self._writing)

    def leave(self):
        """Stop holding. True for the last holder (for each of several, where they leave at the same time)."""
        if self._writing < 0:
            return False
        left, self._writing = self._writing, -1
        if not util.is_exiting():
            os.close(left)
            hung_up = bool(_poll(self._reading, 0) & select.POLLHUP)
            os.close(self._reading)
            self._reading = -1
            return hung_up
        # Threads may still be in `ring` and `wait`: their descriptors must not become another file's.
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, left, inheritable=False)
        os.close(nowhere)
        return bool(_poll(self._reading, 0) & select.POLLHUP)

    def ring(self):
        writing = self._writing
        if writing < 0:
            return  # left: the interpreter ends
        try:
            os.write(writing, b"\0")
        except BlockingIOError:
            pass  # full: whoever waits is woken anyhow

    def wait(self, seconds):
        """Until somebody rings, or so long."""
        if self._writing < 0:
            time.sleep(seconds)  # left: the interpreter ends
        elif _poll(self._reading, seconds) & select.POLLIN:
            try:
                os.read(self._reading, 4096)
            except BlockingIOError:
                pass  # another took it


class Limit:
    """At most `maxsize` items, counted over all processes, however many of them die at whatever moment.

    A counter of items would be wrong for ever when a process dies between publishing and counting. So the truth is what
    the channel holds (`count`), and what is shared is an allowance: how many items may be put before somebody has to look
    again. It is written under a lock that the kernel releases at death, lowered before an item is published, and raised
    only by a look. Items leave the queue without telling, so what is held plus the allowance never exceeds maxsize; a
    process that dies having lowered it leaves a place unused until the next look.
    """

    def __init__(self, maxsize, holders, count, fd=None):
        self._maxsize = maxsize
        self._holders = holders
        self._count = count
        self._fd = os.memfd_create("sluice-queue-limit") if fd is None else fd
        try:
            os.set_inheritable(self._fd, False)
            os.ftruncate(self._fd, 16)
            self._map = mmap.mmap(self._fd, 16)
        except BaseException:
            os.close(self._fd)
            raise
        self._page = memoryview(self._map).cast("q")  # the allowance; 1 while somebody waits for a place
        self._lock_fd = -1

    def handed_over(self):
        return reduction.DupFd(self._fd)

    def close(self):
        self.forked()
        self._page.release()
        self._map.close()
        os.close(self._fd)

    def forked(self):
        """A child must not keep its parent's lock: it takes a description of its own when it needs one."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def lock(self, deadline):
        """Take the lock, which others hold for the time of one copy. Returns False if `deadline` passed before."""
        if self._lock_fd < 0:
            self._lock_fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        if deadline is None:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            return True
        pause = 2e-5
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
            time.sleep(pause)
            pause = min(2 * pause, 1e-3)

    def unlock(self):
        fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def take(self):
        """Take a place, having the lock. The item must be published before the lock is given back."""
        allowance = self._page[0]
        if allowance <= 0:
            self._page[1] = 1  # before the look: who makes a place after it rings
            allowance = self._maxsize - self._count()
            if allowance <= 0:
                return False
        self._page[0] = allowance - 1
        return True

    def freed(self):
        """An item has left the queue: wake those who wait for its place."""
        if self._page[1]:
            self._page[1] = 0
            self._holders.ring()

    def pass_on(self):
        """One ring may stand for several places: who waited and got one rings for the next."""
        if self._page[0] > 0:
            self._holders.ring()

    def wait(self, deadline):
        left = _LOOK_AGAIN if deadline is None else min(_LOOK_AGAIN, deadline - time.monotonic())
        self._holders.wait(max(left, 0))


def _poll(fd, seconds):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    events = poll.poll(seconds * 1000)
    return events[0][1] if events else 0
