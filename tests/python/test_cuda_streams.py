# SPDX-License-Identifier: Apache-2.0
"""CUDA: who waits for whom, and what a message waits for."""

import ctypes
import errno
import sys
import threading
import types

import numpy
import pytest
import sluice
from cuda_case import LANE, LARGE, Torch, fill, has_room, pattern, poison, send
from cuda_driver import Capsule
from support import until


def test_streams_by_their_names(cuda_pair, driver, stream, fake_torch):
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()
    fake_torch.use(stream)
    for name, means in (
        (None, stream),
        (0, 1),
        (1, 1),
        (2, 2),
        (stream, stream),
        (numpy.uint64(stream), stream),
        (types.SimpleNamespace(cuda_stream=stream), stream),
        (types.SimpleNamespace(ptr=stream), stream),
        (type("Core", (), {"__cuda_stream__": lambda self: (0, stream)})(), stream),
    ):
        assert m["x"].to_cuda(name).__cuda_array_interface__["stream"] == means
        assert m["x"].to_cuda(stream=name) and m.to_cuda(stream=name) and sluice.to_cuda([m], name)
    assert set(fake_torch.asked) == {0}
    fake_torch.started = False
    assert m["x"].to_cuda().__cuda_array_interface__["stream"] == 1
    for bad in ("1", 1.5, object(), types.SimpleNamespace(cuda_stream="x"), -1, 2**64):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            m["x"].to_cuda(bad)
    with pytest.raises(TypeError):
        m["x"].to_cuda(stream, 1)
    with pytest.raises(TypeError):
        m["x"].to_cuda(strea=1)
    m.release()


def test_torch_that_is_half_imported_or_raises(cuda_pair, monkeypatch):
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    m["x"].to_cuda()
    monkeypatch.setitem(sys.modules, "torch", Torch())
    sys.modules["torch"].hook = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        m["x"].to_cuda()
    with pytest.raises(ZeroDivisionError):
        m["x"].to_cuda(None)
    assert m.alive


def test_a_consumers_stream_waits_for_the_upload(cuda_pair, driver, stream):
    other = driver.stream()
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()

    def follows(each):
        gate = driver.hold(stream)
        t = m["x"].to_cuda(stream)
        seen, done = [], threading.Event()
        capsule = Capsule(t.__dlpack__(stream=each))
        driver.call(each, lambda: (seen.append(ctypes.string_at(capsule.tensor.data, LARGE)), done.set()))
        assert not done.wait(0.05)
        gate.open()
        assert done.wait(30) and seen == [pattern(1).tobytes()]
        capsule.delete()

    follows(other)
    follows(1)
    gate = driver.hold(stream)
    t = m["x"].to_cuda(stream)
    Capsule(t.__dlpack__(stream=-1)).delete()  # on the consumer's own account
    driver.cuStreamSynchronize(other)
    gate.open()
    for bad in (0, "1", -2):
        with pytest.raises((ValueError, TypeError)):
            t.__dlpack__(stream=bad)
    for bad in ({"dl_device": (1, 0)}, {"dl_device": (2, 1)}, {"copy": True}):
        with pytest.raises(BufferError, match=r"\(2, 0\)"):
            t.__dlpack__(**bad)
    Capsule(t.__dlpack__(dl_device=(2, 0), copy=False, max_version=None)).delete()
    m.release()
    del t
    driver.cuStreamSynchronize(stream)
    driver.cuStreamDestroy(other)


def test_device_memory_is_freed_behind_those_who_use_it(cuda_pair, driver, stream, fake_torch):
    others = [driver.stream(), driver.stream()]
    send(cuda_pair[0], 1)
    t = cuda_pair[1].receive()["x"].to_cuda(stream)
    for each in others:
        Capsule(t.__dlpack__(stream=each)).delete()
    gates = [driver.hold(each) for each in (others[0], others[1])]
    fake_torch.use(stream)
    del t
    for gate in gates:
        assert driver.counts().allocations == 1
        gate.open()
    driver.cuStreamSynchronize(stream)
    until(lambda: driver.counts().allocations == 0)
    fake_torch.use(0)
    for each in others:
        driver.cuStreamDestroy(each)


def test_device_memory_stays_while_its_stream_is_captured(cuda_pair, driver, stream, fake_torch):
    """Its end does not spoil the capture, as waiting for the device would."""
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()
    for current in (stream, 0):
        t = m["x"].to_cuda(stream)
        fake_torch.use(current)
        driver.capture(stream)
        del t
        assert driver.counts().allocations == 1
        driver.end_capture(stream)
        fake_torch.use(0)
        with pytest.raises(sluice.Empty):
            cuda_pair[1].receive(timeout=0)  # which tries again
        driver.cuStreamSynchronize(current)
        assert driver.counts().allocations == 0


