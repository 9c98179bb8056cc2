"""What the plain scripts share: the data sets as torchvision gives them, the network, and accuracy on the test set.

The network is built by litscope, so that every arm trains the same parameters. Optimizer: AdamW, a constant rate
of 1e-3, weight decay 0.01 (torch's defaults), in every arm.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import litscope  # noqa: F401 - first: it mends a torchvision that does not fit torch

# ruff: isort: split
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import datasets, transforms

from litscope.models.networks.backbones import build
from litscope.models.networks.nets import Mlp
from litscope.models.networks.zoos import Backbone

CIFAR = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))


def arguments() -> argparse.Namespace:
    """The flags that every plain script takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["cifar10", "mnist", "table", "synthetic"])
    parser.add_argument("data", type=Path, help="folder, or .npz file with X, y, X_test and y_test")
    parser.add_argument("--arch", required=True, help="an architecture, or mlp:64,64 for an MLP of these widths")
    parser.add_argument("--batches", type=int, required=True, help="training batches an epoch")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--image-size", type=int, help="side of the images; CIFAR-10 is enlarged")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32", help="bf16: autocast")
    parser.add_argument("--tuned", action="store_true", help="litscope's memory format, and a fused optimizer")
    parser.add_argument("--resident", action="store_true", help="a table's rows stay in memory as one tensor")
    return parser.parse_args()


def dataset(options: argparse.Namespace, is_training: bool = True) -> Dataset[Any]:
    """The training set with the augmentation that tutorials use, or the test set."""
    task, data, size = options.task, options.data, options.image_size or 32
    if task == "cifar10":
        steps = [transforms.Resize(size)] if size != 32 else []
        steps += [transforms.RandomCrop(size, size // 8), transforms.RandomHorizontalFlip()] if is_training else []
        folder = data / ("train" if is_training else "test")
        return datasets.ImageFolder(str(folder), transforms.Compose([*steps, transforms.ToTensor(), CIFAR]))
    if task == "mnist":
        steps = [transforms.RandomCrop(28, padding=2)] if is_training else []
        steps += [transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)]
        return datasets.MNIST(str(data), train=is_training, transform=transforms.Compose(steps))
    arrays = np.load(data)
    x, y = ("X", "y") if is_training else ("X_test", "y_test")
    return TensorDataset(torch.from_numpy(arrays[x]), torch.from_numpy(arrays[y]))


def loader(options: argparse.Namespace) -> DataLoader[Any]:
    """A shuffling DataLoader; tables need no worker processes."""
    workers = 0 if options.task == "table" else options.num_workers
    return DataLoader(
        dataset(options),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=options.device != "cpu",
    )


def network(options: argparse.Namespace) -> Backbone:
    """The network that litscope trains on the same task."""
    name, _, widths = options.arch.partition(":")
    if name == "mlp":
        return Backbone(Mlp(32, 10, [int(width) for width in widths.split(",")]))
    channels, pixels = (1, 28) if options.task == "mnist" else (3, options.image_size or 32)
    return build(name, 10, in_channels=channels, image_size=pixels)


def plain_network(options: argparse.Namespace) -> torch.nn.Module:
    """The same in torch's default memory format, as a plain script has it, unless --tuned is given."""
    made = network(options)
    return made.net if options.tuned else made.net.to(memory_format=torch.contiguous_format)


def autocast(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """bf16 where it is asked for."""
    return torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16")


def wait_for(device: str) -> None:
    """Wait until the device has done all its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def accuracy(net: torch.nn.Module, options: argparse.Namespace) -> float | None:
    """Share of the test set that is right, in [0, 1]; None for tasks where only speed matters."""
    if options.task not in ("table", "mnist"):
        return None
    correct = count = 0
    net.eval()
    with torch.no_grad():
        for x, y in DataLoader(dataset(options, is_training=False), batch_size=1000):
            correct += int((net(x.to(options.device)).argmax(1).cpu() == y).sum())
            count += len(y)
    return correct / count


def num_parameters(net: torch.nn.Module) -> int:
    """The number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in net.parameters())
