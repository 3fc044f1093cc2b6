# SPDX-License-Identifier: Apache-2.0
"""CUDA, with the driver of tests/cuda that stands in for the real one; test_cuda_device.py has a device and torch."""

import ctypes
import gc
import os
import signal
import sys
import threading
import types
import weakref

import numpy
import pytest
import sluice
from cuda_driver import Capsule, Driver, standin_path
from support import until

if standin_path() is None:
    pytest.skip("./dev builds the driver that stands in and names it in SLUICE_TEST_CUDA", allow_module_level=True)

LANE = 65536
LARGE = LANE // 4


@pytest.fixture(scope="module")
def library():
    return Driver(standin_path())


@pytest.fixture
def driver(library):
    """The driver, with device 0 current. Afterwards it has seen nothing wrong, and nothing is left with it."""
    library.use()
    before = library.counts()
    yield library
    gc.collect()
    for name in sluice.list():
        sluice.gc(name, drop=True)  # what was published and nobody was to receive
    library.kept.clear()
    counts = library.counts()
    assert counts.violations == before.violations, counts.violation
    assert (counts.registrations, counts.events, counts.allocations, counts.retained) == (0, 0, 0, 1)
    library.let_go()


@pytest.fixture
def stream(driver):
    stream = driver.stream()
    yield stream
    driver.open_gates()
    driver.cuStreamDestroy(stream)


@pytest.fixture
def pair(driver):
    with sluice.Producer("x", lane_bytes=LANE) as out, sluice.Consumer("x") as inp:
        inp.cuda()
        yield out, inp


class Torch:
    """What Sluice asks torch for."""

    def __init__(self):
        self.started = True
        self.local = threading.local()
        self.asked = []
        self.hook = None
        self.cuda = types.SimpleNamespace(is_initialized=lambda: self.started, current_stream=self.current_stream)

    def current_stream(self, device):
        self.asked.append(device)
        if self.hook is not None:
            self.hook()
        return types.SimpleNamespace(cuda_stream=getattr(self.local, "stream", 0))

    def use(self, stream):
        self.local.stream = stream


@pytest.fixture
def torch(monkeypatch):
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def pattern(seed, size=LARGE):
    return numpy.random.default_rng(seed).integers(0, 256, size, dtype="u1")


def send(out, seed):
    out.send({"x": pattern(seed)}, timeout=0)


def fill(out):
    """Writes over all of the lane that is free. Returns how many messages that took."""
    count = 0
    try:
        while True:
            out.send({"x": numpy.full(LARGE, 0xDB, "u1")}, timeout=0)
            count += 1
    except sluice.Full:
        return count


def has_room(out):
    try:
        send(out, 99)
    except sluice.Full:
        return False
    return True


# --- Enabling ----------------------------------------------------------------------------------------------------------


