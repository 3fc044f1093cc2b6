# SPDX-License-Identifier: Apache-2.0
"""asyncio: no threads, nothing lost when a task is cancelled, several handles in one loop."""

import asyncio
import gc
import os
import threading

import numpy
import pytest
import sluice


def run(main):
    threads = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == threads
    gc.collect()  # the loop, and its poller with it


def test_iterating_and_reserving():
    async def main():
        with sluice.Consumer("x", end_of_stream=True) as inp, sluice.Producer("x", lane_bytes=1 << 16) as out:

            async def consume():
                return [int(m["x"][0]) async for m in inp]

            task = asyncio.create_task(consume())
            for i in range(300):
                with await out.reserve_async(x=((1000,), "int32")) as m:
                    m["x"][:] = i
            for i in range(300, 600):
                await out.send_async({"x": numpy.full(1000, i)}, correlation_id=i)
            out.close()
            assert await task == list(range(600))

    run(main)


def test_other_tasks_run_while_one_waits_and_a_message_wakes_it():
    async def main():
        with sluice.Consumer("x") as inp, sluice.Producer("x") as out:
            task = asyncio.create_task(inp.receive_async())
            await asyncio.sleep(0.01)
            assert not task.done()
            out.send({"x": b"1"})
            assert bytes((await task)["x"]) == b"1"

    run(main)


def test_a_cancelled_task_has_taken_nothing():
    async def main():
        with sluice.Consumer("x") as inp, sluice.Producer("x", lane_bytes=8192) as out:
            for wake in (False, True):
                task = asyncio.create_task(inp.receive_async())
                await asyncio.sleep(0)
                if wake:
                    out.send({"x": bytes(4096)})
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert len((await inp.receive_async())["x"]) == 4096
            for _ in range(2):
                out.send({"x": bytes(4096)})
            task = asyncio.create_task(out.reserve_async(x=(4096, "u1")))
            await asyncio.sleep(0)
            inp.receive().release()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with await out.reserve_async(x=(4096, "u1")):
                pass
            assert len(await inp.receive_batch_async()) == 2

    run(main)


def test_time_outs():
    async def main():
        with sluice.Consumer("x") as inp:
            with pytest.raises(sluice.Empty):
                await inp.receive_async(0)
            with pytest.raises(sluice.Timeout):
                await inp.receive_async(timeout=0.01)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(inp.receive_async(), 0.01)
            with pytest.raises(sluice.Timeout):
                await inp.receive_batch_async(timeout=0.01)

    run(main)


@pytest.mark.parametrize("supply", ["messages", "room"])
def test_other_tasks_run_while_there_is_always_more(supply):
    async def main():
        with sluice.Consumer("x") as inp, sluice.Producer("x") as out:
            ran = asyncio.Event()

            async def other():
                for _ in range(3):
                    await asyncio.sleep(0)
                ran.set()

            async def busy():
                while not ran.is_set():
                    if supply == "messages":
                        out.send({"x": b"1"})
                        (await inp.receive_async()).release()
                    else:
                        await out.send_async({"x": b"1"})
                        inp.receive(0).release()

            await asyncio.gather(busy(), other())
            task = asyncio.ensure_future(busy())
            ran.clear()
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            taken = inp.receive_batch(timeout=0) if supply == "messages" else []
            assert len(taken) == (supply == "messages")  # it was cancelled before it took the next

    run(main)


def test_several_consumers_on_one_loop():
    async def main():
        names = [f"x{i}" for i in range(5)]
        inputs = [sluice.Consumer(name, end_of_stream=True) for name in names]
        outputs = [sluice.Producer(name) for name in names]

        async def consume(inp):
            return [bytes(m["x"]) async for m in inp]

        descriptors = len(os.listdir("/proc/self/fd"))
        tasks = [asyncio.create_task(consume(inp)) for inp in inputs]
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # one poller: an eventfd, perhaps a ring
        for i in range(20):
            for out in outputs:
                out.send({"x": b"%d" % i})
                await asyncio.sleep(0)
        for out in outputs:
            out.close()
        for got in await asyncio.gather(*tasks):
            assert got == [b"%d" % i for i in range(20)]
        for inp in inputs:
            inp.close()

    run(main)


def test_two_tasks_with_one_consumer_and_a_call_that_blocks():
    async def main():
        with sluice.Consumer("x") as inp:
            task = asyncio.create_task(inp.receive_async())
            await asyncio.sleep(0)
            with pytest.raises(sluice.Busy):
                await inp.receive_async()
            with pytest.raises(sluice.Busy):
                inp.receive(1)
            with pytest.raises(sluice.Empty):
                inp.receive(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(sluice.Timeout):
                inp.receive(0.01)

    run(main)


def test_closing_under_a_task_that_waits():
    async def main():
        inp = sluice.Consumer("x")
        task = asyncio.create_task(inp.receive_async())
        await asyncio.sleep(0)
        inp.close()
        with pytest.raises(sluice.Closed):
            await asyncio.wait_for(task, 10)

    run(main)


def test_errors_reach_the_task():
    async def main():
        with sluice.Consumer("x", end_of_stream=True) as inp:
            task = asyncio.create_task(inp.receive_async())
            with sluice.Producer("x"):
                await asyncio.sleep(0.01)
            with pytest.raises(sluice.EndOfStream):
                await task
        with sluice.Producer("x") as out:
            with pytest.raises(sluice.TooLarge):
                await out.reserve_async(x=(1 << 30, "u1"))
            with pytest.raises(TypeError):
                await out.reserve_async({"x": 5})

    run(main)


def test_loops_one_after_another():
    with sluice.Consumer("x") as inp, sluice.Producer("x") as out:

        async def main():
            task = asyncio.create_task(inp.receive_async())
            await asyncio.sleep(0)
            out.send({"x": b"1"})
            (await task).release()

        for _ in range(3):
            run(main)


def test_a_loop_that_ends_while_a_task_waits():
    with sluice.Consumer("x") as inp, sluice.Producer("x") as out:

        async def main():
            asyncio.ensure_future(inp.receive_async())
            await asyncio.sleep(0)

        run(main)
        out.send({"x": b"1"})
        inp.receive(timeout=10).release()
