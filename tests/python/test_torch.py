# SPDX-License-Identifier: Apache-2.0
"""torch: without a copy, by DLPack, every type that both know."""

import numpy
import pytest
import sluice

torch = pytest.importorskip("torch")

TYPES = [
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bfloat16,
]


@pytest.fixture
def pair():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        yield out, inp


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_there_and_back_without_a_copy(pair, dtype):
    value = torch.arange(12).reshape(3, 4).to(dtype)
    with pair[0].reserve(x=((3, 4), dtype), y=(tuple(value.shape), dtype)) as m:
        torch.from_dlpack(m["x"]).copy_(value)
        m["y"][:] = value
    m = pair[1].receive()
    x = torch.from_dlpack(m["x"])
    assert x.dtype == dtype and torch.equal(x, value) and torch.equal(torch.from_dlpack(m["y"]), value)
    if dtype is not torch.bfloat16:
        assert x.data_ptr() == m["x"].numpy().ctypes.data
    with pytest.raises(BufferError):
        m.release()
    del x
    m.release()


def test_sending(pair):
    value = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4)
    for each in (value, value.transpose(0, 2), value[:, ::2], torch.zeros(0), torch.tensor(5.0)):
        pair[0].send({"x": each})
        assert torch.equal(torch.from_dlpack(pair[1].recv()["x"]), each)
    for bad, error in (
        (torch.zeros(2, requires_grad=True), (BufferError, RuntimeError)),
        (torch.zeros(2, dtype=torch.complex64), TypeError),
    ):
        with pytest.raises(error):
            pair[0].send({"x": bad})


def test_a_tensor_keeps_its_message(pair):
    pair[0].send({"x": torch.arange(10)})
    x = torch.from_dlpack(pair[1].receive()["x"])[2:4]
    assert pair[1].held == 1 and x.tolist() == [2, 3]
    del x
    assert pair[1].held == 0


def test_torch_and_numpy_together(pair):
    pair[0].send({"x": torch.arange(10)})
    t = pair[1].receive()["x"]
    assert torch.as_tensor(numpy.array(t)).sum() == t.sum() == torch.from_dlpack(t).sum()


def test_the_interpreter_ends_with_tensors_held(child):
    code = """
import torch
out = sluice.Producer("x")
inp = sluice.Consumer("x")
out.send({"x": torch.arange(10)})
x = torch.from_dlpack(inp.receive()["x"])
cycle = [x]
cycle.append(cycle)
"""
    child(code).finish()
    sluice.gc("x")  # a member that could not close under its views counts as dead