def child_environment(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", os.path.dirname(standin_path()))


def test_importing_loads_no_driver(child, monkeypatch):
    child_environment(monkeypatch)
    code = """
def loaded():
    return "libcuda.so" in open("/proc/self/maps").read()
inp = sluice.Consumer("x")
assert not inp.cuda_status.attached and inp.cuda_status.device is None
assert not loaded() and "torch" not in sys.modules and "numpy" not in sys.modules
inp.cuda()
assert loaded() and "torch" not in sys.modules and "numpy" not in sys.modules
"""
    child(code).finish()


def test_no_driver(child):
    code = """
try:
    sluice.Consumer("x").cuda()
except sluice.CudaError as error:
    print(error)
"""
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("there is a real driver")
    told = child(code).finish()
    assert "no CUDA driver" in told and "libcuda.so.1" in told and "--gpus all" in told


def test_enabling_and_what_it_tells(driver):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send({"x": b"1"})
        with pytest.raises(sluice.CudaError, match=r"call its cuda\(\)"):
            inp.cuda_detach()
        status = inp.cuda()
        assert status == inp.cuda_status and status.attached and status.device == 0
        assert status.device_name == "stand-in 0" and status.driver_version == (12, 4)
        assert status.lanes == status.pinned_lanes == 1 and status.pinned_bytes > 0 and status.pin_error is None
        assert status.stream_writes and status.read_only and status.same_address and status.pools
        with pytest.raises(sluice.CudaError, match="cuda_detach") as caught:
            inp.cuda()
        assert caught.value.errno == 17
        assert inp.cuda_detach() is None
        status = inp.cuda_status
        assert not status.attached and status.lanes == 0 and "CUDA is" in (status.error or "CUDA is")
        inp.cuda()


def test_which_device(driver):
    with sluice.Consumer("x") as inp:
        assert inp.cuda(None).device == 0  # the current context's
        inp.cuda_detach()
        assert inp.cuda(device=1).device == 1
        inp.cuda_detach()
        driver.cuCtxSetCurrent(driver.retain(1))
        assert inp.cuda(device=None).device == 1
        inp.cuda_detach()
        assert inp.cuda().device == 0
        for bad, error in ((2, sluice.CudaError), (-1, ValueError), (1.5, TypeError), ("0", TypeError)):
            inp.cuda_detach() if inp.cuda_status.attached else None
            with pytest.raises(error):
                inp.cuda(bad)
        assert "no CUDA device 2" in inp.cuda_status.error
    driver.let_go(1)
    driver.cuCtxSetCurrent(driver.retain(0))
    driver.cuDevicePrimaryCtxRelease(0)


@pytest.mark.parametrize("call, result, errno", [("cuInit", 100, 19), ("cuDeviceGetName", 999, 5), ("cuInit", 3, 10)])
def test_a_driver_that_does_not_start(driver, call, result, errno):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        driver.fail(call, result)
        with pytest.raises(sluice.CudaError, match=call) as caught:
            inp.cuda()
        assert caught.value.errno == errno and isinstance(caught.value, sluice.Error)
        assert call in inp.cuda_status.error
        out.send({"x": b"123"})
        assert bytes(inp.receive(0)["x"]) == b"123"
        inp.cuda()


def test_a_lane_that_cannot_be_pinned(driver):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send({"x": b"123"})
        driver.fail("cuMemHostRegister", 2, skip=1)  # after the acknowledgement words
        with pytest.warns(RuntimeWarning, match=r"1 of the 1 lanes .*OUT_OF_MEMORY.*memlock"):
            status = inp.cuda()
        assert status.pinned_lanes == 0 and "OUT_OF_MEMORY" in status.pin_error
        m = inp.receive()
        assert bytes(m["x"]) == b"123"
        for call in (m["x"].to_cuda, m["x"].cuda_view, m.to_cuda, lambda: sluice.to_cuda([m])):
            with pytest.raises(sluice.CudaError, match="pageable=True"):
                call()
        m.release()
        inp.cuda_detach()

        driver.fail("cuMemHostRegister", 2, skip=1)
        with pytest.warns(RuntimeWarning, match="slow"):
            inp.cuda(pageable=True)
        out.send({"x": b"456"})
        m = inp.receive()
        assert driver.read(m["x"].to_cuda().pointer, 3) == b"456" and inp.cuda_status.pageable_copies == 1
        assert driver.read(sluice.to_cuda([m])[0]["x"].pointer, 3) == b"456" and m.alive
        m.to_cuda(release=True)
        assert not m.alive and inp.held == 0
        inp.cuda_detach()

        driver.fail("cuMemHostRegister", 2, skip=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.filters", [("error", None, RuntimeWarning, None, 0)])
            with pytest.raises(RuntimeWarning):
                inp.cuda()
        assert not inp.cuda_status.attached


def test_lanes_of_later_producers_are_pinned(pair, driver):
    with sluice.Producer("x") as later:
        later.send({"x": b"123"})
        m = pair[1].receive()
        assert driver.read(m["x"].to_cuda().pointer, 3) == b"123"
        assert pair[1].cuda_status.pinned_lanes == pair[1].cuda_status.lanes >= 1
        del m


def test_what_needs_cuda_says_so():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve(x=(1, "u1")) as reservation:
            for call in (reservation["x"].to_cuda, reservation["x"].cuda_view, reservation["x"].device_pointer):
                with pytest.raises(TypeError, match="received"):
                    call()
        m = inp.receive()
        t = m["x"]
        for call in (
            t.to_cuda,
            t.cuda_view,
            t.device_pointer,
            m.to_cuda,
            lambda: sluice.to_cuda([m]),
            lambda: m.release(1),
        ):
            with pytest.raises(sluice.CudaError, match=r"call its cuda\(\)") as caught:
                call()
            assert caught.value.errno == 107
        m.release(None)
        for call in (t.to_cuda, t.cuda_view, m.to_cuda, lambda: sluice.to_cuda([m]), lambda: m.release(stream=1)):
            with pytest.raises(sluice.Released):
                call()
    with pytest.raises(sluice.Closed):
        inp.cuda()
    with pytest.raises(sluice.Closed):
        inp.cuda_status


# --- Uploads -----------------------------------------------------------------------------------------------------------

TYPES = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bool".split()


@pytest.mark.parametrize("dtype", TYPES)
def test_an_upload_is_the_tensor(pair, driver, dtype):
    value = numpy.arange(24).reshape(2, 3, 4).astype(dtype)
    pair[0].send({"other": b"1", "x": value})
    m = pair[1].receive()
    t = m["x"].to_cuda()
    assert (t.shape, t.strides, t.ndim, t.nbytes, t.size) == (value.shape, value.strides, 3, value.nbytes, 24)
    assert t.dtype_name == dtype and t.itemsize == value.itemsize and len(t) == 2
    assert t.device == 0 and not t.readonly and f"{dtype} (2, 3, 4) on device 0" in repr(t)
    assert driver.read(t.pointer, t.nbytes) == value.tobytes()
    plain, versioned = Capsule(t.__dlpack__()), Capsule(t.__dlpack__(max_version=(1, 0)))
    for each in plain, versioned:
        assert each.device == t.__dlpack_device__() == (2, 0) and each.tensor.data == t.pointer
        assert each.shape == (2, 3, 4) and each.strides == (12, 4, 1) and each.tensor.lanes == 1
        assert (each.tensor.code, each.tensor.bits) == ({"i": 0, "u": 1, "f": 2, "b": 6}[value.dtype.kind], 8 * t.itemsize)
    assert versioned.flags == 0 and (versioned.managed.major, versioned.managed.minor) == (1, 0)
    del m
    assert pair[1].held == 0
    pointer = t.pointer
    del t
    assert driver.counts().allocations == 1 and driver.read(pointer, value.nbytes) == value.tobytes()
    plain.delete()
    versioned.delete()


def test_the_cuda_array_interface(pair, driver, stream):
    pair[0].send({"x": numpy.ones((2, 3), "i4"), "b": numpy.ones(2, "?"), "empty": numpy.ones((0, 2), "f4")})
    with pair[0].reserve(x=(4, "bfloat16")):
        pass
    m = pair[1].receive()
    t = m["x"].to_cuda(stream)
    assert t.__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<i4",
        "data": (t.pointer, False),
        "strides": None,
        "version": 3,
        "stream": stream,
    }
    assert m["b"].to_cuda().__cuda_array_interface__["typestr"] == "|b1"
    assert m["b"].to_cuda().__cuda_array_interface__["stream"] == 1
    empty = m["empty"].to_cuda().__cuda_array_interface__
    assert empty["data"] == (0, False) and empty["stream"] is None
    view = m["x"].cuda_view().__cuda_array_interface__
    assert view["data"] == (m["x"].device_pointer(), True) and view["stream"] is None
    assert not hasattr(pair[1].receive()["x"].to_cuda(), "__cuda_array_interface__")
    del m


def test_empty_tensors_and_scalars(pair, driver):
    pair[0].send({"none": numpy.ones((0, 5), "i4"), "one": numpy.array(7.5), "nothing": numpy.ones((3, 0), "u1")})
    pair[0].send({"none": numpy.ones(0, "i4")})
    m, empty = pair[1].receive(), pair[1].receive()
    for tensors in (m.to_cuda(), {name: m[name].to_cuda() for name in m}, sluice.to_cuda([empty, m, empty])[1]):
        none, one, nothing = tensors.values()
        assert (none.shape, none.pointer, nothing.shape, nothing.nbytes) == ((0, 5), 0, (3, 0), 0)
        assert one.shape == () and driver.read(one.pointer, 8) == numpy.float64(7.5).tobytes()
        with pytest.raises(TypeError):
            len(one)
        capsule = Capsule(none.__dlpack__())
        assert capsule.tensor.data is None and capsule.shape == (0, 5)
        capsule.delete()
    for tensors in (empty.to_cuda(), sluice.to_cuda([empty])[0]):
        assert tensors["none"].shape == (0,)
    assert empty["none"].cuda_view().pointer == 0
    assert sluice.to_cuda([]) == []


def test_a_message_is_one_copy(pair, driver):
    values = {"a": pattern(1), "b": numpy.arange(5), "c": numpy.ones((3, 3), "f4")}
    pair[0].send(values)
    m = pair[1].receive()
    driver.calls("cuMemcpyHtoDAsync")
    tensors = m.to_cuda()
    assert driver.calls("cuMemcpyHtoDAsync") == 1 and driver.counts().allocations == 1
    assert list(tensors) == ["a", "b", "c"]
    m.release()
    for name, value in values.items():
        assert driver.read(tensors[name].pointer, value.nbytes) == value.tobytes()
    last = tensors.pop("b")
    tensors.clear()
    assert driver.read(last.pointer, 40) == numpy.arange(5).tobytes()


@pytest.mark.parametrize("release", [False, True])
def test_a_batch_is_one_copy_and_one_write(pair, driver, stream, release):
    values = [{"x": pattern(i, 100 + i), "n": numpy.array(i)} for i in range(8)]
    for value in values:
        pair[0].send(value)
    batch = pair[1].receive_batch()
    driver.calls("cuMemcpyHtoDAsync")
    driver.calls("cuStreamWriteValue64")
    gate = driver.hold(stream)
    tensors = sluice.to_cuda(iter(batch), stream, release=release)
    assert driver.calls("cuMemcpyHtoDAsync") == 1 and driver.counts().allocations == 1
    assert [m.alive for m in batch] == [not release] * 8
    if release:
        assert driver.calls("cuStreamWriteValue64") == 1 and pair[1].cuda_status.pending == 8
    batch.clear()
    assert pair[1].held == 0 and pair[1].cuda_status.released == 8
    gate.open()
    driver.cuStreamSynchronize(stream)
    for value, uploaded in zip(values, tensors):
        for name in value:
            assert driver.read(uploaded[name].pointer, value[name].nbytes) == value[name].tobytes()


def test_what_cannot_be_uploaded_together(pair):
    with sluice.Producer("y") as out, sluice.Consumer("y") as inp:
        inp.cuda()
        out.send({"x": b"1"})
        pair[0].send({"x": b"1"})
        m, other = pair[1].receive(), inp.receive()
        with pytest.raises(ValueError, match="one consumer"):
            sluice.to_cuda([m, other])
        for bad in (m, [m, 1], [m, m["x"]], None):
            with pytest.raises((TypeError, ValueError)):
                sluice.to_cuda(bad)
        assert m.alive and other.alive
        sluice.to_cuda([m, m], release=True)
        assert not m.alive
        with pytest.raises(sluice.Released):
            sluice.to_cuda([m])
        del other


def test_views_forbid_an_upload_that_releases(pair):
    for each in (lambda m: m.to_cuda(release=True), lambda m: sluice.to_cuda([m], release=True)):
        send(pair[0], 1)
        m = pair[1].receive()
        view = m["x"].numpy()
        with pytest.raises(BufferError, match="alive"):
            each(m)
        assert m.alive
        del view
        each(m)
        assert not m.alive


def test_uploads_that_fail_leave_the_message(pair, driver, stream):
    send(pair[0], 1)
    m = pair[1].receive()
    driver.fail("cuMemAllocAsync", 2)
    with pytest.raises(sluice.CudaError, match="OUT_OF_MEMORY.*empty_cache"):
        m["x"].to_cuda()
    for call in (m["x"].to_cuda, m.to_cuda, lambda: sluice.to_cuda([m], release=True)):
        driver.fail("cuMemcpyHtoDAsync", 700)
        with pytest.raises(sluice.CudaError, match="ILLEGAL_ADDRESS.*start the process again") as caught:
            call()
        assert caught.value.errno == 5 and m.alive
    driver.capture(stream)
    for call in (m["x"].to_cuda, m.release):
        with pytest.raises(sluice.CudaError, match="capture") as caught:
            call(stream)
        assert caught.value.errno == 16 and m.alive
    driver.end_capture(stream)
    context = driver.retain(1)
    driver.cuCtxSetCurrent(context)
    other = driver.stream()
    driver.cuCtxSetCurrent(driver.retain(0))
    for call in (m["x"].to_cuda, m.to_cuda, m.release, lambda stream: m["x"].to_cuda().__dlpack__(stream=stream)):
        with pytest.raises(sluice.CudaError, match="context"):
            call(other)
    assert m.alive and bytes(m["x"]) == pattern(1).tobytes()
    m.release(stream=stream)
    driver.cuStreamDestroy(other)
    driver.cuDevicePrimaryCtxRelease(0)
    driver.cuDevicePrimaryCtxRelease(1)


# --- Streams -----------------------------------------------------------------------------------------------------------


def test_streams_by_their_names(pair, driver, stream, torch):
    send(pair[0], 1)
    m = pair[1].receive()
    torch.use(stream)
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
    assert set(torch.asked) == {0}
    torch.started = False
    assert m["x"].to_cuda().__cuda_array_interface__["stream"] == 1
    for bad in ("1", 1.5, object(), types.SimpleNamespace(cuda_stream="x"), -1, 2**64):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            m["x"].to_cuda(bad)
    with pytest.raises(TypeError):
        m["x"].to_cuda(stream, 1)
    with pytest.raises(TypeError):
        m["x"].to_cuda(strea=1)
    m.release()


def test_torch_that_is_half_imported_or_raises(pair, monkeypatch):
    send(pair[0], 1)
    m = pair[1].receive()
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    m["x"].to_cuda()
    monkeypatch.setitem(sys.modules, "torch", Torch())
    sys.modules["torch"].hook = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        m["x"].to_cuda()
    with pytest.raises(ZeroDivisionError):
        m["x"].to_cuda(None)
    assert m.alive


def test_a_consumers_stream_waits_for_the_upload(pair, driver, stream):
    other = driver.stream()
    send(pair[0], 1)
    m = pair[1].receive()

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


def test_device_memory_is_freed_behind_those_who_use_it(pair, driver, stream, torch):
    others = [driver.stream(), driver.stream()]
    send(pair[0], 1)
    t = pair[1].receive()["x"].to_cuda(stream)
    for each in others:
        Capsule(t.__dlpack__(stream=each)).delete()
    gates = [driver.hold(each) for each in (others[0], others[1])]
    torch.use(stream)
    del t
    for gate in gates:
        assert driver.counts().allocations == 1
        gate.open()
    driver.cuStreamSynchronize(stream)
    until(lambda: driver.counts().allocations == 0)
    torch.use(0)
    for each in others:
        driver.cuStreamDestroy(each)


def test_device_memory_goes_though_its_stream_is_captured(pair, driver, stream, torch):
    send(pair[0], 1)
    t = pair[1].receive()["x"].to_cuda(stream)
    torch.use(stream)
    driver.capture(stream)
    del t
    assert driver.counts().allocations == 0
    driver.end_capture(stream)
    torch.use(0)


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


def poison(out, inp, driver, gate, read, seed):
    """The producer cannot get at the memory until the stream goes on; then it can."""
    fill(out)
    assert not has_room(out)
    gate.open()
    assert read() == pattern(seed).tobytes()
    until(lambda: has_room(out))


HOW = {
    "block": lambda m: m.__exit__(None, None, None),
    "release": lambda m: m.release(),
    "drop": lambda m: None,
}


@pytest.mark.parametrize("how", HOW)
def test_a_message_is_released_behind_its_upload(pair, driver, stream, how):
    out, inp = pair
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
def test_a_copy_that_does_not_block_outlives_its_view(pair, driver, stream, torch, kind, how, when):
    """On the stream that is current when the view is made, or on one that is later."""
    out, inp = pair
    send(out, 1)
    m = inp.receive()
    device = driver.allocate(LARGE)
    torch.use(stream if when == "then" else 0)
    view = VIEWS[kind](m["x"])
    if kind == "tensor":
        assert view.sum() > 0
    torch.use(stream)
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
    torch.use(0)


@pytest.mark.parametrize("kind", ["numpy", "dlpack"])
def test_the_last_view_dies_in_another_thread(pair, driver, stream, torch, kind):
    """Whose current stream is another: that of when the view was made counts too."""
    out, inp = pair
    send(out, 1)
    device = driver.allocate(LARGE)
    torch.use(stream)
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
    torch.use(0)


def test_a_capsule_is_deleted_in_a_thread_that_python_does_not_know(pair, driver, stream, torch):
    send(pair[0], 1)
    torch.use(stream)
    m = pair[1].receive()
    capsules = [Capsule(m["x"].__dlpack__()), Capsule(m["x"].to_cuda().__dlpack__(stream=1))]
    del m
    assert pair[1].held == 1
    thread = ctypes.c_ulong()
    for capsule in capsules:
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(capsule.managed.deleter)
        started = ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, run, ctypes.c_void_p(capsule.address))
        assert started == 0 and ctypes.CDLL(None).pthread_join(thread, None) == 0
    assert pair[1].held == 0
    driver.cuStreamSynchronize(stream)
    until(lambda: driver.counts().allocations == 0)
    torch.use(0)


