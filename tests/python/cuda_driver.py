# SPDX-License-Identifier: Apache-2.0
"""CUDA's driver by ctypes, as tests use it: a real one, or the one of tests/cuda that stands in for it."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# Name: the first version with these parameters, and their types.
_P, _U, _I, _Q = ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_uint64
_CALLS = {
    "cuInit": (2000, _U),
    "cuDevicePrimaryCtxRetain": (7000, _P, _I),
    "cuDevicePrimaryCtxRelease": (11000, _I),
    "cuCtxSetCurrent": (4000, _P),
    "cuCtxGetCurrent": (4000, _P),
    "cuStreamCreate": (2000, _P, _U),
    "cuStreamDestroy": (4000, _P),
    "cuStreamSynchronize": (2000, _P),
    "cuStreamBeginCapture": (10010, _P, _I),
    "cuStreamEndCapture": (10000, _P, _P),
    "cuLaunchHostFunc": (10000, _P, _P, _P),
    "cuMemAlloc": (3020, _P, ctypes.c_size_t),
    "cuMemFree": (3020, _Q),
    "cuMemcpyHtoDAsync": (3020, _Q, _P, ctypes.c_size_t, _P),
    "cuMemcpyDtoH": (3020, _P, _Q, ctypes.c_size_t),
}


class Counts(ctypes.Structure):
    """struct standin_counts of tests/cuda/standin.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "registrations registered_bytes registered_ever largest read_only copies pageable writes events "
            "allocations retained violations"
        ).split()
    ] + [("violation", ctypes.c_char * 128)]


class _Standin(ctypes.Structure):
    """struct standin of tests/cuda/standin.h."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("fail", ctypes.CFUNCTYPE(None, ctypes.c_char_p, _U, _I)),
        ("calls", ctypes.CFUNCTYPE(_U, ctypes.c_char_p)),
        ("set_attribute", ctypes.CFUNCTYPE(None, _I, _I)),
        ("set_version", ctypes.CFUNCTYPE(None, _I)),
        ("hide", ctypes.CFUNCTYPE(None, ctypes.c_char_p)),
        ("set_devices", ctypes.CFUNCTYPE(None, _I)),
        ("set_strict", ctypes.CFUNCTYPE(None, ctypes.c_bool)),
        ("set_pace", ctypes.CFUNCTYPE(None, _I)),
        ("count", ctypes.CFUNCTYPE(None, ctypes.POINTER(Counts))),
        ("break_devices", ctypes.CFUNCTYPE(None)),
    ]


class Gate:
    """What holds a stream until it is opened, as a long kernel would. Without Python code on the stream."""

    def __init__(self):
        self.semaphore = ctypes.create_string_buffer(64)
        assert _libc.sem_init(self.semaphore, 0, 0) == 0

    def open(self):
        assert _libc.sem_post(self.semaphore) == 0


class Driver:
    def __init__(self, path="libcuda.so.1"):
        self.library = ctypes.CDLL(path)
        self.find = self.library.cuGetProcAddress_v2
        self.find.argtypes = [ctypes.c_char_p, _P, _I, ctypes.c_uint64, _P]
        self.standin = None
        if hasattr(self.library, "standin_functions"):
            self.standin = _Standin.in_dll(self.library, "standin_functions")
            assert self.standin.size == ctypes.sizeof(_Standin), "tests/cuda/standin.h has changed"
        self.kept = []

    def __getattr__(self, name):
        version, *parameters = _CALLS[name]
        found, status = ctypes.c_void_p(), ctypes.c_int()
        assert self.find(name.encode(), ctypes.byref(found), version, 0, ctypes.byref(status)) == 0 and found
        function = ctypes.CFUNCTYPE(_I, *parameters)(found.value)

        def checked(*arguments):
            result = function(*arguments)
            assert result == 0, (name, result)

        setattr(self, name, checked)
        return checked

    # Devices and contexts

    def use(self, ordinal=0):
        """Makes the device's primary context current, as the runtime API does."""
        self.cuInit(0)
        self.cuCtxSetCurrent(self.retain(ordinal))

    def retain(self, ordinal):
        context = ctypes.c_void_p()
        self.cuDevicePrimaryCtxRetain(ctypes.byref(context), ordinal)
        return context

    def current(self):
        context = ctypes.c_void_p()
        self.cuCtxGetCurrent(ctypes.byref(context))
        return context.value

    def let_go(self, ordinal=0):
        self.cuCtxSetCurrent(None)
        self.cuDevicePrimaryCtxRelease(ordinal)

    # Streams

    def stream(self):
        stream = ctypes.c_void_p()
        self.cuStreamCreate(ctypes.byref(stream), 1)  # waits for no default stream
        return stream.value

    def hold(self, stream):
        gate = Gate()
        self.kept.append(gate)
        self.cuLaunchHostFunc(stream, _libc.sem_wait, gate.semaphore)
        return gate

    def open_gates(self):
        """After a test that failed: who waits for a stream would wait for ever."""
        for each in self.kept:
            if isinstance(each, Gate):
                each.open()

    def call(self, stream, function):
        """Has the stream call a Python function."""
        callback = ctypes.CFUNCTYPE(None, _P)(lambda _: function())
        self.kept.append(callback)
        self.cuLaunchHostFunc(stream, callback, None)

    def capture(self, stream):
        self.cuStreamBeginCapture(stream, 2)  # other threads and streams go on

    def end_capture(self, stream):
        graph = ctypes.c_void_p()
        self.cuStreamEndCapture(stream, ctypes.byref(graph))

    # Memory

    def allocate(self, size):
        address = ctypes.c_uint64()
        self.cuMemAlloc(ctypes.byref(address), size)
        return address.value

    def read(self, address, size):
        data = ctypes.create_string_buffer(size)
        self.cuMemcpyDtoH(data, address, size)
        return data.raw

    # The stand-in

    def counts(self):
        counts = Counts()
        self.standin.count(ctypes.byref(counts))
        return counts

    def fail(self, name, result, skip=0):
        self.standin.fail(name.encode(), skip, result)

    def calls(self, name):
        return self.standin.calls(name.encode())


class Managed(ctypes.Structure):
    """DLPack's DLTensor and DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Managed),  # less its last two
    ]


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Capsule:
    """A consumer of DLPack. Takes a capsule over, and lets it go by its deleter, from whatever thread."""

    def __init__(self, capsule):
        versioned = "dltensor_versioned" in repr(capsule)
        name = b"dltensor_versioned" if versioned else b"dltensor"
        self.address = _pointer_of(capsule, name)
        self.managed = (Versioned if versioned else Managed).from_address(self.address)
        self.tensor = self.managed.tensor if versioned else self.managed
        self.flags = self.managed.flags if versioned else None
        self.used = b"used_" + name
        assert _rename(capsule, self.used) == 0

    @property
    def device(self):
        return self.tensor.device_type, self.tensor.device_id

    @property
    def shape(self):
        return tuple(self.tensor.shape[: self.tensor.ndim])

    @property
    def strides(self):
        return tuple(self.tensor.strides[: self.tensor.ndim])

    def delete(self):
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.managed.deleter)(self.address)


def standin_path():
    """Where `./dev python` has put the driver that stands in, or None."""
    return os.environ.get("SLUICE_TEST_CUDA")
