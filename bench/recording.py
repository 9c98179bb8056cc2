"""What recording costs: the same training with the ledger and without."""

from __future__ import annotations

import tasks
from harness import Arm, Bench, Context

OFF = "litscope, --no-ledger"


def mnist(context: Context) -> list[Arm]:
    """The small MNIST network."""
    folder = tasks.mnist(context)
    batches = {"tiny": 2}.get(context.size, 600)
    task = tasks.Task("mnist", folder, ("mnist", "--data-dir", str(folder)), "convnet", batches)
    return [tasks.ours(task, context), tasks.ours(task, context, OFF, "--no-ledger")]


def cifar10(context: Context) -> list[Arm]:
    """ResNet-18 on CIFAR-10."""
    folder = tasks.cifar10(context)
    task = tasks.Task("cifar10", folder, (str(folder),), "resnet18", {"tiny": 2}.get(context.size, 20))
    return [tasks.ours(task, context), tasks.ours(task, context, OFF, "--no-ledger")]


MNIST = Bench("watching_mnist", "Recording on and off: MNIST, convnet, one thread", mnist, threads=1, on_one_cpu=True)
CIFAR10 = Bench("watching_cifar10", "Recording on and off: CIFAR-10, resnet18", cifar10)
