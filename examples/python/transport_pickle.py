# SPDX-License-Identifier: Apache-2.0
"""The usual way: arrays pickled, and written to a Unix stream socket behind their length; one socket a worker."""
import pickle
import selectors
import socket
import struct
import time

import numpy

from tokenization import fill

NAME = "pickle over Unix sockets"
HEADER = struct.Struct("=Q")  # bytes that follow


class Sender:
    def __init__(self, address, seq):
        self._seq = seq
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)

    def send(self, number, encodings):
        """Returns when the arrays were filled and when they were ready to leave, in nanoseconds."""
        ids = numpy.empty((len(encodings), self._seq), numpy.int32)
        lengths = numpy.empty(len(encodings), numpy.int32)
        fill(encodings, ids, lengths)
        filled = time.monotonic_ns()
        body = pickle.dumps({"number": number, "input_ids": ids, "lengths": lengths}, protocol=5)
        encoded = time.monotonic_ns()
        header = HEADER.pack(len(body))
        sent = self._socket.sendmsg((header, body))
        if sent < len(header) + len(body):
            self._socket.sendall(memoryview(header + body)[sent:])
        return filled, encoded

    def close(self):
        self._socket.close()


class Received:
    """A batch: its number, its arrays, and when it had come."""

    def __init__(self, body, received_ns):
        content = pickle.loads(body)
        self.number, self.input_ids, self.lengths = content["number"], content["input_ids"], content["lengths"]
        self.published_ns, self.received_ns = None, received_ns  # the sender knows the former

    def release(self):
        self.input_ids = self.lengths = None


class Receiver:
    def __init__(self, directory):
        self.address = f"{directory}/batches"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ready = []
        self._buffer = bytearray(1 << 16)

    def receive(self, timeout):
        """The next batch, or None after `timeout` seconds or when a sender has left."""
        if not self._ready:
            self._ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        while self._ready:
            peer = self._ready.pop()
            if peer is self._listener:
                self._selector.register(peer.accept()[0], selectors.EVENT_READ)
                continue
            body = self._read(peer)
            if body is not None:
                return Received(body, time.monotonic_ns())
            self._selector.unregister(peer)
            peer.close()
        return None

    def _read(self, peer):
        header = peer.recv(HEADER.size, socket.MSG_WAITALL)
        if len(header) < HEADER.size:
            return None
        (size,) = HEADER.unpack(header)
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        body = memoryview(self._buffer)[:size]
        return body if peer.recv_into(body, size, socket.MSG_WAITALL) == size else None

    def close(self):
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
