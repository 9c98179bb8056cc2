"""A job ended by its user: asked of Slurm, and looked at until it is so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from litscope.cluster import slurm
from litscope.cluster.records import JobRecord, note_cancelled
from litscope.cluster.slurm import TaskState
from litscope.cluster.states import OVER, state_in_words
from litscope.errors import LitscopeError
from litscope.runs import what_goes_on

PATIENCE_S = 90.0
"""How long a job may take to end: a training writes a checkpoint first, and what does not end is killed by Slurm."""

LOOK_S = 0.5


@dataclass(frozen=True)
class Cancelled:
    """A job that has ended.

    Attributes:
        record: of its submission.
        before: its states when it was asked to end; empty if Slurm had forgotten it.
        after: its states now; empty if Slurm has forgotten it.
    """

    record: JobRecord
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def was_over(self) -> bool:
        """Whether there was nothing left to end."""
        return all(state in OVER for state in self.before)

    def lines(self) -> list[str]:
        """What became of it, and what stays."""
        run, job = self.record.run, self.record.job
        if self.was_over:
            how = ", ".join(map(state_in_words, self.before)) or "is over, and Slurm has forgotten it"
            return [f"{run.path}: job {job} {how}; there is nothing to cancel."]
        told = [f"{run.path}: job {job} {', '.join(map(state_in_words, self.after)) or 'is over'}."]
        if run.is_run():
            return [*told, f"What it recorded stays in {run.path}; {what_goes_on(run)} goes on with it."]
        return [*told, f"{run.path} stays, with the job's script and what it printed."]

    def to_dict(self) -> dict[str, Any]:
        """The same in plain values, for --json."""
        return {
            "run": str(self.record.run.path),
            "job": self.record.job,
            "before": list(self.before),
            "after": list(self.after),
        }


def cancel(record: JobRecord, index: int | None = None) -> Cancelled:
    """End a job, or one task of an array, and wait until it has ended.

    A job that puts itself back into the queue when it is told to end is ended there.

    Raises:
        ConfigError: where there is no Slurm, or if it refuses.
        LitscopeError: if the job has not ended after a while.
    """
    before = _states(record, index)
    if all(state in OVER for state in before):
        return Cancelled(record, before, before)
    if index is None:
        note_cancelled(record)
    deadline = time.monotonic() + PATIENCE_S
    slurm.cancel(record, index)
    while True:
        after = _states(record, index)
        if all(state in OVER for state in after):
            return Cancelled(record, before, after)
        if time.monotonic() > deadline:
            raise LitscopeError(
                f"Slurm was told to end job {record.job}, and after {PATIENCE_S:g} s it is {', '.join(after)}. "
                "Look again: litscope jobs"
            )
        if "PENDING" in after:
            slurm.cancel(record, index)
        time.sleep(LOOK_S)


def _states(record: JobRecord, index: int | None) -> tuple[str, ...]:
    tasks: list[TaskState] = slurm.states([record])[record]
    return tuple(dict.fromkeys(task.state for task in tasks if index is None or task.has(index)))