def test_an_explicit_stream_waits_for_all_others(pair, driver, stream, torch):
    out, inp = pair
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


def test_what_nobody_looked_at_is_released_at_once(pair, driver, torch):
    for end in (lambda m: m.release(), lambda m: m.__exit__(None, None, None), lambda m: None):
        send(pair[0], 1)
        m = pair[1].receive()
        assert m["x"].shape == (LARGE,) and m.sequence >= 0
        end(m)
        del m
    assert pair[1].cuda_status.released == 0 and not torch.asked


def test_in_place(pair, driver, stream, torch):
    out, inp = pair
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


def test_a_device_pointer_counts_as_a_view(pair, driver, stream, torch):
    out, inp = pair
    send(out, 1)
    torch.use(stream)
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
    torch.use(0)


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


# --- What goes wrong ---------------------------------------------------------------------------------------------------


def test_a_message_that_no_stream_takes_waits_for_one(pair, driver, stream):
    out, inp = pair
    send(out, 1)
    send(out, 2)
    m = inp.receive()
    t = m["x"].to_cuda(stream)
    driver.capture(stream)
    with pytest.raises(sluice.CudaError, match="capture"):
        m.release()
    assert m.alive
    del m
    assert inp.held == 0 and inp.cuda_status.waiting == 1 and inp.cuda_status.pending == 0
    second = inp.receive(0)
    assert inp.cuda_status.waiting == 1
    fill(out)
    driver.end_capture(stream)
    with pytest.raises(sluice.Full):
        send(out, 3)
    third = inp.receive(0)  # which tries again
    assert inp.cuda_status.waiting == 0
    driver.cuStreamSynchronize(stream)
    until(lambda: has_room(out))
    assert driver.read(t.pointer, LARGE) == pattern(1).tobytes()
    del second, third


