# SPDX-License-Identifier: Apache-2.0
"""What cannot be done gets an exception that says why, and changes nothing."""

import array
import errno
import math
import pickle
import queue

import numpy
import pytest
import sluice


@pytest.fixture
def pair():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        yield out, inp
        out.send({"still": b"works"})
        inp.receive(0).release()


@pytest.mark.parametrize(
    "value",
    [
        numpy.array([1, "a", None], object),
        numpy.array(["a"]),
        numpy.zeros(2, "complex64"),
        numpy.zeros(2, ">i4"),
        numpy.zeros(2, "datetime64[s]"),
        numpy.zeros(2, [("a", "i4")]),
        [1, 2],
        5,
        "text",
        None,
        object(),
        {"a": 1},
        numpy.ndarray,
    ],
)
def test_what_is_no_array_of_numbers_cannot_be_sent(pair, value):
    with pytest.raises((TypeError, ValueError)):
        pair[0].send({"good": b"1", "x": value})


class Odd:
    def __init__(self, result):
        self.result = result

    def __dlpack__(self, **keywords):
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.mark.parametrize("result", [None, 5, BufferError("mine"), RuntimeError("mine")])
def test_odd_dlpack(pair, result):
    expected = type(result) if isinstance(result, BaseException) else TypeError
    with pytest.raises(expected):
        pair[0].send({"x": Odd(result)})


@pytest.mark.parametrize(
    "dtype",
    [
        "int33",
        "complex64",
        "O",
        object,
        str,
        None,
        5,
        ">i4",
        numpy.dtype(">i4"),
        numpy.dtype("U3"),
        "",
        "\udcff",
        numpy.complex64,
    ],
)
def test_unknown_types(pair, dtype):
    with pytest.raises(TypeError, match="element type"):
        pair[0].reserve(x=((2,), dtype))


@pytest.mark.parametrize(
    "shape, error",
    [
        ((-1,), ValueError),
        ((1,) * 9, ValueError),
        ((2**62, 2**62), ValueError),
        ((2**63,), OverflowError),
        (("a",), TypeError),
        (None, TypeError),
        (1.5, TypeError),
        ("12", TypeError),
        ((1.0,), TypeError),
    ],
)
def test_wrong_shapes(pair, shape, error):
    with pytest.raises(error):
        pair[0].reserve(x=(shape, "int32"))


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (2**62, 0, 2**62), (2**63 - 1, 0)])
def test_shapes_without_elements_whose_strides_would_overflow(pair, shape):
    with pair[0].reserve(x=(shape, "int64")) as m:
        with pytest.raises(ValueError):
            m["x"].numpy()
        with pytest.raises(ValueError):
            m["x"][:] = 1
    t = pair[1].receive(0)["x"]
    assert t.shape == shape and t.nbytes == t.size == 0
    with pytest.raises(ValueError):
        t.numpy()
    pair[0].send({"x": Odd(t.__dlpack__())})
    assert pair[1].receive(0)["x"].shape == shape


@pytest.mark.parametrize("spec", [None, 5, "ab", (1,), (1, "u1", 2), {1: 2}, b"ab"])
def test_wrong_specs(pair, spec):
    with pytest.raises(TypeError, match="shape, dtype"):
        pair[0].reserve(x=spec)


def test_wrong_calls(pair):
    out, inp = pair
    for call in (
        lambda: out.reserve(),
        lambda: out.reserve({}),
        lambda: out.reserve(5),
        lambda: out.reserve({}, {}),
        lambda: out.reserve({5: (1, "u1")}),
        lambda: out.send(),
        lambda: out.send({}),
        lambda: out.send(x=b"1"),
        lambda: out.send({"x": b"1"}, nonsense=1),
        lambda: out.send({5: b"1"}),
        lambda: inp.receive(1, 2),
        lambda: inp.receive(nonsense=1),
        lambda: inp.receive("soon"),
        lambda: inp.receive_batch(5),
        lambda: out.send({"x": b"1"}, traceparent=5),
        lambda: out.send({"x": b"1"}, correlation_id=1.5),
        lambda: sluice.Message(),
        lambda: sluice.Tensor(),
        lambda: sluice.Reservation(),
        lambda: inp.close(1, 2),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (
        lambda: inp.receive(math.nan),
        lambda: inp.receive_batch(max_messages=0),
        lambda: inp.receive_batch(linger=-1),
        lambda: out.reserve({"": (1, "u1")}),
        lambda: out.reserve({"x" * 32: (1, "u1")}),
        lambda: out.reserve({"a\0b": (1, "u1")}),
        lambda: out.reserve({str(i): (1, "u1") for i in range(17)}),
        lambda: out.reserve({"x": (1, "u1")}, x=(1, "u1")),
        lambda: out.send({"x": b"1"}, deadline=-1),
        lambda: out.send({"x": b"1"}, deadline=math.inf),
        lambda: out.send({"x": numpy.zeros((1,) * 9)}),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(OverflowError):
        out.send({"x": b"1"}, correlation_id=2**64)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "00",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
    ],
)
def test_wrong_trace_contexts(pair, trace):
    with pair[0].reserve(x=(1, "u1")) as m:
        with pytest.raises(ValueError, match="traceparent"):
            m.traceparent = trace
        assert m.traceparent is None
    pair[1].receive(0)


def test_more_than_the_lane_takes(pair):
    with pytest.raises(sluice.TooLarge, match="lane_bytes=") as caught:
        pair[0].reserve(x=((1 << 22, 4), "int64"))
    assert caught.value.errno == errno.EMSGSIZE and isinstance(caught.value, ValueError)
    with pytest.raises(sluice.TooLarge):
        pair[0].send({"x": bytes(5 << 20)})


