# SPDX-License-Identifier: Apache-2.0
"""What an exception says: which argument, what was given, what may be given, and what to do next."""

import asyncio
import errno
import os
import re

import pytest
import sluice

PRODUCER_ONLY = {"lane_bytes", "depth", "alignment", "sample_rate", "node", "device"}
CONSUMER_ONLY = {"expected_producers", "quantum_messages", "quantum_bytes"}


def kinds(option):
    if option in PRODUCER_ONLY:
        return [sluice.Producer]
    return [sluice.Consumer] if option in CONSUMER_ONLY else [sluice.Producer, sluice.Consumer]


@pytest.mark.parametrize(
    "option, value, allowed",
    [
        ("lane_bytes", 0, "at least 4096 and at most 137438953472"),
        ("lane_bytes", -1, "at least 4096 and at most 137438953472"),
        ("lane_bytes", 4095, "at least 4096"),
        ("lane_bytes", 2**37 + 1, "at most 137438953472"),
        ("lane_bytes", 2**64, "at most 137438953472"),
        ("channel_lane_bytes", 1, "at least 4096 and at most 137438953472"),
        ("depth", 1, "at least 2 and at most 1048576"),
        ("depth", 2**20 + 1, "at least 2 and at most 1048576"),
        ("depth", 2**32 + 2, "at least 2 and at most 1048576"),
        ("channel_depth", 1, "at least 2 and at most 1048576"),
        ("alignment", 63, "64, 128, 256, 512, 1024, 2048 or 4096"),
        ("alignment", 96, "64, 128, 256, 512, 1024, 2048 or 4096"),
        ("alignment", 8192, "64, 128, 256, 512, 1024, 2048 or 4096"),
        ("expected_consumers", 129, "at least 0 and at most 128"),
        ("expected_producers", 0, "at least 1"),
        ("quantum_messages", 0, "at least 1"),
        ("quantum_bytes", 0, "at least 1"),
        ("max_deliveries", 0, "1 to 63, or None"),
        ("max_deliveries", -1, "1 to 63, or None"),
        ("max_deliveries", 64, "1 to 63, or None"),
        ("max_deliveries", 2**64, "1 to 63, or None"),
        ("permissions", 0, "0o1 to 0o777"),
        ("permissions", 0o1000, "0o1 to 0o777"),
        ("group", -1, "at least 0 and at most 4294967295"),
        ("mode", "both", '"queue" or "broadcast"'),
        ("mode", 1, '"queue" or "broadcast"'),
        ("spin", -1, '"learn", a number of seconds from 0, or None'),
        ("sample_rate", -1, "messages a second from 0"),
        ("sample_rate", float("nan"), "messages a second from 0"),
        ("open_timeout", 0, "more than 0 seconds"),
        ("take_back", -0.5, "more than 0 seconds"),
        ("take_back", float("nan"), "number of seconds"),
        ("node", -1, "at least 0 and at most 1023"),
        ("node", "gpu", 'number or "cpu"'),
        ("device", "nonsense", '"0000:17:00.0"'),
        ("device", "a\0b", '"0000:17:00.0"'),
        ("directory", "a\0b", "without null characters"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(option, value, allowed):
    for kind in kinds(option):
        with pytest.raises(sluice.BadArgument) as caught:
            kind("x", **{option: value})
        assert isinstance(caught.value, ValueError) and caught.value.errno == errno.EINVAL
        assert f"{option} is {value!r};" in str(caught.value) and allowed in str(caught.value)
    assert sluice.list() == []


def test_the_least_and_the_most_that_is_allowed_is_taken():
    for options in (dict(lane_bytes=4096), dict(depth=2), dict(depth=2**20), dict(alignment=4096), dict(max_deliveries=63)):
        sluice.Producer("x", **options).close()
    for options in (dict(expected_consumers=128, mode="broadcast"), dict(allowed_uids=range(16)), dict(permissions=0o777)):
        sluice.Consumer("x", **options).close()


@pytest.mark.parametrize(
    "kind, options, told",
    [
        (sluice.Producer, {"mode": "broadcast", "take_back": 1}, "take_back is for queues"),
        (sluice.Producer, {"mode": "queue", "expected_consumers": 2}, "expected_consumers is for broadcasts"),
        (sluice.Consumer, {"mode": "queue", "start_newest": True}, "start_newest is for broadcasts"),
        (sluice.Consumer, {"expected_producers": 2}, "pass end_of_stream=True, too"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(kind, options, told):
    with pytest.raises(sluice.BadArgument, match=re.escape(told)):
        kind("x", **options)
    with pytest.raises(sluice.NotFound):
        sluice.stat("x")


def test_too_many_uids():
    with pytest.raises(sluice.BadArgument, match="allowed_uids has 17 uids; it has at most 16"):
        sluice.Producer("x", allowed_uids=range(17))
    with pytest.raises(sluice.BadArgument, match=r"allowed_uids\[1\] is -1; .*at least 0"):
        sluice.Producer("x", allowed_uids=[0, -1])


def test_memory_nodes_and_devices_that_are_not_there():
    with pytest.raises(sluice.BadArgument, match="node is 1023, .*/sys/devices/system/node") as caught:
        sluice.Producer("x", node=1023)
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(sluice.BadArgument, match="device is 'ffff:ff:1f.7', .*lspci") as caught:
        sluice.Producer("x", device="ffff:ff:1f.7")
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(sluice.BadArgument, match="device .* and node .* one of them"):
        sluice.Producer("x", device="ffff:ff:1f.7", node=0)


@pytest.mark.parametrize(
    "option, value, wanted",
    [
        ("lane_bytes", 1.5, "a whole number, not float"),
        ("depth", "2", "a whole number, not str"),
        ("alignment", b"64", "a whole number, not bytes"),
        ("max_deliveries", "5", "a whole number, not str"),
        ("expected_producers", 1.0, "a whole number, not float"),
        ("quantum_bytes", "1", "a whole number, not str"),
        ("permissions", "0600", "a whole number, not str"),
        ("group", "video", "a whole number, not str"),
        ("allowed_uids", 5, "a sequence of uids, not int"),
        ("allowed_uids[0]", ["root"], "a whole number, not str"),
        ("sample_rate", "all", "messages a second .*, not str"),
        ("spin", "fast", "'fast'"),
        ("spin", [], "not list"),
        ("open_timeout", "soon", "a number of seconds.*, not str"),
        ("take_back", [], "a number of seconds.*, not list"),
        ("node", 1.5, "a whole number, not float"),
        ("device", 5, "a PCI address, .*, not int"),
        ("directory", 5, "a str, bytes, os.PathLike or None, not int"),
    ],
)
def test_an_option_of_a_wrong_type_is_named(option, value, wanted):
    for kind in kinds(option):
        with pytest.raises(TypeError, match=f"^{re.escape(option)} is .*{wanted}"):
            kind("x", **{option.split("[")[0]: value})


def test_an_argument_of_a_wrong_type_is_named():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        for argument, call in (
            ("name", lambda: sluice.Producer(5)),
            ("name", lambda: sluice.Consumer(b"x")),
            ("name", lambda: sluice.stat(5)),
            ("name", lambda: sluice.remove(None)),
            ("directory", lambda: sluice.list(5)),
            ("directory", lambda: sluice.stat("x", 5)),
            ("timeout", lambda: out.reserve(x=(1, "u1"), timeout="1")),
            ("timeout", lambda: out.send({"x": b"1"}, timeout="1")),
            ("timeout", lambda: inp.receive("1")),
            ("timeout", lambda: inp.recv(timeout="1")),
            ("timeout", lambda: inp.wait_producers(timeout="1")),
            ("count", lambda: inp.wait_producers("1")),
            ("count", lambda: out.wait_consumers(1.5)),
            ("max_messages", lambda: inp.receive_batch(max_messages="1")),
            ("max_bytes", lambda: inp.receive_batch(max_bytes="1")),
            ("linger", lambda: inp.receive_batch(linger="1")),
            ("linger", lambda: inp.receive_batch(linger=None)),
            ("timeout", lambda: inp.receive_batch(timeout="1")),
            ("correlation_id", lambda: out.send({"x": b"1"}, correlation_id="1")),
            ("deadline", lambda: out.send({"x": b"1"}, deadline="1")),
            ("traceparent", lambda: out.send({"x": b"1"}, traceparent=5)),
        ):
            with pytest.raises(TypeError, match=f"^{argument} is .*, not "):
                call()
        for argument, call in (
            ("timeout is nan", lambda: inp.receive(float("nan"))),
            ("count is -1;", lambda: inp.wait_producers(-1)),
            ("count is 129;", lambda: out.wait_consumers(129)),
            ("max_messages is 0; .* at least 1 and at most 1048576", lambda: inp.receive_batch(max_messages=0)),
            ("linger is -1;", lambda: inp.receive_batch(linger=-1)),
            ("deadline is -1;", lambda: out.send({"x": b"1"}, deadline=-1)),
            ("traceparent is 'x';", lambda: out.send({"x": b"1"}, traceparent="x")),
        ):
            with pytest.raises(sluice.BadArgument, match=argument):
                call()
        for argument, call in (
            ("max_bytes is -1;", lambda: inp.receive_batch(max_bytes=-1)),
            ("correlation_id is 18446744073709551616;", lambda: out.send({"x": b"1"}, correlation_id=2**64)),
        ):
            with pytest.raises(OverflowError, match=argument):
                call()


@pytest.mark.parametrize("name", ["", ".x", "a/b", "x" * 64, "a\0b", "ä", "\udcff", "a b"])
def test_a_bad_name_is_told_with_what_is_allowed(name):
    calls = [sluice.Producer, sluice.Consumer, sluice.stat, sluice.remove, sluice.gc]
    for call in calls:
        with pytest.raises(sluice.BadArgument) as caught:
            call(name)
        text = str(caught.value)
        assert f"name is {name!r};" in text and "1 to 63 " in text
        assert ("directory=" in text) == ("/" in name)


def test_a_directory_that_is_not_there_is_named(directory, monkeypatch):
    nowhere = directory + "/nowhere"
    calls = [sluice.Producer, sluice.Consumer, sluice.stat, sluice.remove, sluice.gc]
    for call in [*(lambda call=call: call("x", directory=nowhere) for call in calls), lambda: sluice.list(nowhere)]:
        with pytest.raises(FileNotFoundError, match=re.escape(f"there is no directory {nowhere} (directory=): make it")):
            call()
    monkeypatch.setenv("SLUICE_DIR", nowhere)
    for call in [*(lambda call=call: call("x") for call in calls), sluice.list]:
        with pytest.raises(sluice.NotFound, match=re.escape(f"there is no directory {nowhere} (SLUICE_DIR): make it")):
            call()


def test_a_directory_without_shared_memory_is_named(directory):
    calls = [sluice.Producer, sluice.Consumer, sluice.stat, sluice.remove, sluice.gc]
    for call in calls:
        with pytest.raises(
            sluice.BadArgument, match=r"/proc \(directory=\) is on no tmpfs or hugetlbfs: .*/dev/shm"
        ) as caught:
            call("x", directory="/proc")
        assert caught.value.errno == errno.ENOTSUP
    file = directory + "/file"
    with open(file, "w"):
        for call in calls:
            with pytest.raises(sluice.BadArgument, match=re.escape(f"{file} (directory=) is no directory: ")) as caught:
                call("x", directory=file)
            assert caught.value.errno == errno.ENOTDIR
    os.unlink(file)


def test_a_channel_that_is_not_there_is_named(directory):
    for call in (sluice.stat, sluice.remove, sluice.gc):
        with pytest.raises(FileNotFoundError) as caught:
            call("nobody")
        text = str(caught.value)
        assert f"no channel 'nobody' in {directory} (SLUICE_DIR)" in text and "see sluice.list() for" in text
        with pytest.raises(sluice.NotFound) as caught:
            call("nobody", directory)
        text = str(caught.value)
        assert f"in {directory} (directory=)" in text and f"see sluice.list({directory!r}) for" in text
    with pytest.raises(sluice.NotFound, match=f"no channel 'nobody' in {directory}: .*create=False"):
        sluice.Consumer("nobody", create=False)


def test_lanes_that_lost_their_channel_are_told_of(directory):
    with sluice.Producer("x") as out, sluice.Consumer("x"):
        out.send({"x": b"1"})
        os.unlink(directory + "/sluice.x")
        with pytest.raises(
            sluice.NotFound, match=re.escape("only lanes are left of channel 'x'") + r".*sluice\.remove\('x'\)"
        ):
            sluice.stat("x")
    if sluice.list():
        sluice.remove("x")


def test_a_time_out_points_to_who_is_slow(directory):
    with sluice.Producer("x", lane_bytes=4096) as out, sluice.Consumer("x", directory=directory) as inp:
        with pytest.raises(sluice.Timeout, match=re.escape(f"see sluice.stat('x', {directory!r}) for")):
            inp.receive(0.001)
        with pytest.raises(sluice.Timeout, match=re.escape(f"see sluice.stat('x', {directory!r}) for")):
            inp.receive_batch(timeout=0.001)
        with pytest.raises(sluice.Timeout, match=r"there were fewer than 2 producers .*sluice\.stat\('x', "):
            inp.wait_producers(2, timeout=0.001)
        with pytest.raises(sluice.Timeout, match=r"there were fewer than 2 consumers within the time"):
            out.wait_consumers(2, timeout=0)
        with pytest.raises(sluice.Timeout, match=r"sluice\.stat\('x'\)"):
            while True:
                out.send({"x": bytes(1000)}, timeout=0.001)
    with sluice.Producer("y") as out, pytest.raises(sluice.Timeout, match="there were no consumers within the time"):
        out.wait_consumers(timeout=0.001)
    sluice.gc("x", drop=True)


def test_views_are_counted_in_words(directory):
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        for _ in range(2):
            out.send({"x": b"1"})
        first, second = inp.receive_batch()
        views = [memoryview(first["x"])]
        with pytest.raises(BufferError, match=r"^1 view \(.*\) of this message is alive .*: del it first"):
            first.release()
        with pytest.raises(BufferError, match=r"^1 view \(.*\) into 1 message of this Consumer is alive: del it first"):
            inp.close()
        views += [memoryview(first["x"]), memoryview(second["x"])]
        with pytest.raises(BufferError, match=r"^2 views \(.*\) of this message are alive .*: del them first"):
            first.release()
        with pytest.raises(BufferError, match=r"^3 views \(.*\) into 2 messages of this Consumer are alive: del them"):
            inp.close()
        del views


def test_an_unknown_tensor_is_told_with_those_that_there_are():
    with sluice.Producer("x") as out, sluice.Consumer("x") as inp:
        with out.reserve(a=(1, "u1"), b=(1, "u1")) as m:
            with pytest.raises(KeyError, match=r"no tensor 'y' in the message: it has \['a', 'b'\]"):
                m["y"] = b"1"
            with pytest.raises(KeyError, match=r"no tensor 'y' in the message: it has \['a', 'b'\]"):
                m.shrink("y", 0)
            with pytest.raises(TypeError, match="^first is a whole number, not str"):
                m.shrink("a", "1")
        m = inp.receive(0)
        with pytest.raises(IndexError, match="no tensor 2 in the message: it has 2 tensors"):
            m[2]
        with pytest.raises(IndexError, match=f"no tensor {2**70} "):
            m[2**70]
        with pytest.raises(TypeError, match="by its name or its place, a whole number, not by float"):
            m[1.0]
        assert "a" in m and -2 in m and "y" not in m and 2 not in m and -3 not in m and 2**70 not in m
        with pytest.raises(TypeError, match="not by float"):
            assert 1.0 in m
        out.send({"x": b"1"})
        with pytest.raises(IndexError, match="it has 1 tensor$"):
            inp.receive(0)[1]


def test_what_cannot_be_reserved_names_the_tensor():
    with sluice.Producer("x") as out:
        for error, text, spec in (
            (TypeError, "tensor 'b': a dimension is a whole number, not str", (("a",), "u1")),
            (TypeError, "tensor 'b': a shape is a whole number or a sequence of them, not float", (1.5, "u1")),
            (ValueError, "tensor 'b': the dimension -1 is negative; it is 0 or more", (-1, "u1")),
            (OverflowError, f"tensor 'b': the dimension {2**63} is 2..63 or more", (2**63, "u1")),
            (ValueError, "tensor 'b' has more than 8 dimensions: reshape it", ((1,) * 9, "u1")),
            (ValueError, "tensor 'b' would have 2..63 bytes or more", ((2**31, 2**31), "i4")),
        ):
            with pytest.raises(error, match=text):
                out.reserve(a=(1, "u1"), b=spec)
        with pytest.raises(TypeError, match="an object of type int cannot be sent as a tensor: pass an array"):
            out.send({"x": 5})


def test_an_asyncio_task_is_told_of_who_is_slow():
    async def wait(inp):
        await inp.receive_async(timeout=0.001)

    with (
        sluice.Consumer("x") as inp,
        pytest.raises(sluice.Timeout, match=r"see sluice\.stat\('x'\) for who is there and who is slow"),
    ):
        asyncio.run(wait(inp))


@pytest.mark.parametrize(
    "options, error, text",
    [
        (dict(lane_bytes=0), ValueError, "lane_bytes is 0; it is a number of bytes from 1 to 64 GiB"),
        (dict(lane_bytes="1"), TypeError, "lane_bytes is a whole number, not str"),
        (dict(maxsize="1"), TypeError, "maxsize is a whole number, not str"),
        (dict(maxsize=None), TypeError, "maxsize is a whole number, not NoneType"),
        (dict(max_deliveries=0), ValueError, "max_deliveries is 0; it is 1 to 63, or None"),
        (dict(max_deliveries=64), ValueError, "max_deliveries is 64; it is 1 to 63, or None"),
        (dict(max_deliveries="1"), TypeError, "max_deliveries is a whole number, not str"),
        (dict(directory=5), TypeError, "directory is a str, bytes, os.PathLike or None, not int"),
        (dict(directory="/nowhere"), sluice.NotFound, r"there is no directory /nowhere \(directory=\)"),
        (dict(directory="/proc"), sluice.BadArgument, r"/proc \(directory=\) is on no tmpfs or hugetlbfs"),
    ],
)
def test_a_queue_says_at_once_what_it_cannot_have(options, error, text):
    with pytest.raises(error, match=text):
        sluice.Queue(**options)


def test_a_queue_says_how_full_it_is_and_what_a_time_out_is():
    queue = sluice.Queue(1)
    queue.put(1)
    with pytest.raises(sluice.Full, match="the queue holds its maxsize, 1 item: "):
        queue.put(2, timeout=0.001)
    for call in (lambda: queue.put(2, timeout="1"), lambda: queue.get(timeout="1")):
        with pytest.raises(TypeError, match="^timeout is a number of seconds, or None, not str"):
            call()
    queue.get()
    with pytest.raises(sluice.Empty, match="no item came within the time: call again"):
        queue.get(timeout=0.001)
    queue.close()
