"""OwnIds: ids of a person's own, any whole numbers or names, and the `sample_id` that each of them stands for.

A `sample_id` is a row number of the manifest, so sparse, negative and huge numbers, and names, are given one each as
they are seen. All processes of a run have to give the same. They agree in a file that they append to under its lock:
what a line says holds for everybody. The writer's thread does it, on its way to the disk, so that no step ever waits.

An id counts within its data set: 3 of training and 3 of validation are two samples, and so are those of two validation
loaders. Where it counts is its *space*: the split, with a number for the second data set of one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from litscope.claims import Guard, unguarded
from litscope.errors import ConfigError, LedgerError
from litscope.jsonlines import UNUSABLE, parse_line
from litscope.ledger.writer import LedgerWriter, Queued
from litscope.rundir import RunDir, append_to, open_locked
from litscope.watch.samples.nesting import Ids


class OwnSplit(str):
    """The split of rows whose ids are a person's own, until they are written.

    Attributes:
        space: where the ids count.
        are_names: whether they stand for names (`OwnIds.codes`).
    """

    space: str
    are_names: bool

    def __new__(cls, split: str, space: str, are_names: bool = False) -> OwnSplit:
        """A split that says where the ids of its rows count."""
        made = super().__new__(cls, split)
        made.space, made.are_names = space, are_names
        return made


class Stretch(NamedTuple):
    """Samples whose batches carry ids of a person's own: the n-th of `own` has the `sample_id` first_id + n."""

    first_id: int
    split: str
    space: str
    own: list[int] | list[str]


class OwnIds:
    """What each id of a person's own stands for, the same in all processes of a run.

    Args:
        path: the file in which they agree.
        num_samples: how many samples are known; ids of others begin after them.
        guard: asked before something is written.
    """

    def __init__(self, path: Path, num_samples: Callable[[], int], guard: Guard = unguarded) -> None:
        self._path, self.num_samples, self._guard = path, num_samples, guard
        self._ids: dict[str, dict[int | str, int]] = {}
        self._stretches: list[Stretch] = []
        self._next = 0
        self._offset = 0
        self._names: list[str] = []
        self._codes: dict[str, int] = {}
        self._lock = threading.Lock()  # signals and custom values have a writer's thread each
        self.refresh()

    def on_their_way(self, sample_id: Any, split: str, space: str) -> tuple[Any, OwnSplit]:
        """Ids of a batch as a step records them, and the split that says that they are not written as they are.

        Raises:
            ConfigError: for what is neither a number nor a name.
        """
        if has_names(sample_id):
            return self.codes(sample_id), OwnSplit(split, space, are_names=True)
        return sample_id, OwnSplit(split, space)

    def codes(self, names: Sequence[Any]) -> Tensor:
        """(B,) int64 numbers that stand for names in this process.

        Raises:
            ConfigError: for what is no name.
        """
        for name in names:
            if not isinstance(name, str):
                raise ConfigError(
                    f"sample_id {name!r} stands beside names: all of a batch are names, or all are numbers."
                )
            if name not in self._codes:
                try:
                    name.encode()
                except UnicodeEncodeError:
                    raise ConfigError(f"sample_id {name!r} is no valid Unicode, so no file can hold it.") from None
                self._codes[str(name)] = len(self._names)
                self._names.append(str(name))
        return torch.tensor([self._codes[name] for name in names], dtype=torch.int64)

    def sample_ids(self, split: OwnSplit, own: Ids) -> Ids:
        """(n,) the `sample_id` of each id; new ones are given one. Belongs to the writer's threads.

        Args:
            split: of the rows.
            own: (n,) numbers, or codes of names.
        """
        different, where = np.unique(own, return_inverse=True)
        values: list[Any] = different.tolist()
        if split.are_names:
            values = [self._names[code] for code in values]
        with self._lock:
            known = self._ids.setdefault(split.space, {})
            if any(value not in known for value in values):
                self._give(split, values)
            found = np.array([known[value] for value in values], np.int64)
        return found[where.reshape(-1)]

    def refresh(self) -> list[Stretch]:
        """All samples with ids of a person's own that are known to anybody."""
        if self._path.exists():
            with self._lock, self._path.open("rb", buffering=0) as file:
                self._read(file)
        return list(self._stretches)

    def claim(self, count: int, is_alone: bool) -> int:
        """The first id of `count` samples of a `with_ids` data set that come after all that are known to anybody."""
        if is_alone and not self._stretches:
            return self.num_samples()
        self._guard()
        with self._lock, open_locked(self._path) as file:
            self._read(file)
            first_id = max(self._next, self.num_samples())
            self._append(file, {"first_id": first_id, "count": count})
        return first_id

    def own_id(self, sample_id: int) -> tuple[str, int | str] | None:
        """The space and own id of a sample; None if its batches carry the ids of `with_ids`."""
        for first_id, _, space, own in self._stretches:
            if first_id <= sample_id < first_id + len(own):
                return space, own[sample_id - first_id]
        return None

    def _give(self, split: OwnSplit, values: list[Any]) -> None:
        self._guard()
        with open_locked(self._path) as file:
            self._read(file)
            new = [value for value in values if value not in self._ids[split.space]]
            if new:
                first_id = max(self._next, self.num_samples())
                self._append(file, {"first_id": first_id, "split": str(split), "space": split.space, "own": new})

    def _append(self, file: FileIO, line: dict[str, Any]) -> None:
        append_to(file, line)
        os.fsync(file.fileno())  # a row on the disk must not outlive what its id means
        self._read(file)

    def _read(self, file: FileIO) -> None:
        """Learn what the file says beyond what is known."""
        file.seek(self._offset)
        text = file.read()
        end = text.rfind(b"\n") + 1
        self._offset += end
        for raw in text[:end].split(b"\n"):
            line = parse_line(raw)
            if line is None or UNUSABLE in line:
                continue
            own = line.get("own")
            if own is not None:
                self._stretches.append(Stretch(line["first_id"], line["split"], line["space"], own))
                ids = self._ids.setdefault(line["space"], {})
                ids.update({value: line["first_id"] + i for i, value in enumerate(own)})
            self._next = max(self._next, line["first_id"] + (line["count"] if own is None else len(own)))


