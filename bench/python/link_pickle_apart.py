# SPDX-License-Identifier: Apache-2.0
"""Pickle protocol 5 at its best: the array's bytes go out of band, from its own memory, without a copy by pickle."""
import pickle
import socket
import struct

import numpy

import link_pickle

HEADER = struct.Struct("=QQ")  # bytes of the pickle, bytes of the array


def send(own, array):
    apart = []
    body = pickle.dumps(array, protocol=5, buffer_callback=apart.append)
    content = apart[0].raw()
    parts = HEADER.pack(len(body), len(content)) + body, content
    sent = own.sendmsg(parts)
    if sent < len(parts[0]):  # not with a stream socket's buffer, but a kernel may
        own.sendall(memoryview(parts[0])[sent:])
        sent = len(parts[0])
    if sent < len(parts[0]) + len(content):
        own.sendall(content[sent - len(parts[0]):])


def receive_exactly(own, size):
    buffer = numpy.empty(size, numpy.uint8)  # which the array keeps; not cleared first, as a bytearray is
    if own.recv_into(buffer, size, socket.MSG_WAITALL) < size:
        raise EOFError("the other process has gone")
    return buffer


def receive(own):
    body, content = HEADER.unpack(receive_exactly(own, HEADER.size))
    body = receive_exactly(own, body)
    return pickle.loads(body, buffers=[receive_exactly(own, content)])


class Link:
    def __init__(self, case):
        del case
        self._sockets = socket.socketpair()

    def first(self):
        own = self._sockets[0]
        acknowledgements = link_pickle.End(own, False)

        def exchange(array):
            send(own, array)
            return acknowledgements.receive()
        return exchange

    def second(self, read):
        own = self._sockets[1]
        acknowledgements = link_pickle.End(own, False)

        def answer():
            acknowledgements.send(read(receive(own)))
        return answer

    def close(self):
        for one in self._sockets:
            one.close()
