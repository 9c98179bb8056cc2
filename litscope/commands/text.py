"""Results as text for people: tables, and a curve in one line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from litscope.console import table_lines

_BLOCKS = "▁▂▃▄▅▆▇█"
SUSPICION = "suspicion (rank)"
"""The heading of a column of `suspicion`: it is no probability."""

LONGEST = 20
"""Most characters of a sparkline: a longer curve is averaged over equal pieces."""


def sparkline(values: Sequence[float | None]) -> str:
    """Values from 0 to 1 as one line of blocks; a dot where there is none.

    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▅·█'
    """
    num = min(len(values), LONGEST)
    bounds = [i * len(values) // num for i in range(num)] + [len(values)] if num else []
    pieces = [values[start:end] for start, end in itertools.pairwise(bounds)]
    return "".join(_block([v for v in piece if v is not None and not math.isnan(v)]) for piece in pieces)


def _block(values: list[float]) -> str:
    if not values:
        return "·"
    mean = min(1.0, max(0.0, sum(values) / len(values)))
    return _BLOCKS[min(int(mean * len(_BLOCKS)), len(_BLOCKS) - 1)]


EPOCHS = ("epoch", "first_learned_epoch")
"""Columns that hold the number of an epoch, from 0; -1 for none."""


def as_read(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of stored values as a person reads it: epochs count from 1.

    >>> as_read({"epoch": 0, "first_learned_epoch": -1, "step": 0})
    {'epoch': 1, 'first_learned_epoch': None, 'step': 0}
    """
    return {name: _epoch_as_read(value) if name in EPOCHS else value for name, value in row.items()}


def _epoch_as_read(epoch: int | None) -> int | None:
    return None if epoch is None or epoch < 0 else epoch + 1


def table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, curves: Collection[str] = ()) -> list[str]:
    """Rows as the lines of a table; see `console.table_lines`.

    Args:
        rows: name -> value.
        columns: name in the rows -> heading.
        curves: headings of columns that hold a `sparkline`.
    """
    return table_lines(list(columns.values()), ([row.get(name) for name in columns] for row in rows), curves=curves)
