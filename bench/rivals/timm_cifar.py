"""timm on CIFAR-10 from JPEG files: its dataset, loader, optimizer and meters, in the loop of its train script.

The script itself is not in the package on the index; the loop here is written from its documentation, with its
defaults: cross-entropy, no channels_last, no compilation, autocast if a precision is given. Random resized crop
and flip are on, colour jitter (its default, 0.4) is off, which is less work than its script does. The network is its
resnet18 with the stem for small images (11,173,962 parameters).
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
from timm import create_model
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter
from torch import nn
from turns import Turns


def main() -> None:
    """Train, and report samples per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    options = parser.parse_args()
    loader = create_loader(
        create_dataset("", root=str(options.data), split="train", is_training=True),
        input_size=(3, 32, 32),
        batch_size=options.batch_size,
        is_training=True,
        use_prefetcher=False,
        scale=(0.8, 1.0),
        color_jitter=0.0,
        num_workers=2,
        device=torch.device("cpu"),
    )
    net = create_model("resnet18", num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.01)
    loss_function = nn.CrossEntropyLoss()
    turns = Turns()
    for _ in range(options.epochs):
        net.train()
        losses = AverageMeter()
        turns.begin()
        for x, y in islice(loader, options.batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                loss = loss_function(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), len(x))
        turns.end(options.batches * options.batch_size)
    turns.finish(sum(parameter.numel() for parameter in net.parameters()))


if __name__ == "__main__":
    main()
