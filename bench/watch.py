"""What watching a person's own LightningModule costs, beside the same module unwatched and beside WeightsLab.

Nothing is validated; a turn is one epoch. Our arms share a process (`rivals/watched_rounds.py` says why); in the
comparison with WeightsLab, which needs an environment of its own, each arm has a process.
"""

from __future__ import annotations

import one_process
import tasks
from harness import Arm, Bench, Context
from lines import Line

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
    """ResNet-18 at 32 pixels, on all threads."""
    words = ["cifar10", str(tasks.cifar10(context)), "--batches", "2" if context.size == "tiny" else "6"]
    return _lines(context, words, max(context.rounds, 9) if context.size == "normal" else 1, context.threads)


def _lines(context: Context, words: list[str], rounds: int, threads: int) -> list[Line]:
    return one_process.measured(context, [SCRIPT, *words, "--rounds", str(rounds)], NAMES, "scope", rounds, threads)


def weightslab(context: Context) -> list[Arm]:
    """Two of our arms, and the rival as shipped and tuned."""
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
