"""fastai on CIFAR-10 from JPEG files: `ImageDataLoaders.from_folder`, a `Learner`, `fit`, as its documentation shows.

Epochs are shortened by its own ShortEpochCallback. Of its augmentation only the flip is on, which is less work than
the other arms do. The network is torchvision's resnet18 with the stem for small images (11,173,962 parameters).
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import torch
from fastai.callback.training import ShortEpochCallback
from fastai.vision.all import (
    AMPMode,
    Callback,
    Flip,
    ImageDataLoaders,
    Learner,
    MixedPrecision,
    Normalize,
    OptimWrapper,
    cifar_stats,
)
from torch import nn
from torchvision.models import resnet18
from turns import Turns


class InTurn(Callback):
    """Waits for the turn, and takes the time of the epoch's training."""

    order = 100

    def __init__(self, turns: Turns, num_samples: int) -> None:
        self.turns, self.num_samples = turns, num_samples

    def before_train(self) -> None:
        """Wait."""
        self.turns.begin()

    def after_train(self) -> None:
        """Stop the clock."""
        self.turns.end(self.num_samples)


def main() -> None:
    """Train, and report samples per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    options = parser.parse_args()
    data = ImageDataLoaders.from_folder(
        options.data,
        train="train",
        valid="test",
        bs=options.batch_size,
        num_workers=2,
        batch_tfms=[Flip(), Normalize.from_stats(*cifar_stats)],
        device=torch.device("cpu"),
    )
    net = resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    turns = Turns()
    # The callback ends an epoch at the first batch whose share of the epoch is not below `pct`.
    share = (options.batches - 0.5) / math.floor(50_000 / options.batch_size)
    callbacks = [ShortEpochCallback(pct=share), InTurn(turns, options.batches * options.batch_size)]
    callbacks += [MixedPrecision(amp_mode=AMPMode.BF16)] if options.precision == "bf16" else []
    learner = Learner(data, net, nn.CrossEntropyLoss(), partial(OptimWrapper, opt=torch.optim.AdamW), cbs=callbacks)
    with learner.no_bar(), learner.no_logging():
        learner.fit(options.epochs, 1e-3, wd=0.01)
    turns.finish(sum(parameter.numel() for parameter in net.parameters()))


if __name__ == "__main__":
    main()
