"""What several ranks cost and gain on one machine: recording and actions, what ranks tell each other, scaling.

On two cores two ranks share a memory bus and talk through loopback, so scaling is what this machine allows and no
promise for others; docs/scale.md works out other machines on paper.
"""

from __future__ import annotations

import statistics

import one_process
import tasks
from harness import Bench, Context
from lines import Line, figure_line

RANKS = 2
NAMES = {
    "on": f"litscope, {RANKS} ranks",
    "off": f"litscope, {RANKS} ranks, --no-ledger",
    "acting": f"litscope, {RANKS} ranks, an action every 20 steps",
    "on again": f"litscope, {RANKS} ranks, again",
}
ALONE, TOGETHER = "1 rank", f"{RANKS} ranks"

SCRIPT = str(tasks.RIVALS / "scale_rounds.py")


def rank_lines(context: Context) -> list[Line]:
    """The small MNIST network, 32 samples a rank and step, one thread each."""
    is_tiny = context.size == "tiny"
    rounds, batches = (1, 2) if is_tiny else (max(context.rounds, 9), 300)
    words = ["mnist", "--data-dir", str(tasks.mnist(context)), "--arch", "convnet", "--batch-size", "32"]
    found = one_process.said(
        context, [SCRIPT, "--ranks", str(RANKS), "--rounds", str(rounds), *words, *_flags(batches)], 1, on_one_cpu=False
    )
    lines = one_process.compared(found["rates"], NAMES, "on", rounds, 1)
    for figure, unit in (("collectives", "calls a step"), ("bytes", "bytes a step and rank")):
        for kind, count in found[figure].items():
            lines.append(figure_line(f"{NAMES['on']}: {kind}", figure, unit, [count]))
        lines.append(figure_line(f"{NAMES['on']}: all", figure, unit, [round(sum(found[figure].values()), 4)]))
    return lines


def scaling_lines(context: Context) -> list[Line]:
    """ResNet-18 on CIFAR-10, 64 samples a step, on one rank and shared by two; one thread each. They take turns."""
    is_tiny = context.size == "tiny"
    repeats, batches = (1, 2) if is_tiny else (3, 20)
    words = [str(tasks.cifar10(context)), "--arch", "resnet18", "--image-size", "32", *_flags(batches)]
    rates: dict[int, list[float]] = {1: [], RANKS: []}
    for _ in range(repeats):
        for ranks, found in rates.items():
            given = ["--ranks", str(ranks), "--rounds", "1" if is_tiny else "3", "--arms", "on", *words]
            given += ["--batch-size", str(64 // ranks)]
            said = one_process.said(context, [SCRIPT, *given], 1, on_one_cpu=False)
            found.append(statistics.median(said["rates"]["on"]))
    ratios = [alone / together for alone, together in zip(rates[1], rates[RANKS], strict=True)]
    span = {"ratio_min": round(min(ratios), 4), "ratio_max": round(max(ratios), 4), "rounds": repeats, "threads": 1}
    facts = {"base": ALONE, "ratio": round(statistics.median(ratios), 4), **span}
    return [
        figure_line(ALONE, "samples_per_s", "samples/s", rates[1], rounds=repeats, threads=1),
        figure_line(TOGETHER, "samples_per_s", "samples/s", rates[RANKS], **facts),
    ]


def _flags(batches: int) -> list[str]:
    flags = ["--limit-train-batches", str(batches), "--val-split", "0", "--limit-val-batches", "1", "--save-top-k", "0"]
    flags += ["--limit-test-batches", "1", "--no-progress", "--accelerator", "cpu", "--precision", "32"]
    return [*flags, "--logger", "none", "--steps-per-call", "1"]


BENCH = Bench("scale", "Two ranks: recording, actions and what they tell each other", measure=rank_lines)
SCALING = Bench("scaling", "One step shared by two ranks: CIFAR-10, resnet18", measure=scaling_lines)
