# SPDX-License-Identifier: Apache-2.0
"""A Tensor behaves as the numpy array that it stands for."""

import ctypes
import hashlib
import operator

import numpy
import pytest
import sluice

ALL = [
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bool",
]


@pytest.fixture
def pair():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        yield out, inp


def received(pair, value):
    pair[0].send({"x": value})
    return pair[1].receive(0)["x"]


@pytest.mark.parametrize("name", ALL)
def test_every_type_of_numpy(pair, name):
    value = numpy.arange(6).reshape(2, 3).astype(name)
    t = received(pair, value)
    assert t.dtype == value.dtype and t.dtype_name == name and t.itemsize == value.itemsize
    assert (
        (t.numpy() == value).all() and bytes(t) == value.tobytes() and memoryview(t).format == memoryview(value).format[-1]
    )
    for spec in (name, value.dtype, value.dtype.type, value.dtype.str):
        with pair[0].reserve(x=((2, 3), spec)) as m:
            m["x"][:] = value
        assert (pair[1].receive(0)["x"] == value).all()


def test_types_that_numpy_lacks(pair):
    pair[0].reserve(x=(4, "bfloat16"), y=(4, "float8_e4m3fn")).publish()
    t = pair[1].receive()["x"]
    assert t.dtype_name == "bfloat16" and t.nbytes == 8
    with pytest.raises(BufferError):
        memoryview(t)
    assert t.__dlpack__() is not None
    try:
        import ml_dtypes
    except ImportError:
        for use in (t.numpy, lambda: numpy.asarray(t), lambda: t + 1, lambda: t.dtype):
            with pytest.raises(TypeError, match="ml_dtypes"):
                use()
    else:
        assert t.dtype == ml_dtypes.bfloat16 and t.numpy().dtype == ml_dtypes.bfloat16
        value = numpy.arange(4).astype(ml_dtypes.bfloat16)
        assert (received(pair, value).numpy() == value).all()


def test_description(pair):
    t = received(pair, numpy.zeros((2, 3), "int32"))
    assert (t.shape, t.strides, t.ndim, t.size, t.nbytes, len(t), t.readonly) == ((2, 3), (12, 4), 2, 6, 24, 2, True)
    assert repr(t) == "<sluice.Tensor int32 (2, 3), read-only>"
    assert t.message.keys() == ["x"]
    with pytest.raises(TypeError):
        hash(t)
    with pytest.raises(AttributeError):
        t.no_such_thing
    with pytest.raises(TypeError):
        len(received(pair, numpy.float32(1)))


def test_operators_and_methods(pair):
    value = numpy.array([[1, 2, 3], [4, 5, 6]], "int32")
    t = received(pair, value)
    for name in (
        "add",
        "sub",
        "mul",
        "mod",
        "floordiv",
        "truediv",
        "pow",
        "and_",
        "or_",
        "xor",
        "lshift",
        "rshift",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
    ):
        function = getattr(operator, name)
        assert (function(t, 2) == function(value, 2)).all()
        assert (function(2, t) == function(2, value)).all()
        assert (function(t, t) == function(value, value)).all()
        assert (function(value, t) == function(value, value)).all()
    assert (t @ t.T == value @ value.T).all() and (divmod(t, 2)[1] == value % 2).all()
    assert (-t == -value).all() and (+t == value).all() and (~t == ~value).all() and (abs(-t) == value).all()
    assert t.sum() == 21 and t.astype("float32").dtype == "float32" and [list(row) for row in t] == value.tolist()
    assert 3 in t and 9 not in t and t[1, 2] == 6 and (t[:, 1] == [2, 5]).all()
    assert (numpy.add(t, 1) == value + 1).all() and numpy.concatenate([t, value]).shape == (4, 3)
    one = received(pair, numpy.int64(5))
    assert int(one) == 5 and float(one) == 5.0 and operator.index(one) == 5 and bool(one)
    with pytest.raises(ValueError):
        bool(t)


def test_writing_in_place(pair):
    with pair[0].reserve(x=((2, 3), "int32"), y=((3,), "float64")) as m:
        m["x"][:] = 0
        m["x"][0] = [1, 2, 3]
        m["x"][1, 1:] = 9
        m["x"] += 1
        m["x"] *= 2
        t = m["x"]
        t -= 1
        m["y"] = numpy.float32([1, 2, 3])  # converted, as numpy does
        m["y"] /= 2
        with pytest.raises(ValueError):
            m["y"][:] = [1, 2]
        with pytest.raises(TypeError):
            del m["y"]
    m = pair[1].receive()
    assert m["x"].tolist() == [[3, 5, 7], [1, 19, 19]] and m["y"].tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize("key", [slice(None, None, -1), slice(1, None), slice(None, -1)])
def test_assigning_a_tensor_to_itself_shifted_or_reversed(pair, key):
    value = numpy.arange(10, dtype="int32")
    with pair[0].reserve(x=((10,), "int32"), y=((9,), "int32")) as m:
        m["x"][:] = value
        if key.step == -1:
            m["x"][:] = m["x"][key]
            expected = value[::-1]
        else:
            m["x"][1:] = m["x"][:-1]
            expected = [0, *range(9)]
    assert (pair[1].receive()["x"] == expected).all()


