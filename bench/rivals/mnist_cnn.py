"""The network and the data for the benches of watching. They need only torch and torchvision, for any environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Subset
from torchvision import datasets, transforms


def network() -> nn.Sequential:
    """Two convolutions and two linear layers, 421,642 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def training_set(folder: Path, count: int) -> Any:
    """The first `count` images of MNIST, as tensors in [0, 1]."""
    return Subset(datasets.MNIST(str(folder), train=True, transform=transforms.ToTensor()), range(count))
