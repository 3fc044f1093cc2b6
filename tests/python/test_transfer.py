# SPDX-License-Identifier: Apache-2.0
"""Reserving, sending, receiving, what travels beside."""

import array
import os

import numpy
import pytest
import sluice


def test_a_reservation_is_published_at_the_end_of_its_block():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve(input_ids=((2, 3), "int32"), lengths=((2,), "int64")) as m:
            m["input_ids"][:] = numpy.arange(6).reshape(2, 3)
            m["lengths"][:] = [3, 2]
            assert m.keys() == list(m) == ["input_ids", "lengths"] and len(m) == 2 and "lengths" in m and "x" not in m
            with pytest.raises(sluice.Empty):
                inp.receive(timeout=0)
        assert not m.alive
        with inp.receive(timeout=0) as m:
            assert m["input_ids"].tolist() == [[0, 1, 2], [3, 4, 5]]
            assert m[1].tolist() == m[-1].tolist() == [3, 2]
            assert m.nbytes == 6 * 4 + 2 * 8
        assert not m.alive and inp.held == 0


def test_an_exception_discards_a_reservation():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with pytest.raises(RuntimeError), out.reserve(x=((4,), "u1")) as m:
            m["x"][:] = b"1234"
            raise RuntimeError
        with pytest.raises(sluice.Empty):
            inp.receive(0)
        out.send({"x": b"next"})
        assert bytes(inp.receive(0)["x"]) == b"next"


def test_what_is_not_published_is_discarded():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        m = out.reserve(x=((4,), "u1"))
        del m
        m = out.reserve(x=((4,), "u1"))
        m.discard()
        with pytest.raises(sluice.Empty):
            inp.receive(0)


def test_metadata_travels():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with sluice.Producer("x", sample_rate=None) as out, sluice.Consumer("x") as inp:
        with out.reserve(x=(1, "u1")) as m:
            assert (m.correlation_id, m.deadline, m.traceparent) == (0, None, None)
            m.correlation_id, m.deadline, m.traceparent = 2**64 - 1, 12.5, trace
            assert (m.correlation_id, m.deadline, m.traceparent) == (2**64 - 1, 12.5, trace)
        out.send({"x": b"1"}, correlation_id=7, deadline=3.0, traceparent=trace)
        out.send({"x": b"1"})
        a, b, c = inp.receive_batch()
        assert (a.correlation_id, a.deadline, a.traceparent, a.sequence) == (2**64 - 1, 12.5, trace, 0)
        assert (b.correlation_id, b.deadline, b.traceparent, b.sequence) == (7, 3.0, trace, 1)
        assert (c.correlation_id, c.deadline, c.traceparent, c.sequence) == (0, None, None, 2)
        assert a.origin == b.origin and a.deliveries == 1
        assert a.stamps.reserve_ns <= a.stamps.publish_ns <= a.stamps.receive_ns


def test_stamps_that_were_not_taken_are_none():
    with sluice.Producer("x", sample_rate=0) as out, sluice.Consumer("x") as inp:
        out.send({"x": b"1"})
        assert inp.receive().stamps == (None, None, None)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 2, 1, 2, 1, 2, 1, 2)])
def test_shapes_without_elements_or_dimensions_and_with_many(shape):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve(x=(shape, "float32")) as m:
            m["x"][...] = 2
        with inp.receive() as m:
            assert m["x"].shape == shape and m["x"].numpy().shape == shape
            assert m["x"].sum() == 2 * numpy.prod(shape)


def test_shrinking():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve(x=((10, 2), "int16"), y=(4, "u1")) as m:
            m["x"][:3] = 7
            m.shrink("x", 3)
            m.shrink(1, 0)
            for bad in (11, -1):
                with pytest.raises(ValueError):
                    m.shrink("x", bad)
        m = inp.receive()
        assert m["x"].tolist() == [[7, 7]] * 3 and m["y"].shape == (0,)


def test_names_that_are_keywords_go_into_a_dict():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve({"timeout": (2, "u1"), "specs": ([1, 1], numpy.int8)}, timeout=1.5, other=(1, "bool")) as m:
            assert m.keys() == ["timeout", "specs", "other"]
        inp.receive().release()


def test_the_same_call_with_other_values():
    with sluice.Producer("x", depth=64) as out, sluice.Consumer("x") as inp:
        for shape, dtype in [((2,), "int32"), ((3,), "int32"), ([3], "int64"), ((3,), "int64"), (3, numpy.int64)] * 3:
            out.reserve(x=(shape, dtype)).publish()
            m = inp.receive()
            assert m["x"].shape == (numpy.prod(shape),) and m["x"].dtype == dtype
            m.release()
        shape = [1]
        for n in (1, 2):
            shape[0] = n
            out.reserve(x=(shape, "u1")).publish()
            assert inp.receive()["x"].shape == (n,)


