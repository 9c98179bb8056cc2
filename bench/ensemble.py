"""N convnets as the members of one run, beside N runs of one: whole commands, from the start of the process to its end.

What they share is paid once together: imports, the data, batches and their augmentation, Lightning's loop, the ledger.
The networks themselves are computed one after the other either way. Validation is left out of the members' judgement on
neither side: both evaluate their best weights, as every run does.
"""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context, Figure

NAME = "ensemble"
COUNTS = (4, 1, 2, 8)
"""The first arm is the one that the others are compared with, and that runs twice."""


def together(count: int) -> str:
    """The name of the arm with one run."""
    return f"{count} together"


def apart(count: int) -> str:
    """The name of the arm with a run for each."""
    return f"{count} apart"


def arms(context: Context) -> list[Arm]:
    """Each number in one run, and in as many."""
    batches = ("2", "1") if context.size == "tiny" else ("500", "3")
    script = str(tasks.RIVALS / "ensemble_runs.py")
    source = ["digits"] if context.size == "tiny" else [str(tasks.mnist(context) / "MNIST" / "raw")]
    counts = (2,) if context.size == "tiny" else COUNTS
    return [
        Arm(name(count), (script, str(count), how, *batches, *source), takes_turns=False)
        for count in counts
        for how, name in (("together", together), ("apart", apart))
    ]


BENCH = Bench(
    NAME,
    "N convnets on MNIST as members of one run, and as N runs: the whole commands",
    arms,
    (Figure("wall_s", "s"), Figure("cpu_s", "s of CPU"), Figure("peak_mib", "MiB")),
    threads=1,
    is_same_work=False,
)
