# SPDX-License-Identifier: Apache-2.0
"""Several processes: every way to start them, deaths, forked children, the interpreter's end."""

import multiprocessing
import os
import signal

import numpy
import pytest
import sluice
from support import until

COUNT = 200


def produce(name, worker):
    with sluice.Producer(name, lane_bytes=1 << 16) as out:
        for i in range(COUNT):
            out.send({"x": numpy.full(100, i, "int32"), "worker": numpy.int64(worker)})


def relay(source, target):
    with sluice.Consumer(source, end_of_stream=True, expected_producers=2) as inp, sluice.Producer(target) as out:
        for m in inp:
            with m, out.reserve(x=((100,), "int32"), worker=((), "int64")) as r:
                r["x"] = m["x"]
                r["worker"] = m["worker"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_two_producers_and_a_relay(method):
    context = multiprocessing.get_context(method)
    with sluice.Consumer("b", end_of_stream=True) as inp:
        relaying = context.Process(target=relay, args=("a", "b"))
        producing = [context.Process(target=produce, args=("a", worker)) for worker in (0, 1)]
        for process in [relaying, *producing]:
            process.start()
        seen = {0: [], 1: []}
        for m in inp:
            with m:
                assert (m["x"] == m["x"][0]).all()
                seen[int(m["worker"])].append(int(m["x"][0]))
        assert seen == {0: list(range(COUNT)), 1: list(range(COUNT))}
        for process in [relaying, *producing]:
            process.join()
            assert process.exitcode == 0
            process.close()


def in_child(function):
    """Runs it in a forked child and returns the child's exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_childs_calls_raise_and_its_views_stay_readable():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send({"x": numpy.arange(1000)})
        m = inp.receive()
        views, tensor = [m["x"].numpy()], m["x"]
        r = out.reserve(x=(1, "u1"))

        def child():
            assert views[0].sum() == tensor.sum() == 499500 and m["x"][7] == 7
            for call in (
                lambda: out.send({"x": b"1"}),
                lambda: out.reserve(x=(1, "u1")),
                out.wait_consumers,
                inp.receive,
                lambda: inp.receive(0),
                lambda: next(inp),
                inp.receive_batch,
                inp.wait_producers,
                lambda: inp.geometry,
                r.publish,
            ):
                with pytest.raises(sluice.Forked):
                    call()
            with pytest.raises(BufferError):
                m.release()
            with sluice.Producer("mine"):
                pass

        assert in_child(child) == 0
        views.clear()
        r.publish()
        m.release()
        assert inp.receive(0)["x"].shape == (1,)


def test_a_forked_child_may_drop_and_close_everything():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        out.send({"x": b"1"})
        things = [inp.receive(), out.reserve(x=(1, "u1"))]

        def child():
            things.clear()
            out.close()
            inp.close()

        assert in_child(child) == 0
        things.clear()
        out.send({"x": b"2"})
        assert bytes(inp.receive(0)["x"]) == b"2"


def test_a_child_that_was_forked_while_a_thread_was_in_a_call():
    import threading

    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        thread = threading.Thread(target=lambda: inp.receive().release())
        thread.start()
        until(lambda: any(member["asleep"] for member in sluice.stat("x")["members"]))

        def child():
            with pytest.raises(sluice.Forked):
                inp.receive(0)

        assert in_child(child) == 0
        out.send({"x": b"1"})
        thread.join()


def test_what_a_killed_consumer_held_comes_again(child):
    with sluice.Producer("x") as out:
        out.send({"x": b"1"}, correlation_id=5)
        victim = child('inp = sluice.Consumer("x"); m = inp.receive(); print("has it", flush=True); sys.stdin.read()')
        assert victim.line() == "has it"
        victim.process.kill()
        victim.process.wait()
        with sluice.Consumer("x") as inp:
            m = inp.receive()
            assert (m.correlation_id, m.deliveries, bytes(m["x"])) == (5, 2, b"1")


def test_a_killed_producers_messages_arrive(child):
    with sluice.Consumer("x", report_gone=True) as inp:
        victim = child(
            'out = sluice.Producer("x"); out.send({"x": b"1"}); r = out.reserve(x=(1, "u1"));'
            'print("sent", flush=True); sys.stdin.read()'
        )
        assert victim.line() == "sent"
        victim.process.kill()
        victim.process.wait()
        assert bytes(inp.recv()["x"]) == b"1"
        with pytest.raises(sluice.PeerDied):
            inp.receive()


@pytest.mark.parametrize(
    "view", ["m", "m['x']", "memoryview(m['x'])", "m['x'].__dlpack__()", "__import__('numpy').asarray(m['x'])"]
)
def test_the_interpreter_ends_with_messages_held(child, view):
    code = f"""
out = sluice.Producer("x")
inp = sluice.Consumer("x", end_of_stream=True)
out.send({{"x": b"1"}})
m = inp.receive()
view = {view}
r = out.reserve(x=(1, "u1"))
cycle = [out, inp, m, view]
cycle.append(cycle)
"""
    assert child(code).finish() == ""
    # It closed its producer, and what it held is done with. The channel is gone, or nothing is left in it.
    with sluice.Consumer("x", end_of_stream=True) as inp, pytest.raises((sluice.Empty, sluice.EndOfStream)):
        inp.receive(0)


def test_an_exception_that_nobody_catches_gives_back(child):
    code = """
out = sluice.Producer("x")
out.send({"x": b"1"})
def work():
    inp = sluice.Consumer("x")
    m = inp.receive()
    raise RuntimeError
work()
"""
    child(code).finish(1)
    with sluice.Consumer("x") as inp:
        assert bytes(inp.recv(0)["x"]) == b"1"


@pytest.mark.parametrize("code", ["inp.receive()", "next(inp)"])
def test_the_interpreter_ends_while_a_daemon_thread_waits(child, code):
    code = f"""
import threading
inp = sluice.Consumer("x")
threading.Thread(target=lambda: {code}, daemon=True).start()
while not any(member["asleep"] for member in sluice.stat("x")["members"]):
    pass
"""
    child(code).finish()
    sluice.gc("x")


def test_a_second_interpreter_of_a_process_is_refused(child):
    code = """
try:
    import _xxsubinterpreters as interpreters
    other = interpreters.create()
    try:
        interpreters.run_string(other, "import sluice._sluice")
        print("loaded")
    except Exception as error:
        print("refused")
    interpreters.destroy(other)
except ImportError:
    print("refused")
"""
    assert "refused" in child(code).finish()


BLOCKING = {
    "receive": "inp.receive()",
    "next": "next(inp)",
    "for": "[m for m in inp]",
    "recv": "inp.recv()",
    "receive_batch": "inp.receive_batch()",
    "with a time-out": "inp.receive(1000)",
    "wait_producers": "inp.wait_producers(5)",
    "wait_consumers": "out.wait_consumers(5)",
    "reserve": "out.reserve(x=(4096, 'u1'))",
    "send": "out.send({'x': bytes(4096)})",
}


@pytest.mark.parametrize("spin", ["'learn'", "0", "None"])
@pytest.mark.parametrize("call", BLOCKING)
def test_keyboard_interrupt_ends_every_call_that_waits(child, call, spin):
    code = f"""
out = sluice.Producer("x", lane_bytes=8192, spin={spin})
inp = sluice.Consumer("x", spin={spin})
if {call!r} in ("reserve", "send"):
    out.send({{"x": bytes(4096)}})
    out.send({{"x": bytes(4096)}})
try:
    print("ready", flush=True)
    {BLOCKING[call]}
except KeyboardInterrupt:
    pass
else:
    sys.exit("not interrupted")
# And all goes on.
inp.receive_batch(max_messages=2, timeout=0) if {call!r} in ("reserve", "send") else None
out.send({{"x": b"1"}})
inp.receive(0).release()
out.close()
inp.close()
"""
    waiting = child(code)
    assert waiting.line() == "ready"
    if spin != "None" and not call.startswith("wait_"):
        until(lambda: any(member["asleep"] for member in sluice.stat("x")["members"]))
    waiting.process.send_signal(signal.SIGINT)
    waiting.finish()


@pytest.mark.parametrize("spin", ["'learn'", "0", "None"])
@pytest.mark.parametrize("after", ["receives", "batches", "leaves", "leaves by the exception", "closes"])
def test_keyboard_interrupt_ends_lingering_and_nothing_is_lost(child, spin, after):
    code = f"""
import threading
def interrupt():
    while not told.wait(0.01):  # once and again: a signal may come before the call
        os.kill(os.getpid(), 2)
told = threading.Event()
out = sluice.Producer("x")
inp = sluice.Consumer("x", spin={spin})
out.send({{"x": b"1"}})
out.send({{"x": b"2"}})
try:
    with inp:
        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            batch = inp.receive_batch(linger=1000)
        except KeyboardInterrupt:
            while True:
                try:
                    told.set(), thread.join()
                    break
                except KeyboardInterrupt:
                    pass
            if {after!r} == "receives":
                assert [bytes(inp.receive(0)["x"]), bytes(inp.recv(0)["x"])] == [b"1", b"2"]
            elif {after!r} == "batches":
                out.send({{"x": b"3"}})
                assert len(inp.receive_batch(max_messages=1)) == 1
                assert [bytes(m["x"]) for m in inp.receive_batch(linger=0.001)] == [b"2", b"3"]
            elif {after!r} == "leaves by the exception":
                raise
            elif {after!r} == "closes":
                inp.close()
except KeyboardInterrupt:
    pass
other = sluice.Consumer("x")
if "leaves" in {after!r} or "closes" in {after!r}:
    assert [bytes(other.recv(0)["x"]) for _ in range(2)] == [b"1", b"2"]
try:
    other.recv(0)
except sluice.Empty:
    print("well")
"""
    assert child(code).finish() == "well\n"


def test_a_handler_that_closes_a_consumer_which_lingers(child):
    code = """
import signal
out = sluice.Producer("x")
inp = sluice.Consumer("x", spin=None)
out.send({"x": b"1"})
signal.signal(signal.SIGALRM, lambda *_: inp.close())
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    inp.receive_batch(linger=1000)
except sluice.Closed:
    print(bytes(sluice.Consumer("x").recv(0)["x"]))
"""
    assert child(code).finish() == "b'1'\n"


def test_what_an_interrupt_left_is_the_parents_after_a_fork(child):
    code = """
import signal
out = sluice.Producer("x")
inp = sluice.Consumer("x")
out.send({"x": b"1"})
def handler(*_):
    raise RuntimeError
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    inp.receive_batch(linger=1000)
except RuntimeError:
    pass
pid = os.fork()
for call in inp.receive, inp.receive_batch, inp.recv:
    if pid == 0:
        try:
            call(timeout=0)
        except sluice.Forked:
            continue
        os._exit(1)
if pid == 0:
    os._exit(0)
print(os.waitpid(pid, 0)[1], bytes(inp.recv(0)["x"]))
"""
    assert child(code).finish() == "0 b'1'\n"
