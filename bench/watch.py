"""What watching a person's own LightningModule costs, beside the same module unwatched and beside WeightsLab.

Nothing is validated; a turn is one epoch. The arms of ours share a process (`rivals/watched_rounds.py` says why);
beside WeightsLab, which has an environment of its own, each has one.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys

import tasks
from harness import NOISE, Arm, Bench, Context, one_cpu
from lines import Line, figure_line
from processes import ArmFailed, environment

UNWATCHED = "LightningModule, unwatched"
SCOPE = "with Scope"
WRAPPED = "of wrapped parts"
AGAIN = "with Scope, again"
WEIGHTSLAB = "WeightsLab, as shipped"
TUNED = "WeightsLab, tuned"
NAMES = {"scope": SCOPE, "none": UNWATCHED, "wrapped": WRAPPED, "scope again": AGAIN}

SCRIPT = str(tasks.RIVALS / "watched_rounds.py")


def mnist_lines(context: Context) -> list[Line]:
    """A small convolutional network, on one thread."""
    words = ["mnist", str(tasks.mnist(context)), "--batches", "2" if context.size == "tiny" else "60"]
    return _lines(context, words, max(context.rounds, 15) if context.size == "normal" else 1, threads=1)


def resnet18_lines(context: Context) -> list[Line]:
    """ResNet-18 at 32 pixels."""
    words = ["cifar10", str(tasks.cifar10(context)), "--batches", "2" if context.size == "tiny" else "6"]
    return _lines(context, words, max(context.rounds, 9) if context.size == "normal" else 1, context.threads)


def _lines(context: Context, words: list[str], rounds: int, threads: int) -> list[Line]:
    """Of one process in which all arms take turns.

    Raises:
        ArmFailed: if it fails.
    """
    variables = environment(threads, context.work, is_ours=True)
    command = [sys.executable, SCRIPT, *words, "--rounds", str(rounds)]
    with one_cpu() if threads == 1 else contextlib.nullcontext():
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=context.work, check=False)
    if done.returncode:
        raise ArmFailed(f"exit code {done.returncode}: {done.stderr[-500:]}")
    rates = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("@"))[1:])["rates"]
    aa = statistics.median(a / b for a, b in zip(rates["scope"], rates["scope again"], strict=True))
    found = []
    for arm, values in rates.items():
        ratios = [a / b for a, b in zip(rates["scope"], values, strict=True)]
        facts = {
            "base": SCOPE,
            "ratio": round(statistics.median(ratios), 4),
            "ratio_min": round(min(ratios), 4),
            "ratio_max": round(max(ratios), 4),
            "aa_ratio": round(aa, 4),
            "thrown_away": abs(aa - 1) > NOISE,
            "rounds": rounds,
            "threads": threads,
        }
        found.append(figure_line(NAMES[arm], "samples_per_s", "samples/s", values, **facts))
    return found


def weightslab(context: Context) -> list[Arm]:
    """The rival, as shipped and tuned."""
    batches = {"tiny": 2}.get(context.size, 100)
    folder = str(tasks.mnist(context))
    words = ("--batches", str(batches), "--epochs", str(context.epochs))
    theirs = (str(tasks.RIVALS / "weightslab_mnist.py"), folder, *words)
    ours = (SCRIPT, "mnist", folder, "--batches", str(batches), "--rounds", str(context.epochs), "--only")
    return [
        Arm(WRAPPED, (*ours, "wrapped")),
        Arm(UNWATCHED, (*ours, "none")),
        Arm(WEIGHTSLAB, theirs, environment="weightslab"),
        Arm(TUNED, (*theirs, "--tuned"), environment="weightslab"),
    ]


MNIST = Bench(
    "watch_mnist", "A person's own LightningModule, watched: MNIST, small network, batch 64", measure=mnist_lines
)
RESNET18 = Bench("watch_resnet18", "The same: CIFAR-10, ResNet-18 at 32 pixels", measure=resnet18_lines)
RIVAL = Bench(
    "watch_weightslab",
    "Wrapped parts beside WeightsLab: MNIST, short epochs, batch 64",
    weightslab,
    threads=1,
)