def has_names(sample_id: Any) -> bool:
    """Whether the ids of a batch are names."""
    if isinstance(sample_id, np.ndarray):
        return sample_id.dtype.kind in "OU" and sample_id.size > 0 and isinstance(sample_id.flat[0], str)
    return isinstance(sample_id, list | tuple) and len(sample_id) > 0 and isinstance(sample_id[0], str)


class SampleIdWriter(LedgerWriter):
    """A ledger's writer that writes the `sample_id` for each id of a person's own.

    Args:
        own: what they stand for; None: all ids are written as they are.
        run, attempt, rank, folder, guard: as of `LedgerWriter`.
    """

    def __init__(
        self,
        own: OwnIds | None,
        run: RunDir,
        attempt: int,
        rank: int,
        folder: Path | None = None,
        guard: Guard = unguarded,
    ) -> None:
        super().__init__(run, attempt, rank, folder=folder, guard=guard)
        self._own = own

    def put(self, block: Queued) -> None:
        """As `LedgerWriter.put`."""
        super().put(self.named(block))

    def named(self, block: Queued) -> Queued:
        """Rows that have the ids of the manifest when they are on the host."""
        return block if self._own is None else _Named(block, self._own)


class _Named:
    """Rows on their way, with the ids that their batches had."""

    def __init__(self, block: Queued, own: OwnIds) -> None:
        self._block, self._own = block, own

    def rows(self) -> Any:
        """The rows with the ids that the manifest has.

        Raises:
            LedgerError: if one that is not a person's own is in no manifest.
        """
        rows: Any = self._block.rows()
        ends = np.cumsum([segment.num_rows for segment in rows.segments])
        sample_id = rows.sample_id.copy()
        is_own = np.zeros(len(sample_id), bool)
        stretches: dict[tuple[str, bool], list[slice]] = {}
        splits: dict[tuple[str, bool], OwnSplit] = {}
        for segment, end in zip(rows.segments, ends.tolist(), strict=True):
            if isinstance(split := segment.split, OwnSplit):
                where = split.space, split.are_names
                splits[where] = split
                stretches.setdefault(where, []).append(slice(end - segment.num_rows, end))
        for where, slices in stretches.items():
            at = np.concatenate([np.arange(part.start, part.stop) for part in slices])
            sample_id[at] = self._own.sample_ids(splits[where], rows.sample_id[at])
            is_own[at] = True
        if len(strange := sample_id[~is_own & (sample_id >= self._own.num_samples())]):
            raise LedgerError(
                f"sample_id {int(strange[0])} is none of this run, which has {self._own.num_samples():,} samples of "
                "with_ids data sets. Return the ids as the batch carries them."
            )
        return replace(rows, sample_id=sample_id)
