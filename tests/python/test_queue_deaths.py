# SPDX-License-Identifier: Apache-2.0
"""Processes killed while they put and get: every item is accounted for, and nobody is held up.

SLUICE_TEST_KILLS sets how many are killed in each test.
"""

import mmap
import multiprocessing
import os
import queue
import random
import signal

import numpy
import pytest
import sluice
from queue_directory import directory, eventually  # noqa: F401, F811

pytestmark = pytest.mark.timeout(120 if "SLUICE_TEST_KILLS" not in os.environ else 3600)
KILLS = int(os.environ.get("SLUICE_TEST_KILLS", 300))
fork = multiprocessing.get_context("fork")


def shared_counters(count):
    """Zeros that parent and children see alike, and that a killed child leaves as they are."""
    return memoryview(mmap.mmap(-1, max(8 * count, 4096))).cast("q")


def start(target, *args):
    process = fork.Process(target=target, args=args)
    process.start()
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def drain(q):
    items = []
    try:
        while True:
            items.append(q.get_nowait())
    except queue.Empty:
        return items


def put_for_ever(q, worker, done, payload):
    number = 0
    while True:
        q.put((worker, number, payload))
        number += 1
        done[worker] = number


@pytest.mark.parametrize("maxsize", [0, 8])
@pytest.mark.parametrize("nbytes", [0, 3000])
def test_what_killed_processes_put_is_there(maxsize, nbytes):
    dice = random.Random(nbytes + maxsize)
    q = sluice.Queue(maxsize, lane_bytes=1 << 16)
    done = shared_counters(KILLS)
    payload = numpy.zeros(nbytes, "uint8")
    got = [0] * KILLS

    def take(items):
        for worker, number, data in items:
            assert number == got[worker] and len(data) == nbytes
            got[worker] += 1

    for worker in range(KILLS):
        child = start(put_for_ever, q, worker, done, payload)
        enough = dice.randrange(40)
        while done[worker] <= enough:
            take([q.get(timeout=30)])
        kill(child)
        take(drain(q))
        if maxsize:  # without one, some may have waited in the process for room
            assert done[worker] <= got[worker] <= done[worker] + 1
    for number in range(maxsize):  # no place was lost with them
        q.put_nowait(number)
    assert drain(q) == list(range(maxsize))


def get_for_ever(q, counts):
    while True:
        number, data = q.get()
        assert data[0] == number % 251
        counts[number] += 1
        del data


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("maxsize", [0, 16])
def test_what_killed_processes_did_not_get_goes_to_others(copy, maxsize):
    dice = random.Random(copy + maxsize)
    q = sluice.Queue(maxsize, copy=copy, lane_bytes=1 << 16)
    counts = []
    put = 0
    most = 64 * KILLS
    for _ in range(KILLS):
        counts.append(shared_counters(most))
        child = start(get_for_ever, q, counts[-1])
        enough = put + dice.randrange(32)
        while put <= enough or not any(counts[-1][max(put - 100, 0) : put]):
            if put < enough + 32:
                q.put((put, numpy.full(dice.choice((1, 100, 5000)), put % 251, "uint8")))
                put += 1
        kill(child)
    counts.append(shared_counters(most))
    child = start(get_for_ever, q, counts[-1])
    assert eventually(q.empty) and eventually(lambda: not q._channel.held())
    kill(child)
    total = numpy.sum([numpy.frombuffer(part, "int64")[:put] for part in counts], axis=0)
    missing = int((total == 0).sum())
    if copy:  # got, and killed before it was counted
        assert missing <= KILLS and total.max() == 1
    else:
        assert missing == 0


def test_there_are_never_more_than_maxsize_whoever_dies():
    dice = random.Random(5)
    maxsize = 4
    q = sluice.Queue(maxsize, lane_bytes=1 << 16)
    done = shared_counters(4 + KILLS)
    children = {worker: start(put_for_ever, q, worker, done, b"x") for worker in range(4)}
    got = dict.fromkeys(children, 0)
    for _ in range(KILLS):
        for _ in range(dice.randrange(8)):
            assert q._channel.held() <= maxsize
            worker, number, _ = q.get(timeout=30)
            assert number == got[worker]
            got[worker] += 1
        victim = dice.choice(list(children))
        kill(children.pop(victim))
        worker = 4 + len(got) - 4
        got[worker] = 0
        children[worker] = start(put_for_ever, q, worker, done, b"x")
    assert eventually(q.full)
    assert q.qsize() == maxsize
    for child in children.values():
        kill(child)
    assert len(drain(q)) == maxsize
    for number in range(maxsize):
        q.put_nowait(number)
    with pytest.raises(queue.Full):
        q.put_nowait(0)
    drain(q)


def test_a_stopped_process_holds_up_nobody():
    q, ready = sluice.Queue(2), shared_counters(1)
    child = start(get_for_ever, q, ready)
    assert eventually(lambda: any(lane for lane in os.listdir(os.environ["SLUICE_DIR"])))
    os.kill(child.pid, signal.SIGSTOP)
    for number in range(10):
        q.put(number)
        assert q.get(timeout=30) == number
    kill(child)


def hold(q, took):
    item = q.get()
    took[0] = 1 + int(item[0])
    signal.pause()


def test_an_item_that_a_killed_process_held_goes_to_another():
    q, took = sluice.Queue(1, copy=False), shared_counters(1)
    q.put(numpy.array([41]))
    child = start(hold, q, took)
    assert eventually(lambda: took[0] == 42)
    with pytest.raises(queue.Empty):
        q.get_nowait()
    kill(child)
    assert q.get(timeout=30)[0] == 41


def hold_queue(ready):
    q = sluice.Queue(3)
    q.put(numpy.zeros(1000))
    child = start(q.get)
    child.join()
    q.put("left")
    ready[0] = 1
    signal.pause()


def test_what_a_killed_program_leaves_is_collected(directory):  # noqa: F811
    ready = shared_counters(1)
    child = start(hold_queue, ready)
    assert eventually(lambda: ready[0])
    kill(child)
    (name,) = sluice.list(directory)
    assert name.startswith("queue-")
    sluice.gc(name, directory, drop=True)
    assert not os.listdir(directory)
