"""Bootstrap intervals (Efron 1979): how far a figure would scatter had other samples been drawn.

Samples that belong together (images of one patient, of one sky field) are drawn together, as whole groups (Field and
Welsh 2007): taken one by one they would seem to tell more than they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_DRAWS, LEAST_DRAWS = 1000, 200
MOST_DRAWN = 10**8
"""Draws; of very many samples fewer, so that not more than this are drawn in all."""

LEAST_DEFINED = 0.9
"""The share of draws in which a figure must be defined, for its interval to mean something."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A figure with the range that holds 95 % of what it is in bootstrap draws.

    Attributes:
        value: of the samples as they are.
        low, high: the range; None where it is defined in too few draws.
        num_units: groups, or samples where none are known, that were drawn from.
    """

    value: float
    low: float | None
    high: float | None
    num_units: int


def intervals(
    figures: Callable[[Ids], Sequence[float]],
    count: int,
    groups: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """The percentile interval of each of several figures, from the same draws.

    Args:
        figures: of samples by their positions (n,), of which some come several times; nan where one is not defined.
        count: N, of samples.
        groups: (N,) what each sample belongs to; None: each to itself.
        seed: of the draws.
    """
    units = None if groups is None else _units(groups)
    num_units = count if units is None else len(units)
    values = figures(np.arange(count, dtype=np.int64))
    draws = np.random.default_rng(seed)
    found = np.empty((max(LEAST_DRAWS, min(NUM_DRAWS, MOST_DRAWN // max(1, count))), len(values)))
    for row in found:
        chosen = draws.integers(0, num_units, num_units)
        row[:] = figures(chosen if units is None else np.concatenate([units[unit] for unit in chosen]))
    return [_interval(value, column, num_units, level) for value, column in zip(values, found.T, strict=True)]


def _interval(value: float, draws: npt.NDArray[np.float64], num_units: int, level: float) -> Interval:
    defined = draws[~np.isnan(draws)]
    if len(defined) < LEAST_DEFINED * len(draws):
        return Interval(value, None, None, num_units)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), num_units)


def _units(groups: npt.ArrayLike) -> list[Ids]:
    """The positions of the samples of each group."""
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(number, kind="stable").astype(np.int64)
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
