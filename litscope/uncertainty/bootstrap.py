"""Bootstrap intervals (Efron 1979): how far a figure would scatter had other samples been drawn.

Samples that belong together (images of one patient, of one sky field) are drawn together, as whole groups (Field and
Welsh 2007): taken one by one they would seem to tell more than they do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_DRAWS = 1000
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


def interval(
    figure: Callable[[Ids], float],
    count: int,
    groups: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of a figure.

    Args:
        figure: of samples by their positions (n,), of which some come several times; nan where it is not defined.
        count: N, of samples.
        groups: (N,) what each sample belongs to; None: each to itself.
        seed: of the draws.
    """
    units = None if groups is None else _units(groups)
    num_units = count if units is None else len(units)
    value = figure(np.arange(count, dtype=np.int64))
    draws = np.random.default_rng(seed)
    found = np.empty(num_draws)
    for i in range(num_draws):
        chosen = draws.integers(0, num_units, num_units)
        found[i] = figure(chosen if units is None else np.concatenate([units[unit] for unit in chosen]))
    defined = found[~np.isnan(found)]
    if len(defined) < LEAST_DEFINED * num_draws:
        return Interval(value, None, None, num_units)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), num_units)


def _units(groups: npt.ArrayLike) -> list[Ids]:
    """The positions of the samples of each group."""
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(number, kind="stable").astype(np.int64)
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
