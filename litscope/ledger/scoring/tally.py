"""Tally: the sums of every sample and how far they have read, going on from epoch to epoch. No torch.

It reads through `LedgerReader`, counts with `scores.ScoreState`, and says whether it can go on with
the run's present state (`Progress.holds`). `scorekeeper` saves it, and throws it away if it cannot go on.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from litscope.attempts import valid_lines
from litscope.ledger.journal.actions import canaries
from litscope.ledger.parts import Part, list_parts
from litscope.ledger.queries import classes
from litscope.ledger.reader import LedgerReader
from litscope.ledger.scoring.clock import Clock, read_clock
from litscope.ledger.scoring.scores import COLUMNS, ScoreState
from litscope.ledger.visits import VISIT_SIGNALS, Array, Ints, Pinned, Visits, pick_visits
from litscope.rundir import read_lines
from litscope.seals import check, sealed_archive

STATE_FORMAT_VERSION = 2
"""Version of `state.npz`, and of what the sums are made into. A file of another version is not read, and neither is a
table that was made of one; both are made anew from the signals."""

ROWS_PER_READ = 2_000_000
"""Rows that are read at once (about 50 bytes each), or a whole epoch if that has more."""

_READ = ["sample_id", "step", "epoch", "split", "phase", "label", "pred", *VISIT_SIGNALS]


class RunNow:
    """The present state of a run's folder: what is complete, what is valid, which samples are pinned."""

    def __init__(self, reader: LedgerReader) -> None:
        run = reader.run
        self.reader = reader
        lines = read_lines(run.attempts)
        self.attempts = sorted([int(line["attempt"]), int(line["start_step"])] for line in lines)
        if run.epoch_metrics.exists():
            done = [int(line["epoch"]) for line in valid_lines(read_lines(run.epoch_metrics), lines)]
            self.last_epoch = max(done, default=-1)
        else:
            last = reader.last_epoch()
            self.last_epoch = -1 if last is None else last
        # Read after the epochs: their rows were on the disk before their lines, so none of their parts is missed.
        self.parts: list[Part] = list_parts(run.signals)
        planted = canaries(run)
        index = {name: i for i, name in enumerate(classes(run))} if planted else {}
        self.pinned = Pinned.of({i: index[name] for i, name in planted.items() if name in index})
        self.pinned_digest = hashlib.sha256(b"".join(part.tobytes() for part in self.pinned)).hexdigest()


@dataclass
class Progress:
    """How far a state has read, and what it needs to go on.

    Attributes:
        pinned: digest of the pinned samples.
        last_epoch: all epochs up to this one are counted.
        split_epochs: split -> the last epoch with rows of it.
        last_steps: phase -> the greatest step that was counted.
        attempts: [attempt, start_step] of each attempt that was known.
        parts: "attempt-rank" -> how many parts of it were known, as they were before any were joined, and the greatest
            number.
        changing, num_compared: for the clock, per epoch; null where there is no share.
        window: first and last epoch of the window's sums; empty at the start.
        splits: names, by split code.
    """

    pinned: str
    last_epoch: int = -1
    split_epochs: dict[str, int] = field(default_factory=dict)
    last_steps: dict[str, int] = field(default_factory=dict)
    attempts: list[list[int]] = field(default_factory=list)
    parts: dict[str, list[int]] = field(default_factory=dict)
    changing: list[float | None] = field(default_factory=list)
    num_compared: list[int] = field(default_factory=list)
    window: list[int] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    format_version: int = STATE_FORMAT_VERSION

    def holds(self, now: RunNow) -> bool:
        """Whether what was counted is still valid and complete."""
        known = len(self.attempts)
        return (
            self.format_version == STATE_FORMAT_VERSION
            and self.pinned == now.pinned_digest
            and self.last_epoch <= now.last_epoch
            and self.attempts == now.attempts[:known]
            and not any(self._supersedes(start) for _, start in now.attempts[known:])
            and self.parts == _count_parts([part for part in now.parts if self.knows(part)])
        )

    def _supersedes(self, start_step: int) -> bool:
        """An evaluation at exactly the start step is valid until it is repeated; then its rows come late."""
        return start_step <= self.last_steps.get("train", -1) or start_step < self.last_steps.get("eval", -1)

    def knows(self, part: Part) -> bool:
        """Whether the part was there when the state was made."""
        return part.last <= self.parts.get(f"{part.attempt}-{part.rank}", [0, -1])[1]

    def late_rows(self, now: RunNow, columns: list[str]) -> pa.Table:
        """Rows of counted epochs in parts that came later, such as the test after the last epoch."""
        return now.reader.table(columns, max_epoch=self.last_epoch, without=self.knows)

    def clock(self) -> Clock:
        """The clock after the epochs so far."""
        return read_clock([math.nan if share is None else share for share in self.changing], self.num_compared)


def _count_parts(parts: list[Part]) -> dict[str, list[int]]:
    summary: dict[str, list[int]] = {}
    for part in parts:
        count, greatest = summary.get(f"{part.attempt}-{part.rank}", (0, -1))
        summary[f"{part.attempt}-{part.rank}"] = [count + part.num_joined, max(greatest, part.last)]
    return summary


