# SPDX-License-Identifier: Apache-2.0
"""What sluice.Queue promises beyond multiprocessing.Queue."""

import errno
import gc
import mmap
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
from multiprocessing import util

import numpy
import pytest
import queue_workers as workers
import sluice
from queue_directory import directory, eventually  # noqa: F401, F811
from sluice import _limit, _sending

pytestmark = pytest.mark.timeout(60)
MIB = 1 << 20


def start(method, target, *args):
    process = multiprocessing.get_context(method).Process(target=target, args=args)
    process.start()
    return process


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_full_and_empty_are_of_both():
    q = sluice.Queue(1)
    with pytest.raises(sluice.Empty) as empty:
        q.get_nowait()
    q.put(0)
    with pytest.raises(sluice.Full) as full:
        q.put_nowait(1)
    assert isinstance(empty.value, queue.Empty) and isinstance(full.value, queue.Full)


@pytest.mark.parametrize("maxsize", [0, 3])
def test_an_item_much_larger_than_the_lane_goes_through(maxsize):
    there, back = sluice.Queue(maxsize), sluice.Queue()
    child = start("fork", workers.sum_up, there, back, 3)
    large = numpy.full(200 * MIB, 1, "uint8")
    for item in ("small", large, "small again"):
        there.put(item)
    assert [back.get() for _ in range(3)] == ["small", 200 * MIB, "small again"]
    child.join()


@pytest.mark.parametrize("maxsize", [0, 40])
def test_items_larger_than_the_lane_wait_where_nobody_gets(maxsize):
    q = sluice.Queue(maxsize, lane_bytes=1)
    for number in range(40):
        q.put(numpy.full(MIB, number, "uint8"))
    assert q.qsize() == 40
    if maxsize:
        with pytest.raises(queue.Full):
            q.put_nowait("one more")
    assert [q.get()[0] for _ in range(40)] == list(range(40))


def test_a_bounded_queue_takes_maxsize_small_items_whatever_the_lane_holds():
    q = sluice.Queue(5000, lane_bytes=1)
    for number in range(5000):
        q.put_nowait(number)
    with pytest.raises(queue.Full):
        q.put_nowait(-1)
    assert [q.get_nowait() for _ in range(5000)] == list(range(5000))


def test_order_is_kept_when_items_begin_to_wait_and_cease_to():
    q = sluice.Queue(lane_bytes=1)
    put = got = 0
    for round_ in range(30):
        for _ in range(round_ * 3 % 17 + 1):
            q.put((put, numpy.zeros(20_000, "uint8")))
            put += 1
        for _ in range(round_ * 5 % 13):
            if got < put:
                assert q.get()[0] == got
                got += 1
    while got < put:
        assert q.get()[0] == got
        got += 1


def test_items_wait_for_as_long_as_nobody_gets(monkeypatch):
    looks = threading.Semaphore(0)
    feed_one = _sending.Sender._feed_one

    def look(sender, packed):
        looks.release()
        return feed_one(sender, packed)

    monkeypatch.setattr(_sending, "_LOOK_AGAIN", 1e-3)
    monkeypatch.setattr(_sending.Sender, "_feed_one", look)
    q = sluice.Queue(lane_bytes=1)
    for number in range(40):
        q.put((number, bytes(10_000)))
    for _ in range(50):
        looks.acquire()
    assert [q.get()[0] for _ in range(40)] == list(range(40))


def test_a_put_that_waits_for_a_place_is_woken(monkeypatch):
    monkeypatch.setattr(_limit, "_LOOK_AGAIN", 1000)
    q = sluice.Queue(1)
    q.put(0)
    thread = threading.Thread(target=q.put, args=(1,))
    thread.start()
    assert eventually(lambda: q._limit._page[1])
    assert [q.get(), q.get()] == [0, 1]
    thread.join()


def test_an_item_is_taken_as_it_is_when_put():
    q = sluice.Queue(lane_bytes=1)
    array = numpy.zeros(30_000, "uint8")
    for value in range(20):  # the first into the lane, the others into the buffer
        array[:] = value
        q.put(array)
    assert [set(q.get()) for _ in range(20)] == [{value} for value in range(20)]


