# SPDX-License-Identifier: Apache-2.0
"""What is measured, and with what each case is compared."""
import dataclasses

SHAPES = {"8k": (2, 1024), "32k": (16, 512), "8m": (256, 8192)}
LARGE = "8m"

# Rivals: of which module, what, and the package it needs beside Python's own.
RIVALS = {
    "pickle": ("link_pickle", "pickle, Unix socket", None),
    "apart": ("link_pickle_apart", "pickle 5 out of band, Unix socket", None),
    "pipe": ("link_pipe", "multiprocessing.Pipe", None),
    "queue": ("link_queue", "multiprocessing.Queue", None),
    "locks": ("link_locks", "shared_memory and locks", None),
    "zeromq": ("link_zeromq", "ZeroMQ (pyzmq)", "zmq"),
}
SPINNING = ("pickle", "pipe", "locks")  # rivals that can be asked without blocking, and have no threads of their own


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    what: str
    link: str             # module
    waits: str            # "block": as by default; "spin", "sleep"
    size: str             # key of SHAPES
    how: str = "send"     # Sluice: "send" a private array, "fill" reserved memory from it, or leave that "untouched"
    rival: str = None
    against: str = None   # a case; rivals: how many times as long they take, Sluice: as this

    @property
    def shape(self):
        return SHAPES[self.size]

    @property
    def bytes(self):
        return 4 * self.shape[0] * self.shape[1]

    @property
    def untouched(self):
        return self.how == "untouched"

    @property
    def least_warm_up(self):
        return 12 if self.size == LARGE else 200


def sluice_cases(size):
    def case(name, what, waits, how="send", against=None):
        return Case(f"{name}-{size}", what, "link_sluice", waits, size, how, against=against and f"{against}-{size}")
    yield case("send", "Sluice, send", "block")
    yield case("fill", "Sluice, filled in place", "block", "fill", "send")
    if size == LARGE:
        yield case("lane", "Sluice, already in the lane", "block", "untouched")
    yield Case(f"swap-{size}", "sluice.Queue", "link_sluice_queue", "block", size, against=f"send-{size}")
    yield case("send-spin", "Sluice, send", "spin")
    yield case("untouched-spin", "Sluice, untouched", "spin", "untouched")
    yield case("send-sleep", "Sluice, send", "sleep")


def rival_cases(size):
    for rival, (link, what, _) in RIVALS.items():
        yield Case(f"{rival}-{size}", what, link, "sleep", size, rival=rival, against=f"send-{size}")
    for rival in SPINNING if size != LARGE else ():
        link, what, _ = RIVALS[rival]
        yield Case(f"{rival}-spin-{size}", what, link, "spin", size, rival=rival, against=f"send-spin-{size}")


CASES = {case.name: case for size in SHAPES for case in (*sluice_cases(size), *rival_cases(size))}
