# SPDX-License-Identifier: Apache-2.0
"""What a program may expect of multiprocessing.Queue, of both: the proof that one takes the other's place."""

import gc
import multiprocessing
import queue
import threading

import numpy
import pytest
import queue_workers as workers
import sluice
from queue_directory import directory  # noqa: F401, F811

pytestmark = pytest.mark.timeout(30)
MIB = 1 << 20


@pytest.fixture(params=["multiprocessing", "sluice"])
def kind(request):
    return request.param


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request):
    return multiprocessing.get_context(request.param)


@pytest.fixture
def make(kind):
    """Makes queues of either kind for a context."""

    def make(context=multiprocessing, maxsize=0):
        return context.Queue(maxsize) if kind == "multiprocessing" else sluice.Queue(maxsize)

    return make


def start(context, target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process


def drain(source, count):
    return [source.get() for _ in range(count)]


def join(*processes):
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_items_of_many_kinds_come_back_equal_and_in_order(make, context):
    there, back = make(context), make(context)
    child = start(context, workers.echo, there, back)
    items = workers.sample_items()
    for item in items:
        there.put(item)
    there.put("stop")
    for item in items:
        assert workers.same(back.get(), item)
    join(child)


def test_arrays_belong_to_the_receiver(make):
    q = make()
    sent = numpy.arange(10)
    sent.flags.writeable = False
    q.put(sent)
    q.put({"x": numpy.arange(10)})
    first, second = q.get(), q.get()["x"]
    first += 1
    second += 1
    assert list(first) == list(second) == list(range(1, 11)) and sent[0] == 0


def test_an_empty_queue_says_so(make):
    q = make()
    for call in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0.01), lambda: q.get(True, 0)):
        with pytest.raises(queue.Empty):
            call()
    assert q.empty() and q.qsize() == 0 and not q.full()


def test_a_full_queue_says_so_and_takes_another_after_a_get(make):
    q = make(maxsize=2)
    q.put("a")
    q.put("b")
    for call in (lambda: q.put_nowait(0), lambda: q.put(0, False), lambda: q.put(0, timeout=0.01)):
        with pytest.raises(queue.Full):
            call()
    assert q.full() and q.qsize() == 2
    assert q.get() == "a"
    q.put("c", timeout=30)
    assert [q.get(), q.get()] == ["b", "c"]
    assert not q.full()


def test_maxsize_counts_over_all_processes(make, context):
    q = make(context, 25)
    go = context.Event()
    counts = [context.Value("i", -1) for _ in range(3)]
    children = [start(context, workers.put_until_full, q, count, go) for count in counts]
    go.set()
    join_later = threading.Thread(target=join, args=children)  # multiprocessing.Queue's feeders end first
    join_later.start()
    join_later.join()
    assert sum(count.value for count in counts) == 25
    assert q.full()
    assert len(drain(q, 25)) == 25
    with pytest.raises(queue.Empty):
        q.get_nowait()


def test_a_put_that_waits_gets_the_place_that_a_get_makes(make, context):
    q, back = make(context, 1), make(context)
    child = start(context, workers.put_numbers, q, 0, 200)
    assert [number for _, number, _ in drain(q, 200)] == list(range(200))
    join(child)
    back.put(1)
    assert back.get() == 1


def test_put_without_maxsize_never_blocks(make):
    q = make()
    for number in range(64):
        q.put(numpy.full(MIB, number, "uint8"))
    q.put("last")
    for number in range(64):
        assert q.get()[-1] == number
    assert q.get() == "last"


def test_a_sentinel_put_after_the_workers_were_joined_arrives_last(make, context):
    q = make(context)
    children = [start(context, workers.put_numbers, q, worker, 50) for worker in range(3)]
    join(*children)
    q.put(None)
    items = list(iter(q.get, None))
    assert len(items) == 150
    for worker in range(3):
        assert [number for by, number, _ in items if by == worker] == list(range(50))


def test_a_process_that_ends_has_put_everything(make, context):
    q = make(context)
    child = start(context, workers.put_numbers, q, 0, 40, MIB)
    assert [(number, data[0]) for _, number, data in drain(q, 40)] == [(n, n) for n in range(40)]
    join(child)


def test_cancel_join_thread_lets_a_process_end(make, context):
    q = make(context)
    join(start(context, workers.put_and_cancel, q))
    q.close()
    q.join_thread()


def test_a_closed_queue_that_is_not_joined_goes_on_putting_while_its_process_lives(make):
    q, closed, done = make(), multiprocessing.Event(), multiprocessing.Event()
    child = start(multiprocessing.get_context("fork"), workers.drain_and_tell, q, 50, closed, done)
    q.cancel_join_thread()
    for _ in range(50):
        q.put(bytes(MIB))
    q.close()
    q.join_thread()  # does not wait
    closed.set()
    assert done.wait(25)
    join(child)


def test_a_closed_queue_refuses(make):
    q = make()
    with pytest.raises(AssertionError):
        q.join_thread()
    q.put(1)
    q.close()
    q.close()
    q.join_thread()
    with pytest.raises(ValueError):
        q.put(2)
    with pytest.raises(ValueError):
        q.get()


def test_it_is_pickled_only_for_a_process_being_spawned(make):
    import pickle

    with pytest.raises(RuntimeError):
        pickle.dumps(make())


def test_processes_go_on_after_their_parent_let_the_queue_go(make, context, kind):
    if kind == "multiprocessing" and context.get_start_method() != "fork":
        pytest.skip("its semaphores are gone before the child opens them")

    def begin():
        between, back = make(context), make(context)
        return back, [
            start(context, workers.put_numbers, between, 5, 10),
            start(context, workers.echo_count, between, back, 10),
        ]

    back, children = begin()
    gc.collect()
    assert [number for _, number, _ in drain(back, 10)] == list(range(10))
    join(*children)


def test_threads_share_a_queue(make):
    q, results = make(), make()
    threads = [threading.Thread(target=workers.put_numbers, args=(q, worker, 100)) for worker in range(3)]
    threads += [threading.Thread(target=workers.echo_count, args=(q, results, 100)) for _ in range(3)]
    for thread in threads:
        thread.start()
    items = drain(results, 300)
    for thread in threads:
        thread.join()
    assert sorted((worker, number) for worker, number, _ in items) == [(w, n) for w in range(3) for n in range(100)]


def test_a_get_that_waits_does_not_hold_up_a_put(make):
    q, got = make(), []
    waits = threading.Thread(target=lambda: got.append(q.get()))
    waits.start()
    q.put("through")
    waits.join()
    assert got == ["through"]


def test_interrupts_end_waiting_and_spoil_nothing(make, context):
    there, back, bounded = make(context), make(context), make(context, 1)
    child = start(context, workers.interrupted_then_usable, there, back, bounded)
    assert back.get() == (True, True)
    there.put("still here")
    there.put("stop")
    assert back.get() == "still here"
    assert bounded.get() == "fills it"
    join(child)


def test_ping_pong_between_two(make, context):
    there, back = make(context), make(context)
    child = start(context, workers.put_and_get, there, back, 200)
    value = 0
    for _ in range(200):
        there.put(value)
        value = back.get()
    assert value == 200
    join(child)
