"""A run's own page: its line, columns, classes, settings, controls, recipe, and what is missing or damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from litscope.curation.chosen import count_of
from litscope.errors import LitscopeError
from litscope.ledger.journal.actions import decisions
from litscope.ledger.scoring.trust import clock_sentence
from litscope.rundir import RunDir
from litscope.studio.runs.controls import Pause, Setting, controls, live_settings, pause_of
from litscope.studio.runs.curves import Logged
from litscope.studio.runs.lines import RunLine
from litscope.studio.samples.measured import measured_notes
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Column

AT_WORK = ("waiting", "running", "paused")
"""States of runs whose trainer takes edits up."""

MOST_TEXT = 1_000_000
"""Characters of a recipe that are shown."""


@dataclass(frozen=True)
class EditedEvaluation:
    """Whether samples of val or test were edited after their results were seen.

    Attributes:
        num_edits: how often, while it trained.
        since_step, since_epoch: from where on metrics are of other samples.
        num_later: samples that were edited after the last result.
        warning: one or two sentences; None without edits.
    """

    num_edits: int = 0
    num_later: int = 0
    since_step: int | None = None
    since_epoch: int | None = None
    warning: str | None = None


@dataclass(frozen=True)
class RunPage:
    """Everything that a run's page begins with; fields as docs/studio.md has them."""

    line: RunLine
    classes: list[str] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    kind: str | None = None
    has_images: bool = False
    columns: list[Column] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    epoch_metrics: list[str] = field(default_factory=list)
    step_metrics: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    num_discarded: int = 0
    num_relabelled: int = 0
    num_reweighted: int = 0
    settings: list[Setting] = field(default_factory=list)
    is_paused: Pause = field(default_factory=lambda: Pause(False, False))
    controls: dict[str, str | None] = field(default_factory=dict)
    edited_evaluation: EditedEvaluation = field(default_factory=EditedEvaluation)
    summary: dict[str, Any] | None = None
    recipe: str = ""
    environment: dict[str, Any] | None = None
    clock: str | None = None
    revision: int = 0
    notes: list[str] = field(default_factory=list)


def run_page(
    run: RunDir, line: RunLine, logged: Logged, samples: Samples | None, notes: list[str], is_read_only: bool
) -> RunPage:
    """The page of a run, with what of it can be read.

    Args:
        run: its folder.
        line: its line.
        logged: its metrics.
        samples: None where the manifest cannot be read.
        notes: what is missing or damaged, so far.
        is_read_only: whether the studio may act.
    """
    facts: dict[str, Any] = {
        "metrics": list(dict.fromkeys([*logged.step_names, *logged.epoch_names])),
        "epoch_metrics": logged.epoch_names,
        "step_metrics": logged.step_names,
        "edited_evaluation": edited(logged, None if line.state in AT_WORK else samples),
        "controls": controls(run, line, is_read_only),
        "is_paused": Pause(False, False),
    }
    if line.state != "unreadable":
        facts["is_paused"] = pause_of(run, line)
    if samples is not None:
        facts |= _of_samples(run, samples, notes)
    try:
        facts["settings"] = live_settings(run, [] if samples is None else samples.decided.entries)
    except (LitscopeError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"The recipe cannot be read: {error}")
    return RunPage(
        line=line,
        summary=_json(run.summary, notes),
        recipe=_text(run.recipe, notes),
        environment=_json(run.environment, notes),
        notes=notes,
        **facts,
    )


def _of_samples(run: RunDir, samples: Samples, notes: list[str]) -> dict[str, Any]:
    decided, base = samples.decided, samples.base
    codes = base.split.codes[samples.shown]
    splits = {name: int((codes == i).sum()) for i, name in enumerate(base.split.names) if name}
    if samples.scored.problem:
        notes.append(samples.scored.problem)
    if samples.measured[1]:
        notes.append(samples.measured[1])
    notes += measured_notes(run)
    kind = base.encoding.get("kind")
    return {
        "classes": list(base.classes),
        "splits": splits,
        "kind": kind,
        "has_images": kind == "image" or run.thumbnails.exists(),
        "columns": [samples.column(name) for name in samples.names],
        "tags": {name: len(ids) for name, ids in sorted(decided.tags.ids.items())},
        "num_discarded": len(decided.discarded),
        "num_relabelled": len(decided.labels),
        "num_reweighted": len(decided.weights),
        "clock": None if samples.scored.clock is None else clock_sentence(samples.scored.clock),
        "revision": samples.revision,
    }


def edited(logged: Logged, samples: Samples | None) -> EditedEvaluation:
    """Whether samples of val or test were edited, and from where on that shows in the metrics.

    Args:
        logged: the metrics of a run.
        samples: of a run that is over, to tell what was edited since; None: of no other.
    """
    warnings, found = [], EditedEvaluation()
    first = next((row for row in logged.epochs if row.get("num_edits")), None)
    if first is not None:
        found = EditedEvaluation(int(logged.epochs[-1].get("num_edits") or 0), 0, first["step"], first["epoch"])
        warnings.append(
            "Samples of val or test were edited after results of theirs were seen: metrics from epoch "
            f"{first['epoch'] + 1} on are of other samples than those before, and cannot be compared with them."
        )
    num_later = 0 if samples is None or not logged.epochs else _num_edited_later(samples)
    if num_later:
        warnings.append(
            f"{count_of(num_later)} of val or test edited after the run's last result: what is computed from now on, "
            "by `litscope evaluate` or when the run goes on, cannot be compared with the metrics here."
        )
    return replace(found, num_later=num_later, warning=" ".join(warnings) or None)


def _num_edited_later(samples: Samples) -> int:
    """Samples of val or test that are discarded, back again or of another label since the trainer's last answer."""
    now, then = samples.decided, decisions(samples.run, with_pending=False)
    labels = {*now.labels.items()} ^ {*then.labels.items()}
    ids = {*now.discarded.tolist()} ^ then.discarded | {i for i, _ in labels}
    found = samples.values("split").at(np.array([i for i in ids if i < samples.count], np.int64))
    return sum(name in ("val", "test") for name in found)


def _json(path: Path, notes: list[str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return None
    return found if isinstance(found, dict) else None


def _text(path: Path, notes: list[str]) -> str:
    if not path.exists():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:MOST_TEXT]
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return ""
