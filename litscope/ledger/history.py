"""The visits of one sample among the rows of a run. No torch.

DuckDB looks for its id first and skips the other columns of all other rows, so one question costs a scan of the ids.
Who asks many of them, as the studio does, keeps `Stretches`, and scans a few thousand ids for each visit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from litscope.errors import LedgerError
from litscope.ledger.database import open_database
from litscope.ledger.parts import damaged, read_footer
from litscope.ledger.reader import LedgerReader, ValidRows
from litscope.ledger.schema import PART_SCHEMA
from litscope.rundir import RunDir

LEAST_ROWS = 4_000_000
"""Of fewer rows the ids are scanned as fast as a stretch is found."""

ROWS_PER_STRETCH = 16_384
MOST_BYTES = 64_000_000
"""Of what is kept for one run; of one with more visits nothing is kept, and its ids are scanned."""

MOST_ASKED = 100
"""Stretches that one question names; of a sample with more, all ids are scanned."""

_AT_ONCE = 4

_FAR = 255

Span = tuple[int, int]
"""First and last row of a part."""


class Stretches:
    """Which stretches of which parts hold each sample, a byte a visit. It goes on as parts are written.

    Of a sample it keeps how many stretches there are from each that holds it to the next one. `_FAR` stands for so many
    of them without a visit at their end; what follows is added.

    Args:
        run: its folder.
        count: N, its samples.
        least_rows: of fewer rows nothing is kept.
        compared: parts, as `LedgerReader` has them.

    Attributes:
        reader: of the run, which compares each part with its checksum once.
    """

    def __init__(
        self, run: RunDir, count: int, least_rows: int = LEAST_ROWS, compared: set[Path] | None = None
    ) -> None:
        self.reader = LedgerReader(run, compared=compared)
        self.count = count
        self._least_rows = least_rows
        self._lock = threading.Lock()
        self._rows: dict[Path, int] = {}
        self._forget()

    def of(self, sample_id: int, files: list[Path]) -> dict[Path, list[Span]] | None:
        """The rows among which a sample's visits are, by part; None: they may be anywhere.

        Args:
            sample_id: which.
            files: all parts that there are now.

        Raises:
            LedgerError: if a part cannot be read.
        """
        with self._lock:
            if not 0 <= sample_id < self.count or not self._bring_up_to_date(files):
                return None
            stretches = self._stretches(sample_id)
            firsts = np.array(list(self._first.values()), np.int64)
            parts = list(self._first)
        if len(stretches) > MOST_ASKED:
            return None
        found: dict[Path, list[Span]] = {}
        for stretch in stretches:
            at = int(np.searchsorted(firsts, stretch, "right")) - 1
            start = (stretch - int(firsts[at])) * ROWS_PER_STRETCH
            spans = found.setdefault(parts[at], [])
            end = start + ROWS_PER_STRETCH - 1
            if spans and spans[-1][1] == start - 1:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return found

    def _forget(self) -> None:
        self._first: dict[Path, int] = {}
        self._num_stretches = 0
        self._held: list[npt.NDArray[np.uint8]] = []
        self._num_held = np.zeros(0, np.uint16)
        self._last = np.zeros(0, np.uint16)

    def read(self) -> None:
        """Read the ids now, so that no question waits for it; errors as `of`."""
        with self._lock:
            self._bring_up_to_date(_paths(self.reader.valid_files()))

    def _bring_up_to_date(self, files: list[Path]) -> bool:
        """Whether it knows these parts."""
        self._rows = {path: self._rows.get(path) or read_footer(path).num_rows for path in files}
        num_rows = sum(self._rows.values())
        num_stretches = sum(-(-one // ROWS_PER_STRETCH) for one in self._rows.values())
        if num_rows < self._least_rows or num_rows > MOST_BYTES or num_stretches > np.iinfo(np.uint16).max:
            self._forget()
            return False
        if not self._first.keys() <= self._rows.keys():  # joined with others: their rows lie elsewhere now
            self._forget()
        if not self._first:
            self._num_held, self._last = np.zeros(self.count, np.uint16), np.zeros(self.count, np.uint16)
        try:
            for path in files:
                if path not in self._first:
                    self._add(path)
        except BaseException:
            self._forget()
            raise
        return True

    def _add(self, path: Path) -> None:
        try:
            with pq.ParquetFile(path) as opened:
                ids = opened.read(columns=["sample_id"], use_threads=False)["sample_id"].to_numpy()
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, error) from error
        self._first[path] = self._num_stretches
        for start in range(0, len(ids), ROWS_PER_STRETCH):
            some = ids[start : start + ROWS_PER_STRETCH]
            some = some[(some >= 0) & (some < self.count)]
            steps = self._num_stretches - self._last[some]
            while (is_far := steps >= _FAR).any():
                self._append(some[is_far], np.full(int(is_far.sum()), _FAR, np.uint8))
                steps[is_far] -= _FAR
            self._append(some, steps.astype(np.uint8))
            self._last[some] = self._num_stretches
            self._num_stretches += 1

    def _append(self, ids: npt.NDArray[np.int64], steps: npt.NDArray[np.uint8]) -> None:
        """Keep a step (n,) of samples (n,). One that comes several times has the same step each time, and keeps one."""
        num_held = self._num_held[ids]
        for number in np.flatnonzero(np.bincount(num_held)).tolist():
            if number == len(self._held):
                self._held.append(np.zeros(self.count, np.uint8))
            is_here = num_held == number
            self._held[number][ids[is_here]] = steps[is_here]
        self._num_held[ids] = num_held + 1

    def _stretches(self, sample_id: int) -> list[int]:
        """The stretches that hold a sample."""
        steps = [int(held[sample_id]) for held in self._held[: self._num_held[sample_id]]]
        places = accumulate(steps)
        return [place for place, step in zip(places, steps, strict=True) if step != _FAR]


def history(run: RunDir, sample_id: int, stretches: Stretches | None = None) -> pa.Table:
    """Every valid row of one sample, in the order of its visits: a table with `schema.PART_SCHEMA`.

    Args:
        run: an open run, which may still be going on.
        sample_id: which.
        stretches: of this run, where they are kept.

    Raises:
        LedgerError: if a part cannot be read.
    """
    reader = LedgerReader(run) if stretches is None else stretches.reader
    while True:
        parts = reader.valid_files(sample_id if stretches is None else None)
        files = _paths(parts)
        try:
            among = None if stretches is None else stretches.of(sample_id, files)
            selects = list(_selects(parts, sample_id, among))
            if not selects:
                return PART_SCHEMA.empty_table()
            return _found(selects)
        except (duckdb.Error, LedgerError) as error:
            if all(path.exists() for path in files):  # else they were joined meanwhile
                raise (error if isinstance(error, LedgerError) else _which(files, error)) from error


def _found(selects: list[str]) -> pa.Table:
    """What some SELECTs find, in the order of visits. Few at once: each holds the row groups that it looks into."""
    with open_database() as connection:
        tables = [
            connection.sql(" UNION ALL ".join(selects[start : start + _AT_ONCE])).to_arrow_table()
            for start in range(0, len(selects), _AT_ONCE)
        ]
        connection.register("visits", pa.concat_tables(tables))
        ordered = connection.sql("SELECT * FROM visits ORDER BY epoch, step, phase DESC")
        return ordered.to_arrow_table().cast(PART_SCHEMA)


def _paths(parts: list[tuple[list[Path], ValidRows]]) -> list[Path]:
    return [path for paths, _ in parts for path in paths]


def _selects(
    parts: list[tuple[list[Path], ValidRows]], sample_id: int, among: dict[Path, list[Span]] | None
) -> Iterator[str]:
    columns = ", ".join(f'"{name}"' for name in PART_SCHEMA.names)
    for paths, rows in parts:
        where = f"WHERE sample_id = {sample_id} AND {rows.sql()}"
        if among is None:
            if paths:
                yield f"SELECT {columns} FROM {_scan(paths)} {where}"
            continue
        for path in paths:
            for first, last in among.get(path, ()):
                yield f"SELECT {columns} FROM {_scan([path])} {where} AND file_row_number BETWEEN {first} AND {last}"


def _scan(paths: list[Path]) -> str:
    quoted = ", ".join("'{}'".format(str(path.absolute()).replace("'", "''")) for path in paths)
    return f"read_parquet([{quoted}], hive_partitioning = false, file_row_number = true)"


def _which(files: list[Path], error: duckdb.Error) -> LedgerError:
    """Of parts one of which cannot be read, the error of that one."""
    for path in files:
        try:
            pq.read_table(path, partitioning=None)
        except (OSError, pa.ArrowException) as own:
            return damaged(path, own)
    return LedgerError(f"The signals in {files[0].parent} cannot be read: {error}.")
