# SPDX-License-Identifier: Apache-2.0
"""What the tests of CUDA have in common: a driver that stands in, a stand-in for torch too, and lanes that are poisoned."""

import gc
import os
import sys
import threading
import types

import numpy
import pytest
import sluice
from cuda_driver import Driver, standin_path
from support import until

LANE = 65536
LARGE = LANE // 4


@pytest.fixture(scope="session")
def library():
    if standin_path() is None:
        pytest.skip("./dev builds the driver that stands in for CUDA's and names it in SLUICE_TEST_CUDA")
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
def cuda_pair(driver):
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
def fake_torch(monkeypatch):
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


def poison(out, inp, driver, gate, read, seed):
    """The producer cannot get at the memory until the stream goes on; then it can."""
    fill(out)
    assert not has_room(out)
    gate.open()
    assert read() == pattern(seed).tobytes()
    until(lambda: has_room(out))


@pytest.fixture
def standin(monkeypatch, library):
    """Other interpreters find the driver that stands in, too."""
    monkeypatch.setenv("LD_LIBRARY_PATH", os.path.dirname(standin_path()))


# An interpreter with the driver, torch, and a message.
END = """
sys.path.insert(0, "%s")
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
