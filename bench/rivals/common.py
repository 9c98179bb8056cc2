"""What the plain scripts share: the data sets as torchvision gives them, and how speed is counted.

The network is built by litscope, so that every arm trains the same parameters.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import datasets, transforms

from litscope.models.backbones import Backbone, build

CIFAR = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))


def arguments() -> argparse.Namespace:
    """Flags that each plain script takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["cifar10", "mnist", "table"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--batches", type=int, required=True, help="training batches an epoch")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-workers", type=int, default=2)
    return parser.parse_args()


def dataset(task: str, data: Path) -> Dataset[Any]:
    """The training set with the augmentation that tutorials use."""
    if task == "cifar10":
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(), CIFAR]
        return datasets.ImageFolder(str(data / "train"), transforms.Compose(steps))
    if task == "mnist":
        steps = [transforms.RandomCrop(28, padding=2), transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)]
        return datasets.MNIST(str(data), train=True, transform=transforms.Compose(steps))
    arrays = np.load(data)
    return TensorDataset(torch.from_numpy(arrays["X"]), torch.from_numpy(arrays["y"]))


def loader(options: argparse.Namespace) -> DataLoader[Any]:
    """A shuffling DataLoader; tables need no worker processes."""
    workers = 0 if options.task == "table" else options.num_workers
    return DataLoader(
        dataset(options.task, options.data),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def network(task: str) -> Backbone:
    """The network that litscope trains on the same task."""
    if task == "cifar10":
        return build("resnet18", 10, in_channels=3, image_size=32)
    if task == "mnist":
        return build("convnet", 10, in_channels=1, image_size=28)
    return build("mlp", 10, num_features=32)


def plain_network(task: str) -> torch.nn.Module:
    """The same in torch's default memory format, as a plain script would have it."""
    return network(task).net.to(memory_format=torch.contiguous_format)


class Clock:
    """Samples per second of each epoch's training, the first (warm-up) left out."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.start = 0.0

    def begin(self) -> None:
        """An epoch's training begins."""
        self.start = time.perf_counter()

    def end(self, num_samples: int) -> None:
        """An epoch's training ended after `num_samples`."""
        self.rates.append(num_samples / (time.perf_counter() - self.start))

    def report(self, net: torch.nn.Module) -> None:
        """Print the JSON line that the harness reads."""
        parameters = sum(p.numel() for p in net.parameters())
        rate = float(np.median(self.rates[1:]))
        print(json.dumps({"samples_per_s": rate, "num_parameters": parameters}))
