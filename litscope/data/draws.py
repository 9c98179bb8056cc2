"""Draws: which samples an epoch trains on where it may draw one several times, or not at all. No torch.

    balanced    every class equally often, and each sample of a class equally often
    weighted    each sample in proportion to the weight that people gave it

An epoch draws as many samples as there are. This is systematic sampling (Madow 1949, "On the theory of systematic
sampling, II"): the samples stand in a line, class beside class, each as long as its share, and marks at equal distances
pick one each. So a sample, and a class, is drawn as often as its share says, to within one, and a run of a few
epochs is not at the mercy of luck. Where in its class a sample stands and where the first mark lies are hashes of
(seed, epoch), the same on every machine and rank; no generator is drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from litscope.data.sampler import Ids, fold, hash_ids

Sampler = Literal["uniform", "balanced", "weighted"]
"""How an epoch draws; uniform takes every sample once, and needs no `Draws`."""

_LINE, _START, _TURN = 0x6C696E65, 0x7374617274, 0x7475726E  # keep the hashes of one draw apart


@dataclass(frozen=True)
class Draws:
    """How often each of N samples is drawn, relative to the others. It is the same on every rank.

    Attributes:
        labels: (N,) int64, the class of each sample as it counts now.
        weights: (N,) float64 for `weighted`, at least 0; None for `balanced`.
    """

    labels: Ids
    weights: NDArray[np.float64] | None = None

    @property
    def name(self) -> Sampler:
        """Its word for `--sampler`."""
        return "balanced" if self.weights is None else "weighted"

    def shares(self, ids: Ids) -> NDArray[np.float64]:
        """(n,) float64: how often each of `ids` is drawn, relative to the others."""
        if self.weights is not None:
            return self.weights[ids]
        labels = self.labels[ids]
        return 1.0 / np.bincount(labels)[labels]

    def draw(self, ids: Ids, count: int, key: int) -> Ids:
        """(count,) int64: samples among `ids`, in the order in which they are trained on.

        Args:
            ids: (n,) int64, distinct, each with a label and a share above 0.
            key: decides the draw; see `fold`.
        """
        ids = ids[np.lexsort((hash_ids(ids, fold(key, _LINE)), self.labels[ids]))]
        ends = np.cumsum(self.shares(ids))
        start = fold(key, _START) / 2.0**64
        marks = (np.arange(count) + start) * (ends[-1] / count)
        drawn = ids[np.searchsorted(ends, marks, side="right").clip(max=len(ids) - 1)]
        turn: Ids = drawn[np.argsort(hash_ids(np.arange(count), fold(key, _TURN)))]
        return turn


def times_before(ids: Ids) -> Ids:
    """(n,) int64: how often each of `ids` (n,) stands before its place.

    >>> times_before(np.array([7, 5, 7, 7]))
    array([0, 0, 1, 2])
    """
    order = np.argsort(ids, kind="stable")
    is_first = np.append(True, np.diff(ids[order]) != 0)[: len(ids)]
    place = np.arange(len(ids))
    found = np.empty(len(ids), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return found