class Tally:
    """A state and its progress, going on from epoch to epoch."""

    def __init__(self, state: ScoreState, progress: Progress) -> None:
        self.state = state
        self.progress = progress

    @classmethod
    def load(cls, now: RunNow) -> Tally | None:
        """The saved tally; None if there is none that can go on."""
        try:
            check(now.reader.run.score_state)
            with now.reader.run.score_state.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                progress = Progress(**json.loads(bytes(file["progress"])))
                if not progress.holds(now):
                    return None
                sample_id, columns = file["sample_id"], {name: file[name] for name in COLUMNS}
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None  # absent, damaged, or of another program
        types = {name: np.dtype(dtype) for name, (dtype, _) in COLUMNS.items()}
        if any(column.dtype != types[name] or len(column) != len(sample_id) for name, column in columns.items()):
            return None
        return cls(ScoreState(sample_id, columns, progress.splits), progress)

    def take_late(self, now: RunNow) -> bool:
        """Count rows that came after their epoch was counted, if no rows of their split were: False if there were."""
        groups = list(groups_of(self.progress.late_rows(now, _READ)))
        if any(group.epoch <= self.progress.split_epochs.get(group.split, -1) for group in groups):
            return False
        for group in groups:
            visits = self._count(now, group)
            if self.progress.window[0] <= group.epoch <= self.progress.window[1]:
                self.state.move_window(visits, group.epoch, 1)
        if groups:
            self._move_window(now, {})
        return True

    def take_epochs(self, now: RunNow) -> None:
        """Count the epochs that are complete and not counted yet."""
        epoch, num_epochs = self.progress.last_epoch + 1, 1
        while epoch <= now.last_epoch:
            last = min(now.last_epoch, epoch + num_epochs - 1)
            table = now.reader.table(_READ, min_epoch=epoch, max_epoch=last)
            groups: dict[int, list[Group]] = {}
            for group in groups_of(table):
                groups.setdefault(group.epoch, []).append(group)
            for each in range(epoch, last + 1):
                self._take_epoch(now, each, groups.get(each, []))
            num_epochs = max(1, ROWS_PER_READ * (last + 1 - epoch) // max(1, table.num_rows))
            epoch = last + 1
        self.progress.attempts = now.attempts
        self.progress.parts = _count_parts(now.parts)
        self.progress.splits = self.state.splits

    def save(self, file: BinaryIO) -> None:
        """Write the tally for `load`."""
        progress = np.frombuffer(json.dumps(asdict(self.progress)).encode(), np.uint8)
        content = io.BytesIO()  # NumPy goes back and forth in what it writes
        np.savez(content, progress=progress, sample_id=self.state.sample_id, **self.state.columns)  # type: ignore[arg-type]
        with sealed_archive(file) as out:
            out.write(content.getbuffer())

    def _take_epoch(self, now: RunNow, epoch: int, groups: list[Group]) -> None:
        self.progress.changing.append(None)
        self.progress.num_compared.append(0)
        self.progress.last_epoch = epoch
        self._move_window(now, {epoch: [self._count(now, group) for group in groups]})

    def _count(self, now: RunNow, group: Group) -> Visits:
        progress, split, epoch = self.progress, group.split, group.epoch
        visits = pick_visits(group.rows, split == "train", now.pinned, group.at)
        change = self.state.count(visits, epoch, split)
        if split == "train" and change.num_compared:
            progress.changing[epoch] = change.num_changed / change.num_compared
            progress.num_compared[epoch] = change.num_compared
        progress.split_epochs[split] = epoch
        step, is_train = group.rows["step"][group.at], group.rows["is_train"][group.at]
        for phase, of_phase in (("train", is_train), ("eval", ~is_train)):
            last = int(step.max(initial=-1, where=of_phase))
            progress.last_steps[phase] = max(progress.last_steps.get(phase, -1), last)
        return visits

    def _move_window(self, now: RunNow, fresh: dict[int, list[Visits]]) -> None:
        """Add the epochs that enter the window, and subtract those that leave it. `fresh` ones need no reading."""
        old = _epochs(self.progress.window)
        new = _epochs(list(self.progress.clock().window))
        for sign, moved in ((1, new - old), (-1, old - new)):
            for epoch in sorted(moved):
                for visits in fresh[epoch] if epoch in fresh else _visits(now, epoch):
                    self.state.move_window(visits, epoch, sign)
        self.progress.window = [min(new), max(new)]


def _epochs(window: list[int]) -> set[int]:
    return set(range(window[0], window[1] + 1)) if window else set()


def _visits(now: RunNow, epoch: int) -> Iterator[Visits]:
    table = now.reader.table(_READ, min_epoch=epoch, max_epoch=epoch)
    return (pick_visits(group.rows, group.split == "train", now.pinned, group.at) for group in groups_of(table))


class Group(NamedTuple):
    """The rows of one epoch and split: `rows` as `pick_visits` takes them, and the positions `at` of these."""

    epoch: int
    split: str
    rows: dict[str, Array]
    at: Ints


def groups_of(table: pa.Table) -> Iterator[Group]:
    """The rows of each epoch and split, by epoch. They are only copied if there are several epochs."""
    if not table.num_rows:
        return
    rows: dict[str, Array] = {}
    columns = dict(zip(table.column_names, table.columns, strict=True))
    del table  # who passes it without keeping it has each column once, and not in two copies
    for name in list(columns):
        column = columns.pop(name).combine_chunks()
        if name == "split":
            codes, splits = column.indices.to_numpy(), column.dictionary.to_pylist()
        elif name == "phase":
            rows["is_train"] = column.indices.to_numpy() == column.dictionary.index("train").as_py()
        else:
            rows[name] = column.to_numpy()
    epochs = rows.pop("epoch")
    if epochs.min() != epochs.max():
        order = np.argsort(epochs, kind="stable")
        epochs, codes, rows = epochs[order], codes[order], {name: values[order] for name, values in rows.items()}
    starts = np.flatnonzero(np.append(True, epochs[1:] != epochs[:-1]))
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        for code in np.flatnonzero(np.bincount(codes[start:end])):
            yield Group(int(epochs[start]), splits[code], rows, start + np.flatnonzero(codes[start:end] == code))