def test_unknown_tensors(pair):
    pair[0].send({"x": b"1"})
    m = pair[1].receive()
    with pytest.raises(KeyError, match="y"):
        m["y"]
    for key in (1, -2, 2**70):
        with pytest.raises(IndexError):
            m[key]
    with pytest.raises(TypeError):
        m[1.5]
    with pytest.raises(TypeError):
        m["x"] = b"2"
    with pytest.raises(AttributeError):
        m.correlation_id = 5


@pytest.mark.parametrize("name", ["", ".x", "a/b", "x" * 64, "a\0b", "ä", "\udcff"])
def test_wrong_names_of_channels(name):
    for kind in (sluice.Producer, sluice.Consumer):
        with pytest.raises(ValueError):
            kind(name)
    with pytest.raises((ValueError, sluice.Error)):
        sluice.stat(name)


@pytest.mark.parametrize(
    "options, error",
    [
        (dict(lane_bytes=0), ValueError),
        (dict(lane_bytes=-1), ValueError),
        (dict(lane_bytes=1.5), TypeError),
        (dict(lane_bytes=2**64), ValueError),
        (dict(depth=2**32), ValueError),
        (dict(alignment=63), ValueError),
        (dict(alignment=100), ValueError),
        (dict(mode="neither"), ValueError),
        (dict(spin="fast"), TypeError),
        (dict(spin=-1), ValueError),
        (dict(sample_rate=-1), ValueError),
        (dict(node=-1), ValueError),
        (dict(node=4000), ValueError),
        (dict(device="nonsense"), ValueError),
        (dict(permissions=0), ValueError),
        (dict(allowed_uids=["root"]), TypeError),
        (dict(allowed_uids=range(100)), ValueError),
        (dict(directory=5), TypeError),
        (dict(open_timeout=0), ValueError),
        (dict(take_back=-1), ValueError),
        (dict(nonsense=1), TypeError),
        (dict(directory="/nonexistent"), sluice.NotFound),
        (dict(create=False), sluice.NotFound),
    ],
)
def test_wrong_options(options, error):
    with pytest.raises(error):
        sluice.Producer("x", **options)


def test_what_exists_is_not_what_is_insisted_on():
    with sluice.Producer("x"), pytest.raises(FileExistsError):
        sluice.Consumer("x", mode="broadcast", insist=True)


def test_a_directory_that_is_too_small_says_so():
    with pytest.raises(sluice.NoSpace, match=r"holds \d+ MiB, .* needs \d+ MiB: .*lane_bytes=") as caught:
        sluice.Producer("x", lane_bytes=100 << 30)
    assert caught.value.errno == errno.ENOSPC
    assert sluice.list() == []


def test_a_directory_that_is_no_tmpfs_says_so(tmp_path):
    with pytest.raises(sluice.Error, match="tmpfs"):
        sluice.Producer("x", directory="/proc")


def test_use_after_close():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        r = out.reserve(x=(1, "u1"))
        r.publish()
        m = inp.receive()
        r = out.reserve(x=(1, "u1"))
        out.close()
        inp.close()
        for call in (
            lambda: out.reserve(x=(1, "u1")),
            lambda: out.send({"x": b"1"}),
            out.wait_consumers,
            out.placement,
            lambda: out.geometry,
            out.__enter__,
            inp.receive,
            inp.recv,
            inp.receive_batch,
            lambda: next(inp),
            inp.wait_producers,
            inp.fault,
            lambda: inp.geometry,
            inp.__enter__,
        ):
            with pytest.raises(sluice.Closed):
                call()
        for call in (r.publish, r.discard, m.release, lambda: r["x"], lambda: m["x"]):
            with pytest.raises(sluice.Released):
                call()
        assert out.closed and inp.closed and "closed" in repr(out)


def test_the_other_side_is_gone():
    with sluice.Consumer("x", report_gone=True) as inp:
        with sluice.Producer("x"):
            inp.wait_producers()
        with pytest.raises(sluice.PeerDied) as caught:
            inp.receive()
        assert isinstance(caught.value, BrokenPipeError)


def test_exceptions_are_those_that_programs_catch_already():
    for error in (
        sluice.Full,
        sluice.Empty,
        sluice.Timeout,
        sluice.PeerDied,
        sluice.EndOfStream,
        sluice.Closed,
        sluice.Busy,
    ):
        assert issubclass(error, sluice.Error) and issubclass(error, OSError)
    assert issubclass(sluice.Full, queue.Full) and issubclass(sluice.Empty, queue.Empty)
    assert issubclass(sluice.Timeout, TimeoutError) and issubclass(sluice.Forked, ChildProcessError)
    with sluice.Consumer("x") as inp:
        try:
            inp.receive(0)
        except sluice.Empty as error:
            again = pickle.loads(pickle.dumps(error))
            assert type(again) is sluice.Empty and again.errno == errno.EAGAIN == error.errno and str(again) == str(error)


def test_handles_and_messages_cannot_be_pickled(pair):
    pair[0].send({"x": b"1"})
    for thing in (*pair, pair[1].receive(0)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_a_signal_handler_that_closes_the_handle(child):
    code = """
import signal
inp = sluice.Consumer("x")
signal.signal(signal.SIGALRM, lambda *_: inp.close())
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    inp.receive()
except sluice.Closed:
    print("closed")
"""
    assert "closed" in child(code).finish()


def test_an_odd_shape_that_uses_the_producer_meanwhile(pair):
    class Index:
        def __index__(self):
            pair[0].send({"inner": b"1"})
            return 3

    with pair[0].reserve(x=((Index(),), "u1")) as m:
        m["x"][:] = array.array("B", [1, 2, 3])
    assert [list(m) for m in pair[1].receive_batch()] == [["inner"], ["x"]]
