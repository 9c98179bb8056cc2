"""Features as directions: their mean taken off, and each of length 1. Between these, distances are cosine distances.

The features of a network are sums of positive numbers, so all of them point the same way; what tells images apart is
where they point from their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from litscope.features.file import Features

_BLOCK = 8_192  # rows that are held as float64 at once


@dataclass(frozen=True)
class Unit:
    """The directions of a table of features, made from a few rows at a time: the table may be larger than memory.

    Attributes:
        rows: (N, F).
        mean: (F,) float32.
    """

    rows: Features
    mean: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Features, ids: NDArray[np.int64]) -> Unit:
        """Around the mean of the rows `ids` (n,), n > 0."""
        total = np.zeros(rows.shape[1])
        for start in range(0, len(ids), _BLOCK):
            total += rows[ids[start : start + _BLOCK]].sum(0, dtype=np.float64)
        return cls(rows, (total / len(ids)).astype(np.float32))

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(b, F) of the rows `ids` (b,); zeros for a row that is the mean itself."""
        found = self.rows[ids].astype(np.float32) - self.mean
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(length, np.finfo(np.float32).tiny)  # type: ignore[no-any-return]
