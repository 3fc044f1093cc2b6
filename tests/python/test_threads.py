# SPDX-License-Identifier: Apache-2.0
"""Threads: one at a time in a handle, releases from any."""

import queue
import sys
import threading

import numpy
import pytest
import sluice
from support import until


def asleep():
    return any(member["asleep"] for member in sluice.stat("x")["members"])


def test_a_second_thread_is_told():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        got = []
        thread = threading.Thread(target=lambda: got.append(inp.recv()))
        thread.start()
        until(asleep)
        for call in (
            inp.receive,
            lambda: inp.receive(0),
            lambda: next(inp),
            inp.receive_batch,
            inp.wait_producers,
            inp.close,
            lambda: inp.geometry,
            lambda: inp.__exit__(None, None, None),
        ):
            with pytest.raises(sluice.Busy, match="thread"):
                call()
        out.send({"x": b"1"})
        thread.join()
        assert bytes(got[0]["x"]) == b"1"
        got.clear()
        assert inp.held == 0


def test_a_producer_likewise():
    with sluice.Producer("x", lane_bytes=8192) as out, sluice.Consumer("x") as inp:
        out.send({"x": bytes(4096)})
        out.send({"x": bytes(4096)})
        thread = threading.Thread(target=lambda: out.send({"x": bytes(4096)}))
        thread.start()
        until(asleep)
        for call in (lambda: out.reserve(x=(1, "u1")), lambda: out.send({"x": b"1"}), out.close, out.wait_consumers):
            with pytest.raises(sluice.Busy):
                call()
        for _ in range(3):
            inp.receive().release()
        thread.join()


def test_other_threads_run_while_one_waits():
    with sluice.Consumer("x") as inp, sluice.Producer("x") as out:
        thread = threading.Thread(target=lambda: out.send({"x": b"1"}))
        thread.start()
        assert bytes(inp.recv()["x"]) == b"1"
        thread.join()


def test_releases_from_other_threads_while_one_receives():
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with sluice.Producer("x", lane_bytes=1 << 16) as out, sluice.Consumer("x", end_of_stream=True) as inp:
            messages = queue.Queue()

            def work():
                while (m := messages.get()) is not None:
                    m["x"].sum()
                    m.release()

            def produce():
                for i in range(2000):
                    out.send({"x": numpy.full(100, i, "int32")})
                out.close()

            workers = [threading.Thread(target=work) for _ in range(3)]
            threads = [*workers, threading.Thread(target=produce)]
            for thread in threads:
                thread.start()
            count = 0
            for m in inp:
                count += 1
                messages.put(m)
            for _ in workers:
                messages.put(None)
            for thread in threads:
                thread.join()
            assert count == 2000 and inp.held == 0
    finally:
        sys.setswitchinterval(switch)


def test_a_large_copy_lets_others_run_and_keeps_them_out():
    big = numpy.zeros(32 << 20, "u1")
    with sluice.Producer("x", lane_bytes=80 << 20) as out, sluice.Consumer("x") as inp:
        stop, seen = threading.Event(), []

        def poke():
            while not stop.is_set():
                try:
                    out.geometry
                except sluice.Busy:
                    seen.append(True)

        thread = threading.Thread(target=poke)
        thread.start()
        while not seen:
            out.send({"x": big})
            inp.receive().release()
        stop.set()
        thread.join()
