# SPDX-License-Identifier: Apache-2.0
"""By Sluice: ids written where the model reads them. One channel, a lane of it for each worker."""
import os
import time

import numpy

import sluice

from tokenization import fill

NAME = "Sluice"


class Sender:
    def __init__(self, address, seq):
        self._seq = seq
        # Every message stamped; an exception, not endless waiting for room, when inference has died; pages there from
        # the beginning.
        self._producer = sluice.Producer(address, sample_rate=None, report_gone=True, prefault=True)

    def send(self, number, encodings):
        """Returns when the arrays were filled. When the message was ready to leave is a stamp of its own."""
        shape = (len(encodings), self._seq)
        with self._producer.reserve(input_ids=(shape, "int32"), lengths=(shape[:1], "int32")) as message:
            fill(encodings, numpy.asarray(message["input_ids"]), numpy.asarray(message["lengths"]))
            message.correlation_id = number
            filled = time.monotonic_ns()
        return filled, None

    def close(self):
        self._producer.close()


class Received:
    """A batch: its number, its arrays in shared memory, and when it was published and had come."""

    def __init__(self, message):
        self._message = message
        self.number = message.correlation_id
        self.input_ids, self.lengths = message["input_ids"], message["lengths"]
        _, self.published_ns, self.received_ns = message.stamps

    def release(self):
        self.input_ids = self.lengths = None
        self._message.release()


class Receiver:
    def __init__(self, directory):
        del directory
        self.address = f"pipeline-{os.getpid()}"
        self._consumer = sluice.Consumer(self.address)

    def receive(self, timeout):
        """The next batch, or None after `timeout` seconds."""
        try:
            return Received(self._consumer.receive(timeout=timeout))
        except sluice.Timeout:
            return None

    def close(self):
        self._consumer.close()
        try:
            sluice.remove(self.address, force=True)
        except sluice.NotFound:
            pass  # it goes with the last member, unless a worker was killed
