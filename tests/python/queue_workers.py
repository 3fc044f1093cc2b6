# SPDX-License-Identifier: Apache-2.0
"""What the child processes of the queue tests do: here, so that spawned ones can import it."""

import dataclasses
import queue
import signal

import numpy


@dataclasses.dataclass
class Batch:
    ids: numpy.ndarray
    lengths: list
    name: str


def same(a, b):
    """Equality that looks into arrays, and at their types and flags."""
    if type(a) is not type(b):
        return False
    if isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and (a.tobytes() == b.tobytes() or numpy.array_equal(a, b))
    if dataclasses.is_dataclass(a):
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def sample_items():
    ids = numpy.arange(16 * 512, dtype="int32").reshape(16, 512)
    return [
        None,
        7,
        "text",
        b"\0" * 100_000,
        ids,
        ids[:, ::2],
        ids.T,
        numpy.float64(2.5),
        numpy.array(3, "int16"),
        numpy.zeros((0, 5), "float32"),
        numpy.array(["a", "bcd"]),
        numpy.array(["2020-01-01"], "datetime64[D]"),
        numpy.array([{"x": 1}, None], dtype=object),
        numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        {"ids": ids, "nested": [{"deep": (ids[1], "x")}], "again": ids},
        Batch(ids, [1, 2, 3], "batch"),
        (1, [2, {3: 4}]),
    ]


def echo(inbox, outbox):
    """Sends back what comes, until "stop"."""
    while not isinstance(item := inbox.get(), str) or item != "stop":
        outbox.put(item)


def echo_count(inbox, outbox, count):
    for _ in range(count):
        outbox.put(inbox.get())


def sum_up(inbox, outbox, count):
    for _ in range(count):
        item = inbox.get()
        outbox.put(item if isinstance(item, str) else int(item.sum()))


class Poison:
    def __reduce__(self):
        return divmod, (1, 0)


def put_numbers(outbox, worker, count, payload=0):
    for number in range(count):
        outbox.put((worker, number, numpy.full(payload, number, "uint8")))


def put_until_full(outbox, result, start):
    start.wait()
    count = 0
    try:
        while True:
            outbox.put_nowait(count)
            count += 1
    except queue.Full:
        pass
    result.value = count


def drain_and_tell(inbox, count, start, done):
    start.wait()
    for _ in range(count):
        inbox.get()
    done.set()


def put_and_get(inbox, outbox, count):
    for _ in range(count):
        outbox.put(inbox.get() + 1)


def interrupt(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt


def is_interrupted(call):
    """Whether Ctrl-C ends `call`, which would not end by itself. The timer goes on until it was heard: a signal may come
    just before the call begins to wait."""
    signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        call()
        return False
    except KeyboardInterrupt:
        return True


def interrupted_then_usable(inbox, outbox, bounded):
    """Waits in vain in get and put until interrupted, then goes on."""
    got = is_interrupted(inbox.get)
    bounded.put("fills it")
    outbox.put((got, is_interrupted(lambda: bounded.put("too much"))))
    echo(inbox, outbox)


def put_and_cancel(outbox):
    """Leaves without waiting for what nobody gets."""
    for _ in range(64):
        outbox.put(numpy.ones(1 << 20, "uint8"))
    outbox.cancel_join_thread()
