"""What the scripts beside this file train on: pictures of handwritten digits, and networks for them."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset

_DIGITS = load_digits()
PICTURES = torch.tensor(_DIGITS.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8)
LABELS = torch.tensor(_DIGITS.target)


class Digits(Dataset[Any]):
    """Items are (picture, a number of the data set's own, label)."""

    def __init__(self, first: int, count: int, id_base: int = 0) -> None:
        self.pictures, self.digits = PICTURES[first : first + count], LABELS[first : first + count]
        self.id_base = id_base

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.pictures[index], self.id_base + index, int(self.digits[index])


class Rows(Digits):
    """The same as rows of a table; `__getitems__` takes one index, as the published tables' does."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__(first, count)
        self.features = self.pictures.flatten(1)
        self.labels = (self.digits == 8).long()  # a rare class, as fraud is

    def __getitems__(self, index: int) -> tuple[Tensor, int, int]:
        return self.features[index], index, int(self.labels[index].item())

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.features[index], index, int(self.labels[index].item())


def network(num_features: int = 64, num_classes: int = 10) -> nn.Sequential:
    """A small network with named parts."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(num_features, 32), nn.ReLU(), nn.Linear(32, num_classes))
