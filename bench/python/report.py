# SPDX-License-Identifier: Apache-2.0
"""The table, and the same as JSON: machine, cases with their rounds, and the targets."""
import figures
import targets
from cases import CASES, SHAPES

UNSTEADY = 1.5  # longest by shortest round of the same case
WAITS = {"block": "as a call waits by default", "spin": "spinning", "sleep": "sleeping"}
TIMES = "   typical       p50       p99     p99.9        max  ratio (deciles of rounds)"


def microseconds(nanoseconds, width):
    return f"{nanoseconds / 1000:{width}.2f}" if nanoseconds is not None else f"{'-':>{width}}"


def ratio_words(result, results):
    against = results.get(result.case.against)
    if not against or not against.known:
        return ""
    ratio = figures.ratio(result, against)
    return f"  {ratio.median:5.2f} ({ratio.low:.2f} to {ratio.high:.2f}) x {against.case.name}"


def case_line(result, results):
    line = f"{result.case.name:<20} {result.case.what:<34}"
    if result.skipped or result.error or not result.rounds:
        return f"{line} {'left out' if result.skipped else 'FAILED'}: {result.skipped or result.error}"
    every = result.all
    line += "".join(microseconds(value, 10) for value in (result.typical, every["p50"], every["p99"], every["p999"]))
    return line + microseconds(every["max"], 11) + ratio_words(result, results)


def section(size, waits, results):
    chosen = [result for result in results.values() if (result.case.size, result.case.waits) == (size, waits)]
    if chosen:
        rows, columns = SHAPES[size]
        head = f"int32 ({rows}, {columns}) and an answer, {WAITS[waits]}, us"
        yield f"\n{head:<55}{TIMES}"
        yield from (case_line(result, results) for result in chosen)


def target_line(verdict):
    if verdict["ratio"] is None:
        figure, bound = f"{verdict['value'] / 1000:.2f} us", f"{verdict['target'] / 1000:g} us"
    else:
        figure, bound = f"{verdict['ratio']:.2f} x", f"{verdict['target']:g} x"
    met = verdict.get("note") or ("met" if verdict["met"] else "missed")
    return f"{verdict['id']:3}     {verdict['what']:<58} {figure:>10}  {verdict['bound']:>8} {bound:>7}   {met}"


def notes(results):
    """What a reader should know before believing the figures."""
    known = [result for result in results.values() if result.known]
    unsteady = [result.case.name for result in known if max(result.medians) > UNSTEADY * min(result.medians)]
    if unsteady:
        yield ("\nUnsteady, one round's median half as long again as another's or more: " + ", ".join(unsteady)
               + ".\nThe machine was busy, or its host moves virtual CPUs. Look at the deciles.")
    # Not of those with several threads, which take a CPU from each other.
    preemptions = sum(result.preemptions for result in known if result.case.rival is None)
    if preemptions:
        yield (f"\nThe kernel gave a CPU to others {preemptions} time{'s' * (preemptions > 1)} while Sluice's cases ran: "
               "p99.9 and max contain that.")


def table(head, results):
    machine, settings = head["machine"], head["settings"]
    yield f"Sluice {head['version']} from Python {machine['python']}"
    yield (f"machine  {machine['cpu']}, {machine['architecture']}, {machine['cpus_online']} CPUs online, "
           f"{machine['cpus_allowed']} allowed, {machine['kernel']}")
    yield ("pinning  " + " and ".join(f"one process on CPU {cpu}" for cpu in machine["cpus"])
           if len(machine["cpus"]) > 1 else f"pinning  both processes on CPU {machine['cpus'][0]}")
    yield f"clock    {machine['clock']}, a reading costs {machine['clock_read_ns']:.0f} ns and is part of each time"
    yield (f"rounds   {settings['rounds']}, each with {settings['seconds']:.2g} s of every case; typical and ratio: "
           "medians of rounds, p50 to max: of all")
    for rival in head["rivals"]:
        yield f"rival    {rival['name']}{' ' + rival['version'] if rival['version'] else ''}: {rival['settings']}"
    for size in SHAPES:
        for waits in WAITS:
            yield from section(size, waits, results)
    verdicts = targets.judge(results, machine["cpus"])
    if verdicts:
        yield f"\ntarget {'measured':>70}"
        yield from map(target_line, verdicts)
    yield from notes(results)


def case_object(result, results):
    case = result.case
    shown = {"name": case.name, "what": case.what, "kind": "round trip", "waits": case.waits, "shape": list(case.shape),
             "dtype": "int32", "bytes": case.bytes, "untouched": case.untouched, "rival": case.rival,
             "against": case.against}
    if not result.known:
        return shown | ({"skipped": result.skipped} if result.skipped else {"error": result.error or "not run"})
    against = results.get(case.against)
    ratio = figures.ratio(result, against) if against and against.known else figures.Ratio(None, None, None)
    return shown | {"typical": result.typical} | result.all | {
        "ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high,
        "rounds": [{"round": number + 1, "typical": median} for number, median in enumerate(result.medians)],
        "repetitions": sum(map(len, result.rounds)), "histogram": result.histogram(), "sleeps": result.sleeps,
        "preemptions": result.preemptions}


def as_object(head, results):
    return head | {"cases": [case_object(results[name], results) for name in CASES if name in results],
                   "targets": targets.judge(results, head["machine"]["cpus"])}
