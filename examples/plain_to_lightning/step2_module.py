"""Step 2: the network, its loss and its optimizer become a LightningModule. The loop is still ours.

python examples/plain_to_lightning/step2_module.py [--epochs 5]
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
        return {"loss": F.cross_entropy(logits, y), "logits": logits}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        x, y = batch[:2]
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, y), "acc": (logits.argmax(1) == y).float().mean(), "logits": logits}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def train(epochs: int) -> list[dict[str, float]]:
    """Train; the numbers of each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    module = Digits().to(device)
    optimizer = module.configure_optimizers()

    train_data, val_data = digits()
    loader = DataLoader(train_data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1))
    val_loader = DataLoader(val_data, batch_size=100)

    history = []
    for epoch in range(epochs):
        module.train()
        train_loss = 0.0
        for index, (x, y) in enumerate(loader):
            loss = module.training_step((x.to(device), y.to(device)), index)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(y) / len(train_data)

        module.eval()
        val_loss, val_acc = 0.0, 0.0
        with torch.no_grad():
            for index, (x, y) in enumerate(val_loader):
                out = module.validation_step((x.to(device), y.to(device)), index)
                val_loss += out["loss"].item() * len(y) / len(val_data)
                val_acc += out["acc"].item() * len(y) / len(val_data)

        history.append({"train_loss": train_loss, "val_loss": val_loss, "val_acc": val_acc})
        print(f"epoch {epoch}: train_loss {train_loss:.4f}, val_loss {val_loss:.4f}, val_acc {val_acc:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    train(parser.parse_args().epochs)
