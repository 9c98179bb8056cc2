"""MNIST with the small convolutional network, batch 64: arithmetic and Python cost about the same."""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context


def arms(context: Context) -> list[Arm]:
    """litscope, the two plain scripts, and the ceiling."""
    batches = {"tiny": 2}.get(context.size, 300 if context.full else 100)
    folder = tasks.mnist(context)
    task = tasks.Task("mnist", folder, ("mnist", "--data-dir", str(folder)), "convnet", batches, is_tested=True)
    return [
        tasks.ours(task, context),
        tasks.plain(task, context, tasks.LIGHTNING, "plain_lightning.py"),
        tasks.plain(task, context, tasks.LOOP, "plain_torch.py"),
        tasks.plain(task, context, tasks.CEILING, "ceiling.py"),
    ]


BENCH = Bench("mnist_convnet", "MNIST, convnet, batch 64", arms, is_quick=True, accuracy_within=0.02)
