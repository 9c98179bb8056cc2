"""Puts the batch job of this process back into the queue, from inside. Slurm's `scontrol` does it.

A signal does not say why it came: SIGTERM comes at the end of the time limit and before a preemption, and also when a
person cancels the job, which must not come back then. So the scheduler is asked first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from litscope.batch_job import BatchJob
from litscope.launch.held_back import held_back

PATIENCE_S = 20.0
"""How long an answer of the scheduler may take."""

TRIES = 2
"""How often it is asked, because a busy one may not answer."""


class Requeued(NamedTuple):
    """What became of a job.

    Attributes:
        is_done: it waits in the queue again.
        words: that, or why not, in a sentence.
    """

    is_done: bool
    words: str


def requeue(job: BatchJob, has_trained: bool = True) -> Requeued:
    """Put a job back into the queue; once, however many of its processes ask.

    Args:
        job: of this process.
        has_trained: whether this start came to its first step. One that did not, within the job's time, would not
            come further the next time.
    """
    facts = _shown(job)
    if facts is None:
        return Requeued(
            False, f"Job {job.id} is not requeued: scontrol, which does that, is not here or does not answer."
        )
    if _is_back(facts, job):
        return Requeued(True, f"Job {job.id} is back in the queue.")
    reason = why_not(facts, has_trained)
    if reason is not None:
        return Requeued(False, f"Job {job.id} is not requeued: {reason}.")
    error = _scontrol("requeue", job.id)[1]
    again = _shown(job)
    if not error or (again is not None and _is_back(again, job)):  # another process may have been faster
        return Requeued(True, f"Job {job.id} is back in the queue.")
    return Requeued(False, f"Job {job.id} is not requeued: {error}.")


def why_not(facts: Mapping[str, str], has_trained: bool) -> str | None:
    """Why a job is not to be requeued, by what `scontrol show job` says of it; None if it is."""
    if facts.get("BatchFlag") == "0":
        return "it is no batch job (salloc, or srun alone)"
    if facts.get("Requeue") == "0":
        return "it was submitted with --no-requeue"
    is_out_of_time = facts.get("Reason") == "TimeLimit"
    if is_out_of_time and not has_trained:
        return "its time limit ended before its first step; give it more --time"
    is_preempted = facts.get("PreemptTime", "None") != "None"
    if facts.get("JobState") != "RUNNING" and not (is_out_of_time or is_preempted):
        return "it was cancelled"
    return None


def _is_back(facts: Mapping[str, str], job: BatchJob) -> bool:
    """Whether it was requeued since it started: by another of its processes, by Slurm itself, or by a person."""
    restarts = facts.get("Restarts", "")
    return restarts.isdigit() and int(restarts) > job.num_restarts


def _shown(job: BatchJob) -> dict[str, str] | None:
    """What the scheduler says of a job, by its names; None if it says nothing."""
    for _ in range(TRIES):
        text, error = _scontrol("--oneliner", "show", "job", job.id)
        if not error:
            return dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", text))
    return None


def _scontrol(*words: str) -> tuple[str, str]:
    """What `scontrol` prints, and why it failed; "" if it did not."""
    try:
        with held_back():  # else what the scheduler sends to all processes of the job would end this one
            done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, "" if done.returncode == 0 else done.stderr.strip().rstrip(
        "."
    ) or f"exit code {done.returncode}"
