# SPDX-License-Identifier: Apache-2.0
"""CUDA on a real device, with torch: `./dev gpu` runs this file, as a program where there is no pytest."""

import os
import sys
import tempfile
import threading

try:
    import torch
except ImportError:
    torch = None

import sluice

REASON = "there is no torch" if torch is None else "torch has no CUDA device" if not torch.cuda.is_available() else None

if REASON is not None and __name__ != "__main__":
    import pytest

    pytest.skip(REASON, allow_module_level=True)

MIB = 1 << 20
LONG = 200_000_000  # clock cycles: about a tenth of a second


class Pair:
    def __init__(self, lane_bytes=16 * MIB, **options):
        self.lane_bytes = lane_bytes
        self.options = options

    def __enter__(self):
        self.out = sluice.Producer("device", lane_bytes=self.lane_bytes)
        self.inp = sluice.Consumer("device")
        status = self.inp.cuda(0, **self.options)
        assert status.pin_error is None, status
        return self.out, self.inp

    def __exit__(self, *_):
        torch.cuda.synchronize()
        self.inp.close()
        self.out.close()
        if "device" in sluice.list():
            sluice.gc("device", drop=True)


def pattern(seed, size=MIB):
    return torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def fill(out, size=MIB):
    """Writes over all of the lane that is free."""
    poison = torch.full((size,), 0xDB, dtype=torch.uint8)
    try:
        while True:
            out.send({"x": poison}, timeout=0)
    except sluice.Full:
        pass


def test_every_type_arrives():
    names = "uint8 int8 int16 int32 int64 float16 float32 float64 bfloat16".split()
    with Pair() as (out, inp):
        for name in names:
            value = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, name))
            out.send({"x": value, "empty": torch.zeros((0, 3))})
            m = inp.receive()
            t = m["x"].to_cuda()
            x = torch.from_dlpack(t)
            assert x.is_cuda and x.dtype == value.dtype and x.data_ptr() == t.pointer
            assert torch.equal(x.cpu(), value)
            assert torch.from_dlpack(m["empty"].to_cuda()).shape == (0, 3)
            m.release()


def test_a_batch_is_one_copy():
    values = [pattern(i, 8192) for i in range(32)]
    with Pair() as (out, inp):
        for value in values:
            out.send({"x": value, "n": torch.tensor(len(value))})
        batch = inp.receive_batch(max_messages=32)
        assert len(batch) == 32
        tensors = sluice.to_cuda(batch, release=True)
        assert inp.cuda_status.copies == 1 and inp.held == 0
        for value, uploaded in zip(values, tensors):
            assert torch.equal(torch.from_dlpack(uploaded["x"]).cpu(), value)
            assert torch.from_dlpack(uploaded["n"]).item() == len(value)


def test_the_current_stream_is_respected():
    """An upload on a stream that is busy, used on another: neither the memory nor the message goes too early."""
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    with Pair(4 * MIB) as (out, inp):
        for seed in range(20):
            out.send({"x": pattern(seed)})
            m = inp.receive()
            with torch.cuda.stream(first):
                torch.cuda._sleep(LONG // 4)
                t = m["x"].to_cuda()
                assert t.__cuda_array_interface__["stream"] == first.cuda_stream
            with torch.cuda.stream(second):
                x = torch.from_dlpack(t)
                del t
                result = x + 0
                del x
            del m
            fill(out)
            second.synchronize()
            assert torch.equal(result.cpu(), pattern(seed)), seed
            while True:
                try:
                    inp.receive(timeout=0).release()
                except sluice.Empty:
                    break


def test_a_copy_that_does_not_block_outlives_its_view():
    stream = torch.cuda.Stream()
    with Pair(4 * MIB) as (out, inp):
        for seed in range(20):
            out.send({"x": pattern(seed)})
            m = inp.receive()
            with torch.cuda.stream(stream):
                torch.cuda._sleep(LONG // 4)
                x = torch.from_dlpack(m["x"])
                assert x.is_pinned()
                y = x.to("cuda", non_blocking=True)
                views = [x]
                del x, m
                if seed % 2:
                    thread = threading.Thread(target=views.clear)
                    thread.start()
                    thread.join()
                del views
            assert inp.held == 0
            fill(out)
            stream.synchronize()
            assert torch.equal(y.cpu(), pattern(seed)), seed
            while True:
                try:
                    inp.receive(timeout=0).release()
                except sluice.Empty:
                    break


def test_in_place():
    table = torch.randn(1000, 64, device="cuda")
    ids = torch.randint(0, 1000, (16, 128), dtype=torch.int32)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with Pair(4 * MIB) as (out, inp):
        out.send({"ids": ids})
        m = inp.receive()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LONG)
            seen = torch.from_dlpack(m["ids"].cuda_view())
            result = torch.nn.functional.embedding(seen, table)
            del seen, m
        assert inp.held == 0
        fill(out, 8192)
        stream.synchronize()
        assert torch.equal(result, torch.nn.functional.embedding(ids.cuda(), table))


def test_device_memory_is_given_back():
    with Pair() as (out, inp):
        free = None
        for round_ in range(200):
            out.send({"x": pattern(1, 4 * MIB)})
            x = torch.from_dlpack(inp.receive()["x"].to_cuda())
            x.add_(1)
            del x
            if round_ == 50:
                torch.cuda.synchronize()
                free = torch.cuda.mem_get_info()[0]
        torch.cuda.synchronize()
        assert torch.cuda.mem_get_info()[0] >= free - 64 * MIB


def test_events_instead_of_writes():
    with Pair(4 * MIB, stream_writes=False) as (out, inp):
        for seed in range(20):
            out.send({"x": pattern(seed)}, timeout=30)
            x = torch.from_dlpack(inp.receive().to_cuda(release=True)["x"])
            assert torch.equal(x.cpu(), pattern(seed))
        assert inp.cuda_status.by_event == 20


def test_errors_leave_torch_alone():
    with Pair() as (out, inp):
        out.send({"x": pattern(1)})
        m = inp.receive()
        try:
            inp.cuda()
        except sluice.CudaError:
            pass
        else:
            raise AssertionError("enabled twice")
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        with torch.cuda.stream(stream):
            graph.capture_begin()
            try:
                m["x"].to_cuda()
            except sluice.CudaError as error:
                assert error.errno == 16
            else:
                raise AssertionError("captured")
            graph.capture_end()
        assert torch.ones(3, device="cuda").sum().item() == 3
        m.release()


def main():
    """Without pytest: prints each test's name and what became of it. 77: left out."""
    if REASON is not None:
        print(REASON)
        return 77
    failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        with tempfile.TemporaryDirectory(dir=os.environ.get("SLUICE_DIR") or "/dev/shm") as directory:
            os.environ["SLUICE_DIR"] = directory
            try:
                test()
                print("ok     ", name)
            except Exception:
                failed += 1
                print("FAILED ", name)
                sys.excepthook(*sys.exc_info())
            assert os.listdir(directory) == [], os.listdir(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
