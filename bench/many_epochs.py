"""Whether an epoch costs more the longer a run has lasted: two runs take turns, one far on, one near its beginning."""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context, Figure

EARLY, LATE = 20, 300
EPOCHS = 20
"""Epochs in a turn, each a whole one with validation, checkpoint and ledger."""

NEAR, FAR = f"after {EARLY} epochs", f"after {LATE} epochs"


def arms(context: Context) -> list[Arm]:
    """The same command twice, with different numbers of epochs before the first turn that counts."""
    return [_arm(FAR, LATE, context), _arm(NEAR, EARLY, context)]


def _arm(name: str, before: int, context: Context) -> Arm:
    turn = 1 if context.size == "tiny" else EPOCHS
    before = max(1, before // 100) if context.size == "tiny" else before
    words = [str(tasks.RIVALS / "litscope_fit.py"), "--first-turn", str(before), "--turn", str(turn), "digits"]
    words += ["--arch", "convnet", "--batch-size", "64", "--steps-per-call", "1"]
    words += ["--accelerator", "cpu", "--no-progress"]
    return Arm(name, (*words, "--epochs", str(before + turn * (context.rounds + 1))))


BENCH = Bench(
    "many_epochs",
    f"A run on scikit-learn's digits, {EPOCHS} epochs a turn, {LATE} epochs on and {EARLY} epochs on",
    arms,
    (Figure("turn_s", "s"), Figure("cpu_us_per_sample", "µs of CPU"), Figure("resident_mib", "MiB")),
    threads=1,
    on_one_cpu=True,
)
