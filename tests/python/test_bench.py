# SPDX-License-Identifier: Apache-2.0
"""The benchmark in Python, one case of it: figures, ratios and verdicts have the form that is documented."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parents[2] / "bench/python/bench.py"


def run(*arguments):
    return subprocess.run([sys.executable, BENCH, *arguments], timeout=120, capture_output=True, text=True, check=False)


def test_a_case_is_measured_beside_what_it_is_compared_with():
    ended = run("--quick", "--json", "--only", "pickle-8k")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert [case["name"] for case in figures["cases"]] == ["send-8k", "pickle-8k"]
    assert all(0 < case["p50"] <= case["max"] for case in figures["cases"])
    assert all(sum(count for _, count in case["histogram"]) == case["repetitions"] for case in figures["cases"])
    (target,) = figures["targets"]
    assert set(target) == {"id", "what", "value", "limit", "ratio", "target", "bound", "met"}
    assert target["id"] == 8 and target["ratio"] > 1


def test_the_table_has_the_same_case():
    ended = run("--quick", "--only", "untouched-spin-8k")
    assert ended.returncode == 0, ended.stderr
    assert "Sluice, untouched" in ended.stdout


@pytest.mark.parametrize(
    "arguments, complaint", [(("--only", "nothing"), "invalid choice"), (("--cpus", "x"), "as in 2,5")]
)
def test_what_it_does_not_know_is_named(arguments, complaint):
    ended = run(*arguments)
    assert ended.returncode != 0
    assert complaint in ended.stderr and "Traceback" not in ended.stderr
