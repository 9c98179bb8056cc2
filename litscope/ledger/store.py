"""LedgerWriter and LedgerReader: rows to Parquet parts in a run's `signals/` folder, and back.

A part is written under another name and renamed into place, so that it is whole or absent; it belongs to
one attempt and one rank, and is named `a0001-r000-000000012.parquet`. One thread owns the writing; the
training thread only queues. The reader needs no torch, may be used while the run goes on, and
applies the superseding rule (`rundir.cut_steps`): what an attempt recorded after the checkpoint
from which a later attempt resumed is left out.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from litscope.errors import LedgerError
from litscope.ledger.schema import PART_SCHEMA, check_version, part_metadata
from litscope.rundir import RunDir, cut_steps, read_lines, whole_file

ROWS_PER_PART = 524_288
"""Most rows that are joined into one part when blocks queue up: about 14 MB."""

QUEUED_BLOCKS = 64
"""How many blocks may wait for the disk. Beyond that, `put` waits, so that memory stays bounded."""

REPETITIVE = ("split", "phase", "step", "epoch", "label", "pred", "name")
"""Columns of few values, which Parquet stores as a dictionary."""

_PART_NAME = re.compile(r"a(\d{4,})-r(\d{3,})-(\d{9,})\.parquet")


class Tabular(Protocol):
    """Rows on the host: `schema.Rows`, or `custom.CustomRows`."""

    def to_table(self) -> pa.Table:
        """The rows in the form in which they are written."""
        ...


class Queued(Protocol):
    """What `LedgerWriter.put` takes: `schema.Rows`, or a `capture.Block` that is still on its way."""

    def rows(self) -> Tabular:
        """The rows on the host. Called by the writer's thread, which may wait here."""
        ...


class _Flush:
    """A request that travels through the queue behind the blocks that came before it."""

    def __init__(self) -> None:
        self.done = threading.Event()


class _Stop(_Flush):
    """The last request."""


class LedgerWriter:
    """Writes one rank's rows of one attempt. `put`, `flush` and `close` belong to the training thread.

    Args:
        run: the run's folder.
        attempt: what `rundir.begin_attempt` returned.
        rank: global rank of this process.
        rows_per_part: number of rows at which a part is written even if more blocks are waiting.
        folder: where the parts go; default: the run's `signals`.
    """

    def __init__(
        self,
        run: RunDir,
        attempt: int,
        rank: int = 0,
        rows_per_part: int = ROWS_PER_PART,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder or run.signals
        self._attempt, self._rank = attempt, rank
        self._rows_per_part = rows_per_part
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            mine = [p.number for p in list_parts(self._folder) if (p.attempt, p.rank) == (attempt, rank)]
        except OSError as error:
            raise _write_error(self._folder, error) from error
        self._next = max(mine, default=-1) + 1
        self._waiting: list[pa.Table] = []
        self._queue: queue.Queue[Queued | _Flush] = queue.Queue(QUEUED_BLOCKS)
        self._error: Exception | None = None
        self._is_error_raised = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="litscope-ledger", daemon=True)
        self._thread.start()

    def put(self, block: Queued) -> None:
        """Queue rows for writing. They are on the disk as soon as the thread gets to them.

        Waits only when `QUEUED_BLOCKS` are waiting for a slow disk. How often it is called decides how much
        a crash can lose, and how many parts there are.

        Raises:
            LedgerError: if writing has failed, now or at any time before, or the writer is closed.
        """
        if self._is_closed:
            raise LedgerError(f"Rows came after the ledger in {self._folder} was closed.")
        self._raise_error()
        self._queue.put(block)

    def flush(self, wait: bool = True) -> None:
        """Write everything put so far. With `wait`, return when it is durable on the disk.

        Raises:
            LedgerError: if writing has failed.
        """
        self._raise_error()
        if self._is_closed:
            return
        request = _Flush()
        self._queue.put(request)
        if wait:
            request.done.wait()
            self._raise_error()

    def close(self) -> None:
        """Write what is left and end the thread. A second call does nothing.

        Raises:
            LedgerError: if writing has failed and no call has said so yet.
        """
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(_Stop())
            self._thread.join()
        if not self._is_error_raised:
            self._raise_error()

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _raise_error(self) -> None:
        if self._error is None:
            return
        self._is_error_raised = True
        if isinstance(self._error, OSError | pa.ArrowException):
            raise _write_error(self._folder, self._error) from self._error
        raise LedgerError(f"The ledger's writer in {self._folder} failed: {self._error!r}.") from self._error

    def _work(self) -> None:
        """The writer's thread. After an error it only empties the queue, so that nobody waits for ever."""
        while True:
            item = self._queue.get()
            if self._error is None:
                try:
                    self._handle(item)
                except Exception as error:  # noqa: BLE001 - whatever it is, the training thread must hear of it
                    self._error = error
                    self._waiting.clear()
            if isinstance(item, _Flush):
                item.done.set()
            if isinstance(item, _Stop):
                return

    def _handle(self, item: Queued | _Flush) -> None:
        if isinstance(item, _Flush):
            self._write_part()
            return
        table = item.rows().to_table()
        if table.num_rows:
            self._waiting.append(table)
        num_rows = sum(table.num_rows for table in self._waiting)
        if num_rows >= self._rows_per_part or self._queue.empty():  # what queues up meanwhile becomes one part
            self._write_part()

    def _write_part(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
        table = table.replace_schema_metadata(part_metadata(self._attempt, self._rank))
        path = self._folder / f"a{self._attempt:04d}-r{self._rank:03d}-{self._next:09d}.parquet"
        with whole_file(path) as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                compression_level=1,
                row_group_size=ROWS_PER_PART,
                use_dictionary=[name for name in table.column_names if name in REPETITIVE],
            )
        self._next += 1
        self._waiting.clear()


