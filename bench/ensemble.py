"""N convnets as the members of one run, beside N runs of one after another.

What they share is done once together: the data, batches and their augmentation, Lightning's loop, the ledger. The
networks themselves are computed one after another either way. So on digits of 8 pixels overhead dominates, and on
MNIST the networks do. That members are judged at the end is part of their time; imports are in neither.
"""

from __future__ import annotations

import statistics

import one_process
import tasks
from harness import NOISE, Bench, Context
from lines import Line, figure_line

NAME = "ensemble"
DIGITS, MNIST = "digits", "MNIST"

COUNTS = {DIGITS: (1, 2, 4, 8), MNIST: (1, 4)}
AGAIN = 4
"""The arm that the others are compared with, and that runs twice."""

PASSES = {DIGITS: ("20", "3"), MNIST: ("200", "1")}
"""Batches of 64 in an epoch, and epochs."""

FIGURES = {"cpu_s": "s of CPU", "wall_s": "s", "peak_mib": "MiB"}


def together(data: str, count: int) -> str:
    """The name of the arm with one run."""
    return f"{data}, {count} together"


def apart(data: str, count: int) -> str:
    """The name of the arm with a run for each."""
    return f"{data}, {count} apart"


def ensemble_lines(context: Context) -> list[Line]:
    """Each number in one run, and in as many; the data with which most is shared first."""
    if context.size == "tiny":
        return _lines(context, DIGITS, [DIGITS], (1, 2), 2, ("2", "1"))
    sources = {DIGITS: [DIGITS], MNIST: ["mnist", "--data-dir", str(tasks.mnist(context))]}
    return [
        line
        for data, source in sources.items()
        for line in _lines(context, data, source, COUNTS[data], AGAIN, PASSES[data])
    ]


def _lines(
    context: Context, data: str, source: list[str], counts: tuple[int, ...], again: int, passes: tuple[str, str]
) -> list[Line]:
    words = [str(tasks.RIVALS / "ensemble_rounds.py"), "--rounds", str(context.rounds), "--again", str(again)]
    words += ["--counts", ",".join(map(str, counts)), *source, "--arch", "convnet", "--batch-size", "64"]
    words += ["--limit-train-batches", passes[0], "--epochs", passes[1], "--limit-val-batches", "16"]
    words += ["--limit-test-batches", "16", "--precision", "32", "--accelerator", "cpu", "--num-threads", "1"]
    words += ["--no-progress", "--logger", "none"]
    runs = one_process.said(context, words, 1, on_one_cpu=False)["runs"]
    base, lines = f"together {again}", []
    for figure, unit in FIGURES.items():
        aa = statistics.median(a / b for a, b in zip(runs[base][figure], runs[f"{base} again"][figure], strict=True))
        for name, values in runs.items():
            ratios = [a / b for a, b in zip(runs[base][figure], values[figure], strict=True)]
            facts = {"base": f"{data}, {again} together", "ratio": round(statistics.median(ratios), 4)}
            facts |= {"ratio_min": round(min(ratios), 4), "ratio_max": round(max(ratios), 4), "aa_ratio": round(aa, 4)}
            is_bad = figure == "cpu_s" and abs(aa - 1) > NOISE
            way, _, count = name.partition(" ")
            arm = f"{data}, {count.replace(' again', '')} {way}{', again' if 'again' in count else ''}"
            facts |= {"thrown_away": is_bad, "threads": 1}
            lines.append(figure_line(arm, figure, unit, values[figure], **facts))
    return lines


BENCH = Bench(
    NAME, "N convnets as members of one run, and as N runs: seconds and memory of the fits", measure=ensemble_lines
)