def test_put_raises_what_pickle_raises_and_goes_on():
    q = sluice.Queue(2)
    for _ in range(5):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            q.put(lambda: None)
    q.put(1)
    q.put(2)
    assert q.get() == 1


def test_an_item_that_cannot_be_unpickled_raises_and_is_gone():
    q = sluice.Queue(2)
    q.put(workers.Poison())
    q.put("next")
    with pytest.raises(ZeroDivisionError):
        q.get()
    assert q.get() == "next" and not q.full()


def test_an_item_that_can_never_fit_says_so(monkeypatch, directory):  # noqa: F811
    q = sluice.Queue()
    monkeypatch.setattr(q._channel, "file_system_bytes", lambda: 8 * MIB)
    monkeypatch.setattr(q._channel, "producer", out_of_space)
    with pytest.raises(sluice.NoSpace, match=f"{directory} holds 8 MiB.*lane of"):
        q.put(numpy.zeros(5 * MIB, "uint8"))


def out_of_space(lane_bytes, depth):
    raise sluice.NoSpace(28, "full")


def test_an_item_that_finds_no_memory_for_a_lane_waits_until_there_is(monkeypatch, capfd):
    q = sluice.Queue()
    tries = threading.Semaphore(0)
    with monkeypatch.context() as patch:
        patch.setattr(q._channel, "producer", lambda *_: (tries.release(), out_of_space(*_)))
        q.put("waits")
        for _ in range(20):  # smaller and smaller lanes were tried, by put and by the feeder
            tries.acquire()
    assert q.get() == "waits"
    q.close()
    q.join_thread()


def test_without_copy_arrays_are_read_only_and_hold_their_place():
    q = sluice.Queue(1, copy=False)
    q.put({"x": numpy.arange(1000)})
    item = q.get()
    with pytest.raises(ValueError):
        item["x"][0] = 1
    assert q.qsize() == 0 and q.full()
    with pytest.raises(queue.Full):
        q.put_nowait("not yet")
    part = item["x"][10:20]
    del item
    assert q.full() and list(part) == list(range(10, 20))
    del part
    q.put_nowait("now")
    assert q.get() == "now" and not q.full()


def test_without_copy_items_that_are_sent_on_are_let_go():
    q, on = sluice.Queue(1, copy=False), sluice.Queue(copy=False)
    gc.disable()
    try:
        for number in range(50):
            q.put(numpy.array([number]))
            on.put(q.get())
            assert on.get()[0] == number
    finally:
        gc.enable()


@pytest.mark.parametrize("of", ["numpy", "torch"])
def test_without_copy_views_outlive_the_queue(of):
    sent = numpy.arange(1000) if of == "numpy" else pytest.importorskip("torch").arange(1000)
    q = sluice.Queue(copy=False)
    q.put(sent)
    array = q.get()
    q.close()
    del q
    gc.collect()
    assert list(array) == list(range(1000))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_nothing_is_left_when_the_last_one_lets_go(method, directory):  # noqa: F811
    q, back = sluice.Queue(3), sluice.Queue()
    child = start(method, workers.echo, q, back)
    q.put("stop")
    child.join()
    q.put("never got")
    assert os.listdir(directory)
    del q, back
    gc.collect()
    assert not os.listdir(directory)


def test_a_queue_that_is_not_used_makes_nothing(directory):  # noqa: F811
    before = descriptors()
    q, bounded = sluice.Queue(), sluice.Queue(1)
    assert q.empty() and bounded.qsize() == 0
    assert not os.listdir(directory)
    del q, bounded
    gc.collect()
    assert descriptors() == before


def test_a_queue_that_cannot_be_made_leaves_nothing(monkeypatch):
    before = descriptors()
    for module, call in ((os, "memfd_create"), (mmap, "mmap")):
        with monkeypatch.context() as patch, pytest.raises(OSError):
            patch.setattr(module, call, no_descriptor)
            sluice.Queue(1)
    gc.collect()
    assert descriptors() == before


def no_descriptor(*_):
    raise OSError(errno.EMFILE, "none left")


