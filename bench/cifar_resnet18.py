"""CIFAR-10 from JPEG files with ResNet-18 at 32 pixels, batch 64: arithmetic is the cost.

A turn is ten batches, because a step takes a second on a slow processor; so accuracy says nothing and is not
compared. One bench is in fp32, with a further arm of ours that chooses its precision itself; the other is in bf16
(autocast) for every arm. fastai and timm run in environments of their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import tasks
from harness import Arm, Bench, Context

FASTAI = "fastai"
TIMM = "timm"
CHOSEN = "litscope, its own precision"


def arms(context: Context, precision: str) -> list[Arm]:
    """Ours, the two plain scripts, the ceiling, and two libraries."""
    folder = tasks.cifar10(context)
    batches = {"tiny": 2}.get(context.size, 10)
    task = tasks.Task("cifar10", folder, (str(folder),), "resnet18", batches, precision=precision)
    words = (str(folder), "--batches", str(batches), "--batch-size", "64", "--epochs", str(context.epochs))
    words += ("--precision", precision)
    ours = replace(task, precision={"32": "32", "bf16": "bf16-mixed"}[precision])
    chosen = [tasks.ours(replace(task, precision="auto"), context, CHOSEN)] if precision == "32" else []
    return [
        tasks.ours(ours, context),
        *chosen,
        tasks.plain(task, context, tasks.CEILING, "ceiling.py"),
        tasks.plain(task, context, tasks.LOOP, "plain_torch.py"),
        tasks.plain(task, context, tasks.LIGHTNING, "plain_lightning.py"),
        Arm(FASTAI, (str(tasks.RIVALS / "fastai_cifar.py"), *words), environment="fastai"),
        Arm(TIMM, (str(tasks.RIVALS / "timm_cifar.py"), *words), environment="timm"),
    ]


BENCH = Bench("cifar_resnet18", "CIFAR-10 from JPEG files, resnet18 at 32 pixels, fp32", partial(arms, precision="32"))
BF16 = Bench("cifar_resnet18_bf16", "The same in bf16 (autocast)", partial(arms, precision="bf16"))
