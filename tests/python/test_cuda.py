# SPDX-License-Identifier: Apache-2.0
"""CUDA: enabling it, uploads. With the driver that stands in; test_cuda_device.py has a device and torch."""

import os

import numpy
import pytest
import sluice
from cuda_case import pattern, send
from cuda_driver import Capsule


def test_importing_loads_no_driver(child, standin):
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


def test_lanes_of_later_producers_are_pinned(cuda_pair, driver):
    with sluice.Producer("x") as later:
        later.send({"x": b"123"})
        m = cuda_pair[1].receive()
        assert driver.read(m["x"].to_cuda().pointer, 3) == b"123"
        assert cuda_pair[1].cuda_status.pinned_lanes == cuda_pair[1].cuda_status.lanes >= 1
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
def test_an_upload_is_the_tensor(cuda_pair, driver, dtype):
    value = numpy.arange(24).reshape(2, 3, 4).astype(dtype)
    cuda_pair[0].send({"other": b"1", "x": value})
    m = cuda_pair[1].receive()
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
    assert cuda_pair[1].held == 0
    pointer = t.pointer
    del t
    assert driver.counts().allocations == 1 and driver.read(pointer, value.nbytes) == value.tobytes()
    plain.delete()
    versioned.delete()


def test_the_cuda_array_interface(cuda_pair, driver, stream):
    cuda_pair[0].send({"x": numpy.ones((2, 3), "i4"), "b": numpy.ones(2, "?"), "empty": numpy.ones((0, 2), "f4")})
    with cuda_pair[0].reserve(x=(4, "bfloat16")):
        pass
    m = cuda_pair[1].receive()
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
    assert not hasattr(cuda_pair[1].receive()["x"].to_cuda(), "__cuda_array_interface__")
    del m


def test_empty_tensors_and_scalars(cuda_pair, driver):
    cuda_pair[0].send({"none": numpy.ones((0, 5), "i4"), "one": numpy.array(7.5), "nothing": numpy.ones((3, 0), "u1")})
    cuda_pair[0].send({"none": numpy.ones(0, "i4")})
    m, empty = cuda_pair[1].receive(), cuda_pair[1].receive()
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


def test_a_message_is_one_copy(cuda_pair, driver):
    values = {"a": pattern(1), "b": numpy.arange(5), "c": numpy.ones((3, 3), "f4")}
    cuda_pair[0].send(values)
    m = cuda_pair[1].receive()
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
def test_a_batch_is_one_copy_and_one_write(cuda_pair, driver, stream, release):
    values = [{"x": pattern(i, 100 + i), "n": numpy.array(i)} for i in range(8)]
    for value in values:
        cuda_pair[0].send(value)
    batch = cuda_pair[1].receive_batch()
    driver.calls("cuMemcpyHtoDAsync")
    driver.calls("cuStreamWriteValue64")
    gate = driver.hold(stream)
    tensors = sluice.to_cuda(iter(batch), stream, release=release)
    assert driver.calls("cuMemcpyHtoDAsync") == 1 and driver.counts().allocations == 1
    assert [m.alive for m in batch] == [not release] * 8
    if release:
        assert driver.calls("cuStreamWriteValue64") == 1 and cuda_pair[1].cuda_status.pending == 8
    batch.clear()
    assert cuda_pair[1].held == 0 and cuda_pair[1].cuda_status.released == 8
    gate.open()
    driver.cuStreamSynchronize(stream)
    for value, uploaded in zip(values, tensors):
        for name in value:
            assert driver.read(uploaded[name].pointer, value[name].nbytes) == value[name].tobytes()


def test_what_cannot_be_uploaded_together(cuda_pair):
    with sluice.Producer("y") as out, sluice.Consumer("y") as inp:
        inp.cuda()
        out.send({"x": b"1"})
        cuda_pair[0].send({"x": b"1"})
        m, other = cuda_pair[1].receive(), inp.receive()
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


def test_views_forbid_an_upload_that_releases(cuda_pair):
    for each in (lambda m: m.to_cuda(release=True), lambda m: sluice.to_cuda([m], release=True)):
        send(cuda_pair[0], 1)
        m = cuda_pair[1].receive()
        view = m["x"].numpy()
        with pytest.raises(BufferError, match="alive"):
            each(m)
        assert m.alive
        del view
        each(m)
        assert not m.alive


def test_uploads_that_fail_leave_the_message(cuda_pair, driver, stream):
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()
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
