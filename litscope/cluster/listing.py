"""The jobs of the runs of a folder: where each stands, why it waits, and where it runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.cluster import slurm
from litscope.cluster.records import JobRecord, records
from litscope.cluster.slurm import TaskState
from litscope.cluster.states import reason_in_words, state_in_words
from litscope.console import table_lines
from litscope.rundir import RunDir

FORGOTTEN = "OVER"
"""The state of a job that Slurm no longer knows."""


@dataclass(frozen=True)
class JobFacts:
    """The newest job of a run.

    Attributes:
        record: of its submission.
        tasks: where it stands; of an array a line for each task, and one for all that wait; empty once Slurm has
            forgotten it.
    """

    record: JobRecord
    tasks: tuple[TaskState, ...]

    @property
    def state(self) -> str:
        """Slurm's word; of an array that has several, each with its count; OVER once Slurm has forgotten it."""
        counts = self._counts()
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{number} {state}" for state, number in counts.items()) or FORGOTTEN

    @property
    def in_words(self) -> str:
        """The same for people; of a job that Slurm has forgotten, that it was cancelled, or how its run ended."""
        counts = self._counts()
        if not counts and self.record.was_cancelled:
            return state_in_words("CANCELLED")
        if not counts:
            ending = _ending(self.record.run)
            return f"is over: the run {'has no summary' if ending is None else f'is {ending}'}"
        if len(counts) == 1:
            return state_in_words(next(iter(counts)))
        return ", ".join(f"{number} {state_in_words(state)}" for state, number in counts.items())

    @property
    def start(self) -> str | None:
        """When its first task began or is expected to begin, in the cluster's local time; None if nobody knows.

        Of a task that was cancelled before it had a node Slurm gives the time of its end; that is left out.
        """
        return min((task.start for task in self.tasks if task.start and not _never_began(task)), default=None)

    @property
    def nodes(self) -> str:
        """Where it runs, or ran."""
        return ",".join(dict.fromkeys(task.nodes for task in self.tasks if task.nodes))

    @property
    def reasons(self) -> list[str]:
        """Slurm's words for why it waits, or how it ended. One that was cancelled keeps there why it waited before."""
        return list(dict.fromkeys(task.reason for task in self.tasks if task.reason and task.state != "CANCELLED"))

    def to_dict(self) -> dict[str, Any]:
        """The facts in plain values, for --json."""
        return {
            "run": str(self.record.run.path),
            "job": self.record.job,
            "cluster": self.record.cluster,
            "num_tasks": self.record.num_tasks,
            "submitted_at": self.record.submitted_at,
            "state": self.state,
            "reasons": self.reasons,
            "start": self.start,
            "nodes": self.nodes,
        }

    def _counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for task in self.tasks:
            counts[task.state] += task.count
        return counts


def jobs_below(folder: Path) -> list[JobFacts]:
    """The newest job of each run of a folder, and of that folder itself; the one submitted last comes first.

    Raises:
        ConfigError: where there is no Slurm.
        LitscopeError: if it does not answer.
    """
    places = [folder, *(path.parent for path in folder.glob("*/jobs.jsonl"))]
    newest = [found[-1] for place in places if (found := records(RunDir(place)))]
    states = slurm.states(newest)
    newest.sort(key=lambda record: record.submitted_at, reverse=True)
    return [JobFacts(record, tuple(states[record])) for record in newest]


def lines(found: Iterable[JobFacts]) -> list[str]:
    """Jobs as a table for people."""
    head = ["run", "job", "state", "start", "nodes", "why"]
    rows: list[Sequence[Any]] = [
        [
            str(facts.record.run.path),
            facts.record.job,
            facts.in_words,
            (facts.start or "").replace("T", " "),
            facts.nodes,
            "; ".join(map(reason_in_words, facts.reasons)),
        ]
        for facts in found
    ]
    return table_lines(head, rows)


def _never_began(task: TaskState) -> bool:
    return task.state == "CANCELLED" and not task.nodes


def _ending(run: RunDir) -> str | None:
    """How a run ended by its own account: finished, interrupted, ...; None if it wrote none."""
    if not run.summary.is_file():
        return None
    return str(json.loads(run.summary.read_text(encoding="utf-8")).get("status"))
