"""Step 4: the data become a LightningDataModule, which each process can make; so several devices are two flags.

python examples/plain_to_lightning/step4_datamodule.py [--epochs 5] [--devices 2] [--accelerator cpu]
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning.pytorch as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class DigitsData(L.LightningDataModule):
    """1,797 images of 8 x 8 pixels as rows of 64 numbers, in a fixed order; the first 300 are for validation."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:  # noqa: ARG002
        found = load_digits()
        order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
        x, y = torch.tensor(found.data, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]
        self.train, self.val = TensorDataset(x[300:], y[300:]), TensorDataset(x[:300], y[:300])

    def train_dataloader(self) -> DataLoader[Any]:
        order = torch.Generator().manual_seed(1)
        return DataLoader(self.train, self.batch_size, shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, batch_size=100)


class Digits(L.LightningModule):
    """What is learned, against which loss, and how: but not when, where, or from which files."""

    def __init__(self, hidden: int = 128, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        x, y = batch[:2]
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y), sync_dist=True)
        return {"loss": loss, "logits": logits}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        x, y = batch[:2]
        logits = self.net(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y), sync_dist=True)
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), batch_size=len(y), sync_dist=True)
        return {"logits": logits}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


class EpochLines(L.Callback):
    """Prints and keeps the numbers of each epoch."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.history.append(logged)
        if trainer.is_global_zero:  # of several processes one prints
            numbers = ", ".join(f"{name} {logged[name]:.4f}" for name in ("train_loss", "val_loss"))
            print(f"epoch {trainer.current_epoch}: {numbers}, val_acc {logged['val_acc']:.3f}")


def train(epochs: int, **hardware: Any) -> list[dict[str, float]]:
    """Train; the numbers of each epoch. `hardware`: accelerator, devices, strategy, num_nodes of the Trainer."""
    L.seed_everything(1)
    lines = EpochLines()
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[lines],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        **hardware,
    )
    trainer.fit(Digits(), datamodule=DigitsData())
    return lines.history


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    train(options.epochs, accelerator=options.accelerator, devices=options.devices)
