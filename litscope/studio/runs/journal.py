"""The journal for people: what was asked of a run, what became of it, what of it can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litscope.errors import ConfigError
from litscope.jsonlines import UNUSABLE
from litscope.ledger.journal.actions import Entry, Status, entries, is_request
from litscope.ledger.journal.describe import describe
from litscope.ledger.journal.undoing import require_undoable
from litscope.rundir import RunDir

_PLACE = ("answers", "status", "step", "epoch", "attempt", "when", "reason", "note")


@dataclass(frozen=True)
class Action:
    """One request.

    Attributes:
        id, what, who, why: as in the journal.
        text: what it asks for, in words.
        asked_at: seconds since 1970.
        status: pending, applied, refused or undone.
        step, epoch: when the trainer answered.
        reason: of a refusal.
        note: of the trainer.
        num_samples: that it names.
        can_undo: whether it can be taken back.
        why_not_undo: why not.
        result: what else the trainer said: metrics, a path.
        is_canary: planted by the run itself.
    """

    id: str
    what: str
    text: str
    who: str
    why: str
    asked_at: float | None
    status: Status
    step: int | None
    epoch: int | None
    reason: str | None
    note: str | None
    num_samples: int
    can_undo: bool
    why_not_undo: str | None
    result: dict[str, Any] | None
    is_canary: bool


@dataclass(frozen=True)
class JournalPage:
    """Some actions, the newest first.

    Attributes:
        actions: they.
        has_more: whether there are older ones.
        total: how many there are.
    """

    actions: list[Action]
    has_more: bool
    total: int


def told(entry: Entry) -> Action:
    """A request and its answer, for people."""
    action, answer = entry.action, entry.answer or {}
    ids, when = action.get("sample_id"), action.get("when")
    refusal = str(answer.get("reason") or action.get(UNUSABLE) or "no reason given")
    more = {name: value for name, value in answer.items() if name not in _PLACE}
    why_not = _why_not_undo(entry)
    return Action(
        id=str(action["id"]),
        what=str(action["what"]),
        text=describe(action),
        who=str(action.get("who", "")),
        why=str(action.get("why", "")),
        asked_at=float(when) if isinstance(when, int | float) else None,
        status=entry.status,
        step=answer.get("step"),
        epoch=answer.get("epoch"),
        reason=refusal if entry.status == "refused" else None,
        note=str(answer["note"]) if answer.get("note") else None,
        num_samples=len(ids) if isinstance(ids, list) else 0,
        can_undo=why_not is None,
        why_not_undo=why_not,
        result=more or None,
        is_canary=action.get("canary") is True,
    )


def _why_not_undo(entry: Entry) -> str | None:
    try:
        require_undoable(entry.action, entry.status)
    except ConfigError as error:
        return str(error)
    return None


def journal_page(run: RunDir, limit: int, before: str | None) -> JournalPage:
    """The newest actions, or those before one of them; canaries are left out."""
    listed = [entry for entry in entries(run) if is_request(entry.action) and not entry.action.get("canary")]
    end = len(listed)
    if before is not None:
        end = next((i for i, entry in enumerate(listed) if entry.action["id"] == before), 0)
    start = max(0, end - limit)
    return JournalPage([told(entry) for entry in reversed(listed[start:end])], start > 0, len(listed))


def changed(before: dict[str, Status], listed: Sequence[Entry]) -> list[Action]:
    """The actions whose status is another than before, or that are new."""
    return [
        told(entry)
        for entry in listed
        if not entry.action.get("canary") and before.get(entry.action["id"]) != entry.status
    ]
