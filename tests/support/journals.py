"""Helpers: requests in a run's journal, and the answers of a trainer that is not there."""

from __future__ import annotations

from typing import Any

from litscope.ledger.journal.actions import (
    answer,
    entries,
    request,
    submit,
)
from litscope.rundir import RunDir


def ask(run: RunDir, what: str, **arguments: Any) -> str:
    """Write a request and return its id."""
    action = request(what, **arguments)
    submit(run, action)
    return str(action["id"])


def applied(run: RunDir, action_id: str, step: int = 10, attempt: int = 1, **facts: Any) -> None:
    answer(run, action_id, "applied", step=step, epoch=0, attempt=attempt, **facts)


def refused(run: RunDir, action_id: str, reason: str = "no") -> None:
    answer(run, action_id, "refused", step=10, epoch=0, attempt=1, reason=reason)


def statuses(run: RunDir) -> list[str]:
    return [entry.status for entry in entries(run)]