class Part(NamedTuple):
    """One file of `signals/`."""

    path: Path
    attempt: int
    rank: int
    number: int


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


class ValidRows(NamedTuple):
    """The superseding rule for one attempt, which says which of its rows are valid, as Arrow and as SQL put it."""

    cut: int | None
    """Smallest first step of the later attempts; None: all rows are valid."""
    evaluated_again: tuple[str, ...]
    """Splits of which a later attempt repeated the evaluation at the cut."""

    def expression(self) -> pc.Expression:
        """For a pyarrow filter."""
        if self.cut is None:
            return pc.scalar(True)
        step, holds_at_cut = pc.field("step"), pc.field("phase") == "eval"
        for split in self.evaluated_again:
            holds_at_cut &= pc.field("split") != split
        return (step < self.cut) | ((step == self.cut) & holds_at_cut)

    def sql(self) -> str:
        """For a WHERE clause."""
        if self.cut is None:
            return "true"
        again = "".join(" AND split != '{}'".format(split.replace("'", "''")) for split in self.evaluated_again)
        return f"(step < {self.cut} OR (step = {self.cut} AND phase = 'eval'{again}))"


Ranges = dict[str, tuple[Any, Any]]
"""Column -> its least and its greatest value in one part."""


class LedgerReader:
    """Reads the valid rows of a run, each time from the folder's present state.

    Args:
        run: the run's folder.
        folder: of the parts; default: the run's `signals`. Of other parts only `valid_files` can be asked.

    The rules in words: a training row of an attempt is valid if its step is smaller than the first
    step of every later attempt. An evaluation row may also lie exactly at that step (an evaluation
    runs after the checkpoint's last optimizer step); if a later attempt evaluated the same split
    at the same step again, the later rows hold.
    """

    def __init__(self, run: RunDir, folder: Path | None = None) -> None:
        self.run = run
        self._folder = folder or run.signals
        self._footers: dict[Path, Ranges] = {}

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        split: str | None = None,
        phase: str | None = None,
        min_epoch: int | None = None,
        max_epoch: int | None = None,
        sample_id: int | None = None,
        without: Collection[Path] = (),
    ) -> pa.Table:
        """The valid rows, in no particular order.

        Args:
            columns: names of `PART_SCHEMA`; all by default.
            split: only this split.
            phase: only `train` or `eval`.
            min_epoch: only this epoch and later ones.
            max_epoch: only this epoch and earlier ones.
            sample_id: only this sample.
            without: paths of parts whose rows are not wanted.

        Raises:
            LedgerError: if a part cannot be read, is of a newer format, or its attempt is unknown.
        """
        wanted = pc.scalar(True)
        if split is not None:
            wanted &= pc.field("split") == split
        if phase is not None:
            wanted &= pc.field("phase") == phase
        if min_epoch is not None:
            wanted &= pc.field("epoch") >= min_epoch
        if max_epoch is not None:
            wanted &= pc.field("epoch") <= max_epoch
        if sample_id is not None:
            wanted &= pc.field("sample_id") == sample_id
        names = list(columns) if columns is not None else PART_SCHEMA.names
        parts = self._parts()
        valid = self._valid_rows(parts)
        parts = [
            p for p in parts if p.path not in without and self._may_hold(p, split, min_epoch, max_epoch, sample_id)
        ]
        tables = [
            _scan([p.path for p in parts if p.attempt == attempt], names, wanted & rows.expression())
            for attempt, rows in valid.items()
        ]
        return pa.concat_tables([PART_SCHEMA.empty_table().select(names), *tables]).unify_dictionaries()

    def last_epoch(self, split: str | None = None) -> int | None:
        """The greatest epoch in which `split`, or anything, was recorded, or None."""
        greatest = sorted({self._footers[part.path]["epoch"][1] for part in self._parts()}, reverse=True)
        for min_epoch in (*greatest[:3], 0):  # most often the newest parts tell
            found = self.table(["epoch"], split=split, min_epoch=min_epoch)["epoch"]
            if len(found):
                return int(pc.max(found).as_py())
        return None

    def valid_files(self) -> list[tuple[list[Path], ValidRows]]:
        """The parts of each attempt, and which of their rows are valid, for readers that scan the files themselves.

        Raises:
            LedgerError: as `table`.
        """
        parts = self._parts()
        return [
            ([part.path for part in parts if part.attempt == attempt], rows)
            for attempt, rows in self._valid_rows(parts).items()
        ]

    def _parts(self) -> list[Part]:
        """All parts that are there now. A part never changes, so each footer is read once."""
        parts = list_parts(self._folder)
        for part in parts:
            if part.path not in self._footers:
                self._footers[part.path] = _read_ranges(part.path)
        return parts

    def _may_hold(
        self, part: Part, split: str | None, min_epoch: int | None, max_epoch: int | None, sample_id: int | None
    ) -> bool:
        ranges = self._footers[part.path]
        return (
            (split is None or ranges["split"][0] <= split <= ranges["split"][1])
            and (min_epoch is None or ranges["epoch"][1] >= min_epoch)
            and (max_epoch is None or ranges["epoch"][0] <= max_epoch)
            and (sample_id is None or ranges["sample_id"][0] <= sample_id <= ranges["sample_id"][1])
        )

    def _valid_rows(self, parts: list[Part]) -> dict[int, ValidRows]:
        """For each attempt that has parts, which of its rows are valid."""
        attempts = sorted({part.attempt for part in parts})
        cuts = cut_steps(read_lines(self.run.attempts))
        unknown = [attempt for attempt in attempts if attempt not in cuts]
        if unknown and len(attempts) > 1:
            raise LedgerError(
                f"{self._folder} holds parts of attempt {unknown[0]}, which {self.run.attempts} does not list, so "
                "it is not known which rows are valid. Restore attempts.jsonl from the original run folder."
            )
        valid = {}
        for attempt in attempts:
            cut = cuts.get(attempt)
            valid[attempt] = ValidRows(cut, () if cut is None else self._evaluated_again(attempt, cut, parts))
        return valid

    def _evaluated_again(self, attempt: int, step: int, parts: list[Part]) -> tuple[str, ...]:
        """The splits that attempts after `attempt` evaluated at `step`."""
        later = [
            part.path
            for part in parts
            if part.attempt > attempt
            and self._footers[part.path]["step"][0] <= step <= self._footers[part.path]["step"][1]
        ]
        rows = _scan(later, ["split"], (pc.field("phase") == "eval") & (pc.field("step") == step))
        return tuple(sorted(pc.unique(rows["split"].cast(pa.string())).to_pylist()))


