"""LedgerReader: the valid rows of a run. Needs no torch, and may be used while the run goes on.

It applies the superseding rule (`attempts.cut_steps`): what an attempt recorded after the checkpoint from which a later
attempt resumed is left out. Parts that are joined while it reads them (`compaction`) do not disturb it: it reads anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from litscope.attempts import cut_steps
from litscope.errors import LedgerError
from litscope.ledger.parts import Part, Ranges, check_rows, damaged, list_parts, read_ranges
from litscope.ledger.schema import PART_SCHEMA
from litscope.rundir import RunDir, read_lines

Found = TypeVar("Found")


class ValidRows(NamedTuple):
    """The superseding rule for one attempt, which says which of its rows are valid, as Arrow and as SQL put it."""

    cut: int | None
    """Smallest first step of the later attempts; None: all rows are valid."""
    evaluated_again: tuple[str, ...]
    """Splits of which a later attempt repeated the evaluation at the cut."""

    def expression(self) -> pc.Expression:
        """The rule as a pyarrow filter."""
        if self.cut is None:
            return pc.scalar(True)
        step, holds_at_cut = pc.field("step"), pc.field("phase") == "eval"
        for split in self.evaluated_again:
            holds_at_cut &= pc.field("split") != split
        return (step < self.cut) | ((step == self.cut) & holds_at_cut)

    def sql(self) -> str:
        """The rule as an SQL condition."""
        if self.cut is None:
            return "true"
        again = "".join(" AND split != '{}'".format(split.replace("'", "''")) for split in self.evaluated_again)
        return f"(step < {self.cut} OR (step = {self.cut} AND phase = 'eval'{again}))"


class LedgerReader:
    """Reads the valid rows of a run, each time from the folder's present state.

    Args:
        run: the run's folder.
        folder: of the parts; default: the run's `signals`. Of other parts only `valid_files` can be asked.
        compared: parts that were compared with their checksums, which readers of several threads may share; None: none.
        is_thrifty: read one part after the other, which takes a third less memory and no more work, and few cores.

    The rules in words: a training row of an attempt is valid if its step is smaller than the first
    step of every later attempt. An evaluation row may also lie exactly at that step (an evaluation
    runs after the checkpoint's last optimizer step); if a later attempt evaluated the same split
    at the same step again, the later rows hold.
    """

    def __init__(
        self,
        run: RunDir,
        folder: Path | None = None,
        compared: set[Path] | None = None,
        is_thrifty: bool = False,
    ) -> None:
        self.run = run
        # In large blocks, which go back to the system one by one; of small ones it would hold as much again.
        self._ahead = {"fragment_readahead": 1, "batch_readahead": 1, "batch_size": 1 << 19} if is_thrifty else {}
        self._folder = folder or run.signals
        self._footers: dict[Path, Ranges] = {}
        self._whole: set[Path] = set() if compared is None else compared

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        split: str | None = None,
        phase: str | None = None,
        min_epoch: int | None = None,
        max_epoch: int | None = None,
        sample_id: int | None = None,
        without: Callable[[Part], bool] | None = None,
    ) -> pa.Table:
        """The valid rows, in no particular order.

        Args:
            columns: names of `PART_SCHEMA`; all by default.
            split: only this split.
            phase: only `train` or `eval`.
            min_epoch: only this epoch and later ones.
            max_epoch: only this epoch and earlier ones.
            sample_id: only this sample.
            without: says of a part whether its rows are not wanted.

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

        def read(parts: list[Part]) -> list[pa.Table]:
            valid = self._valid_rows(parts)
            asked = [
                part
                for part in parts
                if not (without is not None and without(part))
                and self._may_hold(part, split, min_epoch, max_epoch, sample_id)
            ]
            return [
                self._scan([part.path for part in asked if part.attempt == attempt], names, wanted & rows.expression())
                for attempt, rows in valid.items()
            ]

        tables = self._with_parts(read)
        return pa.concat_tables([PART_SCHEMA.empty_table().select(names), *tables]).unify_dictionaries()

    def last_epoch(self, split: str | None = None) -> int | None:
        """The greatest epoch in which `split`, or anything, was recorded, or None."""
        ends = self._with_parts(lambda parts: {self._footers[part.path]["epoch"][1] for part in parts})
        greatest = sorted(ends, reverse=True)
        for min_epoch in (*greatest[:3], 0):  # most often the newest parts tell
            found = self.table(["epoch"], split=split, min_epoch=min_epoch)["epoch"]
            if len(found):
                return int(pc.max(found).as_py())
        return None

    def valid_files(self, sample_id: int | None = None) -> list[tuple[list[Path], ValidRows]]:
        """The parts of each attempt, and which of their rows are valid, for readers that scan the files themselves.

        A part may be gone when it is opened, because it was joined with others: then ask anew, and scan anew.

        Args:
            sample_id: leave out parts that cannot hold this sample.

        Raises:
            LedgerError: as `table`.
        """

        def read(parts: list[Part]) -> list[tuple[list[Path], ValidRows]]:
            asked = [part for part in parts if self._may_hold(part, None, None, None, sample_id)]
            self._check_rows([part.path for part in asked])
            return [
                ([part.path for part in asked if part.attempt == attempt], rows)
                for attempt, rows in self._valid_rows(parts).items()
            ]

        return self._with_parts(read)

    def _with_parts(self, read: Callable[[list[Part]], Found]) -> Found:
        """What `read` makes of the parts that are there now, their footers known; anew if some of them went away."""
        while True:
            parts = list_parts(self._folder)
            try:
                self._read_footers(parts)
                return read(parts)
            except LedgerError:
                if all(part.path.exists() for part in parts):
                    raise

    def _read_footers(self, parts: list[Part]) -> None:
        """A part never changes, so each footer is read once."""
        known = self._footers
        self._footers = {p.path: known[p.path] if p.path in known else read_ranges(p.path) for p in parts}

    def _check_rows(self, paths: list[Path]) -> None:
        """Compare the rows of parts with their checksums, once for each part."""
        if new := [path for path in paths if path not in self._whole]:
            check_rows(new)
            self._whole.update(new)

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
        rows = self._scan(later, ["split"], (pc.field("phase") == "eval") & (pc.field("step") == step))
        return tuple(sorted(pc.unique(rows["split"].cast(pa.string())).to_pylist()))

    def _scan(self, paths: list[Path], columns: list[str], rows: pc.Expression) -> pa.Table:
        self._check_rows(paths)
        return _scan(paths, columns, rows, self._ahead)


def _scan(paths: list[Path], columns: list[str], rows: pc.Expression, ahead: dict[str, int]) -> pa.Table:
    if not paths:
        return PART_SCHEMA.empty_table().select(columns)
    try:
        dataset = ds.dataset([str(path) for path in paths], schema=PART_SCHEMA, format="parquet")
        return dataset.to_table(columns=columns, filter=rows, **ahead)
    except (OSError, pa.ArrowException) as error:
        if len(paths) == 1:
            raise damaged(paths[0], error) from error
        return pa.concat_tables([_scan([path], columns, rows, ahead) for path in paths])  # one of these will say which
