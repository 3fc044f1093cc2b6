# SPDX-License-Identifier: Apache-2.0
"""Running one case once: two forked, pinned processes, the first of which times each round trip."""
import gc
import importlib
import mmap
import multiprocessing
import os
import resource
import signal
import time
import traceback

import numpy

import payload

CONTEXT = multiprocessing.get_context("fork")
PATIENCE = 5  # seconds beyond what was planned, and times as long as planned


class Failed(Exception):
    """The case did not work; the message says why."""


def warm_up_of(repetitions, case):
    """Rounds before the clock counts: a tenth, and each page of a lane touched at least once."""
    return max(repetitions // 10, case.least_warm_up)


def run_first(link, case, cpu, times, together):
    exchange, array = link.first(), payload.make(case.shape)
    os.sched_setaffinity(0, {cpu})  # not before: a Sluice that sees one CPU only never spins by default
    total, untouched = len(times) + warm_up_of(len(times), case), case.untouched
    warm_up = total - len(times)
    together.wait()
    for number in range(total):
        array[0, 0] = number
        begin = time.perf_counter_ns()
        answer = exchange(array)
        took = time.perf_counter_ns() - begin
        if answer != number and not untouched:
            raise ValueError(f"message {number} was read as {answer}")
        if number >= warm_up:
            times[number - warm_up] = took


def run_second(link, case, cpu, times, together):
    answer = link.second(payload.leave if case.untouched else payload.read)
    os.sched_setaffinity(0, {cpu})
    together.wait()
    for _ in range(len(times) + warm_up_of(len(times), case)):
        answer()


def be_side(body, errors, counts, *arguments):
    """One of the two processes. What it cannot do it says in a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        gc.freeze()
        gc.disable()
        body(*arguments)
        used = resource.getrusage(resource.RUSAGE_SELF)
        counts[:] = used.ru_nvcsw, used.ru_nivcsw
    except BaseException as error:
        errors.send("".join(traceback.format_exception_only(type(error), error)).strip())
        raise SystemExit(1) from None


def shared_array(length):
    """Zeroed, and the same memory in processes forked later."""
    return numpy.frombuffer(mmap.mmap(-1, max(length, 1) * 8), numpy.int64)[:length]


def wait_for_both(processes, errors, seconds):
    """Until both have ended well. One that fails says so, or dies; then the other is not waited for."""
    deadline = time.monotonic() + PATIENCE * (1 + seconds)
    left = list(processes)
    while left:
        ended = multiprocessing.connection.wait([one.sentinel for one in left], max(0, deadline - time.monotonic()))
        if errors.poll():
            raise Failed(errors.recv())
        if not ended:
            raise Failed("took far longer than planned")
        for one in [one for one in left if one.sentinel in ended]:
            one.join()
            left.remove(one)
            if one.exitcode:
                raise Failed(f"a process ended with {one.exitcode}")


def run(case, repetitions, cpus, seconds):
    """Returns the nanoseconds of each round trip, and how often the kernel put a process to sleep or took its CPU."""
    times, counts = shared_array(repetitions), shared_array(4)
    ours, theirs = CONTEXT.Pipe(duplex=False)
    together = CONTEXT.Barrier(2)
    link = importlib.import_module(case.link).Link(case)
    processes = []
    try:
        for index, body in enumerate((run_first, run_second)):
            own_counts = counts[2 * index:2 * index + 2]
            processes.append(CONTEXT.Process(target=be_side, args=(
                body, theirs, own_counts, link, case, cpus[index % len(cpus)], times, together)))
            processes[-1].start()
        wait_for_both(processes, ours, seconds)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
        link.close()
        ours.close()
        theirs.close()
    return times.copy(), {"sleeps": int(counts[0] + counts[2]), "preemptions": int(counts[1] + counts[3])}