def test_buffers_of_every_kind_of_request(pair):
    t = received(pair, numpy.arange(6, dtype="u1").reshape(2, 3))
    assert hashlib.md5(t).digest() == hashlib.md5(bytes(range(6))).digest()
    assert numpy.frombuffer(t, "u1").tolist() == list(range(6))
    for flags, works in (
        (0, True),
        (0x38, True),
        (0x58, False),
        (0x98, True),
    ):  # simple, row-major, column-major, either
        buffer = (ctypes.c_char * 128)()
        refused = None
        try:
            ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(t), buffer, flags)
            ctypes.pythonapi.PyBuffer_Release(buffer)
        except BufferError as error:
            refused = error
        assert (refused is None) == works


def test_received_tensors_are_read_only(pair):
    t = received(pair, numpy.arange(4))
    for write in (
        lambda: t.__setitem__(0, 1),
        lambda: t.__setitem__(slice(None), 1),
        lambda: operator.iadd(t, 1),
        lambda: t.numpy().__setitem__(0, 1),
        lambda: t[1:].__setitem__(0, 1),
        lambda: t.sort(),
        lambda: numpy.asarray(t).__setitem__(0, 1),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    with pytest.raises(TypeError):
        memoryview(t)[0] = 1
    with pytest.raises((TypeError, BufferError)):
        import io

        io.BytesIO(b"12345678").readinto(t)
    assert not numpy.asarray(t).flags.writeable


def test_conversion_to_numpy(pair):
    value = numpy.arange(4, dtype="int32")
    t = received(pair, value)
    assert numpy.shares_memory(numpy.asarray(t), t.numpy())
    assert numpy.asarray(t, "float64").dtype == "float64" and not numpy.shares_memory(numpy.array(t), t.numpy())
    assert t.__array__() is t.numpy() and t.__array__("float32").dtype == "float32"
    assert t.__array__(copy=True).flags.writeable
    with pytest.raises(ValueError):
        t.__array__("float32", copy=False)


def test_dlpack_of_either_kind(pair):
    value = numpy.arange(6, dtype="int32").reshape(2, 3)
    t = received(pair, value)
    assert t.__dlpack_device__() == (1, 0)
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0))) and "dltensor_v" not in repr(t.__dlpack__())
    a = numpy.from_dlpack(t)
    assert (a == value).all() and not a.flags.writeable and numpy.shares_memory(a, t.numpy())
    with pair[0].reserve(x=(3, "int32")) as m:
        if numpy.lib.NumpyVersion(numpy.__version__) >= "2.1.0":
            w = numpy.from_dlpack(m["x"])
            w[:] = 5
            del w
            c = numpy.from_dlpack(m["x"], copy=True)
            assert c.flags.writeable
    pair[1].receive(0).release()
    for bad in (dict(stream=1), dict(dl_device=(2, 0))):
        with pytest.raises(BufferError):
            t.__dlpack__(**bad)
    for bad in (dict(max_version=1), dict(max_version=("a", 0)), dict(nonsense=1)):
        with pytest.raises(TypeError):
            t.__dlpack__(**bad)


class Capsule:
    def __init__(self, tensor, **keywords):
        self.tensor, self.keywords = tensor, keywords

    def __dlpack__(self):
        return self.tensor.__dlpack__(**self.keywords)


@pytest.mark.parametrize("keywords", [{}, {"max_version": (1, 0)}, {"copy": True}])
def test_sources_with_dlpack_only(pair, keywords):
    value = numpy.arange(6, dtype="int32").reshape(2, 3)
    m = received(pair, value).message
    out = {"x": Capsule(m["x"], **keywords)}
    pair[0].send(out)
    assert (pair[1].recv()["x"] == value).all()
    m.release()  # no capsule is left


def test_numpy_is_imported_only_when_used(child):
    code = """
with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
    with out.reserve(x=((4,), "u1")) as m:
        m["x"][:] = b"abcd"
        m["x"] = memoryview(b"efgh")
    m = inp.receive()
    assert bytes(m["x"]) == b"efgh" and m["x"].shape == (4,) and m["x"].dtype_name == "uint8"
    m["x"].__dlpack__()
    try:
        m["x"][:] = b"abcd"
    except ValueError:
        pass
    out.send({"x": b"1"})
    inp.recv()
    assert not {"numpy", "torch"} & set(sys.modules)
"""
    child(code).finish()


def test_without_numpy_a_tensor_says_what_to_do(child):
    code = """
sys.modules["numpy"] = None
with sluice.Producer("x") as out:
    m = out.reserve(x=((2, 2), "int32"))
    view = memoryview(m["x"])
    view[1, 1] = 7
    assert view[1, 1] == 7
    view.release()
    for use in (lambda: m["x"][0], lambda: m["x"].numpy(), lambda: m["x"] + 1):
        try:
            use()
        except ModuleNotFoundError as error:
            assert "install numpy" in str(error), error
        else:
            raise AssertionError("an array without numpy")
    m.discard()
"""
    child(code).finish()
