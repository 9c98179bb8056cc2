"""Parts: the Parquet files of a run's `signals/` and `custom/`. What their names say, and their footers. No torch.

A part is written aside and renamed into place, so that it is whole or absent; it belongs to one attempt and one rank,
and is called `a0001-r000-000000012.parquet`. A *joined* part, `a0001-r000-000000000-000000031.parquet`, holds the rows
of the parts 0 to 31, which are removed once it is there (`compaction`). Until they are, its name says that they do not
count: so every row is found once at any moment. `writer` makes parts, `reader` reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.errors import LedgerError
from litscope.ledger.schema import check_version
from litscope.seals import DamagedError, check

_PART_NAME = re.compile(r"a(\d{4,})-r(\d{3,})-(\d{9,})(?:-(\d{9,}))?\.parquet")

_REPETITIVE = ("split", "phase", "step", "epoch", "label", "pred", "name")
"""Columns of few values, which Parquet stores as a dictionary."""

ROWS_PER_GROUP = 131_072
"""Rows of a row group: readers pass over groups that hold none of the epochs or rows that they ask for."""


class Part(NamedTuple):
    """One file of `signals/` or `custom/`.

    Attributes:
        path: the file.
        attempt, rank: whose rows it holds.
        first, last: its number, twice; of a joined part, the numbers of the first and the last that it holds.
    """

    path: Path
    attempt: int
    rank: int
    first: int
    last: int

    @property
    def num_joined(self) -> int:
        """How many parts, as the writer made them, it holds."""
        return self.last - self.first + 1


class Listed(NamedTuple):
    """The parts of a folder, each list by attempt, rank and number."""

    parts: list[Part]
    """Those that count; together they hold every row once."""
    covered: list[Part]
    """Those whose rows a joined part holds too, and that are about to be removed."""


def part_name(attempt: int, rank: int, first: int, last: int | None = None) -> str:
    """The name of a part: `a0001-r000-000000012.parquet`; with `last`, that of a joined one."""
    joined = "" if last is None else f"-{last:09d}"
    return f"a{attempt:04d}-r{rank:03d}-{first:09d}{joined}.parquet"


def list_parts(folder: Path) -> list[Part]:
    """The parts in `folder` that count, by attempt, rank and number; errors as `list_all`."""
    return list_all(folder).parts


def list_all(folder: Path) -> Listed:
    """The parts in `folder`. Temporaries are passed over.

    Raises:
        LedgerError: if a Parquet file there has a name that this version does not know, or two joined parts
            hold some of the same rows.
    """
    parts = sorted((_named(folder, name) for name in _names(folder)), key=lambda p: (p[1], p[2], p.first, -p.last))
    listed = Listed([], [])
    for part in parts:
        before = listed.parts[-1] if listed.parts else None
        if before is None or before[1:3] != part[1:3] or before.last < part.first:
            listed.parts.append(part)
        elif part.last <= before.last:
            listed.covered.append(part)
        else:
            raise LedgerError(
                f"{before.path} and {part.path.name} hold some of the same rows, so it is not known which count. Two "
                "processes must have written to this run at once; restore one of the two from a copy of the run."
            )
    return listed


def _names(folder: Path) -> set[str]:
    """The names of the parts, as they were at one moment.

    A folder is not read at one moment: a joined part may come, and those that it holds may go, while it is listed. So
    it is listed until two lists are equal.
    """
    before: set[str] | None = None
    while True:
        try:
            names = {name for name in os.listdir(folder) if name.endswith(".parquet") and name[0] != "."}  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return set()
        if names == before:
            return names
        before = names


def _named(folder: Path, name: str) -> Part:
    match = _PART_NAME.fullmatch(name)
    if match is None:
        raise LedgerError(
            f"{folder / name} is not named like a part (a0001-r000-000000000.parquet). A newer litscope may have "
            "written it (pip install --upgrade litscope); else move it out of the signals folder."
        )
    attempt, rank, first, last = match.groups()
    return Part(folder / name, int(attempt), int(rank), int(first), int(first if last is None else last))


def storage(schema: pa.Schema) -> dict[str, Any]:
    """How Parquet stores the rows of a part: keywords of pyarrow's writer."""
    dictionary = [name for name in schema.names if name in _REPETITIVE]
    return {"compression": "zstd", "compression_level": 1, "use_dictionary": dictionary}


Ranges = dict[str, tuple[Any, Any]]
"""Column -> its least and its greatest value in one part."""


def read_ranges(path: Path) -> Ranges:
    """The column ranges in a part's footer, if that is what was written. Its rows are not looked at (`check_rows`).

    Raises:
        LedgerError: if the part is damaged, or not of a format that this version reads.
    """
    metadata = read_footer(path)
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


def read_footer(path: Path) -> pq.FileMetaData:
    """A part's footer, if that is what was written; errors as `read_ranges`."""
    try:
        check(path, footer_only=True)
        metadata = pq.read_metadata(path)
    except (OSError, DamagedError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    check_version(metadata.metadata, path)
    return metadata


def damaged(path: Path, error: Exception) -> LedgerError:
    """The error of a part that cannot be read."""
    return LedgerError(
        f"{path} cannot be read: {error}. Its rows are lost; move it out of the signals folder to read the rest."
    )
