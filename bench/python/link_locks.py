# SPDX-License-Identifier: Apache-2.0
"""multiprocessing.shared_memory with locks: one buffer, the array copied into it and read in place.

Two locks, taken from the beginning: releasing one says that the array is there, the other that it was read. No queue,
no description of the array, nothing that notices a dead process: about the least that Python itself can do.
"""
import multiprocessing
import multiprocessing.shared_memory

import numpy


class Link:
    def __init__(self, case):
        context = multiprocessing.get_context("fork")
        self._spins = case.waits == "spin"
        self._shape = case.shape
        size = int(numpy.prod(case.shape)) * 4
        self._memory = multiprocessing.shared_memory.SharedMemory(create=True, size=size + 64)
        self._locks = context.Lock(), context.Lock()
        for lock in self._locks:
            lock.acquire()

    def _views(self):
        size = self._memory.size
        array = numpy.ndarray(self._shape, numpy.int32, self._memory.buf, offset=64)
        assert size >= 64 + array.nbytes
        return array, memoryview(self._memory.buf)[:8].cast("q")

    def _acquire(self, lock):
        if not self._spins:
            return lock.acquire

        def acquire():
            while not lock.acquire(False):
                pass
        return acquire

    def first(self):
        shared, acknowledgement = self._views()
        there, back = self._locks[0].release, self._acquire(self._locks[1])

        def exchange(array):
            shared[:] = array
            there()
            back()
            return acknowledgement[0]
        return exchange

    def second(self, read):
        shared, acknowledgement = self._views()
        there, back = self._acquire(self._locks[0]), self._locks[1].release

        def answer():
            there()
            acknowledgement[0] = read(shared)
            back()
        return answer

    def close(self):
        self._memory.close()
        self._memory.unlink()
