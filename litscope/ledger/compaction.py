"""Compaction: many small parts of a run become few, while others write and read. No torch.

A run makes a part at each checkpoint and every few seconds, and a question to hundreds of them opens hundreds of files.
Here parts that follow each other, of one attempt and one rank, are joined: their rows, in their order, go to one part
that is written aside and renamed into place, under a name that says which parts it holds; then those are removed. What
a process that is killed in between leaves is a temporary, or parts that a joined one covers: no reader counts these,
and the next compaction removes them. No row is changed or left out, not even one that a later attempt superseded.

Only one process may compact a run: the one that trains it, on its first rank (`upkeep`). The writers of all ranks may
go on meanwhile, for a joined part ends where they have written already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from litscope.ledger.parts import ROWS_PER_GROUP, Part, damaged, list_all, list_parts, part_name, read_footer, storage
from litscope.ledger.schema import part_metadata
from litscope.rundir import sync_folder, whole_file
from litscope.seals import DamagedError, check, sealed_parquet

MANY = 32
"""So many parts that follow each other, and were joined equally often, are joined while a run goes on."""

MANY_AT_THE_END = 8
"""So many are joined at its end, however often they were."""

FULL_ROWS = 2_097_152
"""A part of so many rows (about 60 MB) is joined no more; at the end of a run an eighth is enough."""


def compact(folder: Path, schema: pa.Schema, *, is_over: bool = False, may_join: Callable[[Part], bool]) -> None:
    """Join parts, and remove what earlier compactions left.

    A row is written about once for every 32-fold growth of its part.

    Args:
        folder: of the parts; it may be missing.
        schema: of their rows: `schema.PART_SCHEMA` or `custom.CUSTOM_SCHEMA`.
        is_over: the run is over, so fewer parts are worth joining.
        may_join: says of a part whether it may be joined; a part that may not, stays.

    Raises:
        LedgerError: if a part cannot be read. It stays, and so do its neighbours.
        OSError: if the disk is full or fails. No row is lost.
    """
    covered = list_all(folder).covered
    if covered:
        sync_folder(folder)  # the joined parts are there to stay before these go
        _remove(covered)
    while _join_some(list(filter(may_join, list_parts(folder))), schema, is_over):
        pass


def _join_some(parts: list[Part], schema: pa.Schema, is_over: bool) -> bool:
    """Join what is worth it; whether there was anything."""
    many, full_rows = (MANY_AT_THE_END, FULL_ROWS // 8) if is_over else (MANY, FULL_ROWS)
    groups = [
        [part for part, _ in group]
        for stretch in _stretches(parts, equally_often=not is_over)
        if len(stretch) >= many
        for small in _small(stretch, full_rows)
        if len(small) >= many
        for group in _groups(small)
    ]
    for group in groups:
        _join(group, schema)
    return bool(groups)


def _stretches(parts: list[Part], equally_often: bool) -> Iterator[list[Part]]:
    """Parts of one attempt and rank whose numbers follow each other.

    Across a gap nothing is joined: whoever moved a damaged part away may mend it and put it back.
    """
    stretch: list[Part] = []
    for part in parts:
        before = stretch[-1] if stretch else part
        follows = part[1:3] == before[1:3] and part.first == before.last + 1
        if stretch and not (follows and (not equally_often or _level(part) == _level(before))):
            yield stretch
            stretch = []
        stretch.append(part)
    if stretch:
        yield stretch


def _level(part: Part) -> int:
    """How often its rows were joined."""
    return int(math.log(part.num_joined, MANY) + 1e-9)


_Sized = tuple[Part, int]
"""A part, and its number of rows."""


def _small(stretch: list[Part], full_rows: int) -> Iterator[list[_Sized]]:
    """What lies between parts that are full."""
    sized = [(part, read_footer(part.path).num_rows) for part in stretch]
    for is_small, group in itertools.groupby(sized, lambda one: one[1] < full_rows):
        if is_small:
            yield list(group)


def _groups(small: list[_Sized]) -> Iterator[list[_Sized]]:
    """Cuts a stretch where a joined part becomes full. What is left at the end is a group of its own if it is two."""
    group: list[_Sized] = []
    for one in small:
        group.append(one)
        if sum(rows for _, rows in group) >= FULL_ROWS:
            yield group
            group = []
    if len(group) > 1:
        yield group


def _join(parts: list[Part], schema: pa.Schema) -> None:
    first, last = parts[0], parts[-1]
    name = part_name(first.attempt, first.rank, first.first, last.last)
    schema = schema.with_metadata(part_metadata(first.attempt, first.rank))
    content = _content(parts, schema)
    with whole_file(first.path.with_name(name)) as file:
        file.writelines(sealed_parquet(content))
    _remove(parts)


def _content(parts: list[Part], schema: pa.Schema) -> pa.Buffer:
    """A Parquet file with the rows of all parts, in their order."""
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(content, schema, **storage(schema)) as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(_read(part, schema))
            if sum(table.num_rows for table in waiting) >= ROWS_PER_GROUP:
                _write_groups(writer, waiting)
                waiting = []
        if waiting:
            _write_groups(writer, waiting)
    return content.getvalue()


def _read(part: Part, schema: pa.Schema) -> pa.Table:
    try:  # one thread: the others train
        check(part.path)
        return ds.dataset([str(part.path)], schema=schema, format="parquet").to_table(use_threads=False)
    except (OSError, DamagedError, pa.ArrowException) as error:
        raise damaged(part.path, error) from error


def _write_groups(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    writer.write_table(pa.concat_tables(tables).unify_dictionaries().combine_chunks(), row_group_size=ROWS_PER_GROUP)


def _remove(parts: list[Part]) -> None:
    for part in parts:
        part.path.unlink(missing_ok=True)
