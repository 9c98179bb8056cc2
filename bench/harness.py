"""How every bench here runs: arms in turn, several rounds, medians, ratios with their spread.

An arm is a command in a process of its own that prints one JSON object as its last line of
standard output, with `samples_per_s` and `num_parameters` in it. Rounds interleave the arms
(A B C, A B C, ...), so that a machine whose speed drifts slows all of them alike; a ratio is
taken inside a round. The first arm runs twice a round (A ... A'): the ratio A'/A says how much a
ratio can be trusted. A run whose median A'/A is further than 3 % from 1 is said to be noisy.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

NOISE = 0.03


@dataclass
class Arm:
    """One side of a comparison.

    Attributes:
        name: how the table calls it.
        command: the process to run.
        results: one dictionary a round: what it printed, with `wall_s` and `cpu_s` of the process.
    """

    name: str
    command: list[str]
    results: list[dict[str, Any]] = field(default_factory=list)

    def run(self, threads: int) -> dict[str, Any]:
        """Run once, and return what the process printed, with its wall and CPU time."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(self.command, capture_output=True, text=True, env=environment, check=False)
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            sys.exit(f"{self.name} failed with exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {**result, "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}


def compare(title: str, arms: list[Arm], rounds: int, threads: int) -> dict[str, Any]:
    """Run all arms for `rounds` rounds, print a table and a JSON line, and return the figures."""
    control = Arm(f"{arms[0].name} again", arms[0].command)
    for number in range(1, rounds + 1):
        for arm in [*arms, control]:
            result = arm.run(threads)
            arm.results.append(result)
            print(f"  {title}, round {number}: {arm.name} {result['samples_per_s']:.0f}/s", file=sys.stderr, flush=True)
    figures = [_figures(arm, arms[0]) for arm in [*arms, control]]
    noise = figures[-1]["ratio"]
    line = {
        "bench": title,
        "rounds": rounds,
        "threads": threads,
        "noisy": abs(noise - 1) > NOISE,
        "arms": figures,
        "machine": machine(),
    }
    print(_table(title, figures, line["noisy"]))
    print(json.dumps(line), flush=True)
    return line


def machine() -> dict[str, Any]:
    """Processor, cores and the versions that a figure depends on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    except FileNotFoundError:
        pass
    names = ["torch", "lightning", "torchvision", "timm"]
    return {"cpu": model, "cores": os.cpu_count(), "versions": {name: version(name) for name in names}}


def _figures(arm: Arm, first: Arm) -> dict[str, Any]:
    """Median samples per second, and the first arm's advantage over this one, round by round."""
    ratios = [a["samples_per_s"] / b["samples_per_s"] for a, b in zip(first.results, arm.results, strict=True)]
    return {
        "name": arm.name,
        "samples_per_s": round(statistics.median(r["samples_per_s"] for r in arm.results), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "cpu_s": statistics.median(r["cpu_s"] for r in arm.results),
        "wall_s": statistics.median(r["wall_s"] for r in arm.results),
        "num_parameters": arm.results[0]["num_parameters"],
    }


def _table(title: str, figures: list[dict[str, Any]], noisy: bool) -> str:
    head = f"\n{title}\n{'arm':<34}{'samples/s':>12}{'litscope is':>14}{'(min-max)':>16}{'parameters':>13}"
    rows = [
        f"{f['name']:<34}{f['samples_per_s']:>12.0f}{f['ratio']:>13.2f}x"
        f"{f['ratio_min']:>9.2f}-{f['ratio_max']:.2f}{f['num_parameters']:>15}"
        for f in figures
    ]
    note = [f"noisy: the same arm twice differs by more than {NOISE:.0%}; do not quote"] if noisy else []
    return "\n".join([head, *rows, *note])
