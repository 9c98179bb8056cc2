"""MNIST in Lightning with wrapped parts, driven by config.yaml, on one device, or with `--preset cpu_ddp` on two.

    python examples/mnist_lightning/train.py --data-dir ../shared/data/mnist
    litscope suspects runs/mnist_lightning/watch-1

litscope's part: the lines with `wl` in them.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
import yaml
from torch import nn
from torchmetrics import Accuracy
from torchvision import datasets, transforms

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context

HERE = Path(__file__).resolve().parent


class LitMNIST(L.LightningModule):
    """A small convolutional network."""

    def __init__(self, model: nn.Module, optimizer: Any, criterion: nn.Module, metric: nn.Module) -> None:
        super().__init__()
        self.model, self.optimizer, self.criterion, self.metric = model, optimizer, criterion, metric

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        x, ids, y = batch
        with guard_training_context:  # wl: what is recorded here is training
            logits = self.model(x)
            preds = logits.argmax(1)
            loss = self.criterion(logits.float(), y.long(), batch_ids=ids, preds=preds).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        x, ids, y = batch
        with guard_testing_context:  # wl: what is recorded here is evaluation
            logits = self.model(x)
            preds = logits.argmax(1)
            loss = self.criterion(logits.float(), y.long(), batch_ids=ids, preds=preds).mean()
            self.metric.update(preds, y)
            signals = {"val_metric/Accuracy_per_sample": (preds == y).float()}
            wl.save_signals(preds_raw=logits, targets=y, batch_ids=ids, signals=signals, preds=preds)
        self.log("val_loss", loss, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        return self.optimizer


def network() -> nn.Module:
    """Two convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def mnist_root(folder: Path) -> tuple[str, bool]:
    """Where torchvision finds MNIST, and whether it has to download it. Packed files are unpacked beside the runs."""
    packed = sorted(folder.glob("*-ubyte.gz"))
    if not packed:
        return str(folder), True
    raw = Path("data") / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file in packed:
        target = raw / file.stem
        if not target.exists():
            with gzip.open(file) as source, target.with_suffix(".part").open("wb") as out:
                shutil.copyfileobj(source, out)
            target.with_suffix(".part").replace(target)
    return "data", False


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml")
    parser.add_argument("--preset", help="one of lightning_presets in the file")
    parser.add_argument("--data-dir", help="instead of the one in the file")
    parser.add_argument("--limit-batches", type=int, help="a short trial")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parameters = yaml.safe_load(options.config.read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", defaults=parameters, poll_interval=1.0)
    L.seed_everything(parameters["seed"], workers=True)

    root, download = mnist_root(Path(options.data_dir or parameters["data_dir"]))
    loaders = {}
    for name, is_training in (("train_loader", True), ("val_loader", False)):
        dataset = datasets.MNIST(root, train=is_training, download=download, transform=transforms.ToTensor())
        loaders[name] = wl.watch_or_edit(
            dataset, flag="data", loader_name=name, is_training=is_training, **parameters["data"][name]
        )

    criterion = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="loss-CE", log=True)
    accuracy = Accuracy(task="multiclass", num_classes=10)
    metric = wl.watch_or_edit(accuracy, flag="metric", signal_name="metric-ACC", log=True)
    model = wl.watch_or_edit(network(), flag="model")
    adam = torch.optim.Adam(model.parameters(), lr=parameters["optimizer"]["lr"])
    optimizer = wl.watch_or_edit(adam, flag="optimizer")

    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    limit = options.limit_batches or parameters.get("limit_batches")
    settings = dict(parameters["lightning"])
    if options.preset:
        settings |= parameters["lightning_presets"][options.preset]
    trainer = L.Trainer(
        max_epochs=parameters["max_epochs"],
        limit_train_batches=limit,
        limit_val_batches=limit,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        **settings,
    )
    trainer.fit(LitMNIST(model, optimizer, criterion, metric), loaders["train_loader"], loaders["val_loader"])
    wl.keep_serving()


if __name__ == "__main__":
    main()