def test_device_memory_goes_behind_its_own_streams_while_torchs_is_captured(cuda_pair, driver, stream, fake_torch):
    """Behind both of its own, though the capture is of a third."""
    send(cuda_pair[0], 1)
    second, captured = driver.stream(), driver.stream()
    t = cuda_pair[1].receive()["x"].to_cuda(stream)
    capsule = Capsule(t.__dlpack__(stream=second))
    gate = driver.hold(stream)
    other_gate = driver.hold(second)
    fake_torch.use(captured)
    driver.capture(captured)
    del t
    capsule.delete()
    gate.open()
    driver.cuStreamSynchronize(stream)
    assert driver.counts().allocations == 1
    other_gate.open()
    driver.cuStreamSynchronize(second)
    driver.cuStreamSynchronize(stream)
    assert driver.counts().allocations == 0
    driver.end_capture(captured)
    fake_torch.use(0)
    driver.cuStreamDestroy(second)
    driver.cuStreamDestroy(captured)


def test_detaching_waits_for_the_end_of_a_capture(cuda_pair, driver, stream):
    out, inp = cuda_pair
    send(out, 1)
    t = inp.receive()["x"].to_cuda()
    captured = driver.stream()
    driver.capture(captured)
    with pytest.raises(sluice.CudaError, match="capture") as caught:
        inp.cuda_detach()
    assert caught.value.errno == errno.EBUSY and inp.cuda_status.attached
    with pytest.raises(AssertionError):  # spoilt
        driver.end_capture(captured)
    driver.cuStreamDestroy(captured)
    del t
    inp.cuda_detach()
    assert not inp.cuda_status.attached and inp.held == 0


def test_without_memory_pools(driver, stream):
    """Then letting go waits for the stream, without the interpreter's lock."""
    driver.standin.set_attribute(115, 0)
    try:
        with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
            assert not inp.cuda().pools
            send(out, 1)
            t = inp.receive()["x"].to_cuda(stream)
            gate = driver.hold(stream)
            opener = threading.Thread(target=lambda: (until(lambda: "t" not in kept), gate.open()))
            kept = {"t": t}
            del t
            opener.start()
            kept.pop("t")
            opener.join()
            assert driver.counts().allocations == 0
    finally:
        driver.standin.set_attribute(115, 1)


# --- Releases ----------------------------------------------------------------------------------------------------------


HOW = {
    "block": lambda m: m.__exit__(None, None, None),
    "release": lambda m: m.release(),
    "drop": lambda m: None,
}


@pytest.mark.parametrize("how", HOW)
def test_a_message_is_released_behind_its_upload(cuda_pair, driver, stream, how):
    out, inp = cuda_pair
    send(out, 1)
    m = inp.receive()
    gate = driver.hold(stream)
    t = m["x"].to_cuda(stream)
    HOW[how](m)
    del m
    assert inp.held == 0 and inp.cuda_status.pending == 1

    def read():
        driver.cuStreamSynchronize(stream)
        return driver.read(t.pointer, LARGE)

    poison(out, inp, driver, gate, read, 1)


VIEWS = {
    "numpy": lambda t: t.numpy(),
    "memoryview": memoryview,
    "dlpack": lambda t: t.__dlpack__(),
    "tensor": lambda t: t,  # and the numpy view that it keeps
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("when", ["then", "later"])
def test_a_copy_that_does_not_block_outlives_its_view(cuda_pair, driver, stream, fake_torch, kind, how, when):
    """On the stream that is current when the view is made, or on one that is later."""
    out, inp = cuda_pair
    send(out, 1)
    m = inp.receive()
    device = driver.allocate(LARGE)
    fake_torch.use(stream if when == "then" else 0)
    view = VIEWS[kind](m["x"])
    if kind == "tensor":
        assert view.sum() > 0
    fake_torch.use(stream)
    gate = driver.hold(stream)
    driver.cuMemcpyHtoDAsync(device, m["x"].device_pointer(), LARGE, stream)  # as tensor.to("cuda", non_blocking=True)
    if how == "drop":
        del m, view
    else:
        del view
        HOW[how](m)
        del m

    def read():
        driver.cuStreamSynchronize(stream)
        return driver.read(device, LARGE)

    poison(out, inp, driver, gate, read, 1)
    driver.cuMemFree(device)
    fake_torch.use(0)


@pytest.mark.parametrize("kind", ["numpy", "dlpack"])
def test_the_last_view_dies_in_another_thread(cuda_pair, driver, stream, fake_torch, kind):
    """Whose current stream is another: that of when the view was made counts too."""
    out, inp = cuda_pair
    send(out, 1)
    device = driver.allocate(LARGE)
    fake_torch.use(stream)
    m = inp.receive()
    address = m["x"].device_pointer()
    views = [VIEWS[kind](m["x"])]
    del m
    gate = driver.hold(stream)
    driver.cuMemcpyHtoDAsync(device, address, LARGE, stream)
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert inp.held == 0

    def read():
        driver.cuStreamSynchronize(stream)
        return driver.read(device, LARGE)

    poison(out, inp, driver, gate, read, 1)
    driver.cuMemFree(device)
    fake_torch.use(0)


def test_a_capsule_is_deleted_in_a_thread_that_python_does_not_know(cuda_pair, driver, stream, fake_torch):
    send(cuda_pair[0], 1)
    fake_torch.use(stream)
    m = cuda_pair[1].receive()
    capsules = [Capsule(m["x"].__dlpack__()), Capsule(m["x"].to_cuda().__dlpack__(stream=1))]
    del m
    assert cuda_pair[1].held == 1
    thread = ctypes.c_ulong()
    for capsule in capsules:
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(capsule.managed.deleter)
        started = ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, run, ctypes.c_void_p(capsule.address))
        assert started == 0 and ctypes.CDLL(None).pthread_join(thread, None) == 0
    assert cuda_pair[1].held == 0
    driver.cuStreamSynchronize(stream)
    until(lambda: driver.counts().allocations == 0)
    fake_torch.use(0)