def test_a_message_that_no_stream_took_is_given_back(driver, stream):
    with sluice.Producer("x") as out:
        with sluice.Consumer("x") as inp:
            inp.cuda()
            send(out, 1)
            m = inp.receive()
            t = m["x"].to_cuda(stream)
            driver.capture(stream)
            del m
            assert inp.cuda_status.waiting == 1
            del t
        driver.end_capture(stream)
        with sluice.Consumer("x") as other:
            m = other.receive(timeout=0)
            assert bytes(m["x"]) == pattern(1).tobytes() and m.deliveries == 1
            m.release()


def test_a_release_falls_back_on_events(pair, driver, stream):
    send(pair[0], 1)
    m = pair[1].receive()
    m["x"].to_cuda(stream)
    driver.fail("cuStreamWriteValue64", 801)
    del m
    status = pair[1].cuda_status
    assert status.by_event == 1 and not status.stream_writes and "cuStreamWriteValue64" in status.write_error


def test_a_device_that_dies(child, monkeypatch):
    """Then what it was to release goes to another consumer, and closing does not hang."""
    child_environment(monkeypatch)
    code = """
sys.path.insert(0, %r)
from cuda_driver import Driver
driver = Driver()
driver.use()
inp = sluice.Consumer("x")
inp.cuda()
stream = driver.stream()
uploaded, looked, held = inp.receive(), inp.receive(), inp.receive()
t = uploaded["x"].to_cuda(stream)
gate = driver.hold(stream)
bytes(looked["x"])
uploaded.release()
del uploaded
driver.standin.break_devices()
gate.open()
try:
    held["x"].to_cuda(stream)
except sluice.CudaError as error:
    assert error.errno == 5, error
    print(error)
assert held.alive and bytes(held["x"]) == b"3"
del looked
assert inp.cuda_status.waiting == 1
del t
try:
    inp.cuda_detach()
except sluice.CudaError as error:
    print(error.errno)
assert inp.cuda_status.waiting == 1 and not inp.cuda_status.attached
held.release()
inp.close()
print("done")
os._exit(0)
"""
    with sluice.Producer("x") as out:
        for text in (b"1", b"2", b"3"):
            out.send({"x": text})
        told = child(code % os.path.dirname(__file__)).finish()
        assert "ILLEGAL_ADDRESS" in told and "\n5\n" in told and told.endswith("done\n")
        with sluice.Consumer("x") as other:
            assert [bytes(other.receive(timeout=0)["x"]) for _ in range(2)] == [b"1", b"2"]
            with pytest.raises(sluice.Empty):
                other.receive(timeout=0)