def test_send_and_recv():
    ids = numpy.arange(12, dtype="int64").reshape(3, 4)
    arrays = {
        "ids": ids,
        "mask": ids.T > 3,
        "raw": b"bytes",
        "floats": array.array("d", [1.5]),
        "scalar": numpy.float32(2),
    }
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send(arrays)
        got = inp.recv(timeout=0)
        assert list(got) == list(arrays)
        for name, value in arrays.items():
            expected = numpy.frombuffer(value, "u1") if name == "raw" else numpy.asarray(value)
            assert got[name].dtype == expected.dtype and got[name].shape == expected.shape
            assert (got[name].numpy() == expected).all()
        assert inp.held == 1
        got.clear()
        assert inp.held == 0


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), slice(None, None, 2)),
        (slice(None, None, -1), slice(None)),
        (slice(1, 3), slice(None)),
        (Ellipsis, slice(2, 3)),
    ],
)
def test_sources_with_gaps_are_copied_element_by_element(key):
    whole = numpy.arange(4 * 6 * 2, dtype="float32").reshape(4, 6, 2).transpose(1, 0, 2)
    part = whole[key]
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send({"x": part})
        assert (inp.recv()["x"] == part).all()
        with out.reserve(x=(part.shape, "float32")) as m:
            m["x"] = part
        assert (inp.recv()["x"] == part).all()


def test_large_arrays():
    big = numpy.arange(1 << 20, dtype="int64")
    with sluice.Producer("x", lane_bytes=40 << 20) as out, sluice.Consumer("x") as inp:
        out.send({"x": big, "y": big[::-1]})
        got = inp.recv()
        assert (got["x"] == big).all() and (got["y"] == big[::-1]).all()


def test_the_iteration_ends_with_the_stream():
    with sluice.Consumer("x", end_of_stream=True) as inp:
        with sluice.Producer("x") as out:
            for i in range(5):
                out.send({"x": numpy.int32(i)})
        assert [int(m["x"]) for m in inp] == list(range(5))
        with pytest.raises(sluice.EndOfStream):
            inp.receive()


def test_batches():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        for i in range(70):
            out.send({"x": numpy.full(256, i, "int32")})
        assert [m["x"][0] for m in inp.receive_batch(max_messages=3)] == [0, 1, 2]
        assert len(inp.receive_batch(max_messages=100, max_bytes=4096)) == 4
        assert len(inp.receive_batch(max_messages=100, linger=0.001)) == 63
        with pytest.raises(sluice.Empty):
            inp.receive_batch(timeout=0)
        with pytest.raises(sluice.Timeout):
            inp.receive_batch(timeout=0.01, linger=0.01)


def test_time_outs():
    with sluice.Producer("x", lane_bytes=8192) as out, sluice.Consumer("x") as inp:
        for timeout in (-1, 1e-9, 0.01):
            with pytest.raises(sluice.Timeout):
                inp.receive(timeout)
            with pytest.raises(TimeoutError):
                inp.recv(timeout=timeout)
        out.send({"x": bytes(4096)})
        out.send({"x": bytes(4096)})
        with pytest.raises(sluice.Full):
            out.reserve(x=(4096, "u1"), timeout=0)
        with pytest.raises(sluice.Timeout):
            out.reserve(x=(4096, "u1"), timeout=0.01)
        with pytest.raises(sluice.Timeout):
            out.send({"x": bytes(4096)}, timeout=0.01)
        assert len(inp.receive_batch(max_messages=2)) == 2


def test_waiting_for_the_others():
    with sluice.Producer("x") as out:
        with pytest.raises(sluice.Timeout):
            out.wait_consumers(timeout=0.01)
        with sluice.Consumer("x") as inp:
            assert out.wait_consumers(1) == 1 and inp.wait_producers(timeout=0) == 1
            with pytest.raises(TimeoutError):
                inp.wait_producers(2, timeout=0)


def test_broadcast_reaches_all():
    with sluice.Producer("x", mode="broadcast", expected_consumers=2) as out:
        with sluice.Consumer("x") as a, sluice.Consumer("x") as b:
            assert a.geometry.mode == "broadcast" and a.geometry.expected_consumers == 2
            out.send({"x": b"all"})
            assert bytes(a.recv()["x"]) == bytes(b.recv()["x"]) == b"all"


def test_options(directory):
    os.mkdir(directory + "/sub")
    options = dict(
        ordered=True,
        channel_lane_bytes=1 << 20,
        channel_depth=16,
        max_deliveries=None,
        permissions=0o640,
        directory=directory + "/sub",
        open_timeout=5,
        take_back=60,
        allowed_uids=[0, 1],
    )
    with sluice.Producer("x", lane_bytes=1 << 16, depth=8, alignment=256, spin=0, prefault=True, node=0, **options) as out:
        g = out.geometry
        assert (g.ordered, g.depth, g.lane_bytes, g.alignment, g.max_deliveries) == (True, 8, 1 << 16, 256, None)
        assert out.placement()["asked_node"] == 0
        with sluice.Consumer("x", quantum_messages=1, quantum_bytes=1, spin=0.001, **options) as inp:
            assert inp.geometry.depth == 16 and inp.geometry.lane_bytes == 1 << 20
        stat = sluice.stat("x", options["directory"])
        assert stat["unreadable_lanes"] == 0
        assert stat["permissions"] == 0o640 and stat["lanes"][0]["lane_bytes"] == 1 << 16
        assert sluice.list(options["directory"]) == ["x"] and sluice.list() == []
        with pytest.raises(sluice.Busy):
            sluice.remove("x", options["directory"])
    os.rmdir(directory + "/sub")


def test_looking_at_channels_and_removing_them():
    with pytest.raises(FileNotFoundError):
        sluice.stat("x")
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
    assert sluice.stat("x")["lanes"][0]["waiting_messages"] == 1
    assert sluice.gc("x")["files"] == 0
    assert sluice.gc("x", drop=True)["dropped_messages"] == 1
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
    sluice.remove("x")
    with pytest.raises(sluice.NotFound):
        sluice.remove("x")
