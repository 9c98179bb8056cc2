"""The attempts of a run: each start has a number, and a later one supersedes what an earlier one recorded.

`attempts.jsonl` holds a line for each time the run was started or resumed. What an attempt records carries its number,
and counts up to the step from which a later attempt went on.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from litscope.batch_job import this_job
from litscope.rundir import RunDir, append_to, open_locked, read_lines, remove_leftovers, sync_file, sync_folder


def next_attempt(run: RunDir) -> int:
    """The number that the next attempt of a run will have, from 1."""
    return 1 + max((line["attempt"] for line in read_lines(run.attempts)), default=0)


def begin_attempt(run: RunDir, start_step: int, resumed_from: str | None) -> int:
    """Record that the run starts (or resumes) now, and return the number of the attempt, from 1.

    Everything that earlier attempts recorded at `start_step` or later is superseded: readers leave it out, `cut_steps`.
    The line is on the disk before this returns, so that no part can carry a number which is not on record. Called once,
    by rank 0; what killed processes left half-written in the run's folders is removed.
    """
    for folder in (run.path, run.signals, run.custom, run.metrics, run.scores, run.checkpoints, run.figures):
        if folder.is_dir():
            remove_leftovers(folder)
    with open_locked(run.attempts) as file:  # two processes that resume at once get two numbers
        attempt = next_attempt(run)
        job = this_job()
        line = {
            "attempt": attempt,
            "start_step": start_step,
            "resumed_from": resumed_from,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": asdict(job) if job is not None else None,
            "started_at": time.time(),
        }
        append_to(file, line)
        sync_file(file.fileno(), run.attempts)
    sync_folder(run.path)
    return attempt


def cut_steps(attempts: Iterable[dict[str, Any]]) -> dict[int, int | None]:
    """The superseding rule: attempt -> least `start_step` of all later attempts; None for the last.

    What an attempt recorded before its cut is valid. At the cut itself the weights are those of the checkpoint that the
    later attempt resumed from: a step there is superseded, an evaluation valid until a later attempt repeats it.

    >>> cut_steps([{"attempt": 1, "start_step": 0}, {"attempt": 2, "start_step": 60}])
    {1: 60, 2: None}
    """
    starts = {line["attempt"]: line["start_step"] for line in attempts}
    return {
        attempt: min((step for later, step in starts.items() if later > attempt), default=None) for attempt in starts
    }


def valid_lines(lines: Iterable[dict[str, Any]], attempts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a metrics file that hold: one for each step, of the last attempt that came through it.

    Args:
        lines: of `metrics/steps.jsonl` or `epochs.jsonl`, each with `step` (optimizer steps
            completed when it was written) and `attempt`.
        attempts: of `attempts.jsonl`.
    """
    cuts = cut_steps(attempts)
    by_step: dict[int, dict[str, Any]] = {}
    for line in sorted(lines, key=lambda line: line.get("attempt", 1)):
        cut = cuts.get(line.get("attempt", 1))
        if cut is None or line["step"] <= cut:
            by_step[line["step"]] = line
    return [by_step[step] for step in sorted(by_step)]