def test_torch_that_raises_when_a_view_dies(pair, driver, torch, monkeypatch):
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    send(pair[0], 1)
    view = pair[1].receive()["x"].numpy()
    torch.hook = lambda: 1 / 0
    del view
    torch.hook = None
    assert pair[1].held == 0 and pair[1].cuda_status.released == 1
    assert [report.exc_type for report in reports] == [ZeroDivisionError]


def test_ctrl_c_while_a_view_dies_is_not_lost(pair, torch):
    send(pair[0], 1)
    view = pair[1].receive()["x"].numpy()

    def interrupt():
        torch.hook = None
        signal.raise_signal(signal.SIGINT)

    torch.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        del view
        for _ in range(1000):  # somewhere here signals are looked at
            pass
    assert pair[1].held == 0 and pair[1].cuda_status.released == 1


@pytest.mark.parametrize("victim", ["release", "close", "upload"])
def test_other_threads_run_while_torch_is_asked(pair, driver, torch, victim):
    """Whatever they do to the message meanwhile, it is released once, and nothing is used after it."""
    out, inp = pair
    send(out, 1)
    m = inp.receive()
    view = m["x"].numpy()
    other = threading.Thread(target={"release": m.release, "close": inp.close, "upload": m.to_cuda}[victim])

    def run():
        torch.hook = None
        other.start()
        other.join()

    torch.hook = run
    del view
    if victim == "upload":
        m.release()
    else:
        with pytest.raises((sluice.Released, BufferError)) if victim == "release" else pytest.raises(sluice.Released):
            m.release()
            m.release()
    assert not m.alive


