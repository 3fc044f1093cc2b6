# SPDX-License-Identifier: Apache-2.0
"""The tokenizer processes as the inference process sees them: started, given orders, watched, stopped."""
import dataclasses
import multiprocessing.connection
import pathlib
import signal
import socket
import subprocess
import sys

PATIENCE = 2  # seconds to leave by oneself


class WorkerDied(Exception):
    """A tokenizer process ended before its work did; the message says how."""


@dataclasses.dataclass
class Work:
    """What a worker is told once."""
    batches: list  # of lists of texts
    tokenizer: str
    seq: int
    addresses: dict  # of each way
    cpu: int = None


@dataclasses.dataclass
class Order:
    """What a worker is told to send: batch n is due n intervals after the beginning."""
    way: str
    numbers: range
    begin_ns: int
    interval_ns: int


class Crew:
    def __init__(self, works):
        self._processes, self._controls = [], []
        try:
            for work in works:
                self._start(work)
            for control, index in zip(self._controls, range(len(works))):
                self._hear(index, control)
        except BaseException:
            self.close()
            raise

    def _start(self, work):
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the inference process, which then stops its workers.
            self._processes.append(subprocess.Popen(
                [sys.executable, pathlib.Path(__file__).with_name("worker.py"), str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True))
        control = multiprocessing.connection.Connection(ours.detach())
        self._controls.append(control)
        self._tell(len(self._controls) - 1, control, work)

    def _tell(self, index, control, what):
        try:
            control.send(what)
        except ConnectionError:
            raise self._died(index) from None

    def _hear(self, index, control):
        try:
            return control.recv()
        except (EOFError, ConnectionError):
            raise self._died(index) from None

    def _died(self, index):
        status = self._processes[index].wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return WorkerDied(f"tokenizer process {index + 1} {how}")

    def order(self, way, count, begin_ns, interval_ns):
        """`count` batches, shared out in turns."""
        for index, control in enumerate(self._controls):
            numbers = range(index, count, len(self._controls))
            self._tell(index, control, Order(way, numbers, begin_ns, interval_ns))

    def results(self):
        """Waits for the ends of their orders: the stamps of all batches, and the CPU seconds of all workers."""
        every = [self._hear(index, control) for index, control in enumerate(self._controls)]
        return [stamps for some, _ in every for stamps in some], sum(cpu for _, cpu in every)

    def check(self):
        for index, process in enumerate(self._processes):
            if process.poll() is not None:
                raise self._died(index)

    def close(self):
        for control in self._controls:
            control.close()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
