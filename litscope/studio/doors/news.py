"""What changed since somebody last looked: for the event stream of a tab. Costs a few `stat`s where nothing did."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

from litscope.errors import LitscopeError
from litscope.ledger.journal.actions import Status, entries
from litscope.studio.refusals import NotThere
from litscope.studio.runs.controls import controls, live_settings, pause_of
from litscope.studio.runs.journal import changed
from litscope.studio.runs.lines import RunLine
from litscope.studio.samples.shelf import Stamp, stamp
from litscope.studio.service import Studio

_READING = (LitscopeError, OSError, ValueError, KeyError, TypeError)


class Event(NamedTuple):
    """One event: its name, and what it says."""

    name: str
    data: dict[str, Any]


class News:
    """What one tab has been told.

    Args:
        studio: the service.
        run: the run that the tab shows; None: the list only.
    """

    def __init__(self, studio: Studio, run: str | None) -> None:
        self._studio, self._run = studio, run
        self._lines: dict[str, RunLine] = {line.id: line for line in studio.runs().runs}
        self._told: dict[str, Any] = {}
        self._metrics: Stamp | None = None
        self._journal: Stamp | None = None
        self._statuses: dict[str, Status] = {}
        self._revision: int | None = None
        self._num_decided = -1
        self.look()

    def look(self) -> list[Event]:
        """What is new since the last look; nothing the first time."""
        found = self._of_list()
        if self._run is None:
            return found
        try:
            return [*found, *self._of_run(self._run)]
        except NotThere:
            return found
        except _READING:  # half written at this moment; the next look tells
            return found

    def _of_list(self) -> list[Event]:
        now = {line.id: line for line in self._studio.runs().runs}
        before, self._lines = self._lines, now
        new = [asdict(line) for name, line in now.items() if before.get(name) != line]
        gone = [name for name in before if name not in now]
        return [Event("runs", {"runs": new, "gone": gone})] if new or gone else []

    def _of_run(self, name: str) -> list[Event]:
        studio, run = self._studio, self._studio.places.run(name)
        line, found = studio.line(name), list[Event]()
        journal = stamp(run.actions, run.attempts)
        if journal != self._journal:
            listed = entries(run)
            actions = changed(self._statuses, listed)
            is_first = self._journal is None
            self._journal, self._statuses = journal, {entry.action["id"]: entry.status for entry in listed}
            self._told["settings"] = [asdict(setting) for setting in live_settings(run, listed)]
            if actions and not is_first:
                found.append(Event("journal", {"run": name, "actions": [asdict(action) for action in actions]}))
        facts = {
            "run": name,
            "line": asdict(line),
            "settings": self._told.get("settings", []),
            "is_paused": asdict(pause_of(run, line)),
            "controls": controls(run, line, studio.is_read_only),
        }
        if facts != self._told.get("run"):
            found += [Event("run", facts)] if "run" in self._told else []
            self._told["run"] = facts
        metrics = stamp(run.step_metrics, run.epoch_metrics)
        if metrics != self._metrics:
            if self._metrics is not None:
                found.append(Event("metrics", {"run": name, "step": line.step, "epoch": line.epoch}))
            self._metrics = metrics
        return [*found, *self._of_samples(name)]

    def _of_samples(self, name: str) -> list[Event]:
        revision = self._studio.revision(name)
        before, self._revision = self._revision, revision
        decided = len(self._statuses)
        why = "decision" if decided != self._num_decided else "epoch"
        self._num_decided = decided
        if before is None or before == revision:
            return []
        return [Event("samples", {"run": name, "revision": revision, "why": why})]
