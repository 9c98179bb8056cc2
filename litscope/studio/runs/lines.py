"""A run in a line: what it is, how it stands, how far it has come. Whatever its folder holds, there is a line."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from litscope.attempts import valid_lines
from litscope.config.resume import run_settings
from litscope.defaults import direction, monitored
from litscope.errors import LitscopeError
from litscope.jsonlines import is_unicode, parse_line
from litscope.ledger.journal.actions import decisions
from litscope.ledger.queries import classes
from litscope.rundir import RunDir, read_lines
from litscope.runs import is_training, is_watched
from litscope.studio.runs.places import NO_TEXT, path_text
from litscope.studio.samples.shelf import stamp

State = Literal["waiting", "running", "paused", "finished", "interrupted", "crashed", "elsewhere", "unreadable"]

MOST_POINTS = 64
"""Of a sparkline."""

FRESH_S = 120.0
"""A run on another machine that wrote something within this time is taken to be running."""

_UNREADABLE = (LitscopeError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What a foreign or half-copied folder may raise."""


@dataclass(frozen=True)
class RunLine:
    """A run, for the list.

    Attributes:
        id: as addresses have it.
        name: of its folder.
        path: absolute.
        state: waiting (its job has not begun), running, paused, finished, interrupted (in order; it can go on), crashed
            (killed or failed), elsewhere (another machine started it, and it is silent), unreadable.
        state_detail: more, in a sentence; may be empty.
        is_watched: recorded by litscope.watch.
        is_writable: whether actions can be written here.
        data, arch: its data set, its network.
        started_at, ended_at: seconds since 1970.
        epoch: complete epochs.
        num_epochs: that it is to have.
        step: optimizer steps.
        progress: 0 to 1.
        time_left_s: about.
        metric, mode, value: what it monitors, min or max, and the best value so far.
        best: that metric and its like, in the best epoch, and of the test set.
        sparkline: the monitored metric, else the training loss, by epoch.
        num_samples: by split.
        num_classes: of the labels.
    """

    id: str
    name: str
    path: str
    state: State
    state_detail: str = ""
    is_watched: bool = False
    is_writable: bool = False
    data: str | None = None
    arch: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    step: int | None = None
    progress: float | None = None
    time_left_s: float | None = None
    metric: str | None = None
    mode: str | None = None
    value: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    sparkline: list[float | None] = field(default_factory=list)
    num_samples: dict[str, int] | None = None
    num_classes: int | None = None


class Lines:
    """Makes lines, anew only where a file of a run changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, RunLine]] = {}

    def line(self, run: RunDir, name: str) -> RunLine:
        """The line of a run, whatever state its folder is in.

        Args:
            run: its folder.
            name: its id.
        """
        if not is_unicode(str(run.path)):
            return RunLine(name, path_text(run.path.name), path_text(run.path), "unreadable", NO_TEXT)
        files = (run.recipe, run.attempts, run.epoch_metrics, run.step_metrics, run.summary, run.actions, run.manifest)
        trains = _is_training(run)
        now = (stamp(*files), trains, _is_fresh(run) if trains is None else None)
        known = self._known.get(name)
        if known is None or known[0] != now:
            try:
                found = _line(run, name, trains)
            except _UNREADABLE as error:
                detail = f"{error}" or type(error).__name__
                found = RunLine(name, run.path.name, str(run.path), "unreadable", detail)
            self._known[name] = known = (now, found)
        return replace(known[1], is_writable=is_writable(run))


def is_writable(run: RunDir) -> bool:
    """Whether the journal can be written."""
    return os.access(run.actions if run.actions.exists() else run.path, os.W_OK)


def _is_training(run: RunDir) -> bool | None:
    try:
        return is_training(run)
    except (OSError, KeyError, TypeError):
        return False


def last_sign(run: RunDir) -> float | None:
    """When the run last wrote something, seconds since 1970."""
    times = []
    for path in (run.step_metrics, run.epoch_metrics, run.attempts, run.signals, run.score_table):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def _is_fresh(run: RunDir) -> bool:
    sign = last_sign(run)
    return sign is not None and time.time() - sign < FRESH_S


def _line(run: RunDir, name: str, trains: bool | None) -> RunLine:
    attempts = read_lines(run.attempts)
    summary = json.loads(run.summary.read_text(encoding="utf-8")) if run.summary.exists() else {}
    settings = settings_of(run)
    rows = list({row["epoch"]: row for row in valid_lines(read_lines(run.epoch_metrics), attempts)}.values())
    state, detail = _state(run, attempts, summary, trains)
    metric = str(summary.get("monitor") or settings.get("training.monitor") or "")
    mode = settings.get("training.mode") or direction(metric)
    same = [row for row in rows if row.get("num_edits", 0) == rows[-1].get("num_edits", 0)]
    scored = [row for row in same if isinstance(row.get(metric), int | float)] if metric else []
    best = (max if mode == "max" else min)(scored, key=lambda row: row[metric], default={})
    best_metrics = (summary.get("metrics") or {}).get("best") or {}
    tested = {key: value for key, value in best_metrics.items() if key.startswith("test/")}
    numbers = {key: value for key, value in {**best, **tested}.items() if isinstance(value, int | float)}
    num_epochs = decisions(run).settings.get("epochs", settings.get("training.epochs"))
    step = last_step(run)
    step = step if step is not None else rows[-1]["step"] if rows else None
    progress, left = _progress(rows, step, num_epochs, state)
    return RunLine(
        id=name,
        name=run.path.name,
        path=str(run.path),
        state=state,
        state_detail=detail,
        is_watched=is_watched(run),
        data=settings.get("data.dataset") or settings.get("data.train_urls") or settings.get("data.data_dir"),
        arch=settings.get("model.arch"),
        started_at=attempts[-1].get("started_at") if attempts else None,
        ended_at=run.summary.stat().st_mtime if summary else last_sign(run) if state == "crashed" else None,
        epoch=len(rows),
        num_epochs=num_epochs if isinstance(num_epochs, int) else None,
        step=step,
        progress=progress,
        time_left_s=left,
        metric=metric or None,
        mode=mode if metric else None,
        value=best.get(metric),
        best=monitored(numbers, metric or None),
        sparkline=_sparkline(rows, metric),
        **_sizes(run, summary),
    )


def settings_of(run: RunDir) -> dict[str, Any]:
    """The settings of a run's recipe, by section and name; empty of a watched run."""
    if not run.recipe.exists() or is_watched(run):
        return {}
    return {key: setting.value for key, setting in run_settings(run.path).sections.items()}


