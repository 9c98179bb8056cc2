"""An MLP of 32-64-64-10 on a table, batch 64: Python is the cost, not arithmetic. One thread each.

`litscope` keeps the table on the device and gathers batches by index; with several steps per call, where `litscope fit`
has that flag, the steps are compiled. It is compared with a Lightning script with a DataLoader and two logs, the loop
of a tutorial, the loop of somebody who slices tensors in memory and uses a fused optimizer, and scikit-learn.
"""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context

from litscope.config.fields import fields

SEVERAL = "litscope, several compiled steps a call"
RESIDENT = "hand-written loop, no DataLoader"
SKLEARN = "scikit-learn"
WIDTHS = "64,64"


def arms(context: Context) -> list[Arm]:
    """All of them train the same rows in every turn."""
    batches = {"tiny": 4}.get(context.size, 1000 if context.full else 500)
    source = tasks.table(context, 64 * batches, 10_000 if context.size == "normal" else 200)
    task = tasks.Task("table", source, (str(source),), f"mlp:{WIDTHS}", batches, is_tested=True)
    several = "--steps-per-call" in {flag for field in fields() for flag in field.flags}
    eager = ["--steps-per-call", "1"] if several else []
    found = [tasks.ours(task, context, tasks.OURS, *eager)]
    if several and context.size == "normal":
        found.append(tasks.ours(task, context, SEVERAL, "--compile-steps"))
    sklearn = (str(tasks.RIVALS / "sklearn_mlp.py"), str(source), "--hidden", WIDTHS, "--batch-size", "64")
    return [
        *found,
        tasks.plain(task, context, tasks.LIGHTNING, "plain_lightning.py"),
        tasks.plain(task, context, tasks.LOOP, "plain_torch.py"),
        tasks.plain(task, context, RESIDENT, "plain_torch.py", "--resident", "--tuned"),
        Arm(SKLEARN, (*sklearn, "--epochs", str(context.epochs))),
    ]


BENCH = Bench(
    "small_mlp",
    "MLP 32-64-64-10 on a table of synthetic rows, batch 64",
    arms,
    is_quick=True,
    threads=1,
    on_one_cpu=True,
    accuracy_within=0.02,
)
