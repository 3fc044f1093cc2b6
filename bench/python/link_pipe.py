# SPDX-License-Identifier: Apache-2.0
"""multiprocessing.Pipe, both ways: what it pickles, over a socket pair of its own."""
import multiprocessing
import select


class Link:
    def __init__(self, case):
        self._spins = case.waits == "spin"
        self._ends = multiprocessing.Pipe()

    def _receive(self, end):
        """Spinning asks the kernel itself: Connection.poll makes a new selector each time."""
        if not self._spins:
            return end.recv
        poll = select.poll()
        poll.register(end, select.POLLIN)

        def receive():
            while not poll.poll(0):
                pass
            return end.recv()
        return receive

    def first(self):
        send, receive = self._ends[0].send, self._receive(self._ends[0])

        def exchange(array):
            send(array)
            return receive()
        return exchange

    def second(self, read):
        send, receive = self._ends[1].send, self._receive(self._ends[1])

        def answer():
            send(read(receive()))
        return answer

    def close(self):
        for end in self._ends:
            end.close()
