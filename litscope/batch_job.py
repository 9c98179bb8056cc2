"""The job of a scheduler in which this process runs, as Slurm tells it in the environment.

A job that was requeued begins again under the same number. So what an earlier start of it left behind belongs to it,
and nothing of that start may go on: the scheduler has ended it, or has lost sight of its node.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchJob:
    """A job, or one task of a job array.

    Attributes:
        id: as `scontrol` takes it: "17", and "17_3" for a task of an array.
        num_restarts: how often it was requeued before this start.
    """

    id: str
    num_restarts: int

    def is_later_than(self, other: BatchJob) -> bool:
        """Whether this is a later start of the same job."""
        return self.id == other.id and self.num_restarts > other.num_restarts

    def __str__(self) -> str:
        return f"job {self.id}" + (f", restart {self.num_restarts}" if self.num_restarts else "")


def this_job(environment: Mapping[str, str] | None = None) -> BatchJob | None:
    """The job of this process; None outside of one.

    >>> this_job({"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"})
    BatchJob(id='17_3', num_restarts=0)
    """
    variables = os.environ if environment is None else environment
    number = variables.get("SLURM_JOB_ID", "")
    if not number.isdigit():
        return None
    array, task = variables.get("SLURM_ARRAY_JOB_ID", ""), variables.get("SLURM_ARRAY_TASK_ID", "")
    is_task = array.isdigit() and task.isdigit()
    restarts = variables.get("SLURM_RESTART_COUNT", "")
    return BatchJob(f"{array}_{task}" if is_task else number, int(restarts) if restarts.isdigit() else 0)


def is_first_task(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process is the first of its job's step, or of none."""
    variables = os.environ if environment is None else environment
    return variables.get("SLURM_PROCID", "") in ("", "0")
