# SPDX-License-Identifier: Apache-2.0
"""Views keep messages, messages keep handles, and nothing dangles."""

import gc
import weakref

import numpy
import pytest
import sluice


@pytest.fixture
def pair():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        yield out, inp


def message(pair, value=b"12345678"):
    pair[0].send({"x": value})
    return pair[1].receive(0)


VIEWS = {
    "memoryview": memoryview,
    "numpy": lambda t: t.numpy(),
    "asarray": numpy.asarray,
    "slice": lambda t: t[2:4],
    "transpose": lambda t: t.T,
    "dlpack": lambda t: t.__dlpack__(),
    "versioned": lambda t: t.__dlpack__(max_version=(1, 0)),
    "from_dlpack": numpy.from_dlpack,
    "iterator": iter,
    "method": lambda t: t.sum,
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_keeps_its_message(pair, kind):
    m = message(pair)
    view = VIEWS[kind](m["x"])
    with pytest.raises(BufferError, match="alive"):
        m.release()
    assert m.alive
    del view
    m.release()
    assert not m.alive and pair[1].held == 0


@pytest.mark.parametrize("kind", VIEWS)
def test_the_last_view_releases(pair, kind):
    view = VIEWS[kind](message(pair)["x"])
    assert pair[1].held == 1
    del view
    assert pair[1].held == 0


@pytest.mark.parametrize("first", VIEWS)
@pytest.mark.parametrize("second", ["memoryview", "versioned", "slice"])
def test_each_of_several_views_keeps_its_message(pair, first, second):
    m = message(pair)
    views = [VIEWS[first](m["x"]), VIEWS[second](m["x"])]
    for _ in range(2):
        with pytest.raises(BufferError, match=f"^{len(views)} view"):
            m.release()
        assert m.alive
        views.pop()
    m.release()


def test_a_tensor_is_no_view_and_its_own_numpy_view_neither(pair):
    m = message(pair)
    t = m["x"]
    assert t.sum() and (t == t).all() and t[0]
    with m:
        pass
    for use in (
        lambda: t[0],
        lambda: memoryview(t),
        lambda: t.numpy(),
        lambda: numpy.asarray(t),
        lambda: t.__dlpack__(),
        lambda: m["x"],
        lambda: m.release(),
        lambda: m.keys(),
        lambda: len(m),
        lambda: m.sequence,
        lambda: m.correlation_id,
        lambda: m.stamps,
        lambda: m.__enter__(),
    ):
        with pytest.raises(sluice.Released):
            use()
    assert "over" in repr(t) and "released" in repr(m) and t.shape == (8,)


def test_a_block_that_ends_with_views_alive_says_so(pair):
    with pytest.raises(BufferError), message(pair) as m:
        view = m["x"].numpy()
    assert m.alive and bytes(view) == b"12345678"
    del view
    assert not m.alive and pair[1].held == 0


def test_an_exception_is_not_hidden_by_views(pair):
    views = []
    with pytest.raises(RuntimeError), message(pair) as m:
        views.append(m["x"].numpy())
        raise RuntimeError
    assert m.alive
    views.clear()
    assert not m.alive


def test_publish_is_refused_while_the_memory_can_be_written(pair):
    m = pair[0].reserve(x=(4, "u1"))
    m["x"][:] = b"abcd"
    row = m["x"][1:]
    for call in (m.publish, m.discard):
        with pytest.raises(BufferError):
            call()
    row[0] = ord("B")
    with pytest.raises(sluice.Busy):
        pair[0].reserve(x=(4, "u1"))
    del row
    m.publish()
    assert bytes(pair[1].receive(0)["x"]) == b"aBcd"
    for call in (
        m.publish,
        m.discard,
        lambda: m["x"],
        lambda: m.shrink("x", 1),
        lambda: setattr(m, "correlation_id", 1),
    ):
        with pytest.raises(sluice.Released):
            call()


def test_assigning_leaves_no_view(pair):
    with pair[0].reserve(x=((2, 2), "int32")) as m:
        t = m["x"]
        t[:] = numpy.ones((2, 2), "int32")
        t[:] = 3
        t[0, 0] = 4
        t += 1
    assert pair[1].recv()["x"].tolist() == [[5, 4], [4, 4]]


def test_a_reservation_given_up_with_views_goes_with_them(pair):
    views = []
    with pytest.raises(RuntimeError), pair[0].reserve(x=(4, "u1")) as m:
        views.append(m["x"].numpy())
        raise RuntimeError
    with pytest.raises(sluice.Busy, match="alive"):
        pair[0].reserve(x=(4, "u1"))
    views.clear()
    pair[0].reserve(x=(4, "u1")).discard()
    assert not m.alive


def test_close_is_refused_while_views_live(pair):
    out, inp = pair
    m = message(pair)
    view = m["x"].numpy()
    with pytest.raises(BufferError, match="1 view .* 1 message of .* is alive"):
        inp.close()
    assert not inp.closed
    out.send({"x": b"more"})
    assert bytes(inp.receive(0)["x"]) == b"more"
    del view
    inp.close()
    inp.close()
    assert inp.closed and not m.alive


def test_a_consumers_block_ends_when_the_last_view_is_gone(pair):
    with sluice.Consumer("y") as inp, sluice.Producer("y") as out:
        out.send({"x": b"12345678"})
        out.send({"x": b"12345678"})
        first, m = inp.receive(), inp.receive()
        view = m["x"].numpy()
        reference = weakref.ref(inp)
    assert inp.closed and not first.alive and m.alive and bytes(view) == b"12345678"
    assert sluice.stat("y")["lanes"][0]["held_messages"] == 1
    with pytest.raises(sluice.Closed):
        inp.receive(0)
    del inp, m, first
    assert reference() is not None
    del view
    assert reference() is None and sluice.list() == ["x"]


def test_a_block_that_ends_by_an_exception_gives_back():
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        for keep_view in (True, False):
            kept = []
            with pytest.raises(RuntimeError), sluice.Consumer("x") as inp:
                m = inp.receive()
                kept.append(m["x"].numpy() if keep_view else m)
                del m
                raise RuntimeError
            kept.clear()
            del inp
        with sluice.Consumer("x") as inp:
            m = inp.receive(timeout=0)
            assert bytes(m["x"]) == b"1"
            inp.close(give_back=True)
            assert not m.alive
        with sluice.Consumer("x") as inp:
            inp.receive(timeout=0)  # and what ends well is done with
            m = None
        with sluice.Consumer("x") as inp, pytest.raises(sluice.Empty):
            inp.receive(timeout=0)


def test_messages_and_tensors_keep_their_handle():
    inp = sluice.Consumer("x")
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        t = inp.receive()["x"]
        reference = weakref.ref(inp)
        del inp
        assert reference() is not None and bytes(t) == b"1"
        del t
        assert reference() is None


def test_a_producers_block_with_views_of_a_reservation():
    with sluice.Producer("x") as out:
        m = out.reserve(x=(4, "u1"))
        view = m["x"].numpy()
    view[:] = 1
    assert out.closed and m.alive and sluice.list() == ["x"]
    with pytest.raises(BufferError):
        m.publish()
    del view
    assert not m.alive and sluice.list() == []


def test_a_reservation_that_closing_discarded_is_not_taken_for_published():
    with sluice.Producer("x") as out, pytest.raises(sluice.Closed), out.reserve(x=(4, "u1")):
        out.close()


def test_nothing_needs_the_collector():
    gc.collect()
    gc.disable()
    try:
        with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
            for _ in range(3):
                with out.reserve(x=(4, "int32")) as m:
                    m["x"][:] = 1
                    m["x"][0] = 2
                m = inp.receive()
                t = m["x"]
                assert t.sum() == 5
                del m, t
                assert inp.held == 0
        assert gc.collect() == 0
    finally:
        gc.enable()
