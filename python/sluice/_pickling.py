# SPDX-License-Identifier: Apache-2.0
"""What an object looks like inside a message of a Queue.

One block of bytes: a head, the pickle stream, then each array's bytes on a boundary of 64 bytes::

    u64 number of buffers | u64 bytes of the stream | u64 bytes of each buffer | stream | pad | buffer | pad | buffer ...

The stream is pickle protocol 5. Arrays and tensors, however deep they lie in dicts, lists, tuples or dataclasses, are not
in it: they are buffers, copied once into the message. Unpickling runs whatever the writer says, so writers are trusted.
"""

import functools
import io
import pickle
import struct
import sys
from multiprocessing.reduction import ForkingPickler

_ALIGN = 64
_U64 = struct.Struct("<QQ")

# Kinds of numpy dtypes whose arrays export a buffer; the rest is looked at as bytes first.
_EXPORTED = frozenset("biufc")
_ADDED = 2  # what dtype.isbuiltin says of types that numpy did not bring


class Packed:
    """An object as it will lie in a message: parts that refer to the caller's arrays until they are written."""

    __slots__ = ("nbytes", "_parts")

    def __init__(self, nbytes, parts):
        self.nbytes = nbytes
        self._parts = parts

    def write(self, target):
        """Copy all parts into `target`, a writable memoryview of `nbytes` bytes."""
        for offset, part in self._parts:
            target[offset : offset + len(part)] = part

    def detached(self):
        """The same in memory of its own, so that the caller may change its arrays."""
        block = bytearray(self.nbytes)
        with memoryview(block) as view:
            self.write(view)
        return Packed(self.nbytes, ((0, block),))


def pack(obj):
    """Pickle `obj`; whatever pickle raises is raised."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(obj)
    stream = file.getbuffer()
    buffers = pickler.buffers
    if not buffers:
        return Packed(16 + len(stream), ((0, _U64.pack(0, len(stream))), (16, stream)))
    head = struct.pack(f"<QQ{len(buffers)}Q", len(buffers), len(stream), *map(len, buffers))
    parts = [(0, head), (len(head), stream)]
    end = len(head) + len(stream)
    for buffer in buffers:
        offset = -(-end // _ALIGN) * _ALIGN
        parts.append((offset, buffer))
        end = offset + len(buffer)
    return Packed(end, parts)


def parts_of(block, copy):
    """The pickle stream in a message, anything that exports its bytes, and the buffers that go with it.

    With `copy` both lie in memory of their own. Without, they are read-only views of the block and keep it alive.
    """
    with memoryview(block) as view:
        count, stream_bytes = _U64.unpack_from(view)
        end = 16 + 8 * count
        stream = bytes(view[end : end + stream_bytes])
        end += stream_bytes
        buffers = []
        for nbytes in struct.unpack_from(f"<{count}Q", view, 16) if count else ():
            offset = -(-end // _ALIGN) * _ALIGN
            end = offset + nbytes
            buffers.append(_owned(view[offset:end]) if copy else view[offset:end].toreadonly())
    return stream, buffers


def restore(stream, buffers):
    """The object that was packed; whatever unpickling it raises is raised."""
    return pickle.loads(stream, buffers=buffers)


def _owned(part):
    # numpy asks for huge pages where an array is large, which saves most of the page faults.
    numpy = sys.modules.get("numpy") if len(part) >= 1 << 22 else None
    if numpy is None:
        return bytearray(part)
    owned = numpy.empty(len(part), "u1")
    memoryview(owned)[:] = part
    return owned


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        self.buffers = buffers = []
        self._stand_ins = stand_ins = {}

        # No method: that would be a cycle, and arrays, or messages that they lie in, would wait for a garbage collection.
        def take(buffer):
            stand_in = stand_ins.get(id(buffer))
            buffers.append(buffer.raw() if stand_in is None else stand_in[1])

        super().__init__(file, 5, buffer_callback=take)

    def _out_of_band(self, array):
        """A PickleBuffer of a contiguous array's bytes. Pickle would remember that an array is read-only, but a copy is not
        and so a writable stand-in goes through it."""
        buffer = pickle.PickleBuffer(array)
        raw = buffer.raw()
        if raw.readonly:
            buffer = pickle.PickleBuffer(bytearray(1))
            self._stand_ins[id(buffer)] = (buffer, raw)
        return buffer

    def reducer_override(self, obj):
        kind = type(obj)
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is numpy.ndarray:
            return self._reduce_array(numpy, obj)
        torch = sys.modules.get("torch")
        if torch is not None and (kind is torch.Tensor or kind is torch.nn.Parameter) and _is_plain(torch, obj):
            return self._reduce_tensor(torch, obj)
        # What multiprocessing can pickle beside the rest: connections, sockets, CUDA tensors. Other tensors and their
        # storages go as pickle has them, because torch's way needs the sender to live until the receiver has come.
        reduce = ForkingPickler._extra_reducers.get(kind)
        return NotImplemented if reduce is None or getattr(obj, "is_cuda", None) is False else reduce(obj)

    def _reduce_array(self, numpy, array):
        dtype = array.dtype
        if dtype.hasobject or dtype.names is not None or dtype.metadata is not None or dtype.itemsize == 0:
            return NotImplemented
        # numpy's own types have a name; those that others added, as ml_dtypes does, go by reference to whoever did.
        kind = dtype.str if dtype.isbuiltin != _ADDED else dtype
        if numpy.dtype(kind) != dtype:
            return NotImplemented
        flags = array.flags
        order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
        plain = array if flags.forc else numpy.ascontiguousarray(array).reshape(array.shape)
        if dtype.kind not in _EXPORTED:
            plain = plain.reshape(-1, order=order).view("u1")
        return _array, (self._out_of_band(plain), kind, array.shape, order)

    def _reduce_tensor(self, torch, tensor):
        if tensor.requires_grad and not tensor.is_leaf:
            raise RuntimeError(
                "this tensor requires a gradient and is the result of a computation, which does not travel with it; "
                "put tensor.detach() instead"
            )
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        octets = plain.reshape(-1).view(torch.uint8).numpy()
        name = str(tensor.dtype).rpartition(".")[2]
        is_parameter = type(tensor) is torch.nn.Parameter
        return _tensor, (self._out_of_band(octets), name, tuple(tensor.shape), tensor.requires_grad, is_parameter)


def _is_plain(torch, tensor):
    return tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized


def _array(buffer, dtype, shape, order):
    import numpy

    if type(buffer) is memoryview and buffer.nbytes > 0:
        # numpy.ndarray() would keep what the memoryview is of and let go of the memoryview, which holds the message.
        return numpy.frombuffer(buffer, dtype).reshape(shape, order=order)
    return numpy.ndarray(shape, dtype, buffer, order=order)


def _tensor(buffer, name, shape, requires_grad, is_parameter):
    import torch

    dtype = getattr(torch, name)
    if 0 in shape:
        tensor = torch.empty(shape, dtype=dtype)
    else:
        if memoryview(buffer).readonly:
            _accept_read_only(torch)
        tensor = torch.frombuffer(buffer, dtype=dtype).reshape(shape)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


@functools.lru_cache(maxsize=None)
def _accept_read_only(torch):
    """torch warns, once in a process, that it cannot mark a tensor read-only. The docs of Queue say it."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)
