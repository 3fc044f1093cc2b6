# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on, and which CPUs the two processes get."""
import os
import pathlib
import platform
import time


class BadCpus(ValueError):
    """The CPUs asked for cannot be had; the message says why."""


def words_of_file(path, key):
    """What stands behind `key` in a file of lines "key : value"."""
    for line in pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def core_of(cpu):
    """What the CPU shares with its siblings on the same core; itself where the kernel does not say."""
    path = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text(encoding="ascii").strip() if path.exists() else str(cpu)


def choose_cpus(asked):
    """The two asked for ("2,5"), or the first two allowed that do not share a core; one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if asked:
        try:
            cpus = [int(one) for one in asked.split(",")]
        except ValueError:
            raise BadCpus(f"'{asked}' is not two numbers of CPUs, as in 2,5") from None
        if len(cpus) != 2 or not set(cpus) <= set(allowed):
            raise BadCpus(f"'{asked}' is not two of the CPUs that this process may use: {allowed}")
        return cpus
    apart = {}
    for cpu in allowed:
        apart.setdefault(core_of(cpu), cpu)
    return (sorted(apart.values()) + [cpu for cpu in allowed if cpu not in apart.values()])[:2]


def clock_cost_ns():
    readings = [time.perf_counter_ns() for _ in range(10001)]
    return (readings[-1] - readings[0]) / (len(readings) - 1)


def describe(cpus):
    return {
        "cpu": words_of_file("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cpus_online": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "cpus": cpus,
        "clock": "perf_counter_ns",
        "clock_read_ns": round(clock_cost_ns(), 1),
    }