def test_an_explicit_stream_waits_for_all_others(cuda_pair, driver, stream, fake_torch):
    out, inp = cuda_pair
    other = driver.stream()
    send(out, 1)
    m = inp.receive()
    gate = driver.hold(stream)
    t = m["x"].to_cuda(stream)
    m.release(stream=other)
    driver.calls("cuStreamWriteValue64")
    fill(out)
    assert not has_room(out) and inp.cuda_status.pending == 1
    gate.open()
    driver.cuStreamSynchronize(other)
    assert driver.read(t.pointer, LARGE) == pattern(1).tobytes()
    until(lambda: has_room(out))
    driver.cuStreamDestroy(other)


def test_what_nobody_looked_at_is_released_at_once(cuda_pair, driver, fake_torch):
    for end in (lambda m: m.release(), lambda m: m.__exit__(None, None, None), lambda m: None):
        send(cuda_pair[0], 1)
        m = cuda_pair[1].receive()
        assert m["x"].shape == (LARGE,) and m.sequence >= 0
        end(m)
        del m
    assert cuda_pair[1].cuda_status.released == 0 and not fake_torch.asked


def test_in_place(cuda_pair, driver, stream, fake_torch):
    out, inp = cuda_pair
    send(out, 1)
    m = inp.receive()
    view = m["x"].cuda_view()
    assert view.readonly and view.pointer == m["x"].device_pointer() == m["x"].numpy().ctypes.data
    assert view.__dlpack_device__() == (2, 0) and "in place" in repr(view)
    capsule = Capsule(view.__dlpack__(stream=stream, max_version=(1, 1)))
    assert capsule.flags == 1 and capsule.tensor.data == view.pointer and capsule.shape == (LARGE,)
    with pytest.raises(BufferError, match="alive"):
        m.release()
    del view, m
    assert inp.held == 1
    gate = driver.hold(stream)
    seen = []
    pointer = capsule.tensor.data
    driver.call(stream, lambda: seen.append(ctypes.string_at(pointer, LARGE)))  # a kernel
    capsule.delete()
    assert inp.held == 0

    def read():
        driver.cuStreamSynchronize(stream)
        return seen[0]

    poison(out, inp, driver, gate, read, 1)


def test_a_device_pointer_counts_as_a_view(cuda_pair, driver, stream, fake_torch):
    out, inp = cuda_pair
    send(out, 1)
    fake_torch.use(stream)
    m = inp.receive()
    pointer = m["x"].device_pointer()
    gate = driver.hold(stream)
    seen = []
    driver.call(stream, lambda: seen.append(ctypes.string_at(pointer, LARGE)))
    m.release()
    del m

    def read():
        driver.cuStreamSynchronize(stream)
        return seen[0]

    poison(out, inp, driver, gate, read, 1)
    fake_torch.use(0)


@pytest.mark.parametrize("mode", ["queue", "broadcast"])
@pytest.mark.parametrize("writes", [True, False])
def test_releases_by_write_and_by_event(driver, stream, mode, writes):
    with sluice.Producer("x", lane_bytes=LANE, mode=mode) as out, sluice.Consumer("x") as inp:
        assert inp.cuda(stream_writes=writes).stream_writes == writes
        send(out, 1)
        send(out, 2)
        gate = driver.hold(stream)
        first, second = inp.receive(), inp.receive()
        t = first["x"].to_cuda(stream)
        first.release()
        fill(out)
        assert not has_room(out) and inp.cuda_status.by_event == (not writes)
        gate.open()
        driver.cuStreamSynchronize(stream)
        assert driver.read(t.pointer, LARGE) == pattern(1).tobytes()
        inp.receive(0).release()  # which looks
        until(lambda: inp.cuda_status.pending == 0 or (inp.receive(0).release() and False))
        second.release()
