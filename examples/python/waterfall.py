# SPDX-License-Identifier: Apache-2.0
"""Where the time of batches goes, stage by stage: percentiles, shares and the table of them."""
import numpy

# Each ends with a stamp and begins with the one before. "transport wait" is from when the batch is ready to leave until
# the other side has all of it: calls of the kernel, waking up, waiting behind other batches.
STAGES = ("tokenize", "fill", "encode", "transport wait", "decode", "model", "let go")
TRANSPORT = ("encode", "transport wait", "decode", "let go")


class Waterfall:
    def __init__(self, stamps):
        """`stamps`: for each batch len(STAGES) + 1 times in nanoseconds: each stage's begin, and the last's end."""
        stamps = numpy.asarray(stamps)
        self._stages = dict(zip(STAGES, numpy.diff(stamps).T))
        if any((took < 0).any() for took in self._stages.values()):
            raise ValueError("the stamps of a batch run backwards")
        self._total = stamps[:, -1] - stamps[:, 0]
        self.count = len(stamps)

    def stage(self, name):
        return self._total if name == "total" else self._stages[name]

    def percentile(self, name, percent):
        """Nanoseconds that so many percent of the batches did not exceed."""
        return numpy.percentile(self.stage(name), percent, method="inverted_cdf")

    def share(self, *names):
        """Of the time of all batches together."""
        return sum(self.stage(name).sum() for name in names) / self._total.sum()

    def transport(self, percent):
        """Percentile of what a batch spent in all the transport's stages."""
        return numpy.percentile(sum(self._stages[name] for name in TRANSPORT), percent, method="inverted_cdf")


def duration(nanoseconds):
    """Three figures that count, whatever the size."""
    value, unit = nanoseconds / 1000, "us"
    for larger in ("ms", "s"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def table(waterfalls):
    """Lines; `waterfalls` by the name of their way, beside each other."""
    lines = ["  " + " " * 15 + "".join(f"   {name:<37}" for name in waterfalls).rstrip(),
             "  stage          " + len(waterfalls) * "       p50       p95       p99    share"]
    for name in (*STAGES, "total"):
        line = f"  {name:<15}"
        for waterfall in waterfalls.values():
            times = [duration(waterfall.percentile(name, percent)) for percent in (50, 95, 99)]
            line += "".join(f"{time:>10}" for time in times) + f"{100 * waterfall.share(name):>8.2f} %"
        lines.append(line)
    return lines