def test_more_lanes_than_a_channel_has_are_room_that_is_waited_for(monkeypatch):
    monkeypatch.setattr(_sending, "_KEEP_BYTES", 1 << 17)  # each item in a lane of its own
    q, bounded = sluice.Queue(lane_bytes=1), sluice.Queue(200, lane_bytes=1)
    for number in range(200):
        q.put(numpy.full(100_000, number, "uint8"))
    assert [q.get()[0] for _ in range(200)] == list(range(200))
    with pytest.raises(queue.Full):
        for number in range(200):
            bounded.put(numpy.full(100_000, number, "uint8"), timeout=0.1)
    assert bounded.get()[0] == 0
    bounded.put("fits", timeout=30)


def test_a_thread_that_cannot_be_started_is_an_error_and_is_tried_again(monkeypatch):
    q = sluice.Queue(lane_bytes=1)
    count = 0
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(threading.Thread, "start", no_thread)
        while True:
            q.put((count, bytes(10_000)))
            count += 1
    q.put((count, b"after all"))
    assert [q.get(timeout=30)[0] for _ in range(count + 1)] == list(range(count + 1))


def no_thread(self):
    raise RuntimeError("can't start new thread")


def test_descriptors_and_threads_go_with_their_queue():
    def use():
        for maxsize in (0, 500):
            q = sluice.Queue(maxsize, lane_bytes=1)
            for _ in range(200):
                q.put(numpy.zeros(1000))
            for _ in range(200):
                q.get()

    use()
    gc.collect()
    assert eventually(lambda: threading.active_count() == 1)
    before = descriptors(), len(util._finalizer_registry)
    for _ in range(5):
        use()
    gc.collect()
    assert eventually(lambda: threading.active_count() == 1)
    assert (descriptors(), len(util._finalizer_registry)) == before


SCRIPTS = {
    "ends with items in the queue": "q.put(1)",
    "ends with a closed queue": "q.put(1); q.close(); q.join_thread()",
    "ends with items in the feeder and does not wait": "[q.put(bytes(100_000)) for _ in range(99)]; q.cancel_join_thread()",
    "ends with an exception": "q.put(1); raise SystemExit(0)",
    "ends in a child that got": "q.put(1); p = C.Process(target=q.get); p.start(); p.join()",
    "ends with a daemon that waits": "p = C.Process(target=q.get, daemon=True); p.start()",
    "ends with a child that flushes": (
        "def put():\n  for _ in range(99): q.put(bytes(100_000))\n"
        "p = C.Process(target=put); p.start()\n[q.get() for _ in range(99)]"
    ),
    "ends with a thread that waits": "threading.Thread(target=q.get, daemon=True).start()",
    "ends with items held": "q.put(numpy.arange(9)); held = q.get()",
    "ends with a view held": "q = sluice.Queue(copy=False); q.put(numpy.arange(9)); held = q.get()",
    "ends with threads at work": (
        "q = sluice.Queue(2)\nstarted = threading.Semaphore(0)\n"
        "def work(call):\n  started.release()\n  while True: call()\n"
        "for call in [lambda: q.put(1), q.get] * 3: threading.Thread(target=work, args=(call,), daemon=True).start()\n"
        "for _ in range(6): started.acquire()"
    ),
    "ends after a queue that does not wait is gone": (
        "[q.put(bytes(100_000)) for _ in range(99)]; q.cancel_join_thread(); del q"
    ),
    "ends after a child of os.fork flushed": (
        "import os, sys\npid = os.fork()\n"
        "if pid == 0:\n  for _ in range(99): q.put(bytes(100_000))\n  sys.exit()\n"
        "[q.get() for _ in range(99)]; os.waitpid(pid, 0)"
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_left_and_nothing_is_said_when_a_program(name, directory):  # noqa: F811
    program = (
        "import multiprocessing, threading, numpy, sluice\n"
        "C = multiprocessing.get_context('fork')\n"
        "q = sluice.Queue(lane_bytes=1)\n" + SCRIPTS[name]
    )
    for _ in range(15 if name == "ends with threads at work" else 1):  # where it ends is another place each time
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not os.listdir(directory)


def test_the_lines_of_the_documentation_work():
    with pytest.raises(TypeError):
        sluice.Queue(0, 1)
    with pytest.raises(ValueError):
        sluice.Queue(lane_bytes=0)
    with pytest.raises(sluice.NotFound):
        sluice.Queue(directory="/dev/shm/is not there")
    assert sluice.Queue(-1, ctx=multiprocessing.get_context("spawn")).full() is False
