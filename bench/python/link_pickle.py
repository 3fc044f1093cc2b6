# SPDX-License-Identifier: Apache-2.0
"""Arrays pickled, and written to a Unix stream socket behind their length."""
import pickle
import select
import socket
import struct

HEADER = struct.Struct("=Q")


class End:
    """One end of the socket. Spinning asks again and again whether there is something; sleeping just reads."""

    def __init__(self, own, spins):
        self._socket = own
        self._header = bytearray(HEADER.size)
        self._buffer = bytearray(1 << 16)
        self._ready = None
        if spins:
            poll = select.poll()
            poll.register(own, select.POLLIN)
            self._ready = poll.poll

    def send(self, what):
        body = pickle.dumps(what, protocol=5)
        header = HEADER.pack(len(body))
        sent = self._socket.sendmsg((header, body))
        if sent < len(header) + len(body):
            self._socket.sendall(memoryview(body)[sent - len(header):])

    def receive_bytes(self):
        """A view that is good until the next call."""
        while self._ready and not self._ready(0):
            pass
        if self._socket.recv_into(self._header, 0, socket.MSG_WAITALL) < HEADER.size:
            raise EOFError("the other process has gone")
        (size,) = HEADER.unpack(self._header)
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        body = memoryview(self._buffer)[:size]
        if self._socket.recv_into(body, size, socket.MSG_WAITALL) < size:
            raise EOFError("the other process has gone")
        return body

    def receive(self):
        return pickle.loads(self.receive_bytes())


class Link:
    """Made before the two processes are; each then takes its side."""

    def __init__(self, case):
        self._spins = case.waits == "spin"
        self._sockets = socket.socketpair()

    def first(self):
        end = End(self._sockets[0], self._spins)

        def exchange(array):
            end.send(array)
            return end.receive()
        return exchange

    def second(self, read):
        end = End(self._sockets[1], self._spins)

        def answer():
            end.send(read(end.receive()))
        return answer

    def close(self):
        for one in self._sockets:
            one.close()
