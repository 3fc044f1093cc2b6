# SPDX-License-Identifier: Apache-2.0
"""What a serving process does without Sluice: pickle through a Unix socket, then torch.from_numpy(...).cuda().

Usage: rival_pickle.py [--quick]. Two processes; the time is that of one message from the sender's dumps to the device, as
the receiver asks for it. Exit status 77: no numpy, no torch, or no device for it.
"""

import os
import pickle
import socket
import struct
import sys
import time

KIB = 1024
SIZES = [8 * KIB, 32 * KIB, 256 * KIB, 1024 * KIB, 8192 * KIB, 65536 * KIB]


def read_all(source, count):
    parts = bytearray(count)
    view = memoryview(parts)
    while count:
        got = source.recv_into(view[len(view) - count :], count)
        if not got:
            raise EOFError
        count -= got
    return parts


def send(end):
    import numpy

    arrays = {size: numpy.ones(size // 4, numpy.int32) for size in SIZES}
    while True:
        try:
            (size,) = struct.unpack("<Q", read_all(end, 8))
        except EOFError:
            return
        data = pickle.dumps(arrays[size], protocol=pickle.HIGHEST_PROTOCOL)
        end.sendall(struct.pack("<Q", len(data)) + data)


def receive(end, torch, size):
    began = time.perf_counter_ns()
    end.sendall(struct.pack("<Q", size))
    (length,) = struct.unpack("<Q", read_all(end, 8))
    on_device = torch.from_numpy(pickle.loads(read_all(end, length))).cuda()
    torch.cuda.synchronize()
    took = time.perf_counter_ns() - began
    assert on_device.numel() * 4 == size
    return took


def main():
    quick = "--quick" in sys.argv[1:]
    ours, theirs = socket.socketpair()
    # Before torch starts CUDA, which does not survive a fork.
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            send(theirs)
        except ImportError:
            os._exit(77)
        os._exit(0)
    theirs.close()
    try:
        import torch

        if not torch.cuda.is_available():
            raise ImportError("torch finds no device")
    except ImportError as why:
        print(f"  left out, because {why}")
        ours.close()
        os.waitpid(child, 0)
        return 77
    print("\nPickle through a Unix socket, then torch.from_numpy(...).cuda()")
    print(f"{'':44s} {'p50 us':>10s} {'p99 us':>10s} {'GB/s':>10s}")
    for size in SIZES[:5] if quick else SIZES:
        rounds = max(20, min(300, 1_000_000_000 // (size + 65536)))
        times = [receive(ours, torch, size) for _ in range(3 + rounds // (8 if quick else 1))]
        times = sorted(times[3:])  # the first few warm up
        p50, p99 = times[len(times) // 2], times[(len(times) - 1) * 99 // 100]
        print(f"  {size // KIB} KiB".ljust(44) + f" {p50 / 1e3:10.1f} {p99 / 1e3:10.1f} {size / p50:10.1f}")
    ours.close()
    os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
