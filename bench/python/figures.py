# SPDX-License-Identifier: Apache-2.0
"""From the times of round trips to figures: percentiles, medians of rounds, ratios taken within a round."""
import dataclasses

import numpy


def percentile(times, share):
    """The value that this share did not exceed, or None where not one value lies above it."""
    if len(times) * (1 - share) < 1:
        return None
    return float(numpy.quantile(times, share, method="inverted_cdf"))


@dataclasses.dataclass
class Figures:
    """What is known of a case. `rounds`: for each round the times in nanoseconds, or None where it was not run."""
    case: object
    rounds: list = dataclasses.field(default_factory=list)
    sleeps: int = 0
    preemptions: int = 0
    error: str = None    # why it failed
    skipped: str = None  # why it was not run

    def add(self, times, counts):
        self.rounds.append(times)
        self.sleeps += counts["sleeps"]
        self.preemptions += counts["preemptions"]

    @property
    def known(self):
        return bool(self.rounds) and not self.error

    @property
    def medians(self):
        return [float(numpy.median(times)) for times in self.rounds]

    @property
    def typical(self):
        """The median over the rounds of the rounds' medians."""
        return float(numpy.median(self.medians))

    @property
    def all(self):
        """p50, p99, p99.9 and the longest of all rounds together."""
        every = numpy.concatenate(self.rounds)
        return {"p50": percentile(every, 0.5) or float(every.min()), "p99": percentile(every, 0.99),
                "p999": percentile(every, 0.999), "max": float(every.max())}

    def histogram(self):
        """Pairs of an upper bound in nanoseconds and the number of values up to it and above the one before."""
        every = numpy.concatenate(self.rounds)
        steps = numpy.floor(32 * numpy.log2(numpy.maximum(every, 1))).astype(int)  # 32 to an octave
        values, counts = numpy.unique(steps, return_counts=True)
        return [[int(numpy.ceil(2 ** ((step + 1) / 32))), int(count)] for step, count in zip(values, counts)]


@dataclasses.dataclass
class Ratio:
    median: float
    low: float   # first decile of the rounds
    high: float  # last decile


def ratio(of, against):
    """How many times as long `of` takes, round by round, since two cases of a round were run within seconds."""
    ratios = sorted(one / other for one, other in zip(of.medians, against.medians))
    return Ratio(float(numpy.median(ratios)), ratios[len(ratios) // 10], ratios[len(ratios) - 1 - len(ratios) // 10])
