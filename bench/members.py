"""Eight MLPs of 32-64-64-10 at once, counted per net, beside a loop that trains one of them.

In one arm they differ in their first weights, in another in learning rate and weight decay. A sample counts once for
each network that is trained on it. Each arm has one thread; the loop is that of somebody who slices tensors in memory
and uses a fused optimizer.
"""

from __future__ import annotations

import small_mlp
import tasks
from harness import Arm, Bench, Context

NAME = "members"
COUNT = 8
OURS = f"litscope, {COUNT} members"
SETTINGS = f"litscope, {COUNT} settings"
RATES = ("--member-lr", ",".join(["1e-3"] * COUNT), "--member-weight-decay", ",".join(["0.01"] * COUNT))
"""Equal values, so that all arms reach the same accuracy; different ones would cost as much."""


def arms(context: Context) -> list[Arm]:
    """litscope with members of two kinds, with a single network, and the loop."""
    batches = {"tiny": 4}.get(context.size, 500)
    source = tasks.table(context, 64 * batches, 10_000 if context.size == "normal" else 200)
    task = tasks.Task("table", source, (str(source),), f"mlp:{small_mlp.WIDTHS}", batches)
    several = ["--compile-steps"] if context.size == "normal" else []
    return [
        tasks.ours(task, context, OURS, "--num-members", str(COUNT), "--times", str(COUNT), *several),
        tasks.ours(task, context, SETTINGS, "--num-members", str(COUNT), "--times", str(COUNT), *RATES, *several),
        tasks.ours(task, context, small_mlp.SEVERAL, *several),
        tasks.plain(task, context, small_mlp.RESIDENT, "plain_torch.py", "--resident", "--tuned"),
    ]


BENCH = Bench(
    NAME,
    "Eight MLPs 32-64-64-10 at once; a sample counts for each net that is trained on it",
    arms,
    is_quick=True,
    threads=1,
    on_one_cpu=True,
    is_same_work=False,
)
