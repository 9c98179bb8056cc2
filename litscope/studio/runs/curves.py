"""Curves of a run: what was logged per step and per epoch, by step, epoch or time, with the journal's events."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from litscope.attempts import valid_lines
from litscope.errors import did_you_mean
from litscope.ledger.journal.actions import entries
from litscope.ledger.journal.describe import describe
from litscope.rundir import RunDir, read_lines
from litscope.studio.refusals import AskedWrong
from litscope.studio.samples.shelf import Stamp, stamp

X = Literal["step", "epoch", "time"]
Row = dict[str, Any]

_NOT_CURVES = ("epoch", "step", "attempt")


@dataclass(frozen=True)
class Series:
    """One curve. `x`, `y`, `step`: (n,) each; y is None where a value is not defined."""

    x: list[float]
    y: list[float | None]
    step: list[int]


@dataclass(frozen=True)
class Mark:
    """An action, where it took effect; one that waits stands at the end."""

    id: str
    x: float
    step: int
    epoch: int
    what: str
    text: str
    who: str
    status: str


@dataclass(frozen=True)
class Curves:
    """Some curves.

    Attributes:
        x: what they go by.
        series: by name.
        marks: the journal's events.
        edits_from_x: from where on metrics are of other validation or test samples than before.
    """

    x: X
    series: dict[str, Series]
    marks: list[Mark]
    edits_from_x: list[float]


@dataclass(frozen=True)
class Logged:
    """The valid lines of a run's metrics.

    Attributes:
        steps, epochs: lines by step, the last valid one each.
    """

    steps: list[Row]
    epochs: list[Row]

    @property
    def step_names(self) -> list[str]:
        """What is logged per step."""
        return _names(self.steps)

    @property
    def epoch_names(self) -> list[str]:
        """What is logged per epoch; of lists by rank each value gets a number."""
        return _names(self.epochs)


def _names(rows: Sequence[Row]) -> list[str]:
    numbers = {
        name: None
        for row in rows
        for name, value in row.items()
        if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return list(numbers)


class Metrics:
    """Reads the metrics of a run, anew only where their files changed."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._found = Logged([], [])

    def logged(self) -> Logged:
        """The lines that hold now."""
        run = self._run
        with self._lock:
            now = stamp(run.step_metrics, run.epoch_metrics, run.attempts)
            if now != self._seen:
                attempts = read_lines(run.attempts)
                steps = valid_lines(_placed(read_lines(run.step_metrics)), attempts)
                epochs = valid_lines(_placed(read_lines(run.epoch_metrics)), attempts)
                by_epoch = {row["epoch"]: row for row in epochs if isinstance(row.get("epoch"), int)}
                self._found, self._seen = Logged(steps, list(by_epoch.values())), now
            return self._found


def _placed(lines: list[Row]) -> list[Row]:
    return [line for line in lines if isinstance(line.get("step"), int)]


class _Clock:
    """Steps as epochs and as seconds of training: measured where epochs end, and even in between."""

    def __init__(self, logged: Logged) -> None:
        self._steps, self._epochs, self._seconds = [0], [0.0], [0.0]
        for row in logged.epochs:
            if row["step"] > self._steps[-1]:
                seconds = row.get("epoch_s")
                self._steps.append(row["step"])
                self._epochs.append(float(row["epoch"] + 1))
                self._seconds.append(self._seconds[-1] + (seconds if isinstance(seconds, int | float) else 0.0))

    def at(self, step: int, x: X) -> float:
        """A step, as x goes."""
        if x == "step":
            return float(step)
        values = self._epochs if x == "epoch" else self._seconds
        i = bisect_right(self._steps, step)
        if i < len(self._steps):
            low, high = self._steps[i - 1], self._steps[i]
            return values[i - 1] + (values[i] - values[i - 1]) * (step - low) / (high - low)
        if len(self._steps) == 1:
            return 0.0
        rate = (values[-1] - values[-2]) / (self._steps[-1] - self._steps[-2])
        return values[-1] + rate * (step - self._steps[-1])


def curves(run: RunDir, logged: Logged, names: Sequence[str], x: X, max_points: int) -> Curves:
    """The curves of some metrics.

    Args:
        run: its folder, for the journal.
        logged: its metrics.
        names: of them; none: all.
        x: what they go by.
        max_points: of each; of more, the least and the greatest of each stretch are kept.

    Raises:
        AskedWrong: if a name is not logged.
    """
    known = list(dict.fromkeys([*logged.step_names, *logged.epoch_names]))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" There are {', '.join(known) or 'none yet'}."
            raise AskedWrong(f"{name!r} was not logged.{hint}", "names")
    clock = _Clock(logged)
    found = {name: _series(name, logged, clock, x, max_points) for name in names or known}
    return Curves(x, found, _marks(run, logged, clock, x), _edits(logged, clock, x))


def _series(name: str, logged: Logged, clock: _Clock, x: X, max_points: int) -> Series:
    of_steps = name in logged.step_names
    rows = [row for row in (logged.steps if of_steps else logged.epochs) if name in row]
    step = np.array([row["step"] for row in rows], np.int64)
    y = np.array([_number(row[name]) for row in rows], np.float64)
    kept = thinned(y, max_points)
    steps = step[kept].tolist()
    values = [None if value != value else value for value in y[kept].tolist()]
    return Series([clock.at(at, x) for at in steps], values, steps)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def thinned(y: np.ndarray, max_points: int) -> np.ndarray:
    """Positions of about `max_points` values: the first and last, the least and the greatest of each stretch."""
    count = len(y)
    if count <= max_points:
        return np.arange(count)
    kept = {0, count - 1}
    for part in np.array_split(np.arange(count), max(1, max_points // 2)):
        values = y[part]
        if np.isnan(values).all():
            kept.add(int(part[0]))
            continue
        kept |= {int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])}
    return np.array(sorted(kept))


def _marks(run: RunDir, logged: Logged, clock: _Clock, x: X) -> list[Mark]:
    last: int = max([row["step"] for row in (*logged.steps[-1:], *logged.epochs[-1:])], default=0)
    last_epoch: int = logged.epochs[-1]["epoch"] if logged.epochs else 0
    found = []
    for entry in entries(run):
        if entry.action.get("canary"):
            continue
        answer = {"step": last, "epoch": last_epoch} | (entry.answer or {})
        step, epoch = int(answer["step"]), int(answer["epoch"])
        words = (str(entry.action["what"]), describe(entry.action), str(entry.action.get("who", "")))
        found.append(Mark(str(entry.action["id"]), clock.at(step, x), step, epoch, *words, entry.status))
    return found


def _edits(logged: Logged, clock: _Clock, x: X) -> list[float]:
    rows = logged.epochs
    pairs = pairwise([{"num_edits": 0, "step": 0}, *rows])
    return [clock.at(row["step"], x) for old, row in pairs if row.get("num_edits", 0) != old.get("num_edits", 0)]
