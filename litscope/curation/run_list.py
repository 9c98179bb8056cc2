"""The runs of a folder at a glance: what each is, how it stands, and moving one or deleting it. No torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from litscope.attempts import valid_lines
from litscope.claims import held
from litscope.config.model import ModelConfig
from litscope.config.resume import run_settings
from litscope.console import from_here, moment, one_line, shell_word, table_lines
from litscope.defaults import monitored
from litscope.errors import RunError, UserError
from litscope.rundir import RunDir, read_lines
from litscope.runs import RUNS, is_training, is_watched, list_runs


@dataclass(frozen=True)
class RunFacts:
    """One run.

    Attributes:
        run: its folder.
        state: training; finished, interrupted or failed, as summary.json says; killed, where there is no summary and
            no process; elsewhere, if another machine started it and has not ended it; empty, if it never began;
            unreadable.
        data, arch: its data set and its network; of a watched run the classes of them, None where the script gave none.
        epochs: complete epochs.
        metric, value: the monitored metric, and its best value so far.
        monitored: that metric, and the same on validation and test samples, in the best epoch so far.
        started: when it was last started, seconds since 1970.
        size_bytes: of all its files; one that has two names counts once.
    """

    run: str
    state: str
    data: str | None
    arch: str | None
    epochs: int
    metric: str | None
    value: float | None
    monitored: dict[str, float]
    started: float | None
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return asdict(self)


def run_facts(run: RunDir) -> RunFacts:
    """What there is to say of a run, whatever state its folder is in."""
    attempts = read_lines(run.attempts)
    started = attempts[-1].get("started_at") if attempts else None
    size = _size(run.path)
    try:
        summary = json.loads(run.summary.read_text(encoding="utf-8")) if run.summary.exists() else {}
        settings = _told_by_script(run) if is_watched(run) else _settings(run)
        rows = valid_lines(read_lines(run.epoch_metrics), attempts)
    except (UserError, OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # of a stranger, or half copied
        return RunFacts(str(run.path), "unreadable", None, None, 0, None, None, {}, started, size)
    metric = str(settings.get("training.monitor") or "")
    measured = [row for row in rows if isinstance(row.get(metric), int | float)] if metric else []
    best = (max if settings.get("training.mode") == "max" else min)(measured, key=lambda row: row[metric], default={})
    tested = {name: value for name, value in _best_metrics(summary).items() if name.startswith("test/")}
    numbers = {name: value for name, value in {**best, **tested}.items() if isinstance(value, int | float)}
    return RunFacts(
        run=str(run.path),
        state=summary.get("status") or _state(run, bool(attempts)),
        data=settings.get("data.dataset") or settings.get("data.train_urls") or settings.get("data.data_dir"),
        arch=_network(settings),
        epochs=len({row["epoch"] for row in rows}),
        metric=metric or None,
        value=best.get(metric),
        monitored=monitored(numbers, metric),
        started=started,
        size_bytes=size,
    )


def _settings(run: RunDir) -> dict[str, Any]:
    return {key: setting.value for key, setting in run_settings(run.path).sections.items()}


def _told_by_script(run: RunDir) -> dict[str, Any]:
    """What the script of a watched run told about itself, under the names of settings."""
    told = dict(yaml.safe_load(run.recipe.read_text(encoding="utf-8"))["watch"] or {})
    return {"model.arch": told.get("network"), "data.dataset": told.get("data")}


def _network(settings: dict[str, Any]) -> str | None:
    """What the network of a run is called; None where its settings do not say so."""
    archs, count = settings.get("model.archs") or [], settings.get("model.num_members") or 1
    model = ModelConfig(arch=settings.get("model.arch"), archs=archs, num_members=count)
    return model.name


def in_short(run: RunDir, summary: dict[str, Any]) -> str:
    """A run in a line, as Python shows it: folder, status, and the monitored metric of its best epoch.

    Args:
        run: the run.
        summary: what summary.json holds; nothing while the run goes on, and after it was killed.
    """
    best = _best_metrics(summary)
    shown = monitored(best, summary.get("monitor")) or {k: v for k, v in list(best.items())[:3] if v is not None}
    facts = [summary.get("status", "not ended"), *(f"{name} {value:.4g}" for name, value in shown.items())]
    return f"{str(run.path)!r}: {', '.join(facts)}"


def _best_metrics(summary: dict[str, Any]) -> dict[str, Any]:
    found = summary.get("metrics", {})
    best = found.get("best") if isinstance(found, dict) else None
    return best if isinstance(best, dict) else {}


def _state(run: RunDir, has_begun: bool) -> str:
    if not has_begun:
        return "empty"
    return {True: "training", False: "killed", None: "elsewhere"}[is_training(run)]


def _size(folder: Path) -> int:
    """Bytes of all files below, those with several names once."""
    seen: dict[tuple[int, int], int] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                found = Path(where, name).lstat()
            except FileNotFoundError:  # a training has replaced it meanwhile
                continue
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def all_facts(parent: Path = RUNS) -> list[RunFacts]:
    """The runs below a folder, the newest first."""
    return [run_facts(run) for run in list_runs(parent)]


def lines(found: list[RunFacts]) -> list[str]:
    """The runs as a table for people."""
    rows = [
        [
            Path(facts.run).name,
            facts.state,
            "" if facts.data is None else from_here(facts.data),
            facts.arch,
            facts.epochs,
            ", ".join(f"{name} {value:.4g}" for name, value in facts.monitored.items()),
            "" if facts.started is None else moment(facts.started),
            size_in_words(facts.size_bytes),
        ]
        for facts in found
    ]
    head = ["run", "state", "data", "arch", "epochs", "best", "started", "size"]
    return table_lines(head, rows, right=["best", "size"])


def size_in_words(size: float) -> str:
    """Bytes for people.

    >>> size_in_words(1_234_567)
    '1.2 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def rename(run: RunDir, name: str) -> RunDir:
    """Give a run's folder another name beside the old one.

    Args:
        run: an open run, which nothing trains.
        name: the new name, without a folder.

    Raises:
        RunError: for a name that is no name of a folder, or is taken; or while the run trains.
    """
    if name in ("", ".", "..") or "/" in name or one_line(name) != name:
        raise RunError(f"{name!r} is no name for a run: give one without slashes, as in `litscope rename a b`.")
    new = run.path.parent / name
    _require_still(run, "rename")
    with held(run):
        if new.exists():
            raise RunError(f"{new} exists already. Give another name.")
        run.path.rename(new)
    return RunDir(new)


def delete(runs: Sequence[RunDir]) -> None:
    """Delete the folders of runs with all that is in them; none if one of them cannot be deleted.

    Raises:
        RunError: if one trains, or is a link to a folder elsewhere.
    """
    for run in runs:
        _require_still(run, "delete")
        if run.path.is_symlink():
            raise RunError(f"{run.path} is a link. Delete the run where it lies: {run.path.resolve()}.")
    for run in runs:
        with held(run):
            shutil.rmtree(run.path)


def _require_still(run: RunDir, what: str) -> None:
    if is_training(run):
        raise RunError(f"{run.path} is training; end it before you {what} it: litscope stop {shell_word(run.path)}.")
