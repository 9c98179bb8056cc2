"""A person's own LightningModule: as it is, with `Scope`, or of wrapped parts; MNIST, or ResNet-18 on CIFAR-10.

python bench/rivals/watched_lightning.py none|scope|wrapped mnist|cifar10 FOLDER --batches N --epochs N
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import litscope  # noqa: F401 - first: it mends a torchvision that does not fit torch

# ruff: isort: split
import lightning.pytorch as L
import mnist_cnn
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from turns import Turns

import litscope.watch as wl
from litscope.models.backbones import build


class Own(L.LightningModule):
    """A classifier as its author wrote it; `loss_of` is a watched loss where parts are wrapped."""

    def __init__(self, net: nn.Module, turns: Turns, num_samples: int, loss_of: Any = None) -> None:
        super().__init__()
        self.net, self.turns, self.num_samples, self.loss_of = net, turns, num_samples, loss_of

    def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        """Cross-entropy of one batch."""
        if self.loss_of is not None:
            x, ids, y = batch
            with wl.guard_training_context:
                return self.loss_of(self.net(x), y, batch_ids=ids).mean()
        x, y, *ids = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        return {"loss": loss, "logits": logits, "label": y, "sample_id": ids[0]} if ids else loss

    def configure_optimizers(self) -> Any:
        """Adam."""
        optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)
        return optimizer if self.loss_of is None else wl.watch_or_edit(optimizer, flag="optimizer")

    def on_train_epoch_start(self) -> None:
        """Wait for the turn."""
        self.turns.begin()

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        self.turns.end(self.num_samples)


def training_set(task: str, folder: Path, count: int) -> Any:
    """The first `count` images, without augmentation."""
    if task == "mnist":
        return mnist_cnn.training_set(folder, count)
    images = datasets.ImageFolder(str(folder / "train"), transforms.ToTensor())
    return Subset(images, torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist())


def main() -> None:
    """Train, and report samples per second."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["none", "scope", "wrapped"])
    parser.add_argument("task", choices=["mnist", "cifar10"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    count = options.batches * options.batch_size
    data = training_set(options.task, options.folder, count)
    net = mnist_cnn.network() if options.task == "mnist" else build("resnet18", 10, in_channels=3, image_size=32).net
    loss_of, callbacks = None, []
    run = Path(tempfile.mkdtemp(dir=".")) / "run"
    if options.how == "wrapped":
        wl.watch_or_edit({"run_dir": str(run)}, flag="hyperparameters")
        loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="loss-CE", log=True)
        loader = wl.watch_or_edit(data, flag="data", batch_size=options.batch_size, shuffle=True)
    else:
        if options.how == "scope":
            data, callbacks = wl.with_ids(data), [wl.Scope(run)]
        loader = DataLoader(data, options.batch_size, shuffle=True)
    turns = Turns()
    module = Own(net, turns, count, loss_of)
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(module, loader)
    wl.keep_serving()
    turns.finish(sum(parameter.numel() for parameter in net.parameters()))


if __name__ == "__main__":
    main()
