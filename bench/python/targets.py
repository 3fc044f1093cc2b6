# SPDX-License-Identifier: Apache-2.0
"""What Sluice must reach from Python, and whether it did."""
import dataclasses

import figures


@dataclasses.dataclass(frozen=True)
class Target:
    id: int
    what: str
    of: str
    against: str  # a rival that must take at least so many times as long; None: at most so many nanoseconds
    bound: float

    def judge(self, results, cpus):
        """None if what it needs was not measured. On one CPU there is a ratio, and no verdict."""
        of, against = results.get(self.of), results.get(self.against)
        if not of or not of.known or (self.against and not (against and against.known)):
            return None
        ratio = figures.ratio(against, of).median if against else None
        met = ratio >= self.bound if against else of.typical <= self.bound
        verdict = {
            "id": self.id, "what": self.what, "value": of.typical, "limit": against.typical if against else None,
            "ratio": ratio, "target": self.bound, "bound": "at least" if against else "at most",
            "met": met if len(cpus) > 1 else None,
        }
        return verdict if len(cpus) > 1 else verdict | {"note": "not judged: it is meant for 2 CPUs"}


TARGETS = (
    Target(8, "(2, 1024), send, times as fast as pickle by Unix socket", "send-8k", "pickle-8k", 10),
    Target(8, "(16, 512), send, times as fast as pickle by Unix socket", "send-32k", "pickle-32k", 6),
    Target(8, "(2, 1024), spinning, payload untouched", "untouched-spin-8k", None, 3000),
    Target(9, "(256, 8192), array already in the lane", "lane-8m", None, 20000),
    Target(9, "(256, 8192), send, times as fast as pickle by Unix socket", "send-8m", "pickle-8m", 8),
)


def judge(results, cpus):
    return [verdict for verdict in (target.judge(results, cpus) for target in TARGETS) if verdict]
