#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `sluice-bench --save FILE`, or the benchmark in Python, wrote: latency distributions and throughput by size, as SVG.

Usage: plot.py FILE DIRECTORY
"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "sluice"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

SHARES = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]


def polls(case):
    """Whether it shows what a poller costs: its cases and what they are compared with."""
    return "poller" in case or case["name"] in ("futex", "epoll", "sleep-64")


# File name, title, and which cases belong there.
DISTRIBUTIONS = [
    ("roundtrip-spinning-64", "Round trip, 64 B, spinning", ("round trip", "spin", (0, 64))),
    ("roundtrip-spinning-8k", "Round trip, 8 KiB, spinning", ("round trip", "spin", (8192,))),
    ("roundtrip-sleeping-64", "Round trip, 64 B, sleeping", ("round trip", "sleep", (0, 64))),
    ("roundtrip-sleeping-8k", "Round trip, 8 KiB, sleeping", ("round trip", "sleep", (8192,))),
    ("roundtrip-sleeping-pollers", "Round trip, 64 B, sleeping in a poller", ("round trip", "sleep", (0, 64))),
    ("roundtrip-spinning-32k", "Round trip, 32 KiB, spinning", ("round trip", "spin", (32768,))),
    ("roundtrip-sleeping-32k", "Round trip, 32 KiB, sleeping", ("round trip", "sleep", (32768,))),
    ("roundtrip-sleeping-8m", "Round trip, 8 MiB, sleeping", ("round trip", "sleep", (8388608,))),
    ("roundtrip-default-8k", "Round trip, 8 KiB, waiting as by default", ("round trip", "block", (8192,))),
    ("roundtrip-default-32k", "Round trip, 32 KiB, waiting as by default", ("round trip", "block", (32768,))),
    ("roundtrip-default-8m", "Round trip, 8 MiB, waiting as by default", ("round trip", "block", (8388608,))),
    ("open-spinning", "One way at a fixed rate, from when it was due, spinning", ("open loop", "spin", (0, 64))),
    ("open-sleeping", "One way at a fixed rate, from when it was due, sleeping", ("open loop", "sleep", (0, 64))),
]


def label(case):
    rate = f", {case['rate_hz']} a second" if "rate_hz" in case else ""
    return f"{case['name']} ({case['what']}{rate})"


def distribution(case):
    """Times in microseconds, and for each the share of values that lie above the one before it."""
    times, above = [], []
    total = sum(count for _, count in case["histogram"])
    left = total
    for upper_ns, count in case["histogram"]:
        times.append(upper_ns / 1000)
        above.append(left / total)
        left -= count
    return times, above


def save(figure, directory, name):
    path = directory / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)


def plot_distribution(cases, title, directory, name):
    """The share of slower ones on a logarithmic scale, read as percentiles: the tail is as wide as the middle."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for case in cases:
        times, above = distribution(case)
        bare = case["what"].startswith("bare")
        axes.plot(times, above, label=label(case), linestyle="--" if bare else "-", drawstyle="steps-post")
    axes.set(title=title, xlabel="microseconds", ylabel="percentile", xscale="log", yscale="log", ylim=(1, 1e-5))
    axes.set_yticks([1 - share for share in SHARES], [f"{share * 100:g}" for share in SHARES])
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save(figure, directory, name)


def size_label(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def plot_sizes(cases, directory):
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for transport in dict.fromkeys(case["what"] for case in cases):
        points = sorted((case["bytes"], case["bytes_per_ns"]) for case in cases if case["what"] == transport)
        axes.plot(*zip(*points), label=transport, marker="o", linestyle="--" if transport == "memcpy" else "-")
    sizes = sorted({case["bytes"] for case in cases})
    axes.set(title="One way, one producer and one consumer", xlabel="bytes of a message", ylabel="GB/s", xscale="log",
             yscale="log")
    axes.set_xticks(sizes, [size_label(size) for size in sizes])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, directory, "throughput-by-size")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    directory = pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for name, title, (kind, waits, sizes) in DISTRIBUTIONS:
        chosen = [case for case in cases if case["kind"] == kind and case["waits"] == waits and case["bytes"] in sizes
                  and case.get("histogram") and (polls(case) if name.endswith("pollers") else "poller" not in case)]
        if chosen:
            plot_distribution(chosen, title, directory, name)
    sized = [case for case in cases if "bytes_per_ns" in case]
    if sized:
        plot_sizes(sized, directory)


if __name__ == "__main__":
    main()
