"""Neighbours: which images a network finds most alike, by the cosine distance of their features, from 0 to 1.

All pairs are compared, a block of rows at a time. 60,000 images of 1,280 features take a few minutes on two cores and
half a gigabyte; the time grows with the square of the number, so there is a most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.data.manifest import UNLABELLED
from litscope.errors import DataError
from litscope.features.file import Features

NUM_NEIGHBOURS = 10
MOST_IMAGES = 100_000
"""Above, all pairs would take a quarter of an hour and more."""

_BLOCK = 1_024  # rows that are compared with all others at once


class Neighbours(NamedTuple):
    """The nearest other images of each of n images.

    Attributes:
        ids: (n,) int64, ascending.
        nearest: (n, k) int64, ids of the others, the nearest first; k is `NUM_NEIGHBOURS`, or n - 1 of fewer images.
        distances: (n, k) float32: 1 - cosine, 0 for the same features.
    """

    ids: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.float32]

    def agreement(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n,) the share of the labelled neighbours that have the sample's label; NaN where there is none to compare.

        Args:
            labels: (N,) of all samples, by id; -1 for none.
        """
        own, others = labels[self.ids][:, None], labels[self.nearest]
        is_known = (others != UNLABELLED) & (own != UNLABELLED)
        count = is_known.sum(1)
        same = ((own == others) & is_known).sum(1)
        share = np.divide(same, count, out=np.full(len(own), np.nan), where=count > 0)
        return np.asarray(share, np.float32)


def find_neighbours(rows: Features, ids: NDArray[np.int64]) -> Neighbours:
    """Compare all pairs of images.

    Args:
        rows: (N, F).
        ids: (n,) ascending: the images to compare.

    Raises:
        DataError: for more than `MOST_IMAGES` images, or fewer than two.
    """
    if not 2 <= len(ids) <= MOST_IMAGES:
        raise DataError(f"Neighbours are found among 2 to {MOST_IMAGES:,} images, and there are {len(ids):,}.")
    unit = torch.from_numpy(rows[ids].astype(np.float32))
    unit /= unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
    num = min(NUM_NEIGHBOURS, len(ids) - 1)
    nearest, distances = np.empty((len(ids), num), np.int64), np.empty((len(ids), num), np.float32)
    for start in range(0, len(ids), _BLOCK):
        block = unit[start : start + _BLOCK]
        cosine = block @ unit.T
        at = torch.arange(len(block))
        cosine[at, at + start] = -2.0  # nothing is its own neighbour
        found = cosine.topk(num, dim=1)
        nearest[start : start + _BLOCK] = ids[found.indices.numpy()]
        distances[start : start + _BLOCK] = (1 - found.values).clamp_min(0).numpy()
    return Neighbours(ids, nearest, distances)
