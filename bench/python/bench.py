#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Sluice from Python between two pinned processes, beside what else Python programs use.

Needs numpy beside sluice, and measures pyzmq where it is installed.

Exit status: 0 when every case ran, whatever the verdicts; 1 when one failed.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import signal
import sys
import time

import machine
import pair
import report
from cases import CASES, LARGE, RIVALS
from figures import Figures

QUICK_SECONDS = 38  # no round starts that would not end by then
FEW_CPUS = 4        # a rival with threads of its own needs CPUs for them to spin


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 40 seconds, with fewer and shorter rounds")
    parser.add_argument("--only", metavar="CASE", choices=CASES, help="one case and what it is compared with")
    parser.add_argument("--list", action="store_true", help="the cases")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--save", metavar="FILE", help="the same JSON into a file, beside the table")
    parser.add_argument("--cpus", metavar="A,B", help="pin elsewhere; the default is two that do not share a core")
    return parser.parse_args()


def choose(only):
    """The cases, and with one of them all that it is compared with."""
    if only is None:
        return list(CASES.values())
    names = {only}
    while CASES[only].against:
        only = CASES[only].against
        names.add(only)
    return [case for case in CASES.values() if case.name in names]


def why_not(case, cpus):
    """The reason to leave a case out, or None."""
    needs = RIVALS[case.rival][2] if case.rival else None
    if needs and not importlib.util.find_spec(needs):
        return f"there is no Python package {needs}"
    if case.waits == "spin" and len(cpus) < 2:
        return "there is only one CPU, and who spins there waits for its turn"
    return None


def plan(case, cpus, seconds):
    """How many repetitions fill the time; a short run tells."""
    times, _ = pair.run(case, 4 if case.size == LARGE else 100, cpus, seconds)
    typical = sorted(times)[len(times) // 2]
    return max(4, int(seconds * 1e9 / typical))


def run_round(results, repetitions, cpus, seconds):
    for name, result in results.items():
        if result.skipped or result.error:
            continue
        try:
            if name not in repetitions:
                repetitions[name] = plan(result.case, cpus, seconds)
            result.add(*pair.run(result.case, repetitions[name], cpus, seconds))
        except (pair.Failed, OSError, ImportError) as error:
            result.error = str(error)


def say_round(words):
    if sys.stderr.isatty():
        print(f"\r{words:20}\r", end="", file=sys.stderr, flush=True)


def run_rounds(results, rounds, seconds, cpus, most_seconds):
    """Every round runs every case, so that a machine that gets slower does so for all. Returns how many there were."""
    begin, repetitions = time.monotonic(), {}
    for number in range(rounds):
        say_round(f"round {number + 1} of {rounds}")
        round_begin = time.monotonic()
        run_round(results, repetitions, cpus, seconds)
        now = time.monotonic()
        if now - begin + (now - round_begin) > most_seconds:
            rounds = number + 1
            break
    say_round("")
    return rounds


def rivals_there():
    if importlib.util.find_spec("zmq"):
        import link_zeromq
        return [{"name": "pyzmq", "version": importlib.metadata.version("pyzmq"), "settings": link_zeromq.SETTINGS}]
    return [{"name": "pyzmq", "version": None, "settings": "not there (pip install pyzmq)"}]


def main():
    options = parse_arguments()
    if options.list:
        print(*(f"{case.name:<20} {case.waits:<6} {case.what}" for case in CASES.values()), sep="\n")
        return 0
    try:
        cpus = machine.choose_cpus(options.cpus)
    except machine.BadCpus as error:
        sys.exit(f"bench: {error}")
    rounds, seconds, most_seconds = (4, 0.08, QUICK_SECONDS) if options.quick else (8, 0.25, float("inf"))
    results = {case.name: Figures(case, skipped=why_not(case, cpus)) for case in choose(options.only)}
    rounds = run_rounds(results, rounds, seconds, cpus, most_seconds)
    head = {"version": importlib.metadata.version("sluice"), "machine": machine.describe(cpus),
            "settings": {"rounds": rounds, "seconds": seconds}, "rivals": rivals_there()}
    if options.save:
        with open(options.save, "w", encoding="utf-8") as file:
            json.dump(report.as_object(head, results), file, indent=1)
    if options.json:
        print(json.dumps(report.as_object(head, results), indent=1))
    else:
        print(*report.table(head, results), sep="\n")
    return 1 if any(result.error for result in results.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
