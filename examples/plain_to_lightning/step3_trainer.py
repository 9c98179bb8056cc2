"""Step 3: the loop goes; Lightning's Trainer has one. What we did at the end of an epoch becomes a callback.

python examples/plain_to_lightning/step3_trainer.py [--epochs 5]
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


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1,797 images of 8 x 8 pixels as rows of 64 numbers, in a fixed order; the first 300 are for validation."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(found.data, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]
    return TensorDataset(x[300:], y[300:]), TensorDataset(x[:300], y[:300])


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
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return {"loss": loss, "logits": logits}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        x, y = batch[:2]
        logits = self.net(x)
        self.log("val_loss", F.cross_entropy(logits, y), batch_size=len(y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), batch_size=len(y))
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
        numbers = ", ".join(f"{name} {logged[name]:.4f}" for name in ("train_loss", "val_loss"))
        print(f"epoch {trainer.current_epoch}: {numbers}, val_acc {logged['val_acc']:.3f}")


def train(epochs: int) -> list[dict[str, float]]:
    """Train; the numbers of each epoch."""
    L.seed_everything(1)
    module, lines = Digits(), EpochLines()

    train_data, val_data = digits()
    loader = DataLoader(train_data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1))
    val_loader = DataLoader(val_data, batch_size=100)

    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[lines],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        devices=1,
    )
    trainer.fit(module, loader, val_loader)
    return lines.history


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    train(parser.parse_args().epochs)
