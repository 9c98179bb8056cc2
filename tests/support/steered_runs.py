"""Small runs in which people act at given steps, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_runs import At, rows, small_fit

from litscope.ledger.journal.actions import Entry, entries
from litscope.rundir import RunDir, read_lines


def steered(run: Path, *actions: tuple[int, Callable[[], None]], **flags: Any) -> Path:
    """A small fit in which each action is asked for after its step."""
    small_fit(run, callbacks=[At(step, action) for step, action in actions], **flags)
    return run


def only(run: Path) -> Entry:
    """The one action in the journal."""
    found = entries(RunDir(run))
    assert len(found) == 1
    return found[0]


def answers(run: Path) -> list[dict[str, Any]]:
    """The answer to each action, or {} without one."""
    return [entry.answer or {} for entry in entries(RunDir(run))]


def rates(run: Path) -> list[float]:
    """The learning rate of each logged step."""
    return [line["lr"] for line in read_lines(RunDir(run).step_metrics)]


def visited(run: Path, **where: Any) -> set[int]:
    """The samples in the rows that `rows` would return."""
    return set(rows(run, **where)["sample_id"].to_pylist())
