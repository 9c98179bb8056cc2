"""Exercise 1: a LightningDataModule for iris that is the same in every process.

On several devices each process makes the data module for itself. If they split the flowers differently, one of them
trains on what another validates with, and nobody tells you. It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
from sklearn.datasets import load_iris
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


def split(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """The row numbers to train on, and the row numbers to validate with."""
    # Yours (1a): draw an order of the numbers 0 to count - 1 and cut it in two. Draw it with a torch.Generator that
    # has a seed of its own: what else the process has drawn before must not matter.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[held_out:], order[:held_out]
    # End (1a)


class IrisData(L.LightningDataModule):
    """150 flowers, 30 of them to validate with."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:  # noqa: ARG002
        iris = load_iris()
        x, y = torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target)
        train, val = split(len(y), held_out=30)
        # Yours (1b): standardise x by the mean and the deviation of the training rows alone (what validation rows
        # look like is not known in training), and set self.train and self.val, a TensorDataset each.
        x = (x - x[train].mean(0)) / x[train].std(0)
        self.train, self.val = TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])
        # End (1b)

    def train_dataloader(self) -> DataLoader[Any]:
        # Yours (1c): a DataLoader over self.train, with self.batch_size, in a new order each epoch.
        return DataLoader(self.train, self.batch_size, shuffle=True)
        # End (1c)

    def val_dataloader(self) -> DataLoader[Any]:
        # Yours (1d): a DataLoader over self.val. Does validation need an order?
        return DataLoader(self.val, self.batch_size)
        # End (1d)


def main() -> None:
    found = []
    for seed in (1, 2):  # two processes that have drawn other random numbers
        torch.manual_seed(seed)
        train, val = split(150, held_out=30)
        found.append((train.tolist(), val.tolist()))
    train_rows, val_rows = found[0]
    right(found[0] == found[1], "two processes split the flowers differently (1a)")
    right(len(val_rows) == 30, f"30 flowers validate, here {len(val_rows)} (1a)")
    right(sorted([*train_rows, *val_rows]) == list(range(150)), "each flower is in one of the two splits (1a)")

    data = IrisData()
    data.setup("fit")
    x = torch.stack([row for row, _ in data.train])
    right(x.shape == (120, 4), f"120 training rows of 4 features, here {tuple(x.shape)} (1b)")
    right(x.mean(0).abs().max() < 1e-5, "the training rows have mean 0 (1b)")
    right((x.std(0) - 1).abs().max() < 1e-5, "the training rows have deviation 1 (1b)")
    loader = data.train_dataloader()
    first, second = (torch.cat([y for _, y in loader]) for _ in range(2))
    right(len(first) == 120 and not torch.equal(first, second), "each epoch has another order (1c)")
    first, second = (torch.cat([y for _, y in data.val_dataloader()]) for _ in range(2))
    right(len(first) == 30 and torch.equal(first, second), "validation has the same order each time (1d)")
    print("right: 120 flowers train and 30 validate, the same ones in every process")


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
