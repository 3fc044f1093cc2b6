# SPDX-License-Identifier: Apache-2.0
"""A directory of shared memory for each queue test, in which nothing may be left."""

import gc
import os
import tempfile
import time

import pytest


@pytest.fixture(autouse=True)
def directory(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="sluice-test-", dir="/dev/shm") as path:
        monkeypatch.setenv("SLUICE_DIR", path)
        yield path
        assert eventually(lambda: gc.collect() >= 0 and not os.listdir(path)), os.listdir(path)


def eventually(holds):
    """Looks again and again until `holds()`, for at most 20 s: for what another process or thread is about to do."""
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
