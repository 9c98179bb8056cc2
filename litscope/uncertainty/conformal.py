"""Conformal sets: of each sample the classes that it may be, so that the true one is among them as often as asked.

The promise (Vovk et al. 2005; Angelopoulos and Bates 2021, arXiv:2107.07511) takes nothing but that the samples on
which the limit was set and those that come are drawn alike, and that the labels of the former are right: the true class
is in the set with at least the asked probability, over samples and draws. It is a promise on average; with `by_class`
it holds in each class that has samples enough, at the price of larger sets.

    lac     all classes with p above a limit: the smallest sets (Sadinle et al. 2019, arXiv:1609.00451)
    aps     classes from the likeliest on until their sum passes a limit, the last one by lot: larger, and more even
            over easy and hard samples (Romano et al. 2020, arXiv:2006.02544)
    raps    the same with a fine for each class beyond the fifth, against long tails (Angelopoulos et al. 2021,
            arXiv:2009.14193)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Method = Literal["lac", "aps", "raps"]

FREE_RANKS, FINE = 5, 0.01
"""Of raps: classes without a fine, and the fine for each one after them."""


@dataclass(frozen=True)
class Conformal:
    """A limit, found on samples that were kept aside.

    Attributes:
        method: see the module.
        coverage: what was asked, 0 to 1.
        limit: (C,) the highest score that is taken in, of each class; inf where there were too few samples to set one,
            so that the class is in every set.
    """

    method: Method
    coverage: float
    limit: Floats

    def sets(self, probs: Floats, lot: Floats) -> npt.NDArray[np.bool_]:
        """(N, C) bool, whether each class is in the set of each sample.

        Args:
            probs: (N, C).
            lot: (N,) in [0, 1), a number drawn for each sample; of no effect with `lac`.
        """
        return scores(self.method, probs, lot) <= self.limit


def fit(
    probs: Floats, label: Labels, lot: Floats, coverage: float, method: Method = "lac", by_class: bool = False
) -> Conformal:
    """Set the limit.

    Args:
        probs, label: (N, C) and (N,), of samples that the network was not trained on.
        lot: (N,) in [0, 1).
        coverage: asked for, between 0 and 1.
        by_class: hold the promise in every class.
    """
    found = scores(method, probs, lot)[np.arange(len(label)), label]
    num_classes = probs.shape[1]
    if by_class:
        limit = np.array([_quantile(found[label == c], coverage) for c in range(num_classes)])
    else:
        limit = np.full(num_classes, _quantile(found, coverage))
    return Conformal(method, coverage, limit)


def scores(method: Method, probs: Floats, lot: Floats) -> Floats:
    """(N, C) how unlike its class each sample looks, by the lights of the network; see the module."""
    if method == "lac":
        return 1.0 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    sorted_probs = np.take_along_axis(probs, order, 1)
    reached = np.cumsum(sorted_probs, 1) - lot[:, None] * sorted_probs
    if method == "raps":
        reached = reached + FINE * np.maximum(0, np.arange(1, probs.shape[1] + 1) - FREE_RANKS)
    found = np.empty_like(reached)
    np.put_along_axis(found, order, reached, 1)
    return found


def _quantile(values: Floats, coverage: float) -> float:
    """The k-th smallest of n, k = ceil((n + 1) coverage); inf where there are not so many."""
    count = len(values)
    rank = int(np.ceil((count + 1) * coverage - 1e-9))
    return (
        float(np.partition(values, rank - 1)[rank - 1]) if 1 <= rank <= count else (np.inf if rank > count else -np.inf)
    )
