# SPDX-License-Identifier: Apache-2.0
"""CUDA: what goes wrong, and what ends."""

import gc
import os
import signal
import sys
import threading
import types
import weakref

import pytest
import sluice
from cuda_case import END, LANE, LARGE, fill, has_room, pattern, send
from support import until


def test_a_message_that_no_stream_takes_waits_for_one(cuda_pair, driver, stream):
    out, inp = cuda_pair
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
            driver.cuStreamSynchronize(stream)  # closing cannot wait for the copy while a stream is captured
            driver.capture(stream)
            del m
            assert inp.cuda_status.waiting == 1
        with pytest.raises(AssertionError):  # closing spoils it
            driver.end_capture(stream)
        del t
        with sluice.Consumer("x") as other:
            m = other.receive(timeout=0)
            assert bytes(m["x"]) == pattern(1).tobytes() and m.deliveries == 1
            m.release()


def test_a_release_falls_back_on_events(cuda_pair, driver, stream):
    send(cuda_pair[0], 1)
    m = cuda_pair[1].receive()
    m["x"].to_cuda(stream)
    driver.fail("cuStreamWriteValue64", 801)
    del m
    status = cuda_pair[1].cuda_status
    assert status.by_event == 1 and not status.stream_writes and "cuStreamWriteValue64" in status.write_error


def test_a_device_that_dies(child, standin):
    """Then what it was to release goes to another consumer, and closing does not hang."""
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


def test_torch_that_raises_when_a_view_dies(cuda_pair, driver, fake_torch, monkeypatch):
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    send(cuda_pair[0], 1)
    view = cuda_pair[1].receive()["x"].numpy()
    fake_torch.hook = lambda: 1 / 0
    del view
    fake_torch.hook = None
    assert cuda_pair[1].held == 0 and cuda_pair[1].cuda_status.released == 1
    assert [report.exc_type for report in reports] == [ZeroDivisionError]


def test_ctrl_c_while_a_view_dies_is_not_lost(cuda_pair, fake_torch):
    send(cuda_pair[0], 1)
    view = cuda_pair[1].receive()["x"].numpy()

    def interrupt():
        fake_torch.hook = None
        signal.raise_signal(signal.SIGINT)

    fake_torch.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        del view
        for _ in range(1000):  # somewhere here signals are looked at
            pass
    assert cuda_pair[1].held == 0 and cuda_pair[1].cuda_status.released == 1


@pytest.mark.parametrize("victim", ["release", "close", "upload"])
def test_other_threads_run_while_torch_is_asked(cuda_pair, driver, fake_torch, victim):
    """Whatever they do to the message meanwhile, it is released once, and nothing is used after it."""
    out, inp = cuda_pair
    send(out, 1)
    m = inp.receive()
    view = m["x"].numpy()
    other = threading.Thread(target={"release": m.release, "close": inp.close, "upload": m.to_cuda}[victim])

    def run():
        fake_torch.hook = None
        other.start()
        other.join()

    fake_torch.hook = run
    del view
    if victim == "upload":
        m.release()
    else:
        with pytest.raises((sluice.Released, BufferError)) if victim == "release" else pytest.raises(sluice.Released):
            m.release()
            m.release()
    assert not m.alive


def test_busy_and_closed(cuda_pair, driver, stream):
    """Detaching waits for the device without the interpreter's lock; messages that go meanwhile wait for it too."""
    out, inp = cuda_pair
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


def test_a_block_of_the_consumer_that_ends_with_views(driver, stream, fake_torch):
    with sluice.Producer("x", lane_bytes=LANE) as out:
        fake_torch.use(stream)
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
        fake_torch.use(0)


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
def test_the_interpreter_ends(child, standin, what):
    """With views or uploads held: they are released and not delivered again, though the stream was held till the end."""
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


def test_a_forked_child_touches_nothing(child, standin):
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


def test_cuda_of_before_a_fork(child, standin):
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


def test_a_consumer_that_is_killed_with_copies_under_way(child, standin):
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


def test_nothing_needs_the_collector(cuda_pair, driver, fake_torch):
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            send(cuda_pair[0], 1)
            m = cuda_pair[1].receive()
            t, tensors, view = m["x"].to_cuda(), m.to_cuda(), m["x"].cuda_view()
            kept = t.__dlpack__(), view.__dlpack__(stream=1), m["x"].numpy()
            del m, t, tensors, view, kept
            assert cuda_pair[1].held == 0
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_references_are_counted_right(cuda_pair, driver, stream, fake_torch):
    fake_torch.use(stream)
    types_ = (sluice.CudaTensor, sluice.Message, sluice.Tensor)

    def use():
        for _ in range(20):
            send(cuda_pair[0], 1)
            send(cuda_pair[0], 2)
            first, second = cuda_pair[1].receive_batch(max_messages=2)
            sluice.to_cuda([first, second])
            memoryview(first["x"])
            for bad in ("1", object()):
                with pytest.raises(TypeError):
                    first["x"].to_cuda(bad)
            with pytest.raises(BufferError):
                first["x"].to_cuda().__dlpack__(copy=True)
            cuda_pair[1].cuda_status
            first.release(types.SimpleNamespace(cuda_stream=stream))
            second.to_cuda(release=True)
            driver.cuStreamSynchronize(stream)

    use()
    gc.collect()
    before = [sys.getrefcount(each) for each in (*types_, cuda_pair[1], fake_torch.cuda)]
    use()
    gc.collect()
    assert [sys.getrefcount(each) for each in (*types_, cuda_pair[1], fake_torch.cuda)] == before
    fake_torch.use(0)
