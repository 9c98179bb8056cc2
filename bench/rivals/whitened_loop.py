"""A bare PyTorch loop that trains `whitenet` to 94 % of CIFAR-10 on a GPU: pixels on the device, nothing recorded.

It has the network, optimizer, schedule, batch size, kinds of augmentation (crop over a reflected border, flip),
averaged weights and views of a test image of recipes/cifar10_gpu.yaml, written as briefly as possible. Prints the test
accuracy as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import litscope  # noqa: F401 - first: it mends a torchvision that does not fit torch

# ruff: isort: split
import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from litscope.models.networks.nets import WhiteNet
from litscope.models.tta import views

BORDER = 2


def main() -> None:
    """Train once, and print the test accuracy and the seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help=".npz file with X, y, X_test and y_test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--batches", type=int, help="of an epoch; default: all")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    arrays = np.load(options.data)
    x, y, x_test, y_test = (
        torch.from_numpy(arrays[name]).to(options.device) for name in ("X", "y", "X_test", "y_test")
    )
    mean, std = (x.float().flatten(0, 2).mean(0) / 255, x.float().flatten(0, 2).std(0) / 255)
    x, x_test = (normalised(images, mean, std) for images in (x, x_test))
    net = WhiteNet(3, 10, 32)
    net.whiten(x[:2000])
    net = net.to(options.device, memory_format=torch.channels_last).train()
    batches = options.batches or len(y) // options.batch_size
    began = time.perf_counter()
    average = train(net, F.pad(x, (BORDER,) * 4, "reflect"), y, batches, options)
    accuracy = evaluate(average, x_test, y_test, options)
    print(json.dumps({"test/accuracy": accuracy, "train_s": time.perf_counter() - began}))


def normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(N, 32, 32, 3) uint8 to (N, 3, 32, 32) float in channels-last memory."""
    return ((images.float() / 255 - mean) / std).movedim(-1, 1)


def train(
    net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, batches: int, options: argparse.Namespace
) -> torch.nn.Module:
    """All epochs; returns the averaged network."""
    decayed = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.0013}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1.5, momentum=0.85, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.5, total_steps=options.epochs * batches, cycle_momentum=False
    )
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    for _ in range(options.epochs):
        order = torch.randperm(len(y), device=y.device)
        for number in range(batches):
            ids = order[number * options.batch_size : (number + 1) * options.batch_size]
            with torch.autocast(y.device.type, torch.bfloat16):
                loss = F.cross_entropy(net(augmented(x[ids])), y[ids], label_smoothing=0.2)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
    return average


def augmented(images: torch.Tensor) -> torch.Tensor:
    """A random crop of 32 pixels and a random flip of each image."""
    size, side = images.shape[0], images.shape[-1] - 2 * BORDER
    shift = torch.randint(2 * BORDER + 1, (2, size, 1), device=images.device)
    across = torch.arange(side, device=images.device)
    rows, columns = shift[0] + across, shift[1] + across
    flip = torch.rand(size, 1, device=images.device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    batch = torch.arange(size, device=images.device)[:, None, None]
    return images[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def evaluate(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, options: argparse.Namespace) -> float:
    """Share of the test set that is right."""
    net.eval()
    correct = 0
    for part, label in zip(x.split(options.batch_size), y.split(options.batch_size), strict=True):
        with torch.autocast(y.device.type, torch.bfloat16):
            logits = sum(weight * net(view) for weight, view in views(part, "shift"))
        correct += int((logits.argmax(1) == label).sum())
    return correct / len(y)


if __name__ == "__main__":
    main()
