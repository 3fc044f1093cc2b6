# SPDX-License-Identifier: Apache-2.0
"""Each test has a directory of its own in shared memory and leaves no file, descriptor or child behind."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

pytest_plugins = ["cuda_case"]

# A shell that starts this in the background has SIGINT ignored, and children inherit that; tests send it to them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def descriptors():
    return {name: target for name in os.listdir("/proc/self/fd") if (target := link(name)) is not None}


def link(name):
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return None
    # What multiprocessing keeps for itself: its trackers' and fork servers' pipes, /dev/urandom and the like.
    return None if target.startswith(("/proc", "pipe:", "/dev/urandom", "/dev/null")) else target


@pytest.fixture(autouse=True)
def directory(monkeypatch):
    path = tempfile.mkdtemp(prefix="python-test-", dir=os.environ.get("SLUICE_DIR") or "/dev/shm")
    monkeypatch.setenv("SLUICE_DIR", path)
    before = descriptors()
    try:
        yield path
        gc.collect()
        assert os.listdir(path) == [], "left in shared memory"
        opened = {name: target for name, target in descriptors().items() if before.get(name) != target}
        assert not opened, "descriptors left open"
    finally:
        shutil.rmtree(path)


class Child:
    """Another interpreter that runs a piece of code. What it prints is read line by line."""

    def __init__(self, code):
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", "import sluice, sys, os\n" + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def finish(self, code=0):
        out, err = self.process.communicate()
        assert self.process.returncode == code, (self.process.returncode, out, err)
        return out + err


@pytest.fixture
def child():
    children = []

    def start(code):
        children.append(Child(code))
        return children[-1]

    yield start
    for each in children:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()
