# SPDX-License-Identifier: Apache-2.0
"""The pipeline of examples/python over a small text: the same bits by both ways, and clean ends whatever happens."""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

PIPELINE = pathlib.Path(__file__).parents[2] / "examples/python/pipeline.py"
MISSING = [name for name in ("torch", "tokenizers", "matplotlib") if not importlib.util.find_spec(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

LIMIT = 120  # seconds; a run that hangs takes for ever
TEXT = "\n\n".join(
    f"Text {number}: the quick brown fox jumps over {number} lazy dogs, again and again. " * 9 for number in range(40)
)


@pytest.fixture(name="place")
def fixture_place(tmp_path):
    """A directory with a text."""
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    return tmp_path


def start(place, *arguments):
    # Where tests run in the background Ctrl-C is ignored, and would be in the pipeline too.
    return subprocess.Popen(
        [sys.executable, PIPELINE, "--picture", place / "picture.svg", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process):
    """Its exit status, and what it said."""
    try:
        said, complaints = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said, complaints


def workers(process):
    """The process ids of its tokenizers, once both are there and batches are on their way."""
    for line in process.stdout:
        if line.startswith("  pace"):
            break
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = [int(pid) for pid in children.read_text(encoding="ascii").split()]
        if len(found) == 2:
            return found
    raise AssertionError("the tokenizers never started")


def runs(pid):
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


def gone(pids):
    """Whether they end soon: one that was just being started may outlive the pipeline for a moment."""
    deadline = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(runs, pids))


def test_both_ways_give_the_bits_of_one_process_alone(place):
    status, said, complaints = finish(start(place, "--batches", "12", place / "text"))
    assert (status, complaints) == (0, "")
    assert "bit for bit" in said
    assert "Sluice: encode, wait, decode and let go" in said
    assert "transport wait" in (place / "picture.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content, complaint", [(None, "No such file"), ("", "holds no text"), (" \n\t\n", "holds no text")]
)
def test_a_file_without_text_is_named(place, content, complaint):
    if content is not None:
        (place / "other").write_text(content, encoding="utf-8")
    status, _, complaints = finish(start(place, place / "other"))
    assert status == 1
    assert complaint in complaints and "other" in complaints
    assert "Traceback" not in complaints


def test_one_short_text_is_enough(place):
    (place / "other").write_text("one text without an end of line", encoding="utf-8")
    status, said, _ = finish(start(place, "--batches", "4", place / "other"))
    assert status == 0
    assert "bit for bit" in said


def test_a_killed_tokenizer_is_noticed(place):
    process = start(place, "--batches", "100000", place / "text")
    pids = workers(process)
    time.sleep(0.5)  # somewhere in its work; there is no moment that must not be hit
    os.kill(pids[0], signal.SIGKILL)
    status, _, complaints = finish(process)
    assert status == 1
    assert "was killed by SIGKILL" in complaints and "Traceback" not in complaints
    assert gone(pids)


@pytest.mark.parametrize("number, expected", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_in_good_order(place, number, expected):
    process = start(place, "--batches", "100000", place / "text")
    pids = workers(process)
    process.send_signal(number)
    status, _, complaints = finish(process)
    assert status == expected
    assert "Traceback" not in complaints
    assert gone(pids)