def _state(
    run: RunDir, attempts: list[dict[str, Any]], summary: dict[str, Any], trains: bool | None
) -> tuple[State, str]:
    if summary:
        status, message = summary.get("status"), str(summary.get("message") or "")
        if status == "finished" or status == "interrupted":
            return status, message
        return "crashed", message or "it failed"
    if not attempts:
        if run.recipe.exists() or run.jobs.exists():
            return "waiting", "its job waits in the queue" if run.jobs.exists() else "it has not begun to train"
        return "unreadable", "it has no recipe.yaml and no attempts.jsonl, so it is no whole run"
    if trains is None:
        host = str(attempts[-1].get("host"))
        if not _is_fresh(run):
            return "elsewhere", f"it was started on {host}, and has written nothing for a while"
        return _running(run), f"on {host}"
    if not trains:
        return "crashed", "its process is gone, and left no summary"
    return _running(run), ""


def _running(run: RunDir) -> Literal["running", "paused"]:
    return "paused" if decisions(run, with_pending=False).is_paused else "running"


def last_step(run: RunDir) -> int | None:
    """The optimizer step of the last line that was logged."""
    try:
        with run.step_metrics.open("rb") as file:
            file.seek(max(0, run.step_metrics.stat().st_size - 8192))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for raw in reversed(lines):
        line = parse_line(raw)
        if line is not None and isinstance(line.get("step"), int):
            return int(line["step"])
    return None


def _progress(
    rows: list[dict[str, Any]], step: int | None, num_epochs: Any, state: State
) -> tuple[float | None, float | None]:
    """The share that is done, and the seconds that are left."""
    if state == "finished":
        return 1.0, None
    if not isinstance(num_epochs, int) or num_epochs < 1:
        return None, None
    done = float(len(rows))
    if rows and step is not None and step > rows[-1]["step"]:
        done += min(1.0, (step - rows[-1]["step"]) / max(1.0, rows[-1]["step"] / len(rows)))
    share = min(1.0, done / num_epochs)
    seconds = [row["epoch_s"] for row in rows[-3:] if isinstance(row.get("epoch_s"), int | float)]
    if not seconds or state != "running":
        return share, None
    return share, max(0.0, (num_epochs - done) * sum(seconds) / len(seconds))


def _sparkline(rows: list[dict[str, Any]], metric: str) -> list[float | None]:
    name = metric if metric and any(row.get(metric) is not None for row in rows) else "train/loss"
    values = [row.get(name) if isinstance(row.get(name), int | float) else None for row in rows]
    if len(values) <= MOST_POINTS:
        return values
    return [values[round(i * (len(values) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _sizes(run: RunDir, summary: dict[str, Any]) -> dict[str, Any]:
    counts, names = summary.get("num_samples"), summary.get("classes")
    if isinstance(counts, dict) and isinstance(names, list):
        return {"num_samples": counts, "num_classes": len(names)}
    if not run.manifest.exists():
        return {"num_samples": None, "num_classes": None}
    return {"num_samples": _count_splits(run.manifest), "num_classes": len(classes(run))}


def _count_splits(manifest: Path) -> dict[str, int]:
    found = pq.read_table(manifest, columns=["split"], partitioning=None)["split"].value_counts().to_pylist()
    counts = {pair["values"]: pair["counts"] for pair in found}
    return {split: counts[split] for split in ("train", "val", "test") if split in counts}
