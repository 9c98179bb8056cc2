"""What recording costs: the same training with the ledger and without, epoch by epoch in one process."""

from __future__ import annotations

import one_process
import tasks
from harness import Bench, Context
from lines import Line

OFF = "litscope, --no-ledger"
NAMES = {"on": tasks.OURS, "off": OFF, "on again": f"{tasks.OURS}, again"}

SCRIPT = str(tasks.RIVALS / "recording_rounds.py")


def mnist_lines(context: Context) -> list[Line]:
    """The small MNIST network, on one thread."""
    folder = tasks.mnist(context)
    words = ["mnist", "--data-dir", str(folder), "--arch", "convnet"]
    return _lines(context, words, 2 if context.size == "tiny" else 300, rounds=15, threads=1)


def cifar10_lines(context: Context) -> list[Line]:
    """ResNet-18 on CIFAR-10. A turn must be so long that the epoch's end in it weighs little: real epochs have 700
    batches.
    """
    words = [str(tasks.cifar10(context)), "--arch", "resnet18", "--image-size", "32"]
    return _lines(context, words, 2 if context.size == "tiny" else 20, rounds=7, threads=context.threads)


def _lines(context: Context, words: list[str], batches: int, rounds: int, threads: int) -> list[Line]:
    rounds = max(context.rounds, rounds) if context.size == "normal" else 1
    flags = ["--batch-size", "64", "--limit-train-batches", str(batches), "--val-split", "0"]
    flags += ["--limit-val-batches", "1", "--limit-test-batches", "1", "--save-top-k", "0", "--no-progress"]
    flags += ["--accelerator", "cpu", "--precision", "32", "--logger", "none"]
    return one_process.measured(
        context, [SCRIPT, "--rounds", str(rounds), *words, *flags], NAMES, "on", rounds, threads
    )


MNIST = Bench("watching_mnist", "Recording on and off: MNIST, convnet, one thread", measure=mnist_lines)
CIFAR10 = Bench("watching_cifar10", "Recording on and off: CIFAR-10, resnet18", measure=cifar10_lines)
