"""Results as text for people: tables, and values as they are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from litscope.console import table_lines

SUSPICION = "suspicion (rank)"
"""The heading of a column of `suspicion`: it is no probability."""

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
        curves: headings of columns that hold a `console.sparkline`.
    """
    return table_lines(list(columns.values()), ([row.get(name) for name in columns] for row in rows), curves=curves)
