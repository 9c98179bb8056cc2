"""What watching a person's own LightningModule costs, beside the same module unwatched and beside WeightsLab.

Nothing is validated; a turn is one epoch. WeightsLab has an environment of its own, and far fewer batches a turn, which
then all arms have.
"""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context

UNWATCHED = "LightningModule, unwatched"
SCOPE = "with Scope"
WRAPPED = "of wrapped parts"
WEIGHTSLAB = "WeightsLab, as shipped"
TUNED = "WeightsLab, tuned"


def _ours(context: Context, how: str, task: str, name: str, batches: int) -> Arm:
    folder = tasks.mnist(context) if task == "mnist" else tasks.cifar10(context)
    words = (str(tasks.RIVALS / "watched_lightning.py"), how, task, str(folder))
    return Arm(name, (*words, "--batches", str(batches), "--epochs", str(context.epochs)))


def mnist(context: Context) -> list[Arm]:
    """A small convolutional network."""
    batches = {"tiny": 2}.get(context.size, 100)
    arms = (("scope", SCOPE), ("none", UNWATCHED), ("wrapped", WRAPPED))
    return [_ours(context, how, "mnist", name, batches) for how, name in arms]


def resnet18(context: Context) -> list[Arm]:
    """ResNet-18 at 32 pixels."""
    batches = {"tiny": 2}.get(context.size, 10)
    return [_ours(context, how, "cifar10", name, batches) for how, name in (("scope", SCOPE), ("none", UNWATCHED))]


def weightslab(context: Context) -> list[Arm]:
    """The rival, as shipped and tuned."""
    batches = {"tiny": 2}.get(context.size, 100)
    words = (str(tasks.RIVALS / "weightslab_mnist.py"), str(tasks.mnist(context)))
    words += ("--batches", str(batches), "--epochs", str(context.epochs))
    return [
        _ours(context, "wrapped", "mnist", WRAPPED, batches),
        _ours(context, "none", "mnist", UNWATCHED, batches),
        Arm(WEIGHTSLAB, words, environment="weightslab"),
        Arm(TUNED, (*words, "--tuned"), environment="weightslab"),
    ]


MNIST = Bench(
    "watch_mnist", "A person's own LightningModule, watched: MNIST, small network, batch 64", mnist, threads=1
)
RESNET18 = Bench("watch_resnet18", "The same: CIFAR-10, ResNet-18 at 32 pixels", resnet18)
RIVAL = Bench("watch_weightslab", "Wrapped parts beside WeightsLab: MNIST, short epochs", weightslab, threads=1)
