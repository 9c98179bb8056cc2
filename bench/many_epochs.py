"""Whether an epoch costs more the longer a run has lasted: time and memory, late over early."""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context, Figure


def arms(context: Context) -> list[Arm]:
    """One arm, which runs twice as every first arm does."""
    num_epochs = 5 if context.size == "tiny" else 100
    return [Arm(tasks.OURS, (str(tasks.RIVALS / "many_epochs.py"), str(num_epochs)), takes_turns=False)]


BENCH = Bench(
    "many_epochs",
    "A run of a hundred epochs on scikit-learn's digits, late epochs over early ones",
    arms,
    (Figure("memory_growth", "×"), Figure("time_growth", "×"), Figure("peak_mib", "MiB")),
    threads=1,
    on_one_cpu=True,
)
