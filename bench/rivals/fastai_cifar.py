"""fastai on CIFAR-10 from JPEG files: `ImageDataLoaders.from_folder`, a `Learner`, `fit`, as its documentation shows.

Epochs are shortened by its own ShortEpochCallback. Of its augmentation only the flip is on, which is less work than
the other arms do. The network is torchvision's resnet18 with the stem for small images (11,173,962 parameters).
fastai's own mixed precision turns itself off without a GPU, so for bf16 the forward pass is put under autocast.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from fastai.callback.training import ShortEpochCallback
from fastai.vision.all import (
    Callback,
    Flip,
    ImageDataLoaders,
    Learner,
    Normalize,
    OptimWrapper,
    cifar_stats,
)
from torch import nn
from torchvision.models import resnet18
from turns import Turns


class InTurn(Callback):
    """Waits for the turn before training, and stops the clock after it; counts the samples in between."""

    order = 100

    def __init__(self, turns: Turns) -> None:
        self.turns, self.num_samples = turns, 0

    def before_train(self) -> None:
        self.num_samples = 0
        self.turns.begin()

    def before_batch(self) -> None:
        if self.training:
            self.num_samples += len(self.xb[0])

    def after_train(self) -> None:
        self.turns.end(self.num_samples)


class InPrecision(nn.Module):
    """A network whose forward pass is in bf16, by autocast; (B, K, H, W) -> (B, C) in float32."""

    def __init__(self, net: nn.Module, is_bf16: bool) -> None:
        super().__init__()
        self.net, self.is_bf16 = net, is_bf16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.is_bf16):
            return self.net(x).float()


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
    # ShortEpochCallback ends an epoch after the first batch whose index is not below this share of the epoch.
    share = (options.batches - 1.5) / len(data.train)
    callbacks = [ShortEpochCallback(pct=share), InTurn(turns)]
    net = InPrecision(net, options.precision == "bf16")
    learner = Learner(data, net, nn.CrossEntropyLoss(), partial(OptimWrapper, opt=torch.optim.AdamW), cbs=callbacks)
    with learner.no_bar(), learner.no_logging():
        learner.fit(options.epochs, 1e-3, wd=0.01)
    turns.finish(sum(parameter.numel() for parameter in net.parameters()))


if __name__ == "__main__":
    main()