def _scan(paths: list[Path], columns: list[str], rows: pc.Expression) -> pa.Table:
    if not paths:
        return PART_SCHEMA.empty_table().select(columns)
    try:
        dataset = ds.dataset([str(path) for path in paths], schema=PART_SCHEMA, format="parquet")
        return dataset.to_table(columns=columns, filter=rows)
    except (OSError, pa.ArrowException) as error:
        if len(paths) == 1:
            raise _damaged(paths[0], error) from error
        return pa.concat_tables([_scan([path], columns, rows) for path in paths])  # one of these will say which


def _damaged(path: Path, error: Exception) -> LedgerError:
    return LedgerError(
        f"{path} cannot be read: {error}. Its rows are lost; move it out of the signals folder to read the rest."
    )


def _read_ranges(path: Path) -> Ranges:
    """The column ranges in a part's footer.

    Raises:
        LedgerError: if the part is damaged, or not of a format that this version reads.
    """
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    check_version(metadata.metadata, path)
    ranges = {}
    for name in ("sample_id", "step", "epoch", "split"):
        column = metadata.schema.names.index(name)
        found = [metadata.row_group(g).column(column).statistics for g in range(metadata.num_row_groups)]
        ranges[name] = (min(s.min for s in found), max(s.max for s in found))
    return ranges


def _write_error(folder: Path, error: Exception) -> LedgerError:
    return LedgerError(
        f"The ledger in {folder} cannot be written: {error}. The parts written so far are whole and stay. "
        "Make room or mend the disk, then continue the run with --resume."
    )
