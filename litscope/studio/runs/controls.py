"""What can be asked of a run now, what was asked of it, and what it has applied: kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from litscope.ledger.journal.actions import SETTINGS, Entry, decisions
from litscope.rundir import RunDir
from litscope.runs import what_goes_on
from litscope.studio.runs.lines import RunLine, settings_of


@dataclass(frozen=True)
class Setting:
    """A setting that can be changed while a run trains.

    Attributes:
        name: of it.
        allowed: values in words.
        requested: the last value that was asked for; None: nobody has.
        applied: the value in force: what the trainer applied, else what the run began with, where that is known.
        state: of the last request.
        reason: of a refusal.
    """

    name: str
    allowed: str
    requested: Any
    applied: Any
    state: Literal["none", "pending", "applied", "refused"]
    reason: str | None


@dataclass(frozen=True)
class Pause:
    """Whether a pause was asked for, and whether training waits."""

    requested: bool
    applied: bool


_IN_RECIPE = {
    "lr": "training.lr",
    "weight_decay": "training.weight_decay",
    "epochs": "training.epochs",
    "patience": "training.patience",
    "early_stopping": "training.early_stopping",
    "batch_size": "data.batch_size",
}


def live_settings(run: RunDir, listed: Sequence[Entry]) -> list[Setting]:
    """The settings of a run that can be changed, with the last request to each."""
    given = settings_of(run)
    in_force = decisions(run, with_pending=False).settings
    found = []
    for name, (allowed, _) in SETTINGS.items():
        last = next((entry for entry in reversed(listed) if _sets(entry, name)), None)
        applied = in_force.get(name, given.get(_IN_RECIPE.get(name, "")))
        if last is None:
            found.append(Setting(name, allowed, None, applied, "none", None))
            continue
        reason = str((last.answer or {}).get("reason") or "") if last.status == "refused" else None
        state: Any = last.status if last.status in ("pending", "refused") else "applied"
        found.append(Setting(name, allowed, last.action["settings"][name], applied, state, reason or None))
    return found


def _sets(entry: Entry, name: str) -> bool:
    settings = entry.action.get("settings")
    return entry.status != "undone" and isinstance(settings, dict) and name in settings


def pause_of(run: RunDir, line: RunLine) -> Pause:
    """Whether a run is to wait, and whether it does."""
    is_alive = line.state in ("running", "paused")
    return Pause(is_alive and decisions(run).is_paused, line.state == "paused")


def controls(run: RunDir, line: RunLine, is_read_only: bool) -> dict[str, str | None]:
    """Each control -> why it cannot be used now; None where it can."""
    closed = None
    if is_read_only:
        closed = "The studio was started with --read-only."
    elif line.state == "unreadable":
        closed = "The run cannot be read."
    elif not line.is_writable:
        closed = "The run's folder may only be read here."
    ended = closed
    if closed is None and line.state not in ("running", "paused"):
        words = {"waiting": "The run has not begun.", "elsewhere": "Nobody knows whether it still trains."}
        ended = words.get(line.state, f"Nothing trains this run. {what_goes_on(run)} goes on with it.")
    found = dict.fromkeys(("pause", "resume", "stop", "checkpoint", "evaluate"), ended)
    if ended is None:
        which = "pause" if line.state == "paused" else "resume"
        found[which] = "It is paused already." if which == "pause" else "It is not paused."
    return {**found, "set": closed, "edit": closed}