def test_busy_and_closed(pair, driver, stream):
    """Detaching waits for the device without the interpreter's lock; messages that go meanwhile wait for it too."""
    out, inp = pair
    send(out, 1)
    send(out, 2)
    first, second = inp.receive(), inp.receive()
    t = first["x"].to_cuda(stream)
    gate = driver.hold(stream)
    second["x"].to_cuda(stream)
    driver.calls("cuCtxSynchronize")
    thread = threading.Thread(target=inp.cuda_detach)
    thread.start()
    until(lambda: driver.calls("cuCtxSynchronize") > 0)
    for call in (
        inp.cuda,
        inp.cuda_detach,
        inp.close,
        lambda: inp.receive(0),
        lambda: inp.cuda_status,
        first["x"].to_cuda,
        first.release,
    ):
        with pytest.raises(sluice.Busy):
            call()
    del first, call
    fill(out)
    assert not has_room(out) and inp.held == 1
    gate.open()
    thread.join()
    assert has_room(out) and driver.read(t.pointer, LARGE) == pattern(1).tobytes()
    assert not inp.cuda_status.attached and bytes(second["x"]) == pattern(2).tobytes()
    second.release()


def test_closing_waits_for_the_device(driver, stream):
    with sluice.Producer("x") as out:
        inp = sluice.Consumer("x")
        inp.cuda()
        send(out, 1)
        m = inp.receive()
        gate = driver.hold(stream)
        t = m["x"].to_cuda(stream)
        del m
        thread = threading.Thread(target=inp.close)
        driver.calls("cuCtxSynchronize")
        thread.start()
        until(lambda: driver.calls("cuCtxSynchronize") > 0)
        gate.open()
        thread.join()
        assert inp.closed and driver.read(t.pointer, LARGE) == pattern(1).tobytes()
        del t
        with sluice.Consumer("x") as other, pytest.raises(sluice.Empty):
            other.receive(timeout=0)


