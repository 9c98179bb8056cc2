"""Step 1: handwritten digits in plain PyTorch, before anything is changed.

python examples/plain_to_lightning/step1_plain.py [--epochs 5]
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1,797 images of 8 x 8 pixels as rows of 64 numbers, in a fixed order; the first 300 are for validation."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(found.data, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]
    return TensorDataset(x[300:], y[300:]), TensorDataset(x[:300], y[:300])


def train(epochs: int) -> list[dict[str, float]]:
    """Train; the numbers of each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)

    train_data, val_data = digits()
    loader = DataLoader(train_data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1))
    val_loader = DataLoader(val_data, batch_size=100)

    history = []
    for epoch in range(epochs):
        net.train()
        train_loss = 0.0
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(y) / len(train_data)

        net.eval()
        val_loss, val_acc = 0.0, 0.0
        with torch.no_grad():
            for x, y in val_loader:
                x, y = x.to(device), y.to(device)
                logits = net(x)
                val_loss += F.cross_entropy(logits, y).item() * len(y) / len(val_data)
                val_acc += (logits.argmax(1) == y).sum().item() / len(val_data)

        history.append({"train_loss": train_loss, "val_loss": val_loss, "val_acc": val_acc})
        print(f"epoch {epoch}: train_loss {train_loss:.4f}, val_loss {val_loss:.4f}, val_acc {val_acc:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    train(parser.parse_args().epochs)
