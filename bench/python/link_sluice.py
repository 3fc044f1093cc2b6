# SPDX-License-Identifier: Apache-2.0
"""Sluice, a channel each way: the array goes there, and its acknowledgement comes back as a correlation id."""
import os

import numpy

import sluice

SPINS = {"block": "learn", "spin": None, "sleep": 0}


class Link:
    def __init__(self, case):
        self._name = f"bench-{os.getpid()}-{os.urandom(4).hex()}"
        self._how, self._shape = case.how, case.shape
        self._spin = SPINS[case.waits]
        self._lane_bytes = max(64 << 10, 2 * case.bytes)  # a message is at most half a lane

    def _send(self, producer):
        """How an array goes into the lane."""
        reserve, spec = producer.reserve, (self._shape, "int32")

        def fill(array):
            with reserve(array=spec) as message:
                message["array"][:] = array

        def publish(array):
            del array
            reserve(array=spec).publish()

        def send(array):
            producer.send({"array": array})
        return {"send": send, "fill": fill, "untouched": publish}[self._how]

    def first(self):
        send = self._send(sluice.Producer(self._name + "-there", lane_bytes=self._lane_bytes, spin=self._spin))
        receive = sluice.Consumer(self._name + "-back", spin=self._spin).receive

        def exchange(array):
            send(array)
            with receive() as message:
                return message.correlation_id
        return exchange

    def second(self, read):
        receive = sluice.Consumer(self._name + "-there", spin=self._spin).receive
        acknowledge = sluice.Producer(self._name + "-back", spin=self._spin).send
        nothing = {"answer": numpy.empty(0, numpy.int8)}

        def answer():
            with receive() as message:
                value = read(numpy.asarray(message["array"]))
            acknowledge(nothing, correlation_id=value)
        return answer

    def close(self):
        for way in "there", "back":
            try:
                sluice.remove(f"{self._name}-{way}", force=True)
            except sluice.NotFound:
                pass  # as it should be: the last one out removed it
