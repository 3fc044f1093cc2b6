# SPDX-License-Identifier: Apache-2.0
"""The channel behind a Queue: a name that nobody else has, and how it is opened, looked at and removed."""

import contextlib
import os
import secrets

from . import _sluice


class Channel:
    """Each process opens it for itself, when it first puts or gets, and the first one makes it.

    It goes whenever all have left it and nothing is in it, and is made anew by the next: nobody can tell the difference.
    """

    def __init__(self, directory, max_deliveries):
        _sluice.list(directory)  # raises what is wrong with it
        self.name = f"queue-{os.getpid()}-{secrets.token_hex(8)}"
        self.directory = os.path.abspath(directory or os.environ.get("SLUICE_DIR") or "/dev/shm")
        self._options = {"directory": self.directory, "ordered": True, "max_deliveries": max_deliveries}

    def producer(self, lane_bytes, depth):
        return _sluice.Producer(self.name, lane_bytes=lane_bytes, depth=depth, **self._options)

    def consumer(self):
        return _sluice.Consumer(self.name, **self._options)

    def look(self):
        """How many items wait, and how many were handed out and are not released."""
        try:
            lanes = _sluice.stat(self.name, directory=self.directory)["lanes"]
        except _sluice.NotFound:
            return 0, 0
        return sum(lane["waiting_messages"] for lane in lanes), sum(lane["held_messages"] for lane in lanes)

    def held(self):
        return sum(self.look())

    def file_system_bytes(self):
        system = os.statvfs(self.directory)
        return system.f_blocks * system.f_frsize

    def remove(self):
        with contextlib.suppress(OSError):
            _sluice.remove(self.name, directory=self.directory, force=True)
