"""A person's own LightningModule as it is, with `Scope`, and with wrapped parts, by turns in one process.

    python bench/rivals/watched_rounds.py mnist|cifar10 FOLDER --batches N --rounds N [--only ARM]

Two processes of the same program differ by several percent as long as they live (it depends on where their memory
lies), which is more than watching costs. So all arms share one process, and each turn is a fit of one epoch, timed by
the module's own hooks from the start of the epoch to its end, including what the callback does then. Reports `rates`:
{arm: [samples per second]}. With --only it takes turns with other processes, as an arm of a bench.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
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
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from turns import Turns, say

import litscope.watch as wl
from litscope.models.networks.backbones import build

ARMS = ("scope", "none", "wrapped", "scope again")


class Own(L.LightningModule):
    """A classifier as its author wrote it; `loss_of` is a watched loss where parts are wrapped."""

    def __init__(self, net: nn.Module, loss_of: Any = None, turns: Turns | None = None, num_samples: int = 0) -> None:
        super().__init__()
        self.net, self.loss_of, self.turns, self.num_samples = net, loss_of, turns, num_samples

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
        optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)
        return optimizer if self.loss_of is None else wl.watch_or_edit(optimizer, flag="optimizer")

    def on_train_epoch_start(self) -> None:
        if self.turns is not None:
            self.turns.begin()
        self.began = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.took = time.perf_counter() - self.began
        if self.turns is not None:
            self.turns.end(self.num_samples)


def training_set(task: str, folder: Path, count: int) -> Any:
    """The first `count` images, without augmentation; those of CIFAR-10 are decoded beforehand."""
    if task == "mnist":
        return mnist_cnn.training_set(folder, count)
    images = datasets.ImageFolder(str(folder / "train"), transforms.ToTensor())
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return [images[i] for i in order]


def fit(arm: str, net: nn.Module, data: Any, batch_size: int, epochs: int = 1, turns: Turns | None = None) -> float:
    """Train, and return the seconds of the last epoch."""
    loss_of, callbacks = None, []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if arm.startswith("wrapped"):
            wl.watch_or_edit({"run_dir": f"{folder}/run"}, flag="hyperparameters")
            loss_of = wl.watch_or_edit(
                nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="loss-CE", log=True
            )
            loader = wl.watch_or_edit(data, flag="data", batch_size=batch_size, shuffle=True)
        else:
            if arm.startswith("scope"):
                data, callbacks = wl.with_ids(data), [wl.Scope(f"{folder}/run")]
            loader = DataLoader(data, batch_size, shuffle=True)
        module = Own(net, loss_of, turns, len(data))
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        trainer.fit(module, loader)
        wl.keep_serving()
    return module.took


def main() -> None:
    """Take turns, and report samples per second."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["mnist", "cifar10"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--only", choices=ARMS)
    options = parser.parse_args()
    count = options.batches * options.batch_size
    data = training_set(options.task, options.folder, count)
    net = mnist_cnn.network() if options.task == "mnist" else build("resnet18", 10, in_channels=3, image_size=32).net
    if options.only:
        turns = Turns()
        fit(options.only, net, data, options.batch_size, options.rounds, turns)
        turns.finish(sum(parameter.numel() for parameter in net.parameters()))
        return
    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for number in range(options.rounds + 1):
        for arm, found in rates.items():
            took = fit(arm, net, data, options.batch_size)
            if number:  # the first round is cold
                found.append(round(count / took, 1))
        print(f"round {number}: {', '.join(f'{arm} {found[-1:]}' for arm, found in rates.items())}", file=sys.stderr)
    say("end", rates=rates)


if __name__ == "__main__":
    main()
