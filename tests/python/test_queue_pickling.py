# SPDX-License-Identifier: Apache-2.0
"""What an item looks like inside a message, without processes."""

import collections
import gc
import pickle
import weakref

import numpy
import pytest
import queue_workers as workers
from sluice import _pickling

try:
    import torch
except ImportError:
    torch = None


def written(obj):
    packed = _pickling.pack(obj)
    block = bytearray(packed.nbytes)
    packed.write(memoryview(block))
    return block


def there_and_back(obj, copy=True):
    return _pickling.restore(*_pickling.parts_of(written(obj), copy))


@pytest.mark.parametrize("item", workers.sample_items(), ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("copy", [True, False])
def test_items_come_back_equal(item, copy):
    assert workers.same(there_and_back(item, copy), item)
    assert workers.same(there_and_back([item, item], copy), [item, item])


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_types_that_others_added_to_numpy_come_back(name, copy):
    array = numpy.arange(5).astype(getattr(pytest.importorskip("ml_dtypes"), name))
    got = there_and_back({"x": array.reshape(5, 1), "scalar": array[3]}, copy)
    assert got["x"].dtype == array.dtype and got["x"].shape == (5, 1) and (got["x"][:, 0] == array).all()
    assert got["scalar"] == array[3] and got["scalar"].dtype == array.dtype
    many = numpy.arange(100).astype(array.dtype)
    assert written(many).find(many.tobytes()) % 64 == 0  # beside the pickle


def test_arrays_lie_beside_the_pickle_on_boundaries_of_64_bytes():
    array = numpy.frombuffer(numpy.random.default_rng(1).bytes(4096), "uint8")
    block = written({"a": array[:100], "b": [array]})
    for part in (array[:100], array):
        assert block.find(part.tobytes()) % 64 == 0
    assert len(block) < 4096 + 100 + 1024


def test_the_order_of_elements_in_memory_is_kept():
    item = numpy.asfortranarray(numpy.arange(6).reshape(2, 3))
    assert there_and_back(item).flags.f_contiguous and not there_and_back(item).flags.c_contiguous
    assert there_and_back(item.T).flags.c_contiguous
    assert there_and_back(item[::-1]).tolist() == item[::-1].tolist()


def test_one_array_twice_in_an_item_is_one_array_twice():
    array = numpy.arange(5)
    first, second = there_and_back([array, array])
    assert first is second


@pytest.mark.parametrize("writeable", [True, False])
def test_copies_can_be_written_to_and_views_not(writeable):
    array = numpy.arange(5)
    array.flags.writeable = writeable
    copy = there_and_back(array)
    copy[0] = 9
    assert array[0] == 0
    with pytest.raises(ValueError):
        there_and_back(array, copy=False)[0] = 9


@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_go_with_what_they_were_packed_into(writeable):
    array = numpy.arange(5)
    array.flags.writeable = writeable
    alive = weakref.ref(array)
    gc.disable()
    try:
        packed = _pickling.pack([{"x": array}])
        del array
        assert alive() is not None
        del packed
        assert alive() is None
    finally:
        gc.enable()


def test_what_is_detached_no_longer_sees_changes():
    array = numpy.zeros(5)
    packed = _pickling.pack({"x": array})
    detached = packed.detached()
    array += 1
    block = bytearray(detached.nbytes)
    detached.write(memoryview(block))
    assert not _pickling.restore(*_pickling.parts_of(block, True))["x"].any()


def test_what_cannot_be_pickled_says_so():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        _pickling.pack(lambda: None)


def test_other_types_may_bring_buffers_too():
    assert there_and_back(pickle.PickleBuffer(b"abc"))[:] == b"abc"
    assert there_and_back(collections.Counter("aab")) == collections.Counter("aab")


@pytest.mark.skipif(torch is None, reason="there is no torch")
class TestTorch:
    @pytest.mark.parametrize("copy", [True, False])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "complex64", "uint8"])
    def test_tensors_come_back_equal(self, dtype, copy):
        tensor = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
        for sent in (tensor, tensor[:, ::2], tensor.transpose(0, 2), tensor[0, 0, 0], tensor[:0]):
            got = there_and_back({"x": sent}, copy)["x"]
            assert got.dtype == sent.dtype and got.shape == sent.shape and torch.equal(got, sent)

    def test_their_bytes_are_not_in_the_pickle(self):
        tensor = torch.arange(4096, dtype=torch.int32)
        packed = _pickling.pack([tensor])
        assert tensor.numpy().tobytes() in written([tensor])
        assert packed.nbytes < 4 * 4096 + 1024

    def test_copies_can_be_written_to(self):
        tensor = torch.zeros(4)
        copy = there_and_back(tensor)
        copy += 1
        assert tensor.sum() == 0 and copy.sum() == 4

    def test_parameters_and_leaves_keep_their_gradient_flag(self):
        leaf = torch.zeros(3, requires_grad=True)
        parameter = torch.nn.Parameter(torch.ones(3))
        got_leaf, got_parameter = there_and_back((leaf, parameter))
        assert got_leaf.requires_grad and type(got_parameter) is torch.nn.Parameter and got_parameter.requires_grad
        with pytest.raises(RuntimeError, match="detach"):
            _pickling.pack(leaf * 2)

    def test_sparse_tensors_are_left_to_torch(self):
        sparse = torch.eye(3).to_sparse()
        assert torch.equal(there_and_back(sparse).to_dense(), torch.eye(3))