def test_a_block_of_the_consumer_that_ends_with_views(driver, stream, torch):
    with sluice.Producer("x", lane_bytes=LANE) as out:
        torch.use(stream)
        with sluice.Consumer("x") as inp:
            inp.cuda()
            send(out, 1)
            send(out, 2)
            first, second = inp.receive(), inp.receive()
            view = second["x"].numpy()
            t = first["x"].to_cuda()
            gate = driver.hold(stream)
        assert inp.closed and not first.alive and second.alive
        reference = weakref.ref(inp)
        del inp, first, second
        gate.open()
        del view
        assert reference() is None and driver.read(t.pointer, LARGE) == pattern(1).tobytes()
        torch.use(0)


END = """
sys.path.insert(0, %r)
from cuda_driver import Driver
import types
driver = Driver()
driver.use()
stream = driver.stream()
sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(
    is_initialized=lambda: True, current_stream=lambda device: types.SimpleNamespace(cuda_stream=stream)))
inp = sluice.Consumer("x")
inp.cuda()
m = inp.receive()
"""


@pytest.mark.parametrize(
    "what",
    [
        "view = memoryview(m['x']); cycle = [view]; cycle.append(cycle)",
        "t = m['x'].to_cuda(); cycle = [t, m]; cycle.append(cycle)",
        "c = m['x'].to_cuda().__dlpack__(stream=stream); cycle = [c, m]; cycle.append(cycle)",
        "v = m['x'].cuda_view(); cycle = [v]; cycle.append(cycle)",
        "t = m['x'].to_cuda(); del m; inp.close(); cycle = [t]; cycle.append(cycle)",
        "sys.modules['torch'].cuda = None; view = memoryview(m['x'])",
    ],
)
def test_the_interpreter_ends(child, monkeypatch, what):
    """With views or uploads held: they are released and not delivered again, though the stream was held till the end."""
    child_environment(monkeypatch)
    code = END + "gate = driver.hold(stream)\n" + what.replace("; inp.close()", "; gate.open(); inp.close()")
    code += """
import threading, atexit
threading.Timer(0.05, gate.open).start()
atexit.register(lambda: (gate.open(), print("ends")))
"""
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        assert "ends" in child(code % os.path.dirname(__file__)).finish()
        with sluice.Consumer("x") as inp:
            with pytest.raises(sluice.Empty):
                inp.receive(timeout=0)


