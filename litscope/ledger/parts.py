"""Parts: the Parquet files of a run's `signals/`. What their names say, and what their footers say. No torch.

A part is written aside and renamed into place, so that it is whole or absent; it belongs to one attempt and one rank,
and is called `a0001-r000-000000012.parquet`. `writer` makes parts, `reader` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.errors import LedgerError
from litscope.ledger.schema import check_version
from litscope.seals import DamagedError, check

_PART_NAME = re.compile(r"a(\d{4,})-r(\d{3,})-(\d{9,})\.parquet")


class Part(NamedTuple):
    """One file of `signals/`."""

    path: Path
    attempt: int
    rank: int
    number: int


def part_name(attempt: int, rank: int, number: int) -> str:
    """The name of a part: `a0001-r000-000000012.parquet`."""
    return f"a{attempt:04d}-r{rank:03d}-{number:09d}.parquet"


def list_parts(folder: Path) -> list[Part]:
    """The parts in `folder`, by attempt, rank and number. Temporaries are passed over.

    Raises:
        LedgerError: if a Parquet file there has a name that this version does not know.
    """
    parts = []
    for path in folder.glob("*.parquet") if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        match = _PART_NAME.fullmatch(path.name)
        if match is None:
            raise LedgerError(
                f"{path} is not named like a part (a0001-r000-000000000.parquet). A newer litscope may have written "
                "it (pip install --upgrade litscope); else move it out of the signals folder."
            )
        parts.append(Part(path, *map(int, match.groups())))
    return sorted(parts, key=lambda part: part[1:])


Ranges = dict[str, tuple[Any, Any]]
"""Column -> its least and its greatest value in one part."""


def read_ranges(path: Path) -> Ranges:
    """The column ranges in a part's footer, if that is what was written. Its rows are not looked at (`check_rows`).

    Raises:
        LedgerError: if the part is damaged, or not of a format that this version reads.
    """
    try:
        check(path, footer_only=True)
        metadata = pq.read_metadata(path)
    except (OSError, DamagedError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    check_version(metadata.metadata, path)
    ranges = {}
    for name in ("sample_id", "step", "epoch", "split"):
        column = metadata.schema.names.index(name)
        found = [metadata.row_group(g).column(column).statistics for g in range(metadata.num_row_groups)]
        ranges[name] = (min(s.min for s in found), max(s.max for s in found))
    return ranges


def check_rows(paths: Iterable[Path]) -> None:
    """Read parts from end to end, before their rows are used.

    Raises:
        LedgerError: if one is not what was written.
    """
    for path in paths:  # not by threads: a process that ends reads once more, and can start none
        try:
            check(path)
        except (OSError, DamagedError) as error:
            raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> LedgerError:
    """The error of a part that cannot be read."""
    return LedgerError(
        f"{path} cannot be read: {error}. Its rows are lost; move it out of the signals folder to read the rest."
    )
