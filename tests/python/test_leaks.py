# SPDX-License-Identifier: Apache-2.0
"""References: what is used a thousand times leaves nothing behind, also when it failed."""

import gc
import sys
import tracemalloc

import numpy
import pytest
import sluice

ids = numpy.arange(12, dtype="int32").reshape(3, 4)


def transfer(out, inp):
    with out.reserve(x=((3, 4), "int32"), y=((2,), "int64")) as m:
        m["x"][:] = ids
        m["y"][:] = 1
    with inp.receive() as m:
        m["x"].sum(), m["x"] + 1, m["x"] == ids, m["x"].shape, m["x"].T, m.items(), m.values(), repr(m)
        numpy.from_dlpack(m["x"]), memoryview(m["x"]), m["x"].__dlpack__(), m.stamps
    out.send({"x": ids, "y": ids.T, "z": b"1"}, correlation_id=3)
    inp.recv()
    out.send({"x": ids})
    inp.receive_batch()


def fail(out, inp):
    for call in (
        lambda: out.reserve(x=5),
        lambda: out.reserve(x=((1,), "nonsense")),
        lambda: out.reserve(x=((1, -1), "u1")),
        lambda: out.reserve(x=((1, "a"), "u1")),
        lambda: out.send({"y": ids, "x": numpy.array([None])}),
        lambda: out.send({"x": 5}),
        lambda: inp.receive(0),
        lambda: inp.receive_batch(timeout=0),
        lambda: inp.recv(1e-9),
        lambda: out.reserve(x=((1 << 40,), "u1")),
        lambda: sluice.stat("nothing"),
        lambda: sluice.Producer("", lane_bytes=5),
        lambda: sluice.Consumer("y", directory="/nowhere"),
    ):
        with pytest.raises((TypeError, ValueError, OSError)):
            call()
    with pytest.raises(RuntimeError), out.reserve(x=((1,), "u1")) as m:
        m["x"][:] = 1
        with pytest.raises(ValueError):
            m["x"][:] = [1, 2]
        raise RuntimeError
    out.send({"x": ids})
    with inp.receive() as m:
        with pytest.raises(ValueError):
            m["x"][0] = 1
        with pytest.raises(KeyError):
            m["y"]
        with pytest.raises(AttributeError):
            m["x"].nothing
    with pytest.raises(sluice.Released):
        m["x"]


def open_and_close(out, inp):
    with sluice.Producer("y", allowed_uids=[1], directory=None) as o, sluice.Consumer("y") as i:
        o.geometry, o.placement(), i.fault(), repr(o)
        o.send({"x": ids})
        i.recv()
    sluice.list(), sluice.stat("x"), sluice.gc("x"), sluice.gc()


def refuse(out, inp):
    for options in (dict(depth=1), dict(allowed_uids=[-1]), dict(directory="/proc"), dict(directory=5), dict(create=False)):
        with pytest.raises((sluice.Error, TypeError)):
            sluice.Consumer("y", **options)
    for call in (sluice.stat, sluice.remove, sluice.gc):
        for arguments in (("y",), ("y", "/proc"), ("y", "/nowhere"), ("a/b",), (5,)):
            with pytest.raises((sluice.Error, TypeError)):
                call(*arguments)
    for timeout in (-1, "soon", float("nan")):
        with pytest.raises((sluice.Error, TypeError)):
            inp.receive(timeout)
    with pytest.raises(sluice.Timeout):
        out.wait_consumers(2, timeout=-1)
    for spec in ((-1, "u1"), (("a",), "u1"), (2**63, "u1"), ((2**31, 2**31), "i4"), (1.5, "u1")):
        with pytest.raises((sluice.Error, TypeError, ValueError, OverflowError)):
            out.reserve(x=spec)


@pytest.mark.parametrize("use", [transfer, fail, refuse, open_and_close])
def test_nothing_is_left(use):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        watched = [
            ids,
            sluice.Tensor,
            sluice.Message,
            sluice.Reservation,
            sluice.Producer,
            sluice.Consumer,
            sluice.Empty,
            out,
            inp,
        ]

        def state():
            gc.collect()
            total = sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0
            return [sys.getrefcount(each) for each in watched] + [total // 100]

        def repeat():
            for _ in range(100):
                use(out, inp)

        repeat()
        before = state()
        tracemalloc.start()
        growth = []
        # Caches of numpy and pytest fill slowly; a leak of one object a call never stops.
        while len(growth) < 20 and not (growth and growth[-1] < 1000):
            low = tracemalloc.get_traced_memory()[0]
            repeat()
            gc.collect()
            growth.append(tracemalloc.get_traced_memory()[0] - low)
        tracemalloc.stop()
        assert state() == before
        assert growth[-1] < 1000, growth