def test_a_forked_child_touches_nothing(child, monkeypatch):
    child_environment(monkeypatch)
    code = (
        END
        + """
import warnings
warnings.simplefilter("ignore")
view, t = memoryview(m["x"]), m["x"].to_cuda()
other = inp.receive()
other["x"].to_cuda()
v = other["x"].cuda_view()
asked = []
def current_stream(device):
    asked.append(device)
    return types.SimpleNamespace(cuda_stream=stream)
sys.modules["torch"].cuda.current_stream = current_stream
pid = os.fork()
if pid == 0:
    assert bytes(view) == b"1"
    for number, call in enumerate((lambda: other["x"].to_cuda(), lambda: other.to_cuda(), lambda: sluice.to_cuda([other]),
                 lambda: other["x"].cuda_view(), lambda: other["x"].device_pointer(), inp.cuda, inp.cuda_detach,
                 lambda: inp.cuda_status, lambda: t.__dlpack__(stream=1))):
        try:
            call()
        except sluice.Forked:
            pass
        else:
            os._exit(10 + number)
    del view, t, v, m
    try:
        other.release()
    except sluice.Forked:
        pass
    else:
        os._exit(2)
    del other, inp
    os._exit(3 if asked else 0)
status = os.waitpid(pid, 0)[1]
assert status == 0, os.WEXITSTATUS(status)
pid = os.fork()
if pid == 0:
    sys.exit(0)  # by way of what runs at exit
assert os.waitpid(pid, 0)[1] == 0
assert m.alive and other.alive and bytes(view) == b"1" and driver.read(t.pointer, 1) == b"1"
assert driver.counts().violations == 0, driver.counts().violation
"""
    )
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        out.send({"x": b"2"})
        child(code % os.path.dirname(__file__)).finish()


def test_cuda_of_before_a_fork(child, monkeypatch):
    child_environment(monkeypatch)
    code = (
        END
        + """
pid = os.fork()
if pid == 0:
    try:
        sluice.Consumer("x").cuda()
    except sluice.CudaError as error:
        os._exit(0 if error.errno == 10 and "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitpid(pid, 0)[1] == 0
"""
    )
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        child(code % os.path.dirname(__file__)).finish()


def test_a_consumer_that_is_killed_with_copies_under_way(child, monkeypatch):
    child_environment(monkeypatch)
    code = END + "gate = driver.hold(stream)\nt = m.to_cuda(release=True)\nprint('under way', flush=True)\nsys.stdin.read()"
    with sluice.Producer("x") as out:
        out.send({"x": b"1"})
        process = child(code % os.path.dirname(__file__))
        assert process.line() == "under way"
        process.process.kill()
        process.process.wait()
        with sluice.Consumer("x") as inp:
            m = inp.receive(timeout=30)
            assert bytes(m["x"]) == b"1" and m.deliveries == 2
            m.release()


def test_nothing_needs_the_collector(pair, driver, torch):
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            send(pair[0], 1)
            m = pair[1].receive()
            t, tensors, view = m["x"].to_cuda(), m.to_cuda(), m["x"].cuda_view()
            kept = t.__dlpack__(), view.__dlpack__(stream=1), m["x"].numpy()
            del m, t, tensors, view, kept
            assert pair[1].held == 0
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_references_are_counted_right(pair, driver, stream, torch):
    torch.use(stream)
    types_ = (sluice.CudaTensor, sluice.Message, sluice.Tensor)

    def use():
        for _ in range(20):
            send(pair[0], 1)
            send(pair[0], 2)
            first, second = pair[1].receive_batch(max_messages=2)
            sluice.to_cuda([first, second])
            memoryview(first["x"])
            for bad in ("1", object()):
                with pytest.raises(TypeError):
                    first["x"].to_cuda(bad)
            with pytest.raises(BufferError):
                first["x"].to_cuda().__dlpack__(copy=True)
            pair[1].cuda_status
            first.release(types.SimpleNamespace(cuda_stream=stream))
            second.to_cuda(release=True)
            driver.cuStreamSynchronize(stream)

    use()
    gc.collect()
    before = [sys.getrefcount(each) for each in (*types_, pair[1], torch.cuda)]
    use()
    gc.collect()
    assert [sys.getrefcount(each) for each in (*types_, pair[1], torch.cuda)] == before
    torch.use(0)
